package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"path"
	"strings"

	"dialtone/internal/i18n"
)

//go:embed pages/*.html
var pageFiles embed.FS

// pages are the templates, parsed once for each language. Each page is layout.html with one file beside it filled in. The
// words that a person reads stand in package lang, also the ones that scripts show: these are a block of JSON in the page.
type pages struct {
	byName map[pageKey]*template.Template
}

type pageKey struct {
	tag  i18n.Tag
	name string
}

// newPages parses every page in the languages given. The addresses of static files come from a.
func newPages(a *assets, languages ...*i18n.Words) (*pages, error) {
	p := &pages{byName: map[pageKey]*template.Template{}}
	for _, words := range languages {
		if err := p.parse(a, words); err != nil {
			return nil, fmt.Errorf("%s: %w", words.Tag, err)
		}
	}
	return p, nil
}

func (p *pages) parse(a *assets, words *i18n.Words) error {
	layout, err := template.New("layout.html").Option("missingkey=error").Funcs(wording{words}.functions()).Funcs(template.FuncMap{
		"asset": func(name string) (string, error) {
			if a.url(name) == "" {
				return "", fmt.Errorf("no static file %s", name)
			}
			return a.url(name), nil
		},
		"modules": a.modules,
	}).ParseFS(pageFiles, "pages/layout.html")
	if err != nil {
		return err
	}
	files, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" {
			continue
		}
		page, err := layout.Clone()
		if err != nil {
			return err
		}
		if p.byName[pageKey{words.Tag, name}], err = page.ParseFS(pageFiles, file); err != nil {
			return err
		}
	}
	return nil
}

// render makes the whole page, so that a fault shows before the first byte is sent. The names are home, signup, login,
// account, provision, activation, error and devmail; data is the struct of that page.
func (p *pages) render(tag i18n.Tag, name string, data any) ([]byte, error) {
	page := p.byName[pageKey{tag, name}]
	if page == nil {
		return nil, fmt.Errorf("no page %q in %s", name, tag)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// frame is what every page needs to know.
type frame struct {
	// Title replaces the page's own title where it is not empty.
	Title string
	// Chosen is the language that links take along, or empty where the browser's wish decides.
	Chosen i18n.Tag
	// Switch offers the other languages. It is for pages whose address is nothing but a path.
	Switch bool
	// Product is the name that the tenant goes by, such as Dialtone.
	Product string
	// Host is the tenant's host name as people know it; Realm is what their digests are made with.
	Host, Realm string
	// Contact is the e-mail address of the tenant's operator, or empty.
	Contact string
}

// To is the address of another page, in the language that was chosen.
func (f frame) To(path string) string {
	if f.Chosen == "" {
		return path
	}
	return path + "?lang=" + string(f.Chosen)
}

// homePage is /.
type homePage struct{ frame }

// signupPage is /signup.html.
type signupPage struct {
	frame
	// MailFrom is the address that the activation message comes from.
	MailFrom string
}

// loginPage is /login.html.
type loginPage struct{ frame }

// sipSettings are what a softphone asks for. There is no secret among them. Empty ones are left out of the page.
type sipSettings struct {
	User, Domain, Realm string
	// Server is the registrar or proxy as host or host:port, Transport the word that phones show: UDP, TCP, TLS, WSS.
	Server, Transport string
	// TURN is a turn: or turns: URI.
	TURN string
}

// accountPage is /account.html of the person who is signed in.
type accountPage struct {
	frame
	User, Name, Email string
	Role              string // in words
	SIP               sipSettings
	// Programs are those that can be set up without typing, by the names that the form sends.
	Programs []string
}

// provisionPage is the answer to the form on the account page: what one program is set up with. It has either a code to scan,
// with the link in it if it is one, or a text to copy.
type provisionPage struct {
	frame
	Program string
	Code    *qrCode
	Link    string
	Text    string
}

// activationState is what became of an activation link.
type activationState string

const (
	// activationDone: this request made the account active.
	activationDone activationState = "done"
	// activationAlready: the link was used before, by the person or by a program that reads their mail.
	activationAlready activationState = "already"
	// activationExpired: the 7 days are over and the name is free.
	activationExpired activationState = "expired"
	// activationInvalid: unknown and malformed tokens, which look the same to a stranger.
	activationInvalid activationState = "invalid"
	// activationReplaced: a newer message holds the link that counts.
	activationReplaced activationState = "replaced"
	// activationTrouble: the store failed. The link is as good as before.
	activationTrouble activationState = "trouble"
	// activationUnopened: a prefetch saw the link. Nothing happened; the page has a link to the same address.
	activationUnopened activationState = "unopened"
	// activationHeld: an operator disabled the account, and no link undoes that.
	activationHeld activationState = "held"
	// activationConfirm: the tenant wants the password too, and nothing has happened. The one state that needs scripts.
	activationConfirm activationState = "confirm"
)

// activationPage is /activate.ashx in each of its outcomes. It works without scripts, save where a password is to be proved.
type activationPage struct {
	frame
	State activationState
	// User is the account's name, for the states done, already and confirm alone. The page hands it to the sign-in form through
	// the tab's session storage, never through an address.
	User string
	// Expired says in words when the link expired, for the state expired. It may be empty.
	Expired string
}

// errorPage is an answer of 404, 405, 429 or 500 to a person.
type errorPage struct {
	frame
	Status int
	// Key names the words: error.not_found and the like.
	Key string
	// Request is the id that the log has too.
	Request string
}

// devMailPage lists the messages in the pickup directory. It is for a developer's own machine and never served otherwise.
type devMailPage struct {
	frame
	Messages []devMail
}

// devMail is one message. Link is the activation link in it, or empty.
type devMail struct {
	File, From, To, Date, Subject, Text, Link string
}
