package web

import (
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

// proved returns a handler for requests that require a proof of the password. It answers with a
// challenge until the proof is right, and then calls do with the account and the form.
//
// A client that does not know a challenge yet may leave out the form of its first request (RFC 7616
// section 3.3 has it repeat the request), so the form is read after the header. It is read before
// the proof is checked, so that a mistake in it does not use up a challenge.
func proved[F any](
	s *Site, action audit.Action,
	read func(http.ResponseWriter, *http.Request, *session.Attempt) (F, error),
	do func(http.ResponseWriter, *request, account.Account, F) error,
) handler {
	return func(w http.ResponseWriter, r *request) error {
		// A link on another site may contain a name and a password, and would sign a person in as
		// somebody else.
		if err := sameSite(r); err != nil {
			return err
		}
		at := session.Attempt{
			Action:        action,
			Authorization: r.Header.Get("Authorization"),
			Method:        r.Method,
			URI:           r.RequestURI,
			Code:          r.Header.Get(codeHeader),
			Device:        cookie(r, deviceCookie),
			Session:       cookie(r, sessionCookie),
			From:          r.from,
		}
		if strings.EqualFold(at.Authorization, scriptScheme) {
			at.Authorization = ""
		}
		var form F
		if at.Authorization != "" {
			var err error
			if form, err = read(w, r.Request, &at); err != nil {
				return err
			}
		}
		a, challenge, err := s.deps.Authenticator.Authenticate(r.Context(), r.tenant, at)
		if errors.Is(err, session.ErrLeaving) {
			return leaving(a, err)
		}
		if err == nil {
			err = do(w, r, a, form)
			if errors.Is(err, account.ErrHeld) || errors.Is(err, account.ErrPasswordChanged) ||
				fault.Is(err, fault.NotFound) {
				// Since the proof, the account was disabled, left or deleted, or its password was
				// changed. The answer is the same as for a wrong proof. If the account has left,
				// the next right proof gets ErrLeaving.
				challenge, err = s.deps.Authenticator.Deny(r.tenant)
			}
		}
		if challenge != nil {
			setChallenge(w, r, challenge)
		}
		return err
	}
}

// codeHeader contains the code of an authenticator app, or a recovery code.
const codeHeader = "Dialtone-Code"

// byOwner returns a handler for the owner of an account. A page of this host sends the session
// cookie, which signedIn handles. Other programs, and pages of listed origins, send a proof of the
// password. A browser that follows a link or submits a form gets no challenge, since it would open
// its own password dialog.
func byOwner(signedIn, byProof handler) handler {
	return func(w http.ResponseWriter, r *request) error {
		navigates := r.Header.Get("Sec-Fetch-Mode") == "navigate" || wantsPage(r.Request)
		if r.Header.Get("Authorization") != "" || cookie(r, sessionCookie) == "" && !navigates {
			return byProof(w, r)
		}
		return signedIn(w, r)
	}
}

// ofActive wraps do and refuses accounts that are not active.
func ofActive[F any](
	s *Site, do func(http.ResponseWriter, *request, account.Account, F) error,
) func(http.ResponseWriter, *request, account.Account, F) error {
	return func(w http.ResponseWriter, r *request, a account.Account, form F) error {
		if a.Pending() {
			return s.notActivated(r, a, account.ErrNotActivated)
		}
		return do(w, r, a, form)
	}
}

// scriptScheme is the name of the scheme Digest for scripts. Without a proof, it is the
// Authorization header of a script that requests a challenge: sending this header keeps the browser
// from adding one with a name and password from a link.
const scriptScheme = "X-Digest"

// setChallenge sets the WWW-Authenticate header of a 401. A script that sends X-Requested-With gets
// the challenge under a scheme that browsers do not know: for the scheme Digest they would open
// their own password dialog.
func setChallenge(w http.ResponseWriter, r *request, c *digest.Challenge) {
	scheme := "Digest"
	if r.Header.Get("X-Requested-With") != "" {
		scheme = scriptScheme
	}
	w.Header()["Www-Authenticate"] = []string{c.Header(scheme)}
}

// readNothing is for requests without a form.
func readNothing(http.ResponseWriter, *http.Request, *session.Attempt) (struct{}, error) {
	return struct{}{}, nil
}

func (s *Site) signin(w http.ResponseWriter, r *request, a account.Account, _ struct{}) error {
	grant, err := s.deps.Authenticator.SignIn(r.Context(), r.tenant, a, cookie(r, deviceCookie), r.from,
		howProved(a))
	if errors.Is(err, session.ErrNotActivated) {
		return s.notActivated(r, a, err)
	}
	if err != nil {
		return err
	}
	// A navigation is not a form of ours: a link to http://name:password@host/signin.ashx would sign
	// a visitor in as somebody else, since browsers answer the challenge by themselves.
	if r.Header.Get("Sec-Fetch-Mode") != "navigate" {
		s.startSession(w, r, grant)
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool         `json:"ok"`
		User string       `json:"user"`
		Role account.Role `json:"role"`
	}{true, a.User, a.Role})
}

