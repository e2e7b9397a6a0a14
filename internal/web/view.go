package web

import (
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/provision"
	"dialtone/internal/tenant"
)

func (s *Site) frame(t *tenant.Tenant) frame {
	return frame{Product: t.Name(), Host: t.Host, Realm: t.Realm}
}

func (s *Site) show(w http.ResponseWriter, name string, data any) error {
	page, err := s.pages.render(name, data)
	if err != nil {
		return err
	}
	writePage(w, http.StatusOK, page)
	return nil
}

// standing are the pages that are the same for every visitor of a tenant.
func (s *Site) standing(name string, data func(*tenant.Tenant) any) handler {
	return func(w http.ResponseWriter, v *visit) error {
		page, err := s.cache.page(v.tenant, name, func() (asset, error) {
			html, err := s.pages.render(name, data(v.tenant))
			return newAsset(htmlType[0], html), err
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

// pageCache keeps the rendered pages of each tenant, as the tenant is now.
type pageCache struct{ entries sync.Map } // cacheKey -> cacheEntry

type cacheKey struct {
	tenant int64
	name   string
}

type cacheEntry struct {
	of   *tenant.Tenant // another pointer is another state of the tenant
	page asset
}

func (c *pageCache) page(t *tenant.Tenant, name string, render func() (asset, error)) (asset, error) {
	key := cacheKey{t.ID, name}
	if e, ok := c.entries.Load(key); ok && e.(cacheEntry).of == t {
		return e.(cacheEntry).page, nil
	}
	page, err := render()
	if err == nil {
		c.entries.Store(key, cacheEntry{t, page})
	}
	return page, err
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
			http.Redirect(w, v.Request, "/login.html", http.StatusSeeOther)
			return nil
		} else if err != nil {
			return err
		}
		return page(w, v, a)
	}
}

func (s *Site) accountPage(w http.ResponseWriter, v *visit, a account.Account) error {
	t := v.tenant
	p := accountPage{
		frame: s.frame(t), User: a.User, Name: a.Name, Email: a.Email, Role: string(a.Role),
		SIP: sipSettings{User: a.User, Domain: t.Host, Realm: t.Realm, Server: t.Server(), Transport: t.Transport()},
	}
	for _, f := range programs(provision.New(t, a)) {
		p.Programs = append(p.Programs, string(f))
	}
	return s.show(w, "account", p)
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
	p := devMailPage{frame: s.frame(v.tenant)}
	for _, m := range messages {
		p.Messages = append(p.Messages, devMail{
			File: m.File, From: m.From, To: m.To, Date: m.Date.Format(time.RFC1123), Subject: m.Subject, Text: m.Text, Link: link.FindString(m.Text),
		})
	}
	return s.show(w, "devmail", p)
}
