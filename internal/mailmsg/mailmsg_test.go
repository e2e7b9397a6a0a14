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

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

// activation returns an English message to Ann.
func activation(product string) mailmsg.Message {
	return builtin(i18n.English, tenant.Settings{Product: product})
}

// builtin returns a message to Ann with the built-in texts.
func builtin(tag i18n.Tag, settings tenant.Settings) mailmsg.Message {
	m, err := build(mailmsg.Templates{}, tag, settings)
	if err != nil {
		panic(err)
	}
	return m
}

// expiry is when the link of a test message expires.
var expiry = noon.Add(7 * 24 * time.Hour)

// build returns a message to Ann with an operator's templates.
func build(ts mailmsg.Templates, tag i18n.Tag, settings tenant.Settings) (mailmsg.Message, error) {
	return buildAt(ts, tag, settings, noon, false)
}

func buildAt(
	ts mailmsg.Templates, tag i18n.Tag, settings tenant.Settings, made time.Time, resent bool,
) (mailmsg.Message, error) {
	t := &tenant.Tenant{
		Host: "phone.test", Realm: "phone.test", PublicURL: "https://phone.test:8443",
		Settings: settings,
	}
	id, token := mailmsg.ID{1, 2, 3}, secret.Token{4, 5, 6}
	link := mailmsg.Link{Token: token, Made: made, Expires: expiry, Resent: resent}
	return ts.Compose(t, tag, id, "Ann+x@mail.test", link)
}

const link = "https://phone.test:8443/activate.ashx?token=BAUGAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// golden returns the messages in testdata by name.
func golden() map[string]mailmsg.Message {
	all := map[string]mailmsg.Message{
		"plain":  activation(""),
		"utf-8":  activation("Bürotelefon Łódź"),
		"long":   activation(strings.Repeat("電話", 30)),
		"quoted": activation(`Ann "The Phone" O'Hara, \Ltd.`),
	}
	for _, tag := range i18n.Tags {
		all[string(tag)] = builtin(tag, tenant.Settings{
			Product: "Example Phones",
			ReplyTo: "help@phone.test",
			MailFooter: "Example Phones Ltd. <&> 12 Long Street, Springfield. " +
				"Registered in England and Wales, number 01234567.",
			Accent:     "#c8102e",
			TermsURL:   "https://www.phone.test/terms?a=b&c=d",
			PrivacyURL: "https://www.phone.test/privacy",
			ImprintURL: "https://www.phone.test/imprint",
			Support:    "a+b@phone.test",
		})
	}
	again, err := buildAt(mailmsg.Templates{}, i18n.English, tenant.Settings{Product: "Example Phones"},
		noon.Add(2*time.Hour+5*time.Minute), true)
	if err != nil {
		panic(err)
	}
	all["again"] = again
	return all
}

// unwanted matches HTML that loads a resource, is not escaped, or contains a placeholder.
var unwanted = regexp.MustCompile(`(?i)ZgotmplZ|<img|<script|<link|<iframe|src=|url\(|@import|<&>|` +
	`background-color|http:|\{\w+\}`)

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
				t.Errorf("a second call returns different bytes: %v", err)
			}
			check(t, l, got)
			words := i18n.In(l.Lang)
			until := words.Moment(expiry)
			if !strings.Contains(strings.ReplaceAll(l.Text, "\n", " "), until) ||
				!strings.Contains(l.HTML, until) {
				t.Errorf("the expiry %s is missing:\n%s\n%s", until, l.Text, l.HTML)
			}
			if strings.Count(l.Text, link) != 1 || !strings.Contains(l.Text, "\n"+link+"\n") ||
				strings.Count(l.HTML, link) != 2 || strings.Count(l.HTML, `<a href="`+link+`"`) != 1 ||
				strings.Count(l.HTML, ">"+link+"<") != 1 {
				t.Errorf("want one link in each part, and its address in the HTML:\n%s\n%s", l.Text, l.HTML)
			}
			for line := range strings.Lines(l.Text) {
				if utf8.RuneCountInString(line) > 78 && strings.TrimSpace(line) != link &&
					strings.Contains(line, " ") {
					t.Errorf("long line in the text: %s", line)
				}
			}
			if !strings.Contains(l.HTML, `<html lang="`+string(words.Tag)+`" dir="`+words.Dir+`">`) {
				t.Errorf("the HTML has no language %s", words.Tag)
			}
			const maxSize = 20_000 // far below the 102 kB at which Gmail cuts messages off
			if len(got) > maxSize {
				t.Errorf("the message has %d bytes", len(got))
			}
			if unwanted.MatchString(l.HTML) {
				t.Errorf("unwanted HTML:\n%s", l.HTML)
			}
		})
	}
}

