package web

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"dialtone/internal/i18n"
)

//go:embed pages/*.html
var pageFiles embed.FS

// pages holds the templates. Each page is layout.html with one other file filled in. It is parsed
// for each language when it is first rendered, since few servers use all languages. All texts are
// in package i18n, including those of scripts, which are in a JSON block in the page.
type pages struct {
	byName map[pageKey]func() (*template.Template, error)
}

type pageKey struct {
	tag  i18n.Tag
	name string
}

// newPages returns every page in the given languages. The addresses of static files come from a.
func newPages(a *assets, languages ...*i18n.Words) (*pages, error) {
	files, err := fs.Glob(pageFiles, "pages/*.html")
	if err != nil {
		return nil, err
	}
	p := &pages{byName: map[pageKey]func() (*template.Template, error){}}
	for _, words := range languages {
		for _, file := range files {
			name := strings.TrimSuffix(path.Base(file), ".html")
			if name == "layout" || name == "admin" { // parts of others
				continue
			}
			p.byName[pageKey{words.Tag, name}] = sync.OnceValues(func() (*template.Template, error) {
				return parsePage(a, words, file)
			})
		}
	}
	return p, nil
}

func parsePage(a *assets, words *i18n.Words, file string) (*template.Template, error) {
	page := template.New("layout.html").Option("missingkey=error")
	page.Funcs(newWording(words).functions()).Funcs(template.FuncMap{
		"asset": func(name string) (string, error) {
			if a.url(name) == "" {
				return "", fmt.Errorf("no static file %s", name)
			}
			return a.url(name), nil
		},
	})
	return page.ParseFS(pageFiles, "pages/layout.html", "pages/admin.html", file)
}

