package web

import (
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/i18n"
	"dialtone/internal/provision"
	"dialtone/internal/tenant"
)

func newFrame(t *tenant.Tenant, sp speech) frame {
	f := frame{Product: t.Name(), Host: t.Host, Realm: t.Realm}
	if sp.chosen {
		f.Chosen = sp.tag
	}
	return f
}

// switching is a frame with a switch for the language.
func switching(t *tenant.Tenant, sp speech) frame {
	f := newFrame(t, sp)
	f.Switch = true
	return f
}

func (s *Site) show(w http.ResponseWriter, sp speech, name string, data any) error {
	page, err := s.pages.render(sp.tag, name, data)
	if err != nil {
		return err
	}
	writePage(w, http.StatusOK, page)
	return nil
}

// standing are the pages that are the same for every visitor of a tenant who speaks a language.
func (s *Site) standing(name string, data func(*tenant.Tenant, frame) any) handler {
	return func(w http.ResponseWriter, v *visit) error {
		sp := s.speech(v)
		page, err := s.cache.page(v.tenant, name, sp, func() (asset, error) {
			html, err := s.pages.render(sp.tag, name, data(v.tenant, switching(v.tenant, sp)))
			page := newAsset(answer.HTMLType[0], html)
			page.vary = varyPage
			return page, err
		})
		if err != nil {
			return err
		}
		// A browser keeps it and asks each time whether it still stands: the realm in it must never be an old one.
		w.Header().Set("Cache-Control", "no-cache")
		page.answer(w, v.Request)
		return nil
	}
}

// pageCache keeps the rendered pages of each tenant in each language, as the tenant is now.
type pageCache struct {
	mu      sync.RWMutex
	entries map[cacheKey]cacheEntry
}

// maxPages bounds a cache, at some 15 KiB a page. Where a server has so many tenants that they need more at a time, it begins
// anew: a page is made in a fraction of a millisecond.
const maxPages = 4096

type cacheKey struct {
	tenant int64
	name   string
	speech speech
}

type cacheEntry struct {
	of   *tenant.Tenant // another pointer is another state of the tenant
	page asset
}

func (c *pageCache) page(t *tenant.Tenant, name string, sp speech, render func() (asset, error)) (asset, error) {
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

// who is the account of the person who is signed in.
func (s *Site) who(v *visit) (account.Account, error) {
	return s.Door.Who(v.Context(), v.tenant, cookie(v, sessionCookie))
}

// personal is a page for whoever is signed in; others are led to the page on which they can do that.
func (s *Site) personal(page func(http.ResponseWriter, *visit, account.Account) error) handler {
	return func(w http.ResponseWriter, v *visit) error {
		a, err := s.who(v)
		if fault.Is(err, fault.Unauthorized) {
			http.Redirect(w, v.Request, newFrame(v.tenant, s.speech(v)).To("/login.html"), http.StatusSeeOther)
			return nil
		} else if err != nil {
			return err
		}
		return page(w, v, a)
	}
}

func (s *Site) accountPage(w http.ResponseWriter, v *visit, a account.Account) error {
	t, sp := v.tenant, s.speech(v)
	p := accountPage{
		frame: switching(t, sp), User: a.User, Name: a.Name, Email: a.Email, Role: i18n.In(sp.tag).Text("account.role_" + string(a.Role)),
		SIP: sipSettings{User: a.User, Domain: t.Host, Realm: t.Realm, Server: t.Server(), Transport: t.Transport()},
	}
	for _, f := range programs(provision.New(t, a)) {
		p.Programs = append(p.Programs, string(f))
	}
	return s.show(w, sp, "account", p)
}

// DevMailPath is where a development server shows the pickup directory.
const DevMailPath = "/dev/mail"

// DevMessage is one message in the pickup directory.
type DevMessage struct {
	File, From, To, Subject, Text string
	Date                          time.Time
}

var link = regexp.MustCompile(`https?://\S+/activate\.ashx\?token=\S+`)

// devMail shows activation links, so it is for a person on this machine alone: a request that came through a proxy on this
// machine is somebody else's.
func (s *Site) devMail(w http.ResponseWriter, v *visit) error {
	peer, err := netip.ParseAddrPort(v.RemoteAddr)
	h := v.Header
	if err != nil || !peer.Addr().Unmap().IsLoopback() || h.Get("X-Forwarded-For") != "" || h.Get("Forwarded") != "" || h.Get("Via") != "" {
		return errNoPage
	}
	messages, err := s.DevMail()
	if err != nil {
		return err
	}
	english := speech{tag: i18n.English} // it is for developers
	p := devMailPage{frame: newFrame(v.tenant, english)}
	for _, m := range messages {
		p.Messages = append(p.Messages, devMail{
			File: m.File, From: m.From, To: m.To, Date: m.Date.Format(time.RFC1123), Subject: m.Subject, Text: m.Text, Link: link.FindString(m.Text),
		})
	}
	return s.show(w, english, "devmail", p)
}
