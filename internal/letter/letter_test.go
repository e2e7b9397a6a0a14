package letter_test

import (
	"bytes"
	"flag"
	"net/mail"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dialtone/internal/letter"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

var update = flag.Bool("update", false, "write the golden messages anew")

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func activation(product string) letter.Letter {
	t := &tenant.Tenant{Host: "phone.test", Realm: "phone.test", PublicURL: "https://phone.test:8443", Settings: tenant.Settings{Product: product}}
	return letter.Activation(t, letter.ID{1, 2, 3}, "Ann+x@mail.test", secret.Token{4, 5, 6}, noon, noon.Add(7*24*time.Hour))
}

func TestGolden(t *testing.T) {
	for name, product := range map[string]string{"plain": "", "utf-8": "Bürotelefon Łódź", "long": strings.Repeat("電話", 30), "quoted": `Ann "The Phone" O'Hara, \Ltd.`} {
		t.Run(name, func(t *testing.T) {
			got, err := activation(product).Bytes()
			if err != nil {
				t.Fatal(err)
			}
			file := "testdata/" + name + ".eml"
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			again, err := activation(product).Bytes()
			if err != nil || !bytes.Equal(got, again) {
				t.Errorf("the second time it is another: %v", err)
			}
			l := activation(product)
			check(t, l, got)
			if !strings.Contains(l.Text, "\nhttps://phone.test:8443/activate.ashx?token=BAUGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n") || !strings.Contains(l.Text, "Sunday, 8 March 2026, 12:00 UTC") {
				t.Errorf("the text is\n%s", l.Text)
			}
		})
	}
}

// headers are the fields that a message has, each once, and no others.
var headers = []string{
	"Date", "From", "To", "Subject", "Message-Id", "Mime-Version", "Content-Type", "Content-Transfer-Encoding", "Auto-Submitted", "X-Auto-Response-Suppress",
}

// check reads a message back and compares it with its letter.
func check(t *testing.T, l letter.Letter, message []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		if len(m.Header[h]) != 1 {
			t.Errorf("the header has %s %d times", h, len(m.Header[h]))
		}
	}
	if len(m.Header) != len(headers) {
		t.Errorf("the header is %q", m.Header)
	}
	to, err := m.Header.AddressList("To")
	if err != nil || len(to) != 1 || to[0].Address != l.To || to[0].Name != "" {
		t.Errorf("to %v, %v", to, err)
	}
	from, err := m.Header.AddressList("From")
	if err != nil || len(from) != 1 || from[0].Address != l.From || from[0].Name != l.FromName {
		t.Errorf("from %v, %v, want %q", from, err, l.FromName)
	}
	if date, err := m.Header.Date(); err != nil || !date.Equal(l.Date.Truncate(time.Second)) {
		t.Errorf("the date is %v, %v", date, err)
	}
	if got := letter.Decode(m.Header.Get("Subject")); got != l.Subject {
		t.Errorf("the subject is %q, want %q", got, l.Subject)
	}
	if got := m.Header.Get("Message-Id"); got != "<"+l.ID.String()+"@"+l.Domain+">" {
		t.Errorf("the id is %s", got)
	}
	if text, err := letter.Text(m); err != nil || text != l.Text {
		t.Errorf("the text is %q, %v, want %q", text, err, l.Text)
	}
	if bytes.Count(message, []byte("\n")) != bytes.Count(message, []byte("\r\n")) || bytes.Count(message, []byte("\r")) != bytes.Count(message, []byte("\r\n")) {
		t.Error("a line ends otherwise than with CRLF")
	}
	for _, line := range bytes.Split(message, []byte("\r\n")) {
		if len(line) > 998 {
			t.Errorf("a line has %d bytes", len(line))
		}
		for _, c := range line {
			if c >= 0x80 || c < ' ' && c != '\t' {
				t.Errorf("a line has the byte %#x", c)
				break
			}
		}
	}
}

