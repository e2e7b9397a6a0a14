package web

import (
	"net/http"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/secret"
)

// forgot records that somebody has forgotten a password. The answer is the same whether or not the
// account exists.
func (s *Site) forgot(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	who := form.Field{Name: "account"}
	if err := readForm(w, r.Request, &who); err != nil {
		return err
	}
	if err := s.deps.Accounts.Forgot(r.Context(), r.tenant, who.Value, r.from); err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
}

// resetLink returns the accounts that a reset link is for. It uses nothing up.
func (s *Site) resetLink(w http.ResponseWriter, r *request) error {
	token := tokenOf(r.URL)
	if token == "" {
		return errNoToken
	}
	list, until, err := s.deps.Accounts.ResetLink(r.Context(), r.tenant, token)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		Accounts []string  `json:"accounts"`
		Until    time.Time `json:"until"`
	}{usersOf(list), until.UTC().Truncate(time.Second)})
}

var errNoToken = fault.Field("token", "send the token of the link")

// usersOf returns the user names of accounts.
func usersOf(list []account.Account) (users []string) {
	for _, a := range list {
		users = append(users, a.User)
	}
	return users
}

// reset sets a new password for somebody who has a reset link. It starts no session.
func (s *Site) reset(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	var token, user string
	var p account.PasswordForm
	err := readForm(w, r.Request,
		&form.Field{Name: "token", Into: &token},
		&form.Field{Name: "user", Into: &user},
		&form.Field{Name: "ha1", Into: &p.HA1},
		&form.Field{Name: "ha1b", Into: &p.HA1B},
		&form.Field{Name: "ha1_sha256", Into: &p.HA1SHA256},
	)
	if err != nil {
		return err
	}
	if token == "" || user == "" || p.HA1 == "" || p.HA1B == "" || p.HA1SHA256 == "" {
		return fault.New(fault.Invalid, "token, user, ha1, ha1b, ha1_sha256 required")
	}
	a, err := s.deps.Accounts.Reset(r.Context(), r.tenant, token, user, p, r.from)
	if err != nil {
		return err
	}
	setDevice(w, r, s.deps.Authenticator.DeviceToken(r.tenant, a))
	return answer.JSON(w, http.StatusOK, okUser{true, a.User})
}

// resetPage shows the form for a new password, and the accounts that the link is for.
func (s *Site) resetPage(w http.ResponseWriter, r *request) error {
	sp := s.pageLanguage(r)
	list, _, err := s.deps.Accounts.ResetLink(r.Context(), r.tenant, tokenOf(r.URL))
	var first account.Account
	if len(list) > 0 {
		first = list[0]
	}
	p := resetPage{Users: usersOf(list), First: first.User != "" && first.Pending()}
	for _, a := range list {
		if a.State() == account.Leaving {
			p.Kept = append(p.Kept, a.User)
		}
	}
	status, sp, err := linkOutcome(sp, first, err)
	if err != nil {
		return err
	}
	p.frame = s.linkFrame(r, sp)
	return s.linkPage(w, status, sp, "reset", p)
}

// notMePage shows the form for somebody who did not make a change, and what the form undoes. It
// uses nothing up.
func (s *Site) notMePage(w http.ResponseWriter, r *request) error {
	sp := s.pageLanguage(r)
	u, err := s.deps.Accounts.NotMeLink(r.Context(), r.tenant, tokenOf(r.URL))
	status, sp, err := linkOutcome(sp, u.Account, err)
	if err != nil {
		return err
	}
	p := notMePage{frame: s.linkFrame(r, sp), User: u.Account.User, Stays: !u.Account.Leaving.IsZero(),
		App: u.App, Passkeys: u.Passkeys, Codes: u.Codes > 0}
	if u.Email != u.Account.Email {
		p.Email = u.Email
	}
	return s.linkPage(w, status, sp, "notme", p)
}

// linkOutcome returns the status of a page for a link, and its language: that of the message, if
// the link works and the person has not chosen another language on the page.
func linkOutcome(sp pageLanguage, of account.Account, err error) (int, pageLanguage, error) {
	switch {
	case fault.Is(err, fault.NotFound):
		return http.StatusNotFound, sp, nil
	case err == nil && of.Lang != sp.tag && !sp.chosen:
		return http.StatusOK, pageLanguage{of.Lang, true}, nil
	}
	return http.StatusOK, sp, err
}

// linkFrame returns the frame of a page whose address contains a token.
func (s *Site) linkFrame(r *request, sp pageLanguage) frame {
	f := s.switching(r.tenant, sp)
	_, whole := secret.ParseToken(tokenOf(r.URL))
	f.CutLink = !whole
	return f
}

// linkPage writes a page whose address contains a token.
func (s *Site) linkPage(w http.ResponseWriter, status int, sp pageLanguage, name string, data any) error {
	page, err := s.pages.render(sp.tag, name, data)
	if err != nil {
		return err
	}
	w.Header().Set("X-Robots-Tag", "noindex")
	w.Header()["Referrer-Policy"] = noReferrer
	writePage(w, status, page)
	return nil
}

// notMe uses up the link of a message about a change.
func (s *Site) notMe(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	token, err := readLink(w, r.Request)
	if err != nil {
		return err
	}
	a, path, err := s.deps.Accounts.NotMe(r.Context(), r.tenant, token, r.from)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK    bool   `json:"ok"`
		User  string `json:"user"`
		Email string `json:"email"`
		Reset string `json:"reset"`
	}{true, a.User, audit.MaskEmail(a.Email), path})
}
