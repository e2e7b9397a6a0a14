package web

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/i18n"
	"dialtone/internal/session"
	"dialtone/internal/tenant"
)

func (s *Site) captcha(w http.ResponseWriter, v *visit) error {
	q := s.Captcha().Ask(v.tenant.ID)
	return answer.JSON(w, http.StatusOK, struct {
		Question string `json:"question"`
		Token    string `json:"token"`
	}{q.Text, q.Token})
}

func (s *Site) signup(w http.ResponseWriter, v *visit) error {
	form, err := s.readSignup(w, v)
	if err != nil {
		s.Accounts.Refused(v.tenant, v.from)
		return err
	}
	a, err := s.Accounts.Signup(v.Context(), v.tenant, form, v.from)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool   `json:"ok"`
		User string `json:"user"`
	}{true, a.User})
}

func (s *Site) readSignup(w http.ResponseWriter, v *visit) (account.Form, error) {
	if err := sameSite(v); err != nil {
		return account.Form{}, err
	}
	form, lang, err := readSignup(w, v.Request)
	form.Lang = s.writtenTo(v, lang)
	return form, err
}

// writtenTo is the language of the message to a person: the form's, or else the browser's.
func (s *Site) writtenTo(v *visit, lang string) i18n.Tag {
	if tag, ok := i18n.Parse(lang); ok {
		return tag
	}
	return s.accepts(v)
}

func (s *Site) activate(w http.ResponseWriter, v *visit) error {
	if v.Method != http.MethodGet || speculative(v.Header) {
		return s.activationPage(w, v, http.StatusOK, account.Account{}, activationPage{State: activationUnopened})
	}
	a, err := s.Accounts.Activate(v.Context(), v.tenant, tokenOf(v.URL), v.from)
	switch err {
	case nil:
		state := activationDone
		if a.Pending() {
			state = activationConfirm
		}
		return s.activationPage(w, v, http.StatusOK, a, activationPage{State: state, User: a.User})
	case account.ErrActive:
		return s.activationPage(w, v, http.StatusBadRequest, a, activationPage{State: activationAlready, User: a.User})
	case account.ErrExpired:
		return s.activationPage(w, v, http.StatusBadRequest, a, activationPage{State: activationExpired})
	case account.ErrHeld:
		return s.activationPage(w, v, http.StatusBadRequest, a, activationPage{State: activationHeld})
	case account.ErrReplaced:
		return s.activationPage(w, v, http.StatusBadRequest, account.Account{}, activationPage{State: activationReplaced})
	}
	if fault.Is(err, fault.NotFound) {
		return s.activationPage(w, v, http.StatusBadRequest, account.Account{}, activationPage{State: activationInvalid})
	}
	status := http.StatusInternalServerError
	if fault.Is(err, fault.Overloaded) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "2")
	}
	s.Log.ErrorContext(v.Context(), "activation failed", "request", v.from.Request, "err", err)
	return s.activationPage(w, v, status, account.Account{}, activationPage{State: activationTrouble})
}

// tokenOf is the token of a link, or "" where there is not exactly one.
func tokenOf(u *url.URL) string {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(query["token"]) != 1 {
		return ""
	}
	return query["token"][0]
}

// speculative reports whether a browser fetches a page that nobody has asked to see.
func speculative(h http.Header) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		value := strings.ToLower(h.Get(name))
		if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") || strings.Contains(value, "preview") {
			return true
		}
	}
	return false
}

// activationPage speaks the language of the message that led to it, where the account is known.
func (s *Site) activationPage(w http.ResponseWriter, v *visit, status int, a account.Account, p activationPage) error {
	sp := s.speech(v)
	if a.User != "" && a.Lang != sp.tag {
		sp = speech{a.Lang, true}
	}
	p.frame = newFrame(v.tenant, sp)
	if p.State == activationExpired {
		p.Expired = i18n.In(sp.tag).Day(a.Expires)
	}
	page, err := s.pages.render(sp.tag, "activation", p)
	if err != nil {
		return err
	}
	w.Header().Set("X-Robots-Tag", "noindex")
	writePage(w, status, page)
	return nil
}

func (s *Site) signin(w http.ResponseWriter, v *visit) error {
	// A link on another site may hold a name and a password, and would sign a person in as somebody else.
	if err := sameSite(v); err != nil {
		return err
	}
	if err := s.wantsProof(w, v); err != nil {
		return err
	}
	grant, err := s.Door.SignIn(v.Context(), v.tenant, attempt(v))
	if err == session.ErrNotActivated {
		return answer.JSON(w, http.StatusForbidden, struct {
			answer.Error
			Email    string         `json:"email"`
			Delivery delivery.State `json:"delivery,omitempty"`
		}{
			answer.ErrorOf(err, ""),
			account.MaskEmail(grant.Account.Email), s.delivery(v, grant.Account),
		})
	}
	if err := s.notProved(w, v, err); err != nil {
		return err
	}
	setCookie(w, v.tenant, sessionCookie, grant.Session, session.Life)
	setCookie(w, v.tenant, deviceCookie, grant.Device, session.DeviceLife)
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool         `json:"ok"`
		User string       `json:"user"`
		Role account.Role `json:"role"`
	}{true, grant.Account.User, grant.Account.Role})
}