// render renders a whole page, so that it fails before the first byte is sent. name is that of a
// file in pages/, without .html; data is the struct of that page.
func (p *pages) render(tag i18n.Tag, name string, data any) ([]byte, error) {
	parsed := p.byName[pageKey{tag, name}]
	if parsed == nil {
		return nil, fmt.Errorf("no page %q in %s", name, tag)
	}
	page, err := parsed()
	if err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := page.Execute(&out, data); err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// frame is the data that all pages share.
type frame struct {
	// Chosen is the language that links contain, or empty if the browser decides.
	Chosen i18n.Tag
	// Switch offers the other languages. It is for pages whose address is only a path.
	Switch bool
	// Keep is the rest of the query after the language, starting with "&". The menu of languages
	// preserves it.
	Keep template.URL
	// Product is the name of the tenant, such as Dialtone.
	Product string
	// Host is the tenant's host name as people know it. Realm is the realm of their digests.
	Host, Realm string
	// Brand is what the operator has chosen to show.
	Brand brand
	// SignedIn is the user name of the person who is signed in, or empty.
	SignedIn string
	// Parts means that the page has its own navigation. The link to skip navigation leads to the
	// content after it.
	Parts bool
	// CutLink means that the page is for a link in a message, but its address contains no token or
	// only part of one. That happens when people copy the address from the address bar, from which
	// the page removes the token.
	CutLink bool
}

// To returns the address of another page, in the chosen language.
func (f frame) To(path string) string {
	switch {
	case f.Chosen == "":
		return path
	case strings.Contains(path, "?"):
		return path + "&lang=" + string(f.Chosen)
	}
	return path + "?lang=" + string(f.Chosen)
}

// ToLogin returns the address of the page for signing in. Afterwards the person gets to next, if
// that is one of ownPages or adminPages.
func (f frame) ToLogin(next string) string {
	login := f.To("/login.html")
	if address, ok := adminAddress(next); ok {
		next = url.QueryEscape(address)
	} else if !slices.Contains(ownPages, next) {
		return login
	}
	separator := "?"
	if strings.Contains(login, "?") {
		separator = "&"
	}
	return login + separator + nextPrefix + next
}

// nextPhone in the query of /account.html means that setting up a phone is the next step.
const nextPhone = "next=phone"

// passwordChanged in the query of /account.html means that the password was just changed.
const passwordChanged = "changed"

// ToChanged returns the address of the account page after a change of the password.
func (f frame) ToChanged() string { return f.ToPhone() + "&" + passwordChanged }

// ToPhone returns the address of the account page with the phone as the next step.
func (f frame) ToPhone() string {
	address := "/account.html?" + nextPhone
	if f.Chosen != "" {
		address += "&lang=" + string(f.Chosen)
	}
	return address
}

// SetUp returns the address of the page that sets up a phone in a program.
func (f frame) SetUp(program string) string {
	address := "/provision?format=" + program
	if f.Chosen != "" {
		address += "&lang=" + string(f.Chosen)
	}
	return address
}

// signedInPage is /signup.html and /login.html for a person who is signed in.
type signedInPage struct{ frame }

// homePage is /.
type homePage struct{ frame }

// signupPage is /signup.html.
type signupPage struct {
	frame
	// MailFrom is the address that the activation message comes from.
	MailFrom string
	// Confirm means that the link in the message needs the password too.
	Confirm bool
}

// closedPage is /signup.html while signups are closed.
type closedPage struct {
	frame
	// Note is the operator's explanation, or empty.
	Note string
}

// signInForm is the form for signing in, which several pages contain.
type signInForm struct {
	frame
	// User is the prefilled user name, or empty.
	User string
	// Next is the address of the page after signing in.
	Next string
	// Passkeys means that the form also offers passkeys.
	Passkeys bool
}

// loginPage is /login.html.
type loginPage struct {
	frame
	// Next is the path of the page after signing in.
	Next string
	// Passkeys means that browsers let pages of this address use passkeys.
	Passkeys bool
}

// Form returns the form of the page.
func (p loginPage) Form() signInForm {
	return signInForm{frame: p.frame, Next: p.To(p.Next), Passkeys: p.Passkeys}
}

// forgotPage is /forgot.html.
type forgotPage struct{ frame }

// resetPage is /reset.html. Users are the accounts that the link is for, or none if it does not
// work. Kept are those of them whose owners have left.
type resetPage struct {
	frame
	Users, Kept []string
	// First means that the account has no password yet.
	First bool
}

// One returns the only user, or "" if there are several.
func (p resetPage) One() string {
	if len(p.Users) == 1 {
		return p.Users[0]
	}
	return ""
}

// notMePage is /not-me.html, which shows what the link undoes.
type notMePage struct {
	frame
	// User is the account. It is empty if the link does not work.
	User string
	// Email is the address that the account gets back, or empty if it already has it.
	Email string
	// Stays means that the owner has left, and that the account is kept.
	Stays bool
	// App means that an authenticator app is removed. Passkeys is the number of passkeys to remove.
	App      bool
	Passkeys int
	// Codes means that all recovery codes are removed, and the app stays.
	Codes bool
}

// sipSettings are the settings that a softphone needs. None of them is secret. Empty ones are left
// out of the page.
type sipSettings struct {
	User, Domain, Realm string
	// Server is the registrar or proxy as host or host:port. Transport is the name that phones
	// show: UDP, TCP, TLS, WSS.
	Server, Transport string
}

// accountPage is /account.html.
type accountPage struct {
	frame
	Name, Email string
	SIP         sipSettings
	// Phone sets up the recommended program. It is nil if no generally available program can be set
	// up without typing. Others are further programs. Tools are for people who write a
	// configuration or a page.
	Phone         *setup
	Others, Tools []string
	// Asked lists the phone servers that asked for the account. It is nil if none may.
	Asked *phoneLookups
	// Next means that setting up a phone is the next step, and Changed that the reason is a
	// password change just now.
	Next, Changed bool
	// TwoStep means that the account has an authenticator app. Passkeys is the number of its
	// passkeys.
	TwoStep  bool
	Passkeys int
	// Operator means that the person may use the pages for operators.
	Operator bool
}

// passwordPage is /password.html. A password that contains Name or Email is weak.
type passwordPage struct {
	frame
	Name, Email string
}

// twoStepView is /two-step.html.
type twoStepView struct {
	frame
	// On means that the account has an authenticator app, since the time Since. Codes is the number
	// of unused recovery codes.
	On    bool
	Since time.Time
	Codes int
	// Required means that the platform requires a second factor for the account, which has none.
	Required bool
}

// setup describes how to set up a program without typing.
type setup struct {
	Program string
	// Code is the QR code to scan. Link is the address in it, or empty.
	Code *qrCode
	Link string
	// Open is an address that opens the program on this device and sets it up, or empty.
	Open template.URL
	// Stores lists where to get the program.
	Stores []store
	// Seconds is the time after which the page is reloaded for a new link. Zero means never.
	Seconds int
}

// store is a page where people get a program. Its name is the same in every language.
type store struct{ Name, URL string }

// provisionPage is /provision, with the settings for one program: a code to scan, or a text to copy.
type provisionPage struct {
	frame
	setup
	Text string
}

// activationState is the outcome of opening an activation link.
type activationState string

const (
	// activationDone: this request activated the account.
	activationDone activationState = "done"
	// activationAlready: the link was used before, by the person or by a program that reads their
	// mail.
	activationAlready activationState = "already"
	// activationExpired: the account was not activated in time, and the name is free.
	activationExpired activationState = "expired"
	// activationInvalid: an unknown or malformed token.
	activationInvalid activationState = "invalid"
	// activationReplaced: a newer message has replaced the link.
	activationReplaced activationState = "replaced"
	// activationTrouble: the store failed. The link is still valid.
	activationTrouble activationState = "trouble"
	// activationUnopened: a prefetch, which does nothing. The page contains a link to the same
	// address.
	activationUnopened activationState = "unopened"
	// activationHeld: an operator disabled the account, which no link can undo.
	activationHeld activationState = "held"
	// activationConfirm: the tenant requires the password too, and nothing has happened yet. This
	// is the only state that needs scripts.
	activationConfirm activationState = "confirm"
)

// activationPage is /activate.ashx, which works without scripts unless the password has to be
// proved. Its form for signing in needs scripts. It is also /activated.html, the address that the
// page takes once its link was used: that address contains no token, and shows the same when it is
// reloaded.
type activationPage struct {
	frame
	State activationState
	// User is the account's name, only for the states done, already and confirm. The page passes it
	// to the form for signing in through the tab's session storage, never through an address.
	User string
	// Expired is when the link expired, for the state expired. It may be empty.
	Expired string
	// Confirmed means that somebody with the link has signed in before.
	Confirmed bool
}

// Next returns the address of the page for a person who is signed in. After the first time, the next step is to
// set up a phone.
func (p activationPage) Next() string {
	if p.Confirmed {
		return p.To("/account.html")
	}
	return p.ToPhone()
}

// Form returns the form of the page.
func (p activationPage) Form() signInForm {
	return signInForm{frame: p.frame, User: p.User, Next: p.Next()}
}

// declineState selects the text of /decline.html.
type declineState string

const (
	// declineAsk: the account is pending, and nothing has happened yet.
	declineAsk declineState = "ask"
	// declineDone: this request removed the account.
	declineDone declineState = "done"
	// declineActive: the account was activated.
	declineActive declineState = "active"
	// declineHeld: an operator disabled the account.
	declineHeld declineState = "held"
	// declineGone: the link is unknown, or its message went to a previous address of the account.
	declineGone declineState = "gone"
	// declineTrouble: the store failed, and nothing has happened.
	declineTrouble declineState = "trouble"
)

// declinePage is /decline.html, where somebody who did not sign up removes the account. It works
// without scripts. It does not show the account's name, which a stranger has chosen.
type declinePage struct {
	frame
	State declineState
	// Token is the token of the link, only for the state ask.
	Token string
}

// errorPage is the page for an error, such as 404, 429 or 500.
type errorPage struct {
	frame
	Status int
	// Key names the texts: error.not_found and the like.
	Key string
	// Request is the request ID, which is also in the log.
	Request string
}

// devMailPage lists the messages in the pickup directory of a development server.
type devMailPage struct {
	frame
	Messages []devMail
}

// devMail is one message. Link is the link in it, Button the label of the message's own button for it, and HTML the
// address of its HTML part. Each can be empty.
type devMail struct {
	File, From, To, Date, Subject, Text, Link, HTML, Button string
}
