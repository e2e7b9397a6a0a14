package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/captcha"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/http/server"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
	"dialtone/internal/provision"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
	"dialtone/internal/tenant"
	"dialtone/internal/trace"
	"dialtone/internal/turn"
)

// Deps are the dependencies of a Site.
type Deps struct {
	Tenants       *tenant.Table
	Accounts      *account.Service
	Authenticator *session.Authenticator
	// Phones records which phone servers asked for an account. It is nil if none can.
	Phones *sipserver.Registry
	// Captcha returns the issuer for the current signing keys.
	Captcha func() *captcha.Issuer
	Links   *provision.Links
	// TURN returns nil if the platform has no secret for TURN servers.
	TURN func() *turn.Issuer
	// Delivery returns the state of the newest message to an account, and fails with fault.NotFound
	// if it is not known. It is nil if this program does not send messages itself.
	Delivery func(context.Context, account.Account) (delivery.State, error)
	// Operators implements the pages for operators. If it is nil, there are none.
	Operators *operator.Service
	// ChangeDays is how many days the audit trail keeps a change.
	ChangeDays int
	// TrustedProxies are the proxies whose X-Forwarded-For names the client.
	TrustedProxies []netip.Prefix
	Log            *slog.Logger
	// SecurityTxt returns the file that says how to report a weakness (RFC 9116). It is nil if
	// there is none.
	SecurityTxt func() ([]byte, error)
	// DevMail returns the messages of a development server. It is nil on other servers.
	DevMail func() ([]DevMessage, error)
	// Tracer records traces. It is nil if there are none.
	Tracer *trace.Tracer
}

// Site is an http.Handler for the public site.
type Site struct {
	deps       Deps
	assets     *assets
	pages      *pages
	negotiator *negotiator
	cache      pageCache
	brands     brandCache
	table      map[string]route
	requests   *server.Requests
	questions  atomic.Int64
	warnings   warnings
	untrusted  atomic.Pointer[untrusted]
	forwarding forwarding
}

// New returns a Site. It fails only for mistakes in the embedded files.
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
	s := &Site{deps: d, assets: a, pages: p, negotiator: newNegotiator()}
	s.table = s.routes()
	s.requests = server.NewRequests(append(slices.Collect(maps.Keys(s.table)), staticRoute, brandRoute)...)
	for path, rt := range s.table {
		rt.number = s.requests.Route(path)
		s.table[path] = rt
	}
	return s, nil
}

// The routes of files, in metrics.
const (
	staticRoute = staticRoot + "*"
	brandRoute  = brandRoot + "*"
)

// Requests returns the request metrics.
func (s *Site) Requests() *server.Requests { return s.requests }

// Questions returns the number of captcha questions since the start.
func (s *Site) Questions() int64 { return s.questions.Load() }

// request is a request to a tenant.
type request struct {
	*http.Request
	tenant *tenant.Tenant
	from   account.Origin
	// lang is the language in the profile of the person who is signed in. It is empty until
	// signedIn has found one.
	lang i18n.Tag
}

type handler func(http.ResponseWriter, *request) error

// route describes one path.
type route struct {
	get, post handler
	// api means that errors are JSON even for browsers, and that the tenant's listed origins may
	// call the path.
	api bool
	// number is the route's number in the metrics.
	number int
}