func TestNothingOfTheFormIsInTheMessage(t *testing.T) {
	// The builder is not given the user name or the displayed name; the address is in the header and nowhere else.
	l := activation("")
	if strings.Contains(l.Text+l.Subject, "Ann") || strings.Contains(l.Text, "mail.test") {
		t.Errorf("the message says\n%s\n%s", l.Subject, l.Text)
	}
}

func TestInjectionIsRefused(t *testing.T) {
	plain := activation("")
	for _, bad := range []string{
		"a\r\nBcc: x@y.test", "a\nX-Receiver: x@y.test", "a\rb", "a\x00b", "a\x7f", "a\tb", "a\v", "a\r\n\r\nbody", "a\r\n Bcc: x@y.test",
	} {
		for name, change := range map[string]func(*letter.Letter){
			"subject": func(l *letter.Letter) { l.Subject = bad }, "sender's name": func(l *letter.Letter) { l.FromName = bad },
			"sender": func(l *letter.Letter) { l.From = bad + "@y.test" }, "recipient": func(l *letter.Letter) { l.To = bad + "@y.test" },
			"recipient's domain": func(l *letter.Letter) { l.To = "a@" + bad }, "domain": func(l *letter.Letter) { l.Domain = bad },
		} {
			l := plain
			change(&l)
			if b, err := l.Bytes(); err == nil {
				t.Errorf("%q as %s makes\n%s", bad, name, b)
			}
		}
	}
	for _, to := range []string{
		"", "a", "a@", "@b", "a@b.test,c@d.test", "a@b.test, c@d.test", "a@b.test;c@d.test", "g:a@b.test;", "<a@b.test>", "A <a@b.test>", "a(c)@b.test",
		`"a b"@c.test`, "a@b.test ", " a@b.test", "a@b .test", "ü@b.test", "a@bü.test", "a@b.test\u2028c", "@x:a@b.test", "a@b@c",
	} {
		for _, both := range []bool{true, false} {
			l := plain
			if both {
				l.To = to
			} else {
				l.From = to
			}
			if b, err := l.Bytes(); err == nil {
				t.Errorf("the address %q makes\n%s", to, b)
			}
		}
	}
	for _, odd := range []string{"a\u2028Bcc: x@y.test", "a\u0085Bcc: x@y.test", "Bcc: x@y.test", "a: b", strings.Repeat("ü", 150)} {
		l := plain
		l.Subject, l.FromName = odd, odd
		b, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		check(t, l, b)
	}
}

func FuzzLetter(f *testing.F) {
	f.Add("Phones", "Activate", "a text\n", "ann@mail.test")
	f.Add("Büro", strings.Repeat("ü", 100), strings.Repeat("long ", 500)+"\n.\nFrom me\n=3D\n", "a+b@c.test")
	f.Add("", "a\r\nBcc: x@y.test", "\ttab \n trailing \n", "a@b\r\n.test")
	f.Add("=?utf-8?q?a?=", "=?utf-8?q?a=0D=0ABcc:?=", "\x00\xff", "x")
	f.Fuzz(func(t *testing.T, fromName, subject, text, to string) {
		l := letter.Letter{Domain: "phone.test", FromName: fromName, From: "no-reply@phone.test", To: to, Date: noon, Subject: subject, Text: text}
		b, err := l.Bytes()
		if err != nil {
			return
		}
		// What an operator writes in the form of an encoded word is shown decoded, and spaces at the ends of a header are
		// not kept; text is lines that end with \n.
		for _, s := range []string{fromName, subject} {
			if !utf8.ValidString(s) || strings.Contains(s, "=?") || strings.TrimSpace(s) != s {
				l.FromName, l.Subject = "", ""
			}
		}
		if strings.Contains(text, "\r") || l.FromName != fromName || l.Subject != subject || len(text) > 1<<19 {
			if m, err := mail.ReadMessage(bytes.NewReader(b)); err != nil || len(m.Header) != len(headers) {
				t.Fatalf("%v: %q", err, m)
			}
			return
		}
		if len(fromName)+len(subject) > 300 {
			return // longer than a tenant's settings may be
		}
		check(t, l, b)
	})
}
