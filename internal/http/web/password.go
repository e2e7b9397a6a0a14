package web

import (
	"errors"
	"net/http"

	"dialtone/internal/account"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/session"
)

// readPassword reads a new password, and checks its format before the proof, so that a mistake does
// not use up a challenge.
func readPassword(
	w http.ResponseWriter, r *http.Request, _ *session.Attempt,
) (f account.PasswordForm, err error) {
	err = readForm(w, r,
		&form.Field{Name: "ha1", Into: &f.HA1},
		&form.Field{Name: "ha1b", Into: &f.HA1B},
		&form.Field{Name: "ha1_sha256", Into: &f.HA1SHA256},
	)
	if err == nil {
		_, err = f.Credential()
	}
	return f, err
}

// changePassword sets a new password. If the request carried a session of the account, that session
// continues; all others end.
func (s *Site) changePassword(
	w http.ResponseWriter, r *request, proved account.Account, f account.PasswordForm,
) error {
	continues, how := s.continues(r, proved)
	a, err := s.deps.Accounts.ChangePassword(r.Context(), r.tenant, proved, f, r.from)
	if errors.Is(err, account.ErrNotActivated) {
		return s.notActivated(r, proved, err)
	}
	if err != nil {
		return err
	}
	if continues {
		setGrant(w, r, s.deps.Authenticator.Continue(r.Context(), r.tenant, a, r.from, how))
	} else {
		setDevice(w, r, s.deps.Authenticator.DeviceToken(r.tenant, a))
	}
	return answer.JSON(w, http.StatusOK, struct {
		okUser
		SignedIn bool `json:"signed_in"`
	}{okUser{true, a.User}, continues})
}

// continues reports whether a request carried a session of the account whose password was proved,
// so that the browser gets a new session when that ends. It also returns how the new session counts
// as begun. If the session cannot be read, the person has to sign in again.
func (s *Site) continues(r *request, proved account.Account) (bool, session.How) {
	owner, how, err := s.deps.Authenticator.How(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
	if how == session.ByPassword && proved.Factors.Has(account.FactorApp) {
		how = session.ByCode // the proof had one
	}
	return err == nil && owner.UID == proved.UID, how
}

func (s *Site) passwordPage(w http.ResponseWriter, r *request, a account.Account) error {
	sp := s.pageLanguage(r)
	p := passwordPage{frame: s.switching(r.tenant, sp), Name: a.Name, Email: a.Email}
	p.SignedIn = a.User
	return s.show(w, sp, "password", p)
}

// toPasswordPage is where password managers look for the page that changes a password
// (https://w3c.github.io/webappsec-change-password-url/).
func (s *Site) toPasswordPage(w http.ResponseWriter, r *request) error {
	http.Redirect(w, r.Request, s.newFrame(r.tenant, s.pageLanguage(r)).To("/password.html"), http.StatusSeeOther)
	return nil
}
