package web

import (
	"errors"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/server"
	"dialtone/internal/i18n"
	"dialtone/internal/provision"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

func (s *Site) newFrame(t *tenant.Tenant, sp pageLanguage) frame {
	f := frame{Product: t.Name(), Host: t.Host, Realm: t.Realm, Brand: s.brands.of(t).brand}
	if sp.chosen {
		f.Chosen = sp.tag
	}
	return f
}

// switching returns a frame with the menu of languages.
func (s *Site) switching(t *tenant.Tenant, sp pageLanguage) frame {
	f := s.newFrame(t, sp)
	f.Switch = true
	return f
}

func (s *Site) show(w http.ResponseWriter, sp pageLanguage, name string, data any) error {
	page, err := s.pages.render(sp.tag, name, data)
	if err != nil {
		return err
	}
	writePage(w, http.StatusOK, page)
	return nil
}

// cachedPage returns a handler for a page that is the same for all visitors of a tenant in one
// language.
func (s *Site) cachedPage(name string, data func(*tenant.Tenant, frame) any) handler {
	return func(w http.ResponseWriter, r *request) error { return s.writeCached(w, r, name, "", data) }
}

// writeCached writes a page as cachedPage does, in one of several variants.
func (s *Site) writeCached(
	w http.ResponseWriter, r *request, name, variant string, data func(*tenant.Tenant, frame) any,
) error {
	sp := s.pageLanguage(r)
	page, err := s.cache.page(r.tenant, name+variant, sp, func() (asset, error) {
		text, err := s.pages.render(sp.tag, name, data(r.tenant, s.switching(r.tenant, sp)))
		page := newAsset(answer.HTMLType[0], text)
		page.vary = varyPage
		return page, err
	})
	if err != nil {
		return err
	}
	// A browser may cache the page but must revalidate it each time, since the realm in it must
	// never be outdated.
	w.Header().Set("Cache-Control", "no-cache")
	w.Header()["Permissions-Policy"] = permissions
	page.answer(w, r.Request)
	return nil
}

// unlessSignedIn returns a handler that shows the page called name to people who are signed in, and
// the public page to others. It is for pages that work without the store: if a session cannot be
// read, the public page is shown.
func (s *Site) unlessSignedIn(public handler, name string, data func(frame) any) handler {
	return func(w http.ResponseWriter, r *request) error {
		if cookie(r, sessionCookie) == "" {
			return public(w, r)
		}
		a, err := s.signedIn(r)
		if errors.Is(err, session.ErrFactorMissing) {
			s.toTwoStep(w, r)
			return nil
		}
		if err != nil {
			return public(w, r)
		}
		sp := s.pageLanguage(r)
		f := s.switching(r.tenant, sp)
		f.SignedIn = a.User
		return s.show(w, sp, name, data(f))
	}
}

// pageCache caches the rendered pages of each tenant in each language, for the current state of the
// tenant.
type pageCache struct {
	mu      sync.RWMutex
	entries map[cacheKey]cacheEntry
}

// maxPages bounds the cache. A page takes about 15 KiB. If many tenants need more pages, the cache
// is emptied: rendering a page takes a fraction of a millisecond.
const maxPages = 4096

type cacheKey struct {
	tenant   int64
	name     string
	language pageLanguage
}

type cacheEntry struct {
	of   *tenant.Tenant // a changed tenant has another pointer
	page asset
}

func (c *pageCache) page(
	t *tenant.Tenant, name string, sp pageLanguage, render func() (asset, error),
) (asset, error) {
	key := cacheKey{t.ID, name, sp}
	c.mu.RLock()
	e, ok := c.entries[key]
	c.mu.RUnlock()
	if ok && e.of == t {
		return e.page, nil
	}
	page, err := render()
	if err != nil {
		return page, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.entries) >= maxPages || c.entries == nil {
		c.entries = make(map[cacheKey]cacheEntry)
	}
	c.entries[key] = cacheEntry{t, page}
	return page, nil
}

// personal returns a handler for a page of the person who is signed in. Others are redirected to
// sign in.
func (s *Site) personal(page func(http.ResponseWriter, *request, account.Account) error) handler {
	return func(w http.ResponseWriter, r *request) error {
		a, err := s.signedIn(r)
		if fault.Is(err, fault.Unauthorized) {
			s.toLogin(w, r, ended(r))
			return nil
		}
		if errors.Is(err, session.ErrFactorMissing) {
			s.toTwoStep(w, r)
			return nil
		}
		if err != nil {
			return err
		}
		return page(w, r, a)
	}
}

func (s *Site) accountPage(w http.ResponseWriter, r *request, a account.Account) error {
	t, sp := r.tenant, s.pageLanguage(r)
	p := accountPage{
		frame: s.switching(t, sp), Name: a.Name, Email: a.Email,
		SIP:  sipSettings{User: a.User, Domain: t.Host, Transport: t.Transport()},
		Next: asks(r, nextPhone), Changed: asks(r, nextPhone) && asks(r, passwordChanged),
		TwoStep:  a.Factors.Has(account.FactorApp),
		Operator: a.Role == account.Admin && s.deps.Operators != nil,
	}
	p.SignedIn = a.User
	// Settings that equal the domain are left out: most phones use the domain as their default.
	if t.Realm != t.Host {
		p.SIP.Realm = t.Realm
	}
	if t.Server() != t.Host {
		p.SIP.Server = t.Server()
	}
	phone := provision.New(t, a)
	for _, f := range programs(phone) {
		switch {
		case len(stores[f]) == 0:
			p.Tools = append(p.Tools, string(f))
		case p.Phone != nil:
			p.Others = append(p.Others, string(f))
		default:
			recommended, err := s.setUp(r, a, phone, f)
			if err != nil {
				return err
			}
			p.Phone = &recommended
		}
	}
	if a.Factors.Has(account.FactorPasskey) {
		passkeys, err := s.deps.Accounts.Passkeys(r.Context(), t, a)
		if err != nil {
			return err
		}
		p.Passkeys = len(passkeys)
	}
	var err error
	if p.Asked, err = s.newPhoneLookups(r, a); err != nil {
		return err
	}
	return s.show(w, sp, "account", p)
}

// DevMailPath is where a development server shows the pickup directory.
const DevMailPath = "/dev/mail"

// DevMessage is one message in the pickup directory.
type DevMessage struct {
	File, From, To, Subject, Text, HTML string
	Date                                time.Time
}

var link = regexp.MustCompile(
	`https?://\S+/(?:activate\.ashx|reset\.html|confirm-email\.html|not-me\.html|stay\.html)\?token=\S+`)

// devMail shows the messages.
func (s *Site) devMail(w http.ResponseWriter, r *request) error {
	messages, err := s.devMessages(r)
	if err != nil {
		return err
	}
	english := pageLanguage{tag: i18n.English} // for developers
	p := devMailPage{frame: s.newFrame(r.tenant, english)}
	for _, m := range messages {
		shown := devMail{
			File: m.File, From: m.From, To: m.To, Date: m.Date.Format(time.RFC1123),
			Subject: m.Subject, Text: m.Text, Link: link.FindString(m.Text),
		}
		shown.Button = buttonOf(m.HTML, shown.Link)
		if m.HTML != "" {
			shown.HTML = devMailHTMLPath + "?file=" + url.QueryEscape(m.File)
		}
		p.Messages = append(p.Messages, shown)
	}
	w.Header()["Content-Security-Policy"] = devMailPolicy
	return s.show(w, english, "devmail", p)
}

// buttonOf returns the label of the button with the link in the HTML part of a message. It is empty
// if there is none, as in an operator's template.
func buttonOf(page, link string) string {
	_, rest, _ := strings.Cut(page, `<a href="`+html.EscapeString(link)+`"`)
	_, rest, _ = strings.Cut(rest, ">")
	label, _, found := strings.Cut(rest, "<")
	if label = strings.TrimSpace(html.UnescapeString(label)); !found || label == link {
		return ""
	}
	return label
}

// devMailHTMLPath is the path of the HTML part of a message, for a frame in the page.
const devMailHTMLPath = DevMailPath + "/html"

var (
	// devMailPolicy lets the page show frames of its own host.
	devMailPolicy = []string{policy[0] + "; frame-src 'self'"}
	// devMailHTMLPolicy permits a message in a frame its own styles, and links that open another
	// tab.
	devMailHTMLPolicy = []string{"default-src 'none'; style-src 'unsafe-inline'; " +
		"sandbox allow-popups allow-popups-to-escape-sandbox; " +
		"frame-ancestors 'self'; base-uri 'none'; form-action 'none'"}
)

// devMailHTML serves the HTML part of the message in a file.
func (s *Site) devMailHTML(w http.ResponseWriter, r *request) error {
	messages, err := s.devMessages(r)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if m.HTML != "" && m.File == r.URL.Query().Get("file") {
			w.Header()["Content-Security-Policy"] = devMailHTMLPolicy
			writePage(w, http.StatusOK, []byte(m.HTML))
			return nil
		}
	}
	return errNoPage
}

// devMessages returns the messages, but only to a person on this machine, since they contain
// activation links. A request through a proxy on this machine may come from somebody else.
func (s *Site) devMessages(r *request) ([]DevMessage, error) {
	h := r.Header
	if !server.Peer(r.Request).IsLoopback() ||
		h.Get("X-Forwarded-For") != "" || h.Get("Forwarded") != "" || h.Get("Via") != "" {
		return nil, errNoPage
	}
	return s.deps.DevMail()
}
