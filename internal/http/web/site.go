package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/captcha"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/provision"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
	"dialtone/internal/turn"
)

// Deps is what a Site works with. DevMail is nil save on a development server.
type Deps struct {
	Tenants  *tenant.Table
	Accounts *account.Service
	Door     *session.Authenticator
	Captcha  func() *captcha.Issuer
	Links    *provision.Links
	// TURN gives nil where the platform has no secret for TURN servers.
	TURN func() *turn.Issuer
	// Delivery tells what became of the newest message to an account, and fails with fault.NotFound where that is not known. It is nil
	// where this program sends no messages itself.
	Delivery func(context.Context, account.Account) (delivery.State, error)
	// TrustedProxies may say for whom they ask.
	TrustedProxies []netip.Prefix
	Log            *slog.Logger
	DevMail        func() ([]DevMessage, error)
}

// Site answers requests.
type Site struct {
	Deps
	assets     *assets
	pages      *pages
	negotiator *negotiator
	cache      pageCache
	table      map[string]route
}

// New makes a Site. It fails only for faults that a build should never ship.
func New(d Deps) (*Site, error) {
	a, err := newAssets()
	if err != nil {
		return nil, err
	}
	var languages []*i18n.Words
	for _, t := range i18n.Tags {
		languages = append(languages, i18n.In(t))
	}
	p, err := newPages(a, languages...)
	if err != nil {
		return nil, err
	}
	s := &Site{Deps: d, assets: a, pages: p, negotiator: newNegotiator()}
	s.table = s.routes()
	return s, nil
}

// visit is one request on its way through the gates.
type visit struct {
	*http.Request
	tenant *tenant.Tenant
	from   account.Origin
}

type handler func(http.ResponseWriter, *visit) error

// route is what one path does.
type route struct {
	get, post handler
	// api answers errors in JSON whoever asks, and may be called from the tenant's listed origins.
	api bool
}

// routes is every path of the site but the static files, which are all below staticRoot.
func (s *Site) routes() map[string]route {
	table := map[string]route{
		"/captcha.ashx":  {get: s.captcha, api: true},
		"/signup.ashx":   {post: s.signup, api: true},
		"/activate.ashx": {get: s.activate, post: s.confirm, api: true},
		"/signin.ashx":   {get: s.signin, post: s.signin, api: true},
		"/resend.ashx":   {post: s.resend, api: true},
		"/signout.ashx":  {post: s.signout},

		"/": {get: s.standing("home", func(_ *tenant.Tenant, f frame) any { return homePage{f} })},
		"/signup.html": {get: s.standing("signup", func(t *tenant.Tenant, f frame) any {
			return signupPage{frame: f, MailFrom: t.Sender()}
		})},
		"/login.html":   {get: s.standing("login", func(_ *tenant.Tenant, f frame) any { return loginPage{f} })},
		"/account.html": {get: s.personal(s.accountPage)},

		"/turn":      {get: s.turn},
		"/provision": {post: s.provision},
	}
	for _, f := range provision.Fetched {
		table[provisionPath(f)] = route{get: s.provisionFile(f)}
	}
	if s.DevMail != nil {
		table[DevMailPath] = route{get: s.devMail}
	}
	return table
}

// methods are what the route takes, as an Allow header has them.
func (rt route) methods() string {
	var list []string
	if rt.get != nil {
		list = append(list, "GET", "HEAD")
	}
	if rt.post != nil {
		list = append(list, "POST")
	}
	return strings.Join(list, ", ")
}

// ServeHTTP takes a request through the gates.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{Request: r, from: account.Origin{Addr: s.clientAddr(r), Request: newRequestID()}}
	setHeaders(w.Header())
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		// A proxy before us may see another end of this body than we do (net/http drops the Content-Length beside a
		// Transfer-Encoding, and the Transfer-Encoding of an HTTP/1.0 request). What follows is not taken for a request
		// (RFC 9112 §6.1).
		w.Header().Set("Connection", "close")
	}
	var rt route
	defer func() {
		if p := recover(); p != nil {
			s.panicked(w, v, rt, p)
		}
	}()
	if err := s.serve(w, v, &rt); err != nil {
		s.fail(w, v, rt, err)
	}
}

func (s *Site) serve(w http.ResponseWriter, v *visit, rt *route) error {
	t, ok := s.Tenants.Lookup(v.Host)
	if !ok {
		rt.api = true
		return fault.New(fault.Misdirected, "this server has no platform of that host name; check the address")
	}
	v.tenant = t
	if t.Secure() {
		w.Header().Set("Strict-Transport-Security", "max-age=31536000")
	}
	if strings.HasPrefix(v.URL.Path, staticRoot) {
		return s.static(w, v)
	}
	found, ok := s.table[v.URL.Path]
	if !ok {
		rt.api = strings.Contains(strings.ToLower(v.URL.Path), ".ashx")
		return errNoPage
	}
	*rt = found
	if rt.api {
		s.allowOrigin(w.Header(), v)
	}
	switch v.Method {
	case http.MethodGet, http.MethodHead:
		if rt.get != nil {
			return rt.get(w, v)
		}
	case http.MethodPost:
		if rt.post != nil {
			return rt.post(w, v)
		}
	case http.MethodOptions:
		w.Header().Set("Allow", rt.methods())
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Allow", rt.methods())
	return fault.New(fault.Method, "this address takes %s", rt.methods())
}

var errNoPage = fault.New(fault.NotFound, "there is nothing at this address; check it for a slip")

func (s *Site) static(w http.ResponseWriter, v *visit) error {
	a, ok := s.assets.lookup(v.URL.Path)
	if !ok {
		return errNoPage
	}
	if v.Method != http.MethodGet && v.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return fault.New(fault.Method, "this address takes GET, HEAD")
	}
	a.serve(w, v.Request)
	return nil
}

// panicked keeps the process alive and tells nobody outside why. A broken connection is net/http's own panic and goes on.
func (s *Site) panicked(w http.ResponseWriter, v *visit, rt route, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.Log.ErrorContext(context.WithoutCancel(v.Context()), "panic", "request", v.from.Request, "path", v.URL.Path, "stack", stack(p))
	s.fail(w, v, rt, errors.New("panic"))
}