// routes returns every path of the site except the files below staticRoot and brandRoot.
func (s *Site) routes() map[string]route {
	signin := proved(s, audit.SignIn, readNothing, s.signin)
	table := map[string]route{
		"/captcha.ashx": {get: s.captcha, api: true},
		"/signup.ashx":  {post: s.signup, api: true},
		"/activate.ashx": {
			get: s.activate, post: proved(s, audit.Confirm, readToken, s.confirm), api: true,
		},
		"/signin.ashx":  {get: signin, post: signin, api: true},
		"/resend.ashx":  {post: proved(s, audit.Resend, readEmail, s.resend), api: true},
		"/signout.ashx": {post: s.signout},
		"/sessions.ashx": {
			get:  byOwner(s.listSessions, proved(s, audit.AccountData, readNothing, ofActive(s, s.listSessionsOf))),
			post: byOwner(s.endSessions, proved(s, audit.SessionsEnd, readEnd, ofActive(s, s.endSessionsOf))),
			api:  true,
		},
		"/phones.ashx": {
			get: byOwner(s.listPhones, proved(s, audit.AccountData, readNothing, ofActive(s, s.listPhonesOf))),
			api: true,
		},
		"/decline.ashx": {post: s.decline, api: true},
		"/decline.html": {get: s.declinePage, post: s.declineByPage},
		"/password.ashx": {
			post: proved(s, audit.PasswordChange, readPassword, s.changePassword), api: true,
		},

		"/two-step.ashx":        {post: proved(s, audit.TwoStepBegin, readTwoStep, s.twoStep), api: true},
		twoStepPage:             {get: s.personal(s.showTwoStep)},
		"/passkey-options.ashx": {get: s.passkeyOptions},
		"/passkey.ashx":         {post: s.passkeySignIn},
		"/passkeys.ashx": {
			get:  byOwner(s.listPasskeys, proved(s, audit.AccountData, readNothing, ofActive(s, s.listPasskeysOf))),
			post: s.changePasskeys, api: true,
		},
		"/passkey-new.ashx":    {post: proved(s, audit.PasskeyAdd, readNothing, s.newPasskey), api: true},
		"/passkey-remove.ashx": {post: proved(s, audit.PasskeyRemove, readPasskeyID, s.removePasskey), api: true},
		passkeysPage:           {get: s.personal(s.showPasskeys)},
		"/email.ashx": {
			post: proved(s, audit.EmailRequest, readNewEmail, s.requestEmail), api: true,
		},
		"/confirm-email.ashx": {post: s.confirmEmail, api: true},
		"/confirm-email.html": {get: s.confirmEmailPage},
		"/profile.ashx": {
			post: byOwner(s.changeOwnProfile, proved(s, audit.ProfileChange, readProfile, s.changeProfile)),
			api:  true,
		},
		"/profile.html": {get: s.personal(s.profilePage)},

		"/forgot.ashx": {post: s.forgot, api: true},
		"/forgot.html": {get: s.unlessSignedIn(
			s.cachedPage("forgot", func(_ *tenant.Tenant, f frame) any { return forgotPage{f} }),
			"forgot", func(f frame) any { return forgotPage{f} })},
		"/reset.ashx":  {get: s.resetLink, post: s.reset, api: true},
		"/reset.html":  {get: s.resetPage},
		"/not-me.ashx": {post: s.notMe, api: true},
		"/not-me.html": {get: s.notMePage},

		"/data.ashx": {
			get: byOwner(s.data, proved(s, audit.AccountData, readNothing, s.writeData)), api: true,
		},
		"/leave.ashx": {post: proved(s, audit.AccountLeave, readNothing, s.leave), api: true},
		"/leave.html": {get: s.personal(s.leavePage)},
		"/stay.ashx":  {post: s.stay, api: true},
		"/stay.html":  {get: s.stayPage},

		"/": {get: s.unlessSignedIn(
			s.cachedPage("home", func(_ *tenant.Tenant, f frame) any { return homePage{f} }),
			"home", func(f frame) any { return homePage{f} })},
		"/signup.html": {get: s.unlessSignedIn(
			s.signupPage, "signedin", func(f frame) any { return signedInPage{f} })},
		"/login.html": {get: s.unlessSignedIn(
			s.loginPage, "signedin", func(f frame) any { return signedInPage{f} })},
		"/account.html":  {get: s.personal(s.accountPage)},
		"/password.html": {get: s.personal(s.passwordPage)},
		sessionsPage:     {get: s.personal(s.showSessions)},
		"/activated.html": {get: s.unlessSignedIn(
			s.cachedPage("activation", func(_ *tenant.Tenant, f frame) any {
				return activationPage{frame: f, State: activationDone}
			}), "signedin", func(f frame) any { return signedInPage{f} })},

		"/.well-known/change-password": {get: s.toPasswordPage},

		"/robots.txt":  {get: s.robots},
		"/favicon.ico": {get: s.favicon},

		"/turn":      {get: s.turn},
		"/provision": {get: s.provision, post: s.provision},
	}
	for _, f := range provision.Fetched {
		table[provisionPath(f)] = route{get: s.provisionFile(f)}
	}
	if s.deps.Operators != nil {
		maps.Copy(table, s.adminRoutes())
	}
	if s.deps.SecurityTxt != nil {
		table["/.well-known/security.txt"] = route{get: s.securityTxt}
	}
	if s.deps.DevMail != nil {
		table[DevMailPath] = route{get: s.devMail}
		table[devMailHTMLPath] = route{get: s.devMailHTML}
	}
	return table
}

// methods returns the value of the header Allow.
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

// ServeHTTP answers a request.
func (s *Site) ServeHTTP(writer http.ResponseWriter, received *http.Request) {
	w := s.requests.Begin(writer)
	span := (*trace.Span)(nil)
	if s.deps.Tracer != nil {
		received, span = s.traced(received)
	}
	r := &request{
		Request: received,
		from: account.Origin{
			Addr: s.clientAddr(received), Request: newRequestID(), Agent: received.UserAgent(),
		},
	}
	setHeaders(w.Header())
	if len(r.TransferEncoding) > 0 || !r.ProtoAtLeast(1, 1) {
		// A proxy in front may disagree about where this body ends: net/http drops a Content-Length
		// next to a Transfer-Encoding, and the Transfer-Encoding of an HTTP/1.0 request. So nothing
		// that follows is read as a request (RFC 9112 section 6.1).
		w.Header().Set("Connection", "close")
	}
	rt := route{number: s.requests.Route(server.OtherRoute)}
	defer func() { // also if net/http gets a panic
		if span != nil {
			s.finish(span, r, rt, w.Status())
		}
		s.requests.End(w, rt.number, r.Method)
	}()
	defer func() {
		if p := recover(); p != nil {
			s.panicked(w, r, rt, p)
		}
	}()
	if err := s.serve(w, r, &rt); err != nil {
		s.fail(w, r, rt, err)
	}
}

