package mailmsg_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// kindPaths are the paths of the links in messages without a detail.
var kindPaths = map[mailmsg.Kind]string{
	mailmsg.Reset:           "/reset.html?token=",
	mailmsg.SetPassword:     "/reset.html?token=",
	mailmsg.ConfirmEmail:    "/confirm-email.html?token=",
	mailmsg.PasswordChanged: "/not-me.html?token=",
	mailmsg.EmailChanged:    "/not-me.html?token=",
	mailmsg.WrongCodes:      "/not-me.html?token=",
	mailmsg.DataTaken:       "/not-me.html?token=",
	mailmsg.Leaving:         "/stay.html?token=",
}

// TestKinds checks the messages about changes in every language, and compares them with golden files.
func TestKinds(t *testing.T) {
	tn := &tenant.Tenant{
		Host: "phone.test", Realm: "phone.test", PublicURL: "https://phone.test:8443",
		Settings: tenant.Settings{Product: "Example & Phones", Accent: "#c8102e"},
	}
	token := secret.Token{4, 5, 6}
	type message struct {
		name   string
		kind   mailmsg.Kind
		detail string
		path   string
	}
	var messages []message
	for kind, path := range kindPaths {
		messages = append(messages, message{string(kind), kind, "", path})
	}
	for _, detail := range mailmsg.FactorDetails {
		messages = append(messages,
			message{"factor_changed." + detail, mailmsg.FactorChanged, detail, "/not-me.html?token="})
	}
	messages = append(messages,
		message{"password_changed.stays", mailmsg.PasswordChanged, mailmsg.Stays, "/not-me.html?token="},
		message{"new_browser", mailmsg.NewBrowser, "Firefox on Windows", "/not-me.html?token="},
		message{"recovery_used", mailmsg.RecoveryUsed, "9", "/not-me.html?token="},
		message{"new_browser.unknown", mailmsg.NewBrowser, "", "/not-me.html?token="},
		message{"factor_changed.later", mailmsg.FactorChanged, "of a later program", "/not-me.html?token="})
	for _, x := range messages {
		kind, path := x.kind, x.path
		for _, tag := range i18n.Tags {
			name := x.name + "." + string(tag)
			t.Run(name, func(t *testing.T) {
				link := mailmsg.Link{
					Kind: kind, Token: token, Made: noon, Expires: noon.Add(time.Hour), Net: "192.0.2.0/24",
					Detail: x.detail, User: "ann.other",
				}
				byOperator := strings.HasPrefix(x.detail, mailmsg.FactorsRemoved)
				if byOperator {
					link.Net = ""
				}
				m, err := mailmsg.Templates{}.Compose(tn, tag, mailmsg.ID{1}, "Ann+x@mail.test", link)
				if err != nil {
					t.Fatal(err)
				}
				got, err := m.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				file := "testdata/" + name + ".eml"
				if *update {
					if err := os.WriteFile(file, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if want, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
					t.Errorf("got\n%s\nwant the content of %s (%v)", got, file, err)
				}
				check(t, m, got)
				url := tn.PublicURL + path + token.Text()
				if strings.Count(m.Text, url) != 1 || !strings.Contains(m.Text, "\n"+url+"\n") ||
					strings.Count(m.HTML, `<a href="`+url+`"`) != 1 {
					t.Errorf("want one link in each part:\n%s\n%s", m.Text, m.HTML)
				}
				if found, ok := mailmsg.Token(m.Text); !ok || found != token {
					t.Error("Token does not find the token")
				}
				if unwanted.MatchString(m.HTML) || strings.ContainsAny(m.Text+m.Subject, "{}") {
					t.Errorf("unwanted text:\n%s\n%s\n%s", m.Subject, m.Text, m.HTML)
				}
				if until := i18n.In(tag).Moment(link.Expires); !strings.Contains(m.HTML, until) {
					t.Errorf("the expiry %s is missing", until)
				}
				if kind != mailmsg.Reset && kind != mailmsg.SetPassword && !strings.Contains(m.HTML, link.Net) {
					t.Error("the network is missing")
				}
				if x.kind == mailmsg.NewBrowser {
					words := i18n.In(tag)
					want := words.Text("sessions.unknown")
					if x.detail != "" {
						want = words.Text("sessions.on", "browser", "Firefox", "system", "Windows")
					}
					if !strings.Contains(m.HTML, want) {
						t.Errorf("the browser %s is missing", want)
					}
				}
				named := slices.Contains(mailmsg.NotMe, kind) || kind == mailmsg.Leaving
				if named != strings.Contains(m.Text, link.User) {
					t.Errorf("the user name is missing or unexpected:\n%s", m.Text)
				}
			})
		}
	}
}

// TestFactorDetails checks that each change of an authenticator app or a passkey has its own
// subject and text in every language.
func TestFactorDetails(t *testing.T) {
	tn := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
	for _, tag := range i18n.Tags {
		seen := map[string]string{}
		for _, detail := range append([]string{"of a later program"}, mailmsg.FactorDetails...) {
			link := mailmsg.Link{
				Kind: mailmsg.FactorChanged, Made: noon, Expires: noon.Add(time.Hour), Detail: detail,
				Net: "192.0.2.0/24", User: "ann",
			}
			m, err := mailmsg.Templates{}.Compose(tn, tag, mailmsg.ID{1}, "ann@mail.test", link)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(m.Text, "https://")
			for _, text := range []string{m.Subject, first} {
				if other, ok := seen[text]; ok {
					t.Errorf("%s: %s and %s have the text %q", tag, detail, other, text)
				}
				seen[text] = detail
			}
		}
	}
}

// TestFactorsRemovedAdvice checks that the message about factors that an operator removed
// advises to add the same kind again.
func TestFactorsRemovedAdvice(t *testing.T) {
	tn := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
	for detail, want := range map[string]string{
		mailmsg.FactorsRemoved: "turn two-step sign-in on again",
		mailmsg.AppAlone:       "turn two-step sign-in on again",
		mailmsg.PasskeysAlone:  "add a passkey again",
	} {
		link := mailmsg.Link{Kind: mailmsg.FactorChanged, Made: noon, Expires: noon.Add(time.Hour), Detail: detail}
		m, err := mailmsg.Templates{}.Compose(tn, i18n.English, mailmsg.ID{1}, "ann@mail.test", link)
		if err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(strings.Fields(m.Text), " "); !strings.Contains(text, want) {
			t.Errorf("%s: want %q in\n%s", detail, want, m.Text)
		}
	}
}

// Operators' templates apply only to the activation message.
func TestKindsIgnoreTemplates(t *testing.T) {
	own, err := mailmsg.Load(templatesDir(map[string]string{
		"activation.de.txt": goodText, "activation.de.html": goodHTML,
	}))
	if err != nil {
		t.Fatal(err)
	}
	tn := &tenant.Tenant{Host: "phone.test", PublicURL: "https://phone.test"}
	link := mailmsg.Link{Kind: mailmsg.Reset, Made: noon, Expires: noon.Add(time.Hour)}
	got, err := own.Compose(tn, i18n.German, mailmsg.ID{1}, "ann@mail.test", link)
	if err != nil {
		t.Fatal(err)
	}
	want, err := mailmsg.Templates{}.Compose(tn, i18n.German, mailmsg.ID{1}, "ann@mail.test", link)
	if err != nil || got != want {
		t.Errorf("got %+v, want %+v; %v", got, want, err)
	}
}
