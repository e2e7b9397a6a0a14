package audit_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/audit"
)

func TestNetwork(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.77": "192.0.2.0/24", "::ffff:192.0.2.77": "192.0.2.0/24",
		"2001:db8:1:2::3": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48", "::1": "::/48",
	} {
		if got := audit.Network(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is of %s, want %s", addr, got, want)
		}
	}
	if got := audit.Network(netip.Addr{}); got != "" {
		t.Errorf("no address is of %s", got)
	}
}

// The log contains no complete e-mail address, not even from a tenant's settings.
func TestRecordChange(t *testing.T) {
	var out bytes.Buffer
	log := audit.Log{Logger: slog.New(slog.NewJSONHandler(&out, nil))}
	for _, c := range []audit.Change{
		{ID: 1, Action: audit.AccountRole, User: "ann", Before: "guest", After: "admin"},
		{ID: 2, Action: audit.TenantSet, Tenant: "phone.test", After: `{"reply_to":"help@phone.test"}`},
		{ID: 3, Action: audit.HookAdd, Subject: "sbc"},
	} {
		log.RecordChange(t.Context(), c)
	}
	text := out.String()
	for _, want := range []string{
		`"user":"ann","before":"guest","after":"admin","change":1,`, `"tenant":"phone.test","change":2,`,
		`"hook":"sbc","change":3,`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not contain %s: %s", want, text)
		}
	}
	if strings.Contains(text, "@") {
		t.Errorf("the log has an address: %s", text)
	}
}

// Observers see every event in order, even if the Log writes none.
func TestObservers(t *testing.T) {
	var got []string
	log := audit.Log{}
	for _, name := range []string{"a ", "b "} {
		log.Observers = append(log.Observers, func(e audit.Event) { got = append(got, name+e.Outcome) })
	}
	log.Record(t.Context(), audit.Event{Action: audit.Signup, Outcome: "ok"})
	log.Logger = slog.New(slog.DiscardHandler)
	log.Record(t.Context(), audit.Event{Action: audit.Signup, Outcome: "user_taken"})
	if want := []string{"a ok", "b ok", "a user_taken", "b user_taken"}; !slices.Equal(got, want) {
		t.Errorf("observed %q, want %q", got, want)
	}
}

func TestRecord(t *testing.T) {
	var out bytes.Buffer
	log := audit.Log{Logger: slog.New(slog.NewJSONHandler(&out, nil))}
	audit.Log{}.Record(t.Context(), audit.Event{Action: audit.Signup})
	log.Record(t.Context(), audit.Event{
		Action: audit.Signup, Outcome: "ok", Tenant: "phone.test",
		User: "ann\n{\"msg\":\"forged\"}\u2028", Email: "a***@mail.test",
		Peer: netip.MustParseAddr("192.0.2.77"), Request: "r1", Detail: "user",
	})
	log.Record(t.Context(), audit.Event{Action: audit.KeysRotate, Outcome: "ok"})
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines:\n%s", len(lines), &out)
	}
	for i, want := range []map[string]any{
		{"msg": "signup", "outcome": "ok", "tenant": "phone.test",
			"user": "ann\n{\"msg\":\"forged\"}\u2028", "email": "a***@mail.test",
			"net": "192.0.2.0/24", "request": "r1", "detail": "user", "audit": true},
		{"msg": "keys.rotate", "outcome": "ok", "audit": true},
	} {
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &got); err != nil {
			t.Fatal(err)
		}
		delete(got, "time")
		delete(got, "level")
		if len(got) != len(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s is %v, want %v", key, got[key], value)
			}
		}
	}
	if strings.Contains(out.String(), "192.0.2.77") {
		t.Error("the whole address is in the log")
	}
}
