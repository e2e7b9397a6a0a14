package hook

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
)

func TestNewHook(t *testing.T) {
	fine := Hook{Name: "sip-1", Kind: Webhook, URL: "https://hooks.example.org/x?y=z"}
	for name, c := range map[string]struct {
		change func(*Hook)
		field  string // of the refusal, or empty
	}{
		"as it is":                        {func(*Hook) {}, ""},
		"no name":                         {func(h *Hook) { h.Name = "" }, "name"},
		"a long name":                     {func(h *Hook) { h.Name = strings.Repeat("a", 64) }, ""},
		"a name that is too long":         {func(h *Hook) { h.Name = strings.Repeat("a", 65) }, "name"},
		"a name with a line end":          {func(h *Hook) { h.Name = "a\nb" }, "name"},
		"a name like a flag":              {func(h *Hook) { h.Name = "-a" }, "name"},
		"no kind":                         {func(h *Hook) { h.Kind = "" }, "kind"},
		"http to this machine":            {func(h *Hook) { h.URL = "http://127.0.0.1:5060/RPC" }, ""},
		"http to this machine, by IPv6":   {func(h *Hook) { h.URL = "http://[::1]/RPC" }, ""},
		"http to the house":               {func(h *Hook) { h.URL = "http://192.168.1.2/RPC" }, ""},
		"http to a name":                  {func(h *Hook) { h.URL = "http://sip.internal/RPC" }, ""}, // its address is looked at with each call
		"http to the world":               {func(h *Hook) { h.URL = "http://198.51.100.7/RPC" }, "url"},
		"http to the world, as was said":  {func(h *Hook) { h.URL, h.PlainHTTP = "http://198.51.100.7/RPC", true }, ""},
		"http to the world, in IPv6 form": {func(h *Hook) { h.URL = "http://[::ffff:198.51.100.7]/RPC" }, "url"},
		"https to the world":              {func(h *Hook) { h.URL = "https://198.51.100.7/RPC" }, ""},
		"no address":                      {func(h *Hook) { h.URL = "" }, "url"},
		"no scheme":                       {func(h *Hook) { h.URL = "hooks.example.org/x" }, "url"},
		"another scheme":                  {func(h *Hook) { h.URL = "ftp://hooks.example.org/x" }, "url"},
		"no host":                         {func(h *Hook) { h.URL = "https:///x" }, "url"},
		"a port alone":                    {func(h *Hook) { h.URL = "https://:443/x" }, "url"},
		"a password":                      {func(h *Hook) { h.URL = "https://ann:hunter2@hooks.example.org/" }, "url"},
		"a fragment":                      {func(h *Hook) { h.URL += "#a" }, "url"},
		"a space":                         {func(h *Hook) { h.URL = "https://hooks.example.org /" }, "url"},
		"a URL without end":               {func(h *Hook) { h.URL += strings.Repeat("a", 2048) }, "url"},
	} {
		h := fine
		c.change(&h)
		got, err := New(h)
		f, _ := err.(*fault.Error)
		switch {
		case c.field == "" && (err != nil || got.ID == ID{}):
			t.Errorf("%s: %v", name, err)
		case c.field != "" && (f == nil || f.Kind != fault.Invalid || f.Field != c.field || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("%s: %#v", name, err)
		}
	}
}

func TestPrivate(t *testing.T) {
	for text, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "10.1.2.3": true, "172.16.0.1": true, "172.32.0.1": false, "192.168.0.1": true,
		"169.254.1.1": true, "fe80::1": true, "fd00::1": true, "fec0::1": false, "::ffff:10.0.0.1": true, "::ffff:8.8.8.8": false,
		"8.8.8.8": false, "100.64.0.1": false, "2001:db8::1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false,
	} {
		if got := IsPrivate(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is private: %v", text, got)
		}
	}
}

func TestSecrets(t *testing.T) {
	s, err := BearerSecret("to-ken")
	if err != nil || s.Reveal() != "Bearer to-ken" {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	s, err = BasicSecret("Aladdin:open sesame") // RFC 7617 §2
	if err != nil || s.Reveal() != "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" {
		t.Errorf("%q, %v", s.Reveal(), err)
	}
	for _, text := range []string{"", "two words", "line\nHost: other", "größe", "\x00"} {
		if _, err := BearerSecret(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is a token", text)
		}
	}
	for _, text := range []string{"", "user", ":password", "user:pass\nword"} {
		if _, err := BasicSecret(text); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q is a name and a password", text)
		}
	}
	one, other := NewWebhookSecret(), NewWebhookSecret()
	key, err := one.Key()
	if err != nil || len(key) != 32 || one == other || !strings.HasPrefix(one.Reveal(), "whsec_") {
		t.Errorf("%q: %x, %v", one.Reveal(), key, err)
	}
	for _, s := range []Secret{"", "Bearer x", "whsec_", "whsec_AAAA", Secret(strings.ToUpper(one.Reveal()))} {
		if _, err := s.Key(); err == nil {
			t.Errorf("%q is a key", s.Reveal())
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, one); got != secret.Redacted {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, struct{ S Secret }{one}); strings.Contains(got, one.Reveal()[6:20]) {
			t.Errorf("%s of what has it prints %s", verb, got)
		}
	}
}

func TestLockerBindsASecretToItsHook(t *testing.T) {
	l := NewSealer(secret.NewRing(time.Unix(0, 0)))
	a, b := Hook{ID: ID{1}}, Hook{ID: ID{2}}
	l.Seal(&a, "secret")
	if got, err := l.Open(a); err != nil || got != "secret" || strings.Contains(string(a.Sealed), "secret") {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	b.Sealed = a.Sealed
	if got, err := l.Open(b); err == nil {
		t.Errorf("another hook's opens: %q", got.Reveal())
	}
	l.Seal(&b, "")
	if got, err := l.Open(b); err != nil || got != "" || len(b.Sealed) != 0 {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
}

func TestPause(t *testing.T) {
	for tries, want := range map[int][2]time.Duration{
		0: {time.Second, 2 * time.Second}, 1: {time.Second, 2 * time.Second}, 2: {2 * time.Second, 4 * time.Second}, 5: {16 * time.Second, 32 * time.Second},
		9: {256 * time.Second, 512 * time.Second}, 10: {5 * time.Minute, 10 * time.Minute}, 1000: {5 * time.Minute, 10 * time.Minute},
	} {
		seen := make(map[time.Duration]bool)
		for range 100 {
			d := pause(tries)
			if d < want[0] || d > want[1] {
				t.Errorf("after %d tries: %v, want %v", tries, d, want)
			}
			seen[d] = true
		}
		if len(seen) < 50 {
			t.Errorf("after %d tries: %d different pauses of 100", tries, len(seen))
		}
	}
}