// TestResentSubject checks that each message to a person has a different subject.
func TestResentSubject(t *testing.T) {
	own, err := mailmsg.Load(templatesDir(map[string]string{
		"activation.de.txt": goodText, "activation.de.html": goodHTML,
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, ts := range []mailmsg.Templates{{}, own} {
		for _, tag := range i18n.Tags {
			seen := map[string]bool{}
			for _, m := range []struct {
				made   time.Time
				resent bool
			}{{noon, false}, {noon.Add(time.Minute), true}, {noon.Add(2 * time.Minute), true}} {
				l, err := buildAt(ts, tag, tenant.Settings{Product: "P"}, m.made, m.resent)
				if err != nil {
					t.Fatal(err)
				}
				if seen[l.Subject] || strings.Contains(l.Subject, "UTC") != m.resent {
					t.Errorf("%s: the subject of the message of %v is %q, after %v", tag, m.made, l.Subject, seen)
				}
				seen[l.Subject] = true
			}
		}
	}
}

// TestBrand checks how the settings of a tenant appear in a message.
func TestBrand(t *testing.T) {
	l := builtin(i18n.German, tenant.Settings{
		Product: "A & B", Accent: "#ffcc00", TermsURL: "https://a.test/?a=b&c=d", Support: "a?b@a.test",
	})
	const text = "\nNutzungsbedingungen: https://a.test/?a=b&c=d\nHilfe: a?b@a.test\n"
	if !strings.HasSuffix(l.Text, text) {
		t.Errorf("the text does not end with %q:\n%s", text, l.Text)
	}
	colours := tenant.Settings{Accent: "#ffcc00"}.Palette()
	const style = `target="_blank" class="soft" style="color: #4b5a53"`
	for _, want := range []string{
		`<a href="https://a.test/?a=b&amp;c=d" ` + style + `>Nutzungsbedingungen</a>`,
		`<a href="mailto:a%3Fb@a.test" ` + style + `>Hilfe</a>`,
		">A &amp; B</span></td>",
		`bgcolor="` + colours.Light.Accent + `"`,
		"background: " + colours.Light.Accent + "; color: " + colours.Light.OnAccent,
		".accent { background: " + colours.Dark.Accent + " !important",
		".on-accent { color: " + colours.Dark.OnAccent + " !important",
	} {
		if !strings.Contains(l.HTML, want) {
			t.Errorf("the HTML has no %s:\n%s", want, l.HTML)
		}
	}
	if strings.Contains(builtin(i18n.German, tenant.Settings{}).HTML, "&middot;") {
		t.Error("a tenant without links has a line of links")
	}
}

// Scripts search the files in the pickup directory for the link (README.md), so no encoding may break its line.
func TestLinkIsOnOneLine(t *testing.T) {
	for n := range 76 { // every position at which an encoding could break the line
		host := strings.Repeat("p", n) + ".test"
		tn := &tenant.Tenant{Host: host, PublicURL: "https://" + host}
		l, err := mailmsg.Templates{}.Compose(
			tn, i18n.English, mailmsg.ID{}, "a@b.test", mailmsg.Link{Made: noon, Expires: noon})
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 || n > 63 {
			l.Domain, l.From = "phone.test", "no-reply@phone.test" // only the link may have such a host
		}
		b, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		want := "https://" + host + "/activate.ashx?token=" + secret.Token{}.Text()
		found := regexp.MustCompile(`https?://.*token=.*`).FindAllString(string(b), -1)
		if len(found) != 1 || strings.TrimSuffix(found[0], "\r") != want {
			t.Errorf("got %q, want %s", found, want)
		}
	}
}

//go:embed testdata/read.py
var readPython string

// TestParsedByPython reads the messages with an independent implementation.
func TestParsedByPython(t *testing.T) {
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
		parts := [][2]string{{"text/plain", l.Text}, {"text/html", l.HTML}}
		want := read{
			l.Subject, l.FromName, l.From, l.To, l.ReplyTo, "multipart/alternative", parts, []string{},
		}
		got := all["testdata/"+name+".eml"]
		if without(got.Name, " ") == without(want.Name, " ") {
			// Python keeps the space between two encoded words, which RFC 2047 section 6.2 drops.
			got.Name = want.Name
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%+v\nwant\n%+v", name, got, want)
		}
	}
}

func without(s, part string) string { return strings.ReplaceAll(s, part, "") }

// fields returns the names of the header fields that a message must have exactly once.
func fields(l mailmsg.Message) []string {
	list := []string{
		"Date", "From", "To", "Subject", "Message-Id", "Mime-Version", "Content-Type",
		"Auto-Submitted", "X-Auto-Response-Suppress",
	}
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

// check parses the bytes of a message and compares the result with the message.
func check(t *testing.T, l mailmsg.Message, message []byte) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range fields(l) {
		if len(m.Header[h]) != 1 {
			t.Errorf("field %s: %d times, want once", h, len(m.Header[h]))
		}
	}
	if len(m.Header) != len(fields(l)) {
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
	crlf := bytes.Count(message, []byte("\r\n"))
	if bytes.Count(message, []byte("\n")) != crlf || bytes.Count(message, []byte("\r")) != crlf {
		t.Error("a line does not end with CRLF")
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

// checkParts checks that the parts are the text and the HTML, in this order. Mail programs
// prefer the last part (RFC 2046 section 5.1.4).
func checkParts(t *testing.T, l mailmsg.Message, m *mail.Message) {
	t.Helper()
	media, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || media != "multipart/alternative" {
		t.Fatalf("the message is %s: %v", media, err)
	}
	r := multipart.NewReader(m.Body, params["boundary"])
	for _, want := range []struct{ media, text string }{
		{"text/plain; charset=utf-8", l.Text},
		{"text/html; charset=utf-8", l.HTML},
	} {
		p, err := r.NextPart() // decodes quoted-printable
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = p
		if p.Header.Get("Content-Transfer-Encoding") == "base64" {
			body = base64.NewDecoder(base64.StdEncoding, p)
		}
		b, err := io.ReadAll(body)
		text, media := strings.ReplaceAll(string(b), "\r\n", "\n"), p.Header.Get("Content-Type")
		if err != nil || media != want.media || text != want.text {
			t.Errorf("part %s: %q, %v, want %s: %q", media, text, err, want.media, want.text)
		}
	}
	if _, err := r.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
}

// A message must not contain what was entered in the form. Activation does not get the user
// name or the display name, so only the address is checked. It may occur only in the header.
func TestMessageContainsNoFormInput(t *testing.T) {
	for name, l := range golden() {
		if strings.Contains(l.Text+l.Subject+l.HTML, "Ann+x") || strings.Contains(l.Text+l.HTML, "mail.test") {
			t.Errorf("%s: the address is in\n%s\n%s\n%s", name, l.Subject, l.Text, l.HTML)
		}
	}
}

func TestHeaderInjection(t *testing.T) {
	plain := activation("")
	for _, bad := range []string{
		"a\r\nBcc: x@y.test", "a\nX-Receiver: x@y.test", "a\rb", "a\x00b", "a\x7f", "a\tb", "a\v",
		"a\r\n\r\nbody", "a\r\n Bcc: x@y.test",
	} {
		for name, change := range map[string]func(*mailmsg.Message){
			"Subject":   func(l *mailmsg.Message) { l.Subject = bad },
			"FromName":  func(l *mailmsg.Message) { l.FromName = bad },
			"From":      func(l *mailmsg.Message) { l.From = bad + "@y.test" },
			"To":        func(l *mailmsg.Message) { l.To = bad + "@y.test" },
			"To domain": func(l *mailmsg.Message) { l.To = "a@" + bad },
			"Domain":    func(l *mailmsg.Message) { l.Domain = bad },
			"ReplyTo":   func(l *mailmsg.Message) { l.ReplyTo = bad + "@y.test" },
			"Lang":      func(l *mailmsg.Message) { l.Lang = i18n.Tag(bad) },
		} {
			l := plain
			change(&l)
			if b, err := l.Bytes(); err == nil {
				t.Errorf("%s %q: got\n%s", name, bad, b)
			}
		}
	}
	for _, to := range []string{
		"", "a", "a@", "@b", "a@b.test,c@d.test", "a@b.test, c@d.test", "a@b.test;c@d.test",
		"g:a@b.test;", "<a@b.test>", "A <a@b.test>", "a(c)@b.test", `"a b"@c.test`, "a@b.test ",
		" a@b.test", "a@b .test", "ü@b.test", "a@bü.test", "a@b.test\u2028c", "@x:a@b.test", "a@b@c",
	} {
		for i := range 3 {
			l := plain
			*[]*string{&l.To, &l.From, &l.ReplyTo}[i] = to
			if i == 2 && to == "" {
				continue // Reply-To is optional
			}
			if b, err := l.Bytes(); err == nil {
				t.Errorf("address %q: got\n%s", to, b)
			}
		}
	}
	for _, odd := range []string{
		"a\u2028Bcc: x@y.test", "a\u0085Bcc: x@y.test", "Bcc: x@y.test", "a: b", strings.Repeat("ü", 150),
	} {
		l := plain
		l.Subject, l.FromName = odd, odd
		b, err := l.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		check(t, l, b)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("Phones", "Activate", "a text\n", "", "ann@mail.test")
	f.Add("Büro", strings.Repeat("ü", 100), strings.Repeat("long ", 500)+"\n.\nFrom me\n=3D\n", "<p>", "a+b@c.test")
	f.Add("", "a\r\nBcc: x@y.test", "\ttab \n trailing \n", "\x00", "a@b\r\n.test")
	f.Add("=?utf-8?q?a?=", "=?utf-8?q?a=0D=0ABcc:?=", "\x00\xff", "--=_\n", "x")
	f.Add("", "", "مرحبا\n--=_00000000000000000000000000000000--\n", strings.Repeat("x", 2000), "a@b.test")
	f.Fuzz(func(t *testing.T, fromName, subject, text, html, to string) {
		l := mailmsg.Message{
			Domain: "phone.test", FromName: fromName, From: "no-reply@phone.test", To: to, Date: noon,
			Subject: subject, Text: text, HTML: html,
		}
		l.ID[0] = 1
		if strings.Contains(text, l.ID.String()) {
			return // no real text contains the ID
		}
		b, err := l.Bytes()
		if err != nil {
			return
		}
		// An encoded word that an operator typed is decoded, and spaces at the ends of a field are lost.
		// The lines of a text end with \n.
		for _, s := range []string{fromName, subject} {
			if !utf8.ValidString(s) || strings.Contains(s, "=?") || strings.TrimSpace(s) != s {
				l.FromName, l.Subject = "", ""
			}
		}
		if strings.Contains(text+html, "\r") || l.FromName != fromName || l.Subject != subject || len(text) > 1<<19 {
			if m, err := mail.ReadMessage(bytes.NewReader(b)); err != nil || len(m.Header) != len(fields(l)) {
				t.Fatalf("%v: %q", err, m)
			}
			return
		}
		if len(fromName)+len(subject) > 300 {
			return // longer than the settings of a tenant can be
		}
		check(t, l, b)
	})
}

// BenchmarkMessage measures the cost of a signup's message. The first case has only plain text.
func BenchmarkMessage(b *testing.B) {
	text := activation("")
	text.HTML, text.Lang = "", ""
	b.Run("text", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := text.Bytes(); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, tag := range []i18n.Tag{i18n.English, i18n.German, i18n.Arabic} {
		b.Run(string(tag), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := builtin(tag, tenant.Settings{}).Bytes(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
