package maildns_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"dialtone/internal/mail/maildns"
	"dialtone/internal/test/smtptest"
)

// asks is a resolver that asks a server.
func asks(address string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", address)
	}}
}

func TestExamine(t *testing.T) {
	rsa := "v=DKIM1; k=rsa; p=" + strings.Repeat("A", 392)
	good := map[string][]string{
		"phone.test":                {"v=spf1 a:mail.test -all", "google-site-verification=x"},
		"one._domainkey.phone.test": {rsa},
		"_dmarc.phone.test":         {"v=DMARC1; p=reject; rua=mailto:x@phone.test"},
	}
	keys := []maildns.Key{{Selector: "one", Record: rsa}}
	for _, c := range []struct {
		what    string
		change  map[string][]string
		keys    []maildns.Key
		domain  string
		wrong   string // what is wrong, if anything
		says    string
		name    string
		add     string
		noRelay bool
	}{
		{what: "everything is there"},
		{what: "the key is written in another way", change: map[string][]string{"one._domainkey.phone.test": {"k=rsa;p=" + rsa[18:100] + " " + rsa[100:] + ";"}}},
		{what: "the key does not say its algorithm", change: map[string][]string{"one._domainkey.phone.test": {"v=DKIM1; p=" + rsa[18:]}}},
		{what: "no SPF", change: map[string][]string{"phone.test": {"something else"}}, wrong: "spf", says: "no record", name: "phone.test", add: "v=spf1 mx a:mail.test -all"},
		{what: "no SPF and no relay", change: map[string][]string{"phone.test": nil}, wrong: "spf", says: "no record", name: "phone.test", add: "v=spf1 mx -all", noRelay: true},
		{what: "two of SPF", change: map[string][]string{"phone.test": {"v=spf1 -all", "v=spf1 mx -all"}}, wrong: "spf", says: "2 records"},
		{what: "SPF for everybody", change: map[string][]string{"phone.test": {"v=spf1 mx +all"}}, wrong: "spf", says: "everybody"},
		{what: "a version of SPF that is none", change: map[string][]string{"phone.test": {"v=spf10 -all"}}, wrong: "spf", says: "no record", name: "phone.test", add: "v=spf1 mx a:mail.test -all"},
		{what: "no key", change: map[string][]string{"one._domainkey.phone.test": nil}, wrong: "dkim one", says: "not in the DNS", name: "one._domainkey.phone.test", add: rsa},
		{what: "another key", change: map[string][]string{"one._domainkey.phone.test": {"v=DKIM1; k=rsa; p=BBBB"}}, wrong: "dkim one", says: "another key", name: "one._domainkey.phone.test", add: rsa},
		{what: "a key that was withdrawn", change: map[string][]string{"one._domainkey.phone.test": {"v=DKIM1; k=rsa; p="}}, wrong: "dkim one", says: "another key", name: "one._domainkey.phone.test", add: rsa},
		{what: "two keys in one place", change: map[string][]string{"one._domainkey.phone.test": {rsa, rsa + "A"}}, wrong: "dkim one", says: "2 records", name: "one._domainkey.phone.test", add: rsa},
		{what: "another algorithm", change: map[string][]string{"one._domainkey.phone.test": {strings.Replace(rsa, "rsa", "ed25519", 1)}}, wrong: "dkim one", says: "algorithm", name: "one._domainkey.phone.test", add: rsa},
		{what: "nothing is signed", keys: []maildns.Key{}, wrong: "dkim", says: "not signed here"},
		{what: "no DMARC", change: map[string][]string{"_dmarc.phone.test": nil}, wrong: "dmarc", says: "no policy", name: "_dmarc.phone.test", add: "v=DMARC1; p=none"},
		{what: "DMARC without a policy", change: map[string][]string{"_dmarc.phone.test": {"v=DMARC1; rua=mailto:x@phone.test"}}, wrong: "dmarc", says: "has no policy"},
		{what: "DMARC of the domain above", domain: "sip.phone.test", change: map[string][]string{
			"sip.phone.test": {"v=spf1 -all"}, "one._domainkey.sip.phone.test": {rsa}}},
		{what: "a server that fails", change: map[string][]string{"_dmarc.phone.test": {smtptest.Fails}}, wrong: "dmarc", says: "does not tell"},
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
			if c.noRelay {
				relay = ""
			}
			list := maildns.Examine(t.Context(), asks(smtptest.DNS(t, records)), c.domain, relay, c.keys)
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
				t.Errorf("nothing is said of %s", c.wrong)
			}
		})
	}
}
