package mailmsg_test

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"flag"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

var update = flag.Bool("update", false, "write the golden messages anew")

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func activation(product string) mailmsg.Message {
	return written(i18n.English, tenant.Settings{Product: product})
}

// written is a message to Ann, by the program's own templates.
func written(tag i18n.Tag, settings tenant.Settings) mailmsg.Message {
	l, err := write(mailmsg.Templates{}, tag, settings)
	if err != nil {
		panic(err)
	}
	return l
}

func write(ts mailmsg.Templates, tag i18n.Tag, settings tenant.Settings) (mailmsg.Message, error) {
	t := &tenant.Tenant{Host: "phone.test", Realm: "phone.test", PublicURL: "https://phone.test:8443", Settings: settings}
	return ts.Activation(t, tag, mailmsg.ID{1, 2, 3}, "Ann+x@mail.test", secret.Token{4, 5, 6}, noon, noon.Add(7*24*time.Hour))
}

const link = "https://phone.test:8443/activate.ashx?token=BAUGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// golden are the messages in testdata.
func golden() map[string]mailmsg.Message {
	all := map[string]mailmsg.Message{
		"plain": activation(""), "utf-8": activation("Bürotelefon Łódź"), "long": activation(strings.Repeat("電話", 30)),
		"quoted": activation(`Ann "The Phone" O'Hara, \Ltd.`),
	}
	for _, tag := range i18n.Tags[1:] {
		all[string(tag)] = written(tag, tenant.Settings{Product: "Example Phones", ReplyTo: "help@phone.test",
			MailFooter: "Example Phones Ltd. <&> 12 Long Street, Springfield. Registered in England and Wales, number 01234567."})
	}
	return all
}

func TestGolden(t *testing.T) {
	for name, l := range golden() {
		t.Run(name, func(t *testing.T) {
			got, err := l.Bytes()
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
			if again, err := golden()[name].Bytes(); err != nil || !bytes.Equal(got, again) {
				t.Errorf("the second time it is another: %v", err)
			}
			check(t, l, got)
			if until := i18n.In(l.Lang).Moment(noon.Add(7 * 24 * time.Hour)); !strings.Contains(strings.ReplaceAll(l.Text, "\n", " "), until) || !strings.Contains(l.HTML, until) {
				t.Errorf("it does not say %s:\n%s\n%s", until, l.Text, l.HTML)
			}
			if strings.Count(l.Text, link) != 1 || !strings.Contains(l.Text, "\n"+link+"\n") || strings.Count(l.HTML, link) != 1 || !strings.Contains(l.HTML, `<a href="`+link+`"`) {
				t.Errorf("the link is not there once:\n%s\n%s", l.Text, l.HTML)
			}
			for line := range strings.Lines(l.Text) {
				if utf8.RuneCountInString(line) > 78 && strings.TrimSpace(line) != link && strings.Contains(line, " ") {
					t.Errorf("a line of the text is long: %s", line)
				}
			}
			w := i18n.In(l.Lang)
			if !strings.Contains(l.HTML, `<html lang="`+string(w.Tag)+`" dir="`+w.Dir+`">`) {
				t.Errorf("the HTML is not said to be %s", w.Tag)
			}
			if strings.Contains(l.HTML, "ZgotmplZ") || regexp.MustCompile(`(?i)<img|<script|<link|<iframe|src=|url\(|@import|<&>|background-color|http:`).MatchString(l.HTML) {
				t.Errorf("the HTML has something that a message has not:\n%s", l.HTML)
			}
		})
	}
}