// howProved returns how a person with an accepted proof has signed in.
func howProved(a account.Account) session.How {
	if a.Factors.Has(account.FactorApp) {
		return session.ByCode
	}
	return session.ByPassword
}

// startSession signs the browser in. Its previous session ends, since the cookie is replaced.
func (s *Site) startSession(w http.ResponseWriter, r *request, g session.Grant) {
	if token := cookie(r, sessionCookie); token != "" {
		_ = s.deps.Authenticator.SignOut(r.Context(), r.tenant, token, r.from) // otherwise it expires later
	}
	setGrant(w, r, g)
}

// setGrant sets the cookies of a new session. The browser's earlier session, if any, must have
// ended.
func setGrant(w http.ResponseWriter, r *request, g session.Grant) {
	setSession(w, r, g.Session)
	setDevice(w, r, g.Device)
}

// notActivated adds the masked address of the activation message and its delivery state to the
// error. The owner, who has proved the password, may know both.
func (s *Site) notActivated(r *request, a account.Account, err error) error {
	return &customError{err, func(w http.ResponseWriter, status int) error {
		return answer.JSON(w, status, struct {
			answer.Error
			Email    string         `json:"email"`
			Delivery delivery.State `json:"delivery,omitempty"`
		}{answer.ErrorOf(err, ""), audit.MaskEmail(a.Email), s.delivery(r, a)})
	}}
}

// leaving adds to the error since when the account has been leaving, when it is erased, and the
// masked address of the message about it. The owner, who has proved the password, may know all of
// that.
func leaving(a account.Account, err error) error {
	since, _, _ := a.Since()
	return &customError{err, func(w http.ResponseWriter, status int) error {
		return answer.JSON(w, status, struct {
			answer.Error
			Since time.Time `json:"since"`
			Until time.Time `json:"until"`
			Email string    `json:"email"`
		}{
			answer.ErrorOf(err, ""), since.UTC().Truncate(time.Second), a.Leaving.UTC().Truncate(time.Second),
			audit.MaskEmail(a.Email),
		})
	}}
}

// delivery returns the state of the newest message to the account, or "" if it cannot be read: it
// is an optional part of an answer.
func (s *Site) delivery(r *request, a account.Account) delivery.State {
	if s.deps.Delivery == nil {
		return ""
	}
	state, err := s.deps.Delivery(r.Context(), a)
	if err != nil && !fault.Is(err, fault.NotFound) {
		s.deps.Log.WarnContext(r.Context(), "delivery state unknown",
			"request", r.from.Request, "err", err)
	}
	return state
}

// resend sends the message of a pending account again.
func (s *Site) resend(w http.ResponseWriter, r *request, a account.Account, email string) error {
	a, err := s.deps.Accounts.Resend(r.Context(), r.tenant, a, email, r.from)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK    bool   `json:"ok"`
		Email string `json:"email"`
	}{true, audit.MaskEmail(a.Email)})
}

// confirm takes the token of a link.
func (s *Site) confirm(w http.ResponseWriter, r *request, a account.Account, token string) error {
	a, err := s.deps.Accounts.Confirm(r.Context(), r.tenant, a, token, r.from)
	if err != nil {
		return err
	}
	setDevice(w, r, s.deps.Authenticator.DeviceToken(r.tenant, a))
	return answer.JSON(w, http.StatusOK, okUser{true, a.User})
}

// setDevice marks the browser as the account owner's, so that others who guess passwords cannot
// lock it out.
func setDevice(w http.ResponseWriter, r *request, token string) {
	setCookie(w, r.tenant, deviceCookie, token, session.DeviceLife)
}

func (s *Site) signout(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	token := cookie(r, sessionCookie)
	if err := s.deps.Authenticator.SignOut(r.Context(), r.tenant, token, r.from); err != nil {
		return err
	}
	setCookie(w, r.tenant, sessionCookie, "", -time.Second)
	s.toLogin(w, r, "#signed-out")
	return nil
}

