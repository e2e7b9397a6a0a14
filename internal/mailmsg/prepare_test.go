package mailmsg_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// same checks for several messages that Bytes returns the same as Compose and Message.Bytes.
func same(t *testing.T, ts mailmsg.Templates, tn *tenant.Tenant, tag i18n.Tag, link mailmsg.Link) {
	t.Helper()
	for _, to := range []string{"Ann+x@mail.test", "bob@" + strings.Repeat("long.", 20) + "test"} {
		hash := secret.NewToken().Hash()
		id := mailmsg.ID(hash[:16])
		link.Token = secret.NewToken()
		m, err := ts.Compose(tn, tag, id, to, link)
		if err != nil {
			t.Fatal(err)
		}
		want, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ts.Bytes(tn, tag, id, to, link); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s at %+v: got\n%s\n%v, want\n%s", tag, tn, got, err, want)
		}
		link.Made = link.Made.Add(time.Second)
	}
}

// TestBytes checks that a message made from a prepared one has the same bytes as one that Compose
// returns: with links at every position of base64 lines, and for different values of everything that
// the message depends on.
func TestBytes(t *testing.T) {
	own, err := mailmsg.Load(templatesDir(map[string]string{
		"activation.de.txt": goodText, "activation.de.html": goodHTML,
	}))
	if err != nil {
		t.Fatal(err)
	}
	first := mailmsg.Link{
		Made: noon, Expires: expiry, Net: "192.0.2.0/24", Detail: mailmsg.AppOn, User: "ann",
	}
	resent, later, seconds, reset := first, first, first, first
	resent.Resent = true
	later.Expires = expiry.Add(3 * 24 * time.Hour)
	seconds.Expires = expiry.Add(59*time.Second + 999*time.Millisecond)
	reset.Kind = mailmsg.Reset
	for _, tag := range append([]i18n.Tag{"", "xx"}, i18n.Tags...) {
		for n := range 60 {
			tn := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
			tn.Product = strings.Repeat("x", n)
			same(t, mailmsg.Templates{}, tn, tag, first)
			tn = &tenant.Tenant{Host: "phone.test", PublicURL: "https://" + strings.Repeat("p", n) + ".test"}
			same(t, mailmsg.Templates{}, tn, tag, first)
		}
		for _, settings := range []tenant.Settings{
			{}, {Product: "Bürotelefon Łódź", MailFrom: "a@b.test", ReplyTo: "c@d.test", Accent: "#c8102e"},
			{
				Product: "電話", MailFooter: "A <footer> & more", TermsURL: "https://a.test/?a=b&c=d",
				Support: "a+b@c.test",
			},
		} {
			// A tenant whose settings change is another *tenant.Tenant.
			tn := &tenant.Tenant{ID: 1, Host: "phone.test", PublicURL: "https://phone.test", Settings: settings}
			for _, link := range []mailmsg.Link{first, resent, later, seconds, reset} {
				same(t, mailmsg.Templates{}, tn, tag, link)
				same(t, own, tn, tag, link)
			}
		}
	}
}

// TestBytesRoom checks that the room for a message is about its size, so that a long one is not copied while it grows.
func TestBytesRoom(t *testing.T) {
	link := mailmsg.Link{Made: noon, Expires: expiry, Token: secret.NewToken()}
	allocations := func(footer int) (prepared, whole float64) {
		t.Helper()
		tn := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
		tn.MailFooter = strings.Repeat("x ", footer/2)
		var got []byte
		prepared = testing.AllocsPerRun(10, func() {
			var err error
			if got, err = (mailmsg.Templates{}).Bytes(tn, i18n.German, mailmsg.ID{}, "a@b.test", link); err != nil {
				t.Fatal(err)
			}
		})
		if cap(got) > 2*len(got) {
			t.Errorf("a message of %d bytes has room for %d", len(got), cap(got))
		}
		m, err := (mailmsg.Templates{}).Compose(tn, i18n.German, mailmsg.ID{}, "a@b.test", link)
		if err != nil {
			t.Fatal(err)
		}
		return prepared, testing.AllocsPerRun(10, func() {
			if _, err := m.Bytes(); err != nil {
				t.Fatal(err)
			}
		})
	}
	short, shortWhole := allocations(100)
	long, longWhole := allocations(100_000)
	if long > short || longWhole > shortWhole {
		t.Errorf("a long message takes %v and %v allocations, a short one %v and %v",
			long, longWhole, short, shortWhole)
	}
}

// TestBytesConcurrently checks messages that are made concurrently, and that the number of
// prepared messages is limited.
func TestBytesConcurrently(t *testing.T) {
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := range 2 * mailmsg.MaxPrepared {
				tn := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
				link := mailmsg.Link{Made: noon, Expires: expiry.Add(time.Duration(n) * time.Minute)}
				same(t, mailmsg.Templates{}, tn, i18n.German, link)
				if got := mailmsg.Prepared(); got > mailmsg.MaxPrepared {
					t.Errorf("%d prepared messages are kept", got)
				}
			}
		})
	}
	all.Wait()
	kept := []int{mailmsg.Prepared()}
	for host := range strings.FieldsSeq("a.test b.test") {
		tn := &tenant.Tenant{Host: host, PublicURL: "https://" + host}
		same(t, mailmsg.Templates{}, tn, i18n.German, mailmsg.Link{Made: noon, Expires: expiry})
		kept = append(kept, mailmsg.Prepared())
	}
	// The others may have been dropped for one of the two tenants, but not for both.
	if kept[1] != kept[0]+1 && kept[2] != kept[1]+1 {
		t.Errorf("%d prepared messages are kept, want one more for each tenant", kept)
	}
}

func TestBytesRefusesAddresses(t *testing.T) {
	good := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
	bad := &tenant.Tenant{Host: "phone.test", Settings: tenant.Settings{Product: "a\nBcc: x@y.test"}}
	write := func(tn *tenant.Tenant, to string) ([]byte, error) {
		return mailmsg.Templates{}.Bytes(tn, i18n.English, mailmsg.ID{}, to, mailmsg.Link{})
	}
	for range 2 { // the second time, the message of the good tenant is prepared
		for _, to := range []string{
			"", "a@b.test\r\nBcc: c@d.test", "a@b.test, c@d.test", "A <a@b.test>", "ü@b.test",
		} {
			if b, err := write(good, to); err == nil {
				t.Errorf("address %q: got\n%s", to, b)
			}
		}
		if b, err := write(bad, "a@b.test"); err == nil {
			t.Errorf("a bad name: got\n%s", b)
		}
		if _, err := write(good, "a@b.test"); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkCompose measures composing the activation message of a signup, from its link to its
// bytes. As in a server, each message has another ID and token.
func BenchmarkCompose(b *testing.B) {
	tn := &tenant.Tenant{
		Host: "phone.test", PublicURL: "https://phone.test:8443",
		Settings: tenant.Settings{
			Product: "Example Phones", MailFooter: "Example Phones Ltd., 12 Long Street, Springfield.",
			TermsURL: "https://www.phone.test/terms", Support: "help@phone.test",
		},
	}
	for _, tag := range []i18n.Tag{i18n.English, i18n.German, i18n.Arabic} {
		b.Run(string(tag), func(b *testing.B) {
			b.ReportAllocs()
			token := secret.NewToken()
			for n := 0; b.Loop(); n++ {
				token[31] = byte(n)
				if _, err := (mailmsg.Templates{}).Bytes(tn, tag, mailmsg.ID{byte(n)}, "ann@mail.test", mailmsg.Link{
					Token: token, Made: noon, Expires: expiry,
				}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
