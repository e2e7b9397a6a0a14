package mailmsg_test

import (
	"bytes"
	"net/mail"
	"strings"
	"testing"

	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
)

func TestEncoding(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"ASCII", "a~ b\n", "7bit"},
		{"a line of 998 characters", strings.Repeat("a", 998) + "\n", "7bit"},
		{"a line of 999 characters", strings.Repeat("a", 999) + "\n", "quoted-printable"},
		{"many long lines", strings.Repeat(strings.Repeat("a", 998)+"\n", 3), "7bit"},
		{"a tab", "twelve bytes\t\n", "quoted-printable"},
		{"DEL", "twelve bytes\x7f\n", "quoted-printable"},
		{"a sixth is not ASCII", "1234567890ä", "quoted-printable"},
		{"more than a sixth is not ASCII", "123456789ä", "base64"},
	} {
		m := mailmsg.Message{
			Domain: "phone.test", From: "a~b@b.test", To: "c@d.test", Date: noon, Text: c.text,
		}
		b, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		got, err := mail.ReadMessage(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if encoding := got.Header.Get("Content-Transfer-Encoding"); encoding != c.want {
			t.Errorf("%s is sent as %s, want %s", c.name, encoding, c.want)
		}
		if text, err := mailmsg.Text(got); err != nil || text != c.text {
			t.Errorf("%s is read as %q, %v", c.name, text, err)
		}
	}
}

func TestWrap(t *testing.T) {
	long := strings.Repeat("a", 80)
	for text, want := range map[string]string{
		"":                               "",
		"a b":                            "a b",
		strings.Repeat("a", 70) + " b c": strings.Repeat("a", 70) + " b\nc", // 72 characters and one more
		strings.Repeat("ä", 69) + " b c": strings.Repeat("ä", 69) + " b\nc",
		strings.Repeat("a", 71) + " b":   strings.Repeat("a", 71) + "\nb",
		strings.Repeat("a", 36) + " " + strings.Repeat("b", 35): strings.Repeat("a", 36) + " " +
			strings.Repeat("b", 35),
		"a " + long + " b": "a\n" + long + "\nb",
		"a\u00a0b c":       "a\u00a0b c",
	} {
		if got := (mailmsg.Content{}).Wrap(text); got != want {
			t.Errorf("%q\nis wrapped as\n%q, want\n%q", text, got, want)
		}
	}
}

func TestToken(t *testing.T) {
	token := secret.NewToken()
	link := "https://phone.test/activate.ashx?token=" + token.Text()
	decline := "https://phone.test/decline.html?link=" + token.Text()
	for _, text := range []string{
		link, "Open\n" + link + "\nto go on", link + "\n" + link, link + "\n" + decline, decline + "\n" + link,
	} {
		if got, ok := mailmsg.Token(text); !ok || got != token {
			t.Errorf("%q: the token is not found", text)
		}
	}
	for _, text := range []string{"", token.Text(), link[:len(link)-1], strings.Replace(link, "=", "=!", 1)} {
		if _, ok := mailmsg.Token(text); ok {
			t.Errorf("%q: a token is found", text)
		}
	}
}

func TestDomain(t *testing.T) {
	for address, want := range map[string]string{
		"a@b.test": "b.test", `"a@b"@c.test`: "c.test", "b.test": "b.test", "a@": "",
	} {
		if got := mailmsg.Domain(address); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
}