// Scripts read the pickup directory line by line (README.md).
func TestScriptsFindTheLink(t *testing.T) {
	for n := range 76 { // wherever an encoding would break its lines
		host := strings.Repeat("p", n) + ".test"
		l, err := mailmsg.Templates{}.Activation(&tenant.Tenant{Host: host, PublicURL: "https://" + host}, i18n.English, mailmsg.ID{}, "a@b.test", secret.Token{}, noon, noon)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 || n > 63 {
			l.Domain, l.From = "phone.test", "no-reply@phone.test" // the link alone has such a host
		}
		b, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		want := "https://" + host + "/activate.ashx?token=" + secret.Token{}.Text()
		if found := regexp.MustCompile(`https?://.*token=.*`).FindAllString(string(b), -1); len(found) != 1 || strings.TrimSuffix(found[0], "\r") != want {
			t.Errorf("a search of the file finds %q", found)
		}
	}
}

//go:embed testdata/read.py
var readPython string

// TestAnotherParserReadsTheSame has the messages read by a program that shares nothing with this one.
func TestAnotherParserReadsTheSame(t *testing.T) {
	var files []string
	for name := range golden() {
		files = append(files, "testdata/"+name+".eml")
	}
	out, err := exec.Command("python3", append([]string{"-c", readPython}, files...)...).Output()
	if err != nil {
		t.Fatalf("python3 (which make test installs): %v", err)
	}
	type read struct {
		Subject, Name, Address, To, ReplyTo, Type string
		Parts                                     [][2]string
		Defects                                   []string
	}
	var all map[string]read
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	for name, l := range golden() {
		want := read{l.Subject, l.FromName, l.From, l.To, l.ReplyTo, "multipart/alternative", [][2]string{{"text/plain", l.Text}, {"text/html", l.HTML}}, []string{}}
		got := all["testdata/"+name+".eml"]
		if without(got.Name, " ") == without(want.Name, " ") {
			got.Name = want.Name // Python keeps the space between two encoded words of a name, which RFC 2047 §6.2 drops
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

func without(s, part string) string { return strings.ReplaceAll(s, part, "") }

// headers are the fields that a message has, each once, and no others.
func headers(l mailmsg.Message) []string {
	list := []string{"Date", "From", "To", "Subject", "Message-Id", "Mime-Version", "Content-Type", "Auto-Submitted", "X-Auto-Response-Suppress"}
	if l.HTML == "" {
		list = append(list, "Content-Transfer-Encoding")
	}
	if l.ReplyTo != "" {
		list = append(list, "Reply-To")
	}
	if l.Lang != "" {
		list = append(list, "Content-Language")
	}
	return list
}

// check reads a message back and compares it with its letter.
func check(t *testing.T, l mailmsg.Message, message []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers(l) {
		if len(m.Header[h]) != 1 {
			t.Errorf("the header has %s %d times", h, len(m.Header[h]))
		}
	}
	if len(m.Header) != len(headers(l)) {
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
	if got := mailmsg.Decode(m.Header.Get("Subject")); got != l.Subject {
		t.Errorf("the subject is %q, want %q", got, l.Subject)
	}
	if got := m.Header.Get("Message-Id"); got != "<"+l.ID.String()+"@"+l.Domain+">" {
		t.Errorf("the id is %s", got)
	}
	if text, err := mailmsg.Text(m); err != nil || text != l.Text {
		t.Errorf("the text is %q, %v, want %q", text, err, l.Text)
	}
	if l.HTML != "" {
		m, _ := mail.ReadMessage(bytes.NewReader(message))
		checkParts(t, l, m)
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

// checkParts wants the parts to be the text and the HTML, in this order: the last is the one to prefer (RFC 2046 §5.1.4).
func checkParts(t *testing.T, l mailmsg.Message, m *mail.Message) {
	t.Helper()
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		t.Fatalf("the message is %s: %v", media, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []struct{ media, text string }{{"text/plain; charset=utf-8", l.Text}, {"text/html; charset=utf-8", l.HTML}} {
		p, err := r.NextPart() // which decodes quoted-printable
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "base64" {
			body = base64.NewDecoder(base64.StdEncoding, p)
		}
		b, err := io.ReadAll(body)
		if got := strings.ReplaceAll(string(b), "\r\n", "\n"); err != nil || p.Header.Get("Content-Type") != want.media || got != want.text {
			t.Errorf("a part is %s with %q, %v, want %s with %q", p.Header.Get("Content-Type"), got, err, want.media, want.text)
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("there is more: %v", err)
	}
}

func TestNothingOfTheFormIsInTheMessage(t *testing.T) {
	// The builder is not given the user name or the displayed name; the address is in the header and nowhere else.
	for name, l := range golden() {
		if strings.Contains(l.Text+l.Subject+l.HTML, "Ann+x") || strings.Contains(l.Text+l.HTML, "mail.test") {
			t.Errorf("%s says\n%s\n%s\n%s", name, l.Subject, l.Text, l.HTML)
		}
	}
}

func TestInjectionIsRefused(t *testing.T) {
	plain := activation("")
	for _, bad := range []string{
		"a\r\nBcc: x@y.test", "a\nX-Receiver: x@y.test", "a\rb", "a\x00b", "a\x7f", "a\tb", "a\v", "a\r\n\r\nbody", "a\r\n Bcc: x@y.test",
	} {
		for name, change := range map[string]func(*mailmsg.Message){
			"subject": func(l *mailmsg.Message) { l.Subject = bad }, "sender's name": func(l *mailmsg.Message) { l.FromName = bad },
			"sender": func(l *mailmsg.Message) { l.From = bad + "@y.test" }, "recipient": func(l *mailmsg.Message) { l.To = bad + "@y.test" },
			"recipient's domain": func(l *mailmsg.Message) { l.To = "a@" + bad }, "domain": func(l *mailmsg.Message) { l.Domain = bad },
			"address for answers": func(l *mailmsg.Message) { l.ReplyTo = bad + "@y.test" }, "language": func(l *mailmsg.Message) { l.Lang = i18n.Tag(bad) },
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
		for i := range 3 {
			l := plain
			*[]*string{&l.To, &l.From, &l.ReplyTo}[i] = to
			if i == 2 && to == "" {
				continue // there is none
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
	f.Add("Phones", "Activate", "a text\n", "", "ann@mail.test")
	f.Add("Büro", strings.Repeat("ü", 100), strings.Repeat("long ", 500)+"\n.\nFrom me\n=3D\n", "<p>", "a+b@c.test")
	f.Add("", "a\r\nBcc: x@y.test", "\ttab \n trailing \n", "\x00", "a@b\r\n.test")
	f.Add("=?utf-8?q?a?=", "=?utf-8?q?a=0D=0ABcc:?=", "\x00\xff", "--=_\n", "x")
	f.Add("", "", "مرحبا\n--=_00000000000000000000000000000000--\n", strings.Repeat("x", 2000), "a@b.test")
	f.Fuzz(func(t *testing.T, fromName, subject, text, html, to string) {
		l := mailmsg.Message{Domain: "phone.test", FromName: fromName, From: "no-reply@phone.test", To: to, Date: noon, Subject: subject, Text: text, HTML: html}
		l.ID[0] = 1
		if strings.Contains(text, l.ID.String()) {
			return // which no text knows
		}
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
		if strings.Contains(text+html, "\r") || l.FromName != fromName || l.Subject != subject || len(text) > 1<<19 {
			if m, err := mail.ReadMessage(bytes.NewReader(b)); err != nil || len(m.Header) != len(headers(l)) {
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

// BenchmarkMessage is a message's share of a signup. The first is that of the plain text alone, without templates.
func BenchmarkMessage(b *testing.B) {
	alone := activation("")
	alone.HTML, alone.Lang = "", ""
	b.Run("text alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := alone.Bytes(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, tag := range []i18n.Tag{i18n.English, i18n.German, i18n.Arabic} {
		b.Run(string(tag), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := written(tag, tenant.Settings{}).Bytes(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
