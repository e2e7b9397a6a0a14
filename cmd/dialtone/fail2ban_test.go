package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/audit"
)

// banned returns what the filter in deploy/fail2ban finds in a log.
func banned(t *testing.T, log string, flags ...string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(flags, "--out", "ip", file, "../../deploy/fail2ban/filter.conf")
	out, err := exec.Command("fail2ban-regex", args...).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

// The filter finds the client of each refusal, whatever the client sends.
func TestFail2ban(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("fail2ban-regex"); err != nil {
		t.Skip("fail2ban is not installed; make test installs it where the system has a package")
	}
	t.Run("server", func(t *testing.T) {
		for addresses, want := range map[string]string{"full": "127.0.0.1", "network": "127.0.0.0/24"} {
			p := start(t, launch{data: filepath.Join(t.TempDir(), "data"), flags: []string{
				"--log-addresses", addresses, "--log-format", "json",
			}})
			v := newVisitor(p.address, "127.0.0.1")
			if a, err := v.signup("alex"); err != nil || !a.OK {
				t.Fatalf("%v, %v", a, err)
			}
			if _, err := v.signIn("alex", "a wrong password"); err != nil {
				t.Fatal(err)
			}
			v.leave()
			p.mustStop(t)
			if got := banned(t, p.stderr.String()); !slices.Equal(got, []string{want}) {
				t.Errorf("with addresses %s, it finds %q, want %s in\n%s", addresses, got, want, p.stderr.String())
			}
		}
	})
	t.Run("names", func(t *testing.T) {
		victim := `"net":"203.0.113.9"`
		names := []string{
			"alex", `x",` + victim + `,"y":"`, `x\",` + victim, `x\\",` + victim, "x\n{" + victim + "}", `\`, `"`, `\"`,
			"x\r\n" + `{"time":"2026-11-29T21:00:00Z","level":"INFO","msg":"signin","outcome":"denied",` + victim + `}`,
			"\u2028" + victim, `","level":"INFO","msg":"signin","outcome":"denied",` + victim, "\x00" + victim, "\xff",
			strings.Repeat(`"`, 300) + victim, strings.Repeat(`\`, 301) + `",` + victim, "203.0.113.9", `<HOST>`,
			`{"time":"2026-11-29T21:00:00Z","level":"INFO","msg":"signin","outcome":"denied","net":"203.0.113.9"}`,
		}
		var out bytes.Buffer
		log := audit.Log{Logger: slog.New(slog.NewJSONHandler(&out, nil))}
		ctx := audit.WithWholeAddresses(t.Context())
		var want []string
		for i, name := range names {
			for j, e := range []audit.Event{
				{Action: audit.SignIn, Outcome: "denied", User: name},
				{Action: audit.Signup, Outcome: "captcha_failed", User: name, Email: audit.MaskEmail(name)},
				{Action: audit.PasswordChange, Outcome: "rate_limited", Tenant: name, Detail: name},
			} {
				addr := fmt.Sprintf("192.0.%d.%d", j, i+1)
				if i%2 == 1 {
					addr = fmt.Sprintf("2001:db8:%d::%d", j+1, i)
				}
				e.Peer, e.Request = netip.MustParseAddr(addr), name
				log.Record(ctx, e)
				want = append(want, addr)
			}
			// None of these is a refusal of a client.
			peer := netip.MustParseAddr("198.51.100.1")
			log.Record(ctx, audit.Event{Action: audit.SignIn, Outcome: "ok", User: name, Peer: peer, Detail: name})
			log.Record(ctx, audit.Event{Action: audit.DirectoryRequest, Outcome: "denied", Server: name, Peer: peer})
			log.RecordChange(ctx, audit.Change{
				Action: audit.AccountDisable, Outcome: audit.OK, User: name, Subject: name, Before: name,
				Cause: audit.Cause{Reason: name, Net: peer.String()},
			})
			log.Logger.Info(name, "user", name, "net", peer.String())
		}
		if got := banned(t, out.String()); !slices.Equal(got, want) {
			t.Errorf("it finds %q\nwant %q", got, want)
		}
		var journal strings.Builder
		for line := range strings.Lines(out.String()) {
			journal.WriteString("host dialtone[123]: " + line)
		}
		// The journal stores the time separately, so it is not removed from the line.
		if got := banned(t, journal.String(), "--datepattern", "{NONE}"); !slices.Equal(got, want) {
			t.Errorf("in the journal, it finds %q\nwant %q", got, want)
		}
	})
	t.Run("jail", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "fail2ban")
		if err := os.CopyFS(dir, os.DirFS("/etc/fail2ban")); err != nil {
			t.Skip("the configuration that comes with fail2ban is not in /etc/fail2ban: ", err)
		}
		for from, to := range map[string]string{"filter.conf": "filter.d", "jail.conf": "jail.d"} {
			text, err := os.ReadFile(filepath.Join("../../deploy/fail2ban", from))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, to, "dialtone.conf"), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("fail2ban-client", "-c", dir, "-d").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "['add', 'dialtone', 'systemd']") ||
			!strings.Contains(string(out), "['set', 'dialtone', 'maxretry', 30]") {
			t.Errorf("%v: %s", err, out)
		}
	})
}