func (s *Site) serve(w http.ResponseWriter, r *request, rt *route) error {
	t, ok := s.deps.Tenants.Lookup(r.Host)
	if !ok || !forHost(r.Request, t.Host) {
		if _, isFile := s.assets.lookup(r.URL.Path); isFile {
			return s.static(w, r) // the error page for an unknown host needs its style sheet
		}
		rt.api = s.isAPI(r.URL.Path)
		if !rt.api && s.redirectDeveloper(w, r) {
			return nil
		}
		return fault.New(fault.Misdirected,
			"this server has no platform with that host name; check the address")
	}
	r.tenant = t
	s.forwarding.note(r, s.deps.TrustedProxies)
	if t.Secure() {
		w.Header()["Strict-Transport-Security"] = oneYear
	}
	if strings.HasPrefix(r.URL.Path, staticRoot) {
		rt.number = s.requests.Route(staticRoute)
		return s.static(w, r)
	}
	if strings.HasPrefix(r.URL.Path, brandRoot) {
		rt.number = s.requests.Route(brandRoute)
		return s.brandFile(w, r)
	}
	found, ok := s.table[r.URL.Path]
	if !ok {
		rt.api = s.isAPI(r.URL.Path)
		return errNoPage
	}
	*rt = found
	if rt.api {
		s.allowOrigin(w.Header(), r)
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if rt.get != nil {
			return rt.get(w, r)
		}
	case http.MethodPost:
		if rt.post != nil {
			return rt.post(w, r)
		}
	case http.MethodOptions:
		w.Header().Set("Allow", rt.methods())
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.Header().Set("Allow", rt.methods())
	return fault.New(fault.Method, "this address takes %s", rt.methods())
}

// forHost reports whether the TLS connection of a request was opened for host. A client may send
// requests for other hosts over one connection (RFC 9110 section 7.4). It is then told to open
// another connection, so that it checks the certificate of the right host.
func forHost(r *http.Request, host string) bool {
	return r.TLS == nil || r.TLS.ServerName == "" || tenant.CanonicalHost(r.TLS.ServerName) == host
}

// isAPI reports whether errors at a path are for programs, even if a browser sends the request.
func (s *Site) isAPI(path string) bool {
	return s.table[path].api || strings.Contains(strings.ToLower(path), ".ashx")
}

// redirectDeveloper redirects a developer who opens the address of the listener, such as 127.0.0.1,
// to the tenant on localhost. Otherwise it returns false.
func (s *Site) redirectDeveloper(w http.ResponseWriter, r *request) bool {
	addr, err := netip.ParseAddr((&url.URL{Host: r.Host}).Hostname())
	if s.deps.DevMail == nil || err != nil || !addr.IsLoopback() ||
		r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	for _, t := range s.deps.Tenants.All() {
		if tenant.Loopback(t.Host) {
			http.Redirect(w, r.Request, t.PublicURL+r.URL.RequestURI(), http.StatusFound)
			return true
		}
	}
	return false
}

var errNoPage = fault.New(fault.NotFound, "there is nothing at this address; check the spelling")

func (s *Site) static(w http.ResponseWriter, r *request) error {
	a, current := s.assets.lookup(r.URL.Path)
	if !current {
		var ok bool
		if a, ok = s.assets.ofOtherVersion(r.URL.Path); !ok {
			return errNoPage
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return onlyGet(w)
	}
	if !current {
		w.Header().Set("Cache-Control", "no-store")
		a.answer(w, r.Request)
		return nil
	}
	a.serve(w, r.Request)
	return nil
}

// onlyGet returns the error for a method that a file does not have.
func onlyGet(w http.ResponseWriter) error {
	w.Header().Set("Allow", "GET, HEAD")
	return fault.New(fault.Method, "use GET or HEAD at this address")
}

// panicked logs a panic and answers with an internal error. It leaves a panic with
// http.ErrAbortHandler, which aborts a connection, to net/http.
func (s *Site) panicked(w http.ResponseWriter, r *request, rt route, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.deps.Log.ErrorContext(context.WithoutCancel(r.Context()), "panic",
		"request", r.from.Request, "path", r.URL.Path, "stack", fmt.Sprintf("%v\n%s", p, debug.Stack()))
	s.fail(w, r, rt, errors.New("panic"))
}
