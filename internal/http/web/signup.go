package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/i18n"
	"dialtone/internal/tenant"
)

func (s *Site) captcha(w http.ResponseWriter, r *request) error {
	q := s.deps.Captcha().Ask(r.tenant.ID)
	s.questions.Add(1)
	return answer.JSON(w, http.StatusOK, struct {
		Question string `json:"question"`
		Token    string `json:"token"`
	}{q.Text, q.Token})
}

// okUser is the answer to a signup and to a confirmation.
type okUser struct {
	OK   bool   `json:"ok"`
	User string `json:"user"`
}

func (s *Site) signup(w http.ResponseWriter, r *request) error {
	form := s.signupForm(w, r)
	// Signups may have been closed while the form arrived, since the sender controls how long that
	// takes.
	if t, ok := s.deps.Tenants.ByID(r.tenant.ID); ok {
		r.tenant = t
	}
	a, err := s.deps.Accounts.Signup(r.Context(), r.tenant, form, r.from)
	if err != nil {
		return err
	}
	setDevice(w, r, s.deps.Authenticator.DeviceToken(r.tenant, a))
	return answer.JSON(w, http.StatusOK, okUser{true, a.User})
}

// signupPage shows the form, or that signups are closed.
func (s *Site) signupPage(w http.ResponseWriter, r *request) error {
	if note, closed := r.tenant.Closed(); closed {
		return s.writeCached(w, r, "closed", "", func(_ *tenant.Tenant, f frame) any { return closedPage{f, note} })
	}
	return s.writeCached(w, r, "signup", "", func(t *tenant.Tenant, f frame) any {
		return signupPage{f, t.Sender(), t.Activation == tenant.ActivationConfirm}
	})
}

// signupForm reads the form of a signup. Messages will be in the form's language, or else the
// browser's.
func (s *Site) signupForm(w http.ResponseWriter, r *request) account.Form {
	if err := sameSite(r); err != nil {
		return account.Form{Malformed: err, CrossSite: true}
	}
	f, lang, err := readSignup(w, r.Request)
	f.Malformed = err
	tag, ok := i18n.Parse(lang)
	if !ok {
		tag = s.browserLanguage(r)
	}
	f.Lang = tag
	return f
}

// activate answers the link in a message with a page, to browsers and programs alike.
func (s *Site) activate(w http.ResponseWriter, r *request) error {
	if r.Method != http.MethodGet || speculative(r.Header) {
		return s.activationPage(w, r, http.StatusOK, account.Account{}, activationUnopened)
	}
	a, err := s.deps.Accounts.Activate(r.Context(), r.tenant, tokenOf(r.URL), r.from)
	if err != nil {
		return &customError{err, func(w http.ResponseWriter, status int) error {
			state := activationStateOf(err)
			if state != activationTrouble {
				status = http.StatusBadRequest
			}
			return s.activationPage(w, r, status, a, state)
		}}
	}
	state := activationDone
	if a.Pending() {
		state = activationConfirm
	}
	return s.activationPage(w, r, http.StatusOK, a, state)
}

// activationStateOf returns the state of the page for an error of Activate.
func activationStateOf(err error) activationState {
	switch {
	case errors.Is(err, account.ErrActive):
		return activationAlready
	case errors.Is(err, account.ErrExpired):
		return activationExpired
	case errors.Is(err, account.ErrHeld):
		return activationHeld
	case errors.Is(err, account.ErrReplaced):
		return activationReplaced
	case fault.Is(err, fault.NotFound):
		return activationInvalid
	}
	return activationTrouble
}

// activationPage writes the page in the language of the message that led to it, if the account is
// known.
func (s *Site) activationPage(
	w http.ResponseWriter, r *request, status int, a account.Account, state activationState,
) error {
	sp := s.pageLanguage(r)
	if a.User != "" && a.Lang != sp.tag {
		sp = pageLanguage{a.Lang, true}
	}
	p := activationPage{frame: s.newFrame(r.tenant, sp), State: state}
	switch state {
	case activationDone, activationConfirm, activationAlready:
		p.User, p.Confirmed = a.User, !a.Confirmed.IsZero()
		// If a session cannot be read, it counts as none.
		if owner, err := s.signedIn(r); state != activationConfirm && err == nil && owner.UID == a.UID {
			p.SignedIn = a.User
		}
	case activationExpired:
		p.Expired = i18n.In(sp.tag).Day(a.Expires)
	}
	page, err := s.pages.render(sp.tag, "activation", p)
	if err != nil {
		return err
	}
	w.Header().Set("X-Robots-Tag", "noindex")
	w.Header()["Referrer-Policy"] = noReferrer // the address contains the token
	writePage(w, status, page)
	return nil
}

// tokenOf returns the token of a link, or "" if there is not exactly one. It ignores other
// parameters, even malformed ones, since click trackers append their own.
func tokenOf(u *url.URL) string {
	token := form.Field{Name: "token"}
	if form.Parse(u.RawQuery, form.Appended, &token) != nil {
		return ""
	}
	return token.Value
}

// speculative reports whether a browser prefetches a page that nobody has opened.
func speculative(h http.Header) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		value := strings.ToLower(h.Get(name))
		if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") ||
			strings.Contains(value, "preview") {
			return true
		}
	}
	return false
}
