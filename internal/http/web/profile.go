package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/i18n"
	"dialtone/internal/session"
)

// profilePage is /profile.html. Saved means that the form for the name and the language was just
// saved.
type profilePage struct {
	frame
	Name, Email string
	Lang        i18n.Tag
	Saved       bool
}

// confirmEmailPage is /confirm-email.html. User is empty if the link does not work.
type confirmEmailPage struct {
	frame
	User, Email string
}

// readNewEmail reads a new address, and checks it before the proof, so that a mistake does not use
// up a challenge.
func readNewEmail(w http.ResponseWriter, r *http.Request, _ *session.Attempt) (string, error) {
	email := form.Field{Name: "email"}
	if err := readForm(w, r, &email); err != nil {
		return "", err
	}
	_, err := account.CleanEmail(email.Value)
	return email.Value, err
}

// requestEmail sends a message with a link to the new address of an account.
func (s *Site) requestEmail(w http.ResponseWriter, r *request, proved account.Account, email string) error {
	email, err := s.deps.Accounts.RequestEmail(r.Context(), r.tenant, proved, email, r.from)
	if errors.Is(err, account.ErrNotActivated) {
		return s.notActivated(r, proved, err)
	}
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK    bool   `json:"ok"`
		Email string `json:"email"`
	}{true, audit.MaskEmail(email)})
}

// confirmEmailPage answers the link in that message with a page that has a button. Programs that
// read mail open links too, so opening the link changes nothing.
func (s *Site) confirmEmailPage(w http.ResponseWriter, r *request) error {
	sp := s.pageLanguage(r)
	a, email, err := s.deps.Accounts.EmailLink(r.Context(), r.tenant, tokenOf(r.URL))
	status, sp, err := linkOutcome(sp, a, err)
	if err != nil {
		return err
	}
	return s.linkPage(w, status, sp, "confirmemail", confirmEmailPage{s.linkFrame(r, sp), a.User, email})
}

// confirmEmail sets the address that the link is for.
func (s *Site) confirmEmail(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	token, err := readLink(w, r.Request)
	if err != nil {
		return err
	}
	a, err := s.deps.Accounts.ConfirmEmail(r.Context(), r.tenant, token, r.from)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, okUser{true, a.User})
}

// readProfile reads the form with a name, a language, or both.
func readProfile(
	w http.ResponseWriter, r *http.Request, _ *session.Attempt,
) (f account.ProfileForm, err error) {
	name, lang := form.Field{Name: "name"}, form.Field{Name: "lang"}
	if err := readForm(w, r, &name, &lang); err != nil {
		return f, err
	}
	if name.Sent {
		f.Name = &name.Value
	}
	if lang.Sent {
		f.Lang = &lang.Value
	}
	return f, nil
}

// changeOwnProfile is like changeProfile, for pages of this host.
func (s *Site) changeOwnProfile(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	f, err := readProfile(w, r.Request, nil)
	if err != nil {
		return err
	}
	a, err := s.signedIn(r)
	if err == nil {
		err = s.changeProfile(w, r, a, f)
	}
	if errors.Is(err, account.ErrHeld) || fault.Is(err, fault.NotFound) { // since the session was read
		err = session.ErrDenied
	}
	return signInFirst(w, err, "a name or a language is set by its owner")
}

func (s *Site) changeProfile(w http.ResponseWriter, r *request, owner account.Account, f account.ProfileForm) error {
	a, err := s.deps.Accounts.ChangeProfile(r.Context(), r.tenant, owner, f, r.from)
	if errors.Is(err, account.ErrNotActivated) {
		return s.notActivated(r, owner, err)
	}
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK   bool     `json:"ok"`
		User string   `json:"user"`
		Name string   `json:"name"`
		Lang i18n.Tag `json:"lang"`
	}{true, a.User, a.Name, a.Lang})
}

func (s *Site) profilePage(w http.ResponseWriter, r *request, a account.Account) error {
	sp := s.pageLanguage(r)
	p := profilePage{s.switching(r.tenant, sp), a.Name, a.Email, a.Lang, asks(r, "saved")}
	p.SignedIn = a.User
	return s.show(w, sp, "profile", p)
}

// asks reports whether the address's query contains a part such as next=phone.
func asks(r *request, part string) bool {
	return slices.Contains(strings.Split(r.URL.RawQuery, "&"), part)
}