// delivery is what became of the message, for the account's owner, or empty. It only adds to an answer, which does without it in
// trouble.
func (s *Site) delivery(v *visit, a account.Account) delivery.State {
	if s.Delivery == nil {
		return ""
	}
	state, err := s.Delivery(v.Context(), a)
	if err != nil && !fault.Is(err, fault.NotFound) {
		s.Log.WarnContext(v.Context(), "what became of a message could not be told", "request", v.from.Request, "err", err)
	}
	return state
}

// resend is asked for by whoever has proved the password. The form may be missing; a client that does not know the challenge yet
// sends none with its first request, for instance.
func (s *Site) resend(w http.ResponseWriter, v *visit) error {
	if err := sameSite(v); err != nil {
		return err
	}
	if err := s.wantsProof(w, v); err != nil {
		return err
	}
	email, err := readEmail(w, v.Request)
	if err != nil {
		return err
	}
	a, err := s.Door.Resend(v.Context(), v.tenant, attempt(v), email)
	if err := s.notProved(w, v, err); err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK    bool   `json:"ok"`
		Email string `json:"email"`
	}{true, account.MaskEmail(a.Email)})
}

// confirm takes the token of a link together with a proof of the password. The challenge comes before the form is looked at: a client
// that does not know one yet may send none (RFC 7616 §3.3 has it repeat the request).
func (s *Site) confirm(w http.ResponseWriter, v *visit) error {
	if err := sameSite(v); err != nil {
		return err
	}
	if err := s.wantsProof(w, v); err != nil {
		return err
	}
	token := form.Field{Name: "token"}
	if err := readForm(w, v.Request, &token); err != nil {
		return err
	}
	if token.Value == "" {
		return fault.Field("token", "send the token of the link")
	}
	a, err := s.Door.Confirm(v.Context(), v.tenant, attempt(v), token.Value)
	if err := s.notProved(w, v, err); err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool   `json:"ok"`
		User string `json:"user"`
	}{true, a.User})
}

func attempt(v *visit) session.Attempt {
	return session.Attempt{
		Authorization: v.Header.Get("Authorization"),
		Method:        v.Method,
		URI:           v.RequestURI,
		Device:        cookie(v, deviceCookie),
		From:          v.from,
	}
}

// wantsProof asks for a proof where the request has none.
func (s *Site) wantsProof(w http.ResponseWriter, v *visit) error {
	if v.Header.Get("Authorization") != "" {
		return nil
	}
	s.challenge(w, v, false)
	return fault.New(fault.Unauthorized, "prove the password with HTTP Digest, by the challenge in WWW-Authenticate")
}

// notProved adds a new challenge where a proof was refused.
func (s *Site) notProved(w http.ResponseWriter, v *visit, err error) error {
	if fault.Is(err, fault.Unauthorized) {
		s.challenge(w, v, err == session.ErrStale)
	}
	return err
}

// challenge sets the header of a 401. A script that says X-Requested-With gets the same challenge under a scheme name
// that browsers do not know, since at the name Digest they would open a password box of their own.
func (s *Site) challenge(w http.ResponseWriter, v *visit, stale bool) {
	scheme := "Digest "
	if v.Header.Get("X-Requested-With") != "" {
		scheme = "X-Digest "
	}
	w.Header().Set("WWW-Authenticate", scheme+s.Door.Challenge(v.tenant, stale).String())
}

func (s *Site) signout(w http.ResponseWriter, v *visit) error {
	if err := sameSite(v); err != nil {
		return err
	}
	if err := s.Door.SignOut(v.Context(), v.tenant, cookie(v, sessionCookie), v.from); err != nil {
		return err
	}
	setCookie(w, v.tenant, sessionCookie, "", -time.Second)
	http.Redirect(w, v.Request, newFrame(v.tenant, s.speech(v)).To("/login.html"), http.StatusSeeOther)
	return nil
}

const (
	sessionCookie = "dialtone-session"
	deviceCookie  = "dialtone-device"
)

// cookieName has the prefix that binds a cookie to this very host, where there is TLS for it.
func cookieName(t *tenant.Tenant, name string) string {
	if t.Secure() {
		return "__Host-" + name
	}
	return name
}

func cookie(v *visit, name string) string {
	c, err := v.Cookie(cookieName(v.tenant, name))
	if err != nil {
		return ""
	}
	return c.Value
}

func setCookie(w http.ResponseWriter, t *tenant.Tenant, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(t, name), Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: t.Secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}
