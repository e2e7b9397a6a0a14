package maildns_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"dialtone/internal/mail/maildns"
	"dialtone/internal/test/smtptest"
)

// resolver returns a resolver that queries the DNS server at an address.
func resolver(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", address)
	}}
}

func TestZoneLine(t *testing.T) {
	long := strings.Repeat("a", 255)
	for text, want := range map[string]string{
		"v=spf1 -all": `example.org. IN TXT "v=spf1 -all"`,
		long:          `example.org. IN TXT "` + long + `"`,
		long + "b":    `example.org. IN TXT "` + long + `" "b"`,
	} {
		if got := maildns.ZoneLine("example.org", text); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCheck(t *testing.T) {
	rsa := "v=DKIM1; k=rsa; p=" + strings.Repeat("A", 392)
	good := map[string][]string{
		"phone.test":                {"v=spf1 a:mail.test -all", "google-site-verification=x"},
		"one._domainkey.phone.test": {rsa},
		"_dmarc.phone.test":         {"v=DMARC1; p=reject; rua=mailto:x@phone.test"},
	}
	keys := []maildns.Key{{Selector: "one", Record: rsa}}
	const (
		apex  = "phone.test"
		key   = "one._domainkey.phone.test"
		dmarc = "_dmarc.phone.test"
	)
	one := func(name string, texts ...string) map[string][]string {
		return map[string][]string{name: texts}
	}
	for _, c := range []struct {
		what    string
		change  map[string][]string
		keys    []maildns.Key
		domain  string
		wrong   string // what is wrong, if anything
		says    string
		name    string
		add     string
		relay   string // if it is not mail.test
		noRelay bool
	}{
		{what: "complete"},
		{what: "key with spaces", change: one(key, "k=rsa;p="+rsa[18:100]+" "+rsa[100:]+";")},
		{what: "key without algorithm", change: one(key, "v=DKIM1; p="+rsa[18:])},
		{what: "no SPF", change: one(apex, "something else"),
			wrong: "spf", says: "no SPF record", name: apex, add: "v=spf1 mx a:mail.test -all"},
		{what: "no SPF and no relay", change: one(apex), noRelay: true,
			wrong: "spf", says: "no SPF record", name: apex, add: "v=spf1 mx -all"},
		{what: "no SPF and a relay on the same machine", change: one(apex), relay: "127.0.0.1",
			wrong: "spf", says: "no SPF record", name: apex, add: "v=spf1 a mx -all"},
		{what: "two SPF records", change: one(apex, "v=spf1 -all", "v=spf1 mx -all"),
			wrong: "spf", says: "2 SPF records"},
		{what: "SPF for everybody", change: one(apex, "v=spf1 mx +all"),
			wrong: "spf", says: "everybody"},
		{what: "unknown SPF version", change: one(apex, "v=spf10 -all"),
			wrong: "spf", says: "no SPF record", name: apex, add: "v=spf1 mx a:mail.test -all"},
		{what: "no key", change: one(key),
			wrong: "dkim one", says: "not in the DNS", name: key, add: rsa},
		{what: "another key", change: one(key, "v=DKIM1; k=rsa; p=BBBB"),
			wrong: "dkim one", says: "not the one", name: key, add: rsa},
		{what: "revoked key", change: one(key, "v=DKIM1; k=rsa; p="),
			wrong: "dkim one", says: "not the one", name: key, add: rsa},
		{what: "two keys with one name", change: one(key, rsa, rsa+"A"),
			wrong: "dkim one", says: "2 records", name: key, add: rsa},
		{what: "another algorithm", change: one(key, strings.Replace(rsa, "rsa", "ed25519", 1)),
			wrong: "dkim one", says: "algorithm", name: key, add: rsa},
		{what: "no signing", keys: []maildns.Key{},
			wrong: "dkim", says: "does not sign"},
		{what: "no DMARC", change: one(dmarc),
			wrong: "dmarc", says: "no policy", name: dmarc, add: "v=DMARC1; p=none"},
		{what: "DMARC without policy", change: one(dmarc, "v=DMARC1; rua=mailto:x@phone.test"),
			wrong: "dmarc", says: "has no policy"},
		{what: "DMARC of the parent domain", domain: "sip.phone.test", change: map[string][]string{
			"sip.phone.test": {"v=spf1 -all"}, "one._domainkey.sip.phone.test": {rsa}}},
		{what: "failing DNS server", change: one(dmarc, smtptest.ServFail),
			wrong: "dmarc", says: "look-up of _dmarc.phone.test failed"},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			records := make(map[string][]string)
			for name, texts := range good {
				records[name] = texts
			}
			for name, texts := range c.change {
				records[name] = texts
			}
			if c.keys == nil {
				c.keys = keys
			}
			if c.domain == "" {
				c.domain = "phone.test"
			}
			relay := "mail.test"
			if c.relay != "" {
				relay = c.relay
			}
			if c.noRelay {
				relay = ""
			}
			list := maildns.Check(t.Context(), resolver(smtptest.DNS(t, records)), c.domain, relay, c.keys)
			if len(list) != 3 {
				t.Fatalf("got %+v", list)
			}
			found := false
			for _, f := range list {
				if f.OK != (f.What != c.wrong) {
					t.Errorf("got %+v", f)
				}
				if f.What != c.wrong {
					continue
				}
				found = true
				if !strings.Contains(f.Says, c.says) || f.Name != c.name || f.Add != c.add {
					t.Errorf("got %+v", f)
				}
			}
			if found != (c.wrong != "") {
				t.Errorf("no finding for %s", c.wrong)
			}
		})
	}
}