// toLogin redirects to the page for signing in, and from there back to the page of the request, if
// that is one of ownPages. The fragment selects the text there that explains why, or is empty.
func (s *Site) toLogin(w http.ResponseWriter, r *request, fragment string) {
	s.toLoginFor(w, r, r.URL.Path, fragment)
}

// toLoginFor is like toLogin, for a page other than that of the request.
func (s *Site) toLoginFor(w http.ResponseWriter, r *request, next, fragment string) {
	f := s.newFrame(r.tenant, s.pageLanguage(r))
	http.Redirect(w, r.Request, f.ToLogin(next)+fragment, http.StatusSeeOther)
}

// ended returns the fragment for toLogin: "#ended" if the browser had a session, otherwise "".
func ended(r *request) string {
	if cookie(r, sessionCookie) != "" {
		return "#ended"
	}
	return ""
}

// ownPages are the pages to which a person returns after being redirected to sign in. From any
// other page, signing in leads to the account page.
var ownPages = []string{
	"/password.html", sessionsPage, "/profile.html", "/two-step.html", "/passkeys.html", "/leave.html",
}

// nextPrefix is the prefix of the part of the query of /login.html that names one of ownPages.
const nextPrefix = "next="

// adminNext returns the address in a part of a query if it is that of one of adminPages.
func adminNext(escaped string) (string, bool) {
	raw, err := url.QueryUnescape(escaped)
	if err != nil {
		return "", false
	}
	return adminAddress(raw)
}

// loginPage shows the form for signing in. Whatever the address says, the next page is one of this
// site.
func (s *Site) loginPage(w http.ResponseWriter, r *request) error {
	next, variant := "/account.html", ""
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		path, ok := strings.CutPrefix(pair, nextPrefix)
		if ok && slices.Contains(ownPages, path) {
			next, variant = path, "&"+pair
		} else if address, isAdmin := adminNext(path); ok && isAdmin {
			// There are too many different addresses to cache the pages.
			sp := s.pageLanguage(r)
			f := s.switching(r.tenant, sp)
			f.Keep = template.URL("&" + pair)
			_, passkeys := account.Party(r.tenant)
			return s.show(w, sp, "login", loginPage{f, address, passkeys})
		}
	}
	return s.writeCached(w, r, "login", variant, func(t *tenant.Tenant, f frame) any {
		f.Keep = template.URL(variant)
		_, passkeys := account.Party(t)
		return loginPage{f, next, passkeys}
	})
}

// signedIn returns the account of the person who is signed in. If the platform requires a second
// factor and the account has none, it fails with session.ErrFactorMissing, except for the pages
// that set one up, and the page for a forgotten password, to which they link.
//
// Afterwards, pages for the request are in the language of the account.
func (s *Site) signedIn(r *request) (a account.Account, err error) {
	path, _, _ := strings.Cut(r.URL.Path, ".")
	if slices.Contains([]string{"/two-step", "/passkeys", "/forgot"}, path) {
		a, err = s.deps.Authenticator.SignedInToSetUp(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
	} else {
		a, err = s.deps.Authenticator.SignedIn(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
	}
	if err == nil {
		r.lang = a.Lang
	}
	return a, err
}

// afterLife is how long a browser keeps the cookie of an expired session, so that the person is
// told that it has ended.
const afterLife = 7 * 24 * time.Hour

const (
	sessionCookie = "dialtone-session"
	deviceCookie  = "dialtone-device"
)

// cookieName adds the prefix that binds a cookie to this host, which requires TLS.
func cookieName(t *tenant.Tenant, name string) string {
	if t.Secure() {
		return "__Host-" + name
	}
	return name
}

func cookie(r *request, name string) string {
	c, err := r.Cookie(cookieName(r.tenant, name))
	if err != nil {
		return ""
	}
	return c.Value
}

// setCookie sets a cookie to one of our tokens, or clears it. Unlike with http.SetCookie, the value
// is not checked and escaped, since neither needs it.
func setCookie(w http.ResponseWriter, t *tenant.Tenant, name, value string, life time.Duration) {
	attributes := "; HttpOnly; SameSite=Lax"
	if t.Secure() {
		attributes = "; HttpOnly; Secure; SameSite=Lax"
	}
	h, age := w.Header(), strconv.Itoa(max(0, int(life/time.Second)))
	h["Set-Cookie"] = append(h["Set-Cookie"],
		cookieName(t, name)+"="+value+"; Path=/; Max-Age="+age+attributes)
}
