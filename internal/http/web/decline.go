package web

import (
	"errors"
	"net/http"

	"dialtone/internal/account"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
)

// decline removes a pending account for somebody who did not sign up.
func (s *Site) decline(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	token, err := readLink(w, r.Request)
	if err != nil {
		return err
	}
	if _, err := s.deps.Accounts.Decline(r.Context(), r.tenant, token, r.from); err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
}

// readLink reads the form with the token of a link.
func readLink(w http.ResponseWriter, r *http.Request) (string, error) {
	token := form.Field{Name: "token"}
	if err := readForm(w, r, &token); err != nil {
		return "", err
	}
	if token.Value == "" {
		return "", errNoToken
	}
	return token.Value, nil
}

// declinePage answers the link in a message with a page that has a button. Programs that read mail
// open links too, so opening the link changes nothing. Click trackers append parameters of their
// own.
func (s *Site) declinePage(w http.ResponseWriter, r *request) error {
	token := form.Field{Name: "link"}
	if form.Parse(r.URL.RawQuery, form.Appended, &token) != nil {
		token.Value = ""
	}
	a, err := s.deps.Accounts.Declinable(r.Context(), r.tenant, token.Value)
	if err != nil {
		return s.notDeclined(r, a, err)
	}
	return s.showDecline(w, r, http.StatusOK, a, declinePage{State: declineAsk, Token: token.Value})
}

// declineByPage is like decline, for the button of the page.
func (s *Site) declineByPage(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	token, err := readLink(w, r.Request)
	if err != nil {
		return err
	}
	a, err := s.deps.Accounts.Decline(r.Context(), r.tenant, token, r.from)
	if err != nil {
		return s.notDeclined(r, a, err)
	}
	return s.showDecline(w, r, http.StatusOK, a, declinePage{State: declineDone})
}

// notDeclined returns err with the page as its response.
func (s *Site) notDeclined(r *request, a account.Account, err error) error {
	state := declineTrouble
	switch {
	case errors.Is(err, account.ErrDeclineActive):
		state = declineActive
	case errors.Is(err, account.ErrDeclineHeld):
		state = declineHeld
	case errors.Is(err, account.ErrDeclineGone):
		state = declineGone
	}
	return &customError{err, func(w http.ResponseWriter, status int) error {
		return s.showDecline(w, r, status, a, declinePage{State: state})
	}}
}

// showDecline writes the page in the language of the message that led to it, if the account is known.
func (s *Site) showDecline(w http.ResponseWriter, r *request, status int, a account.Account, p declinePage) error {
	sp := s.pageLanguage(r)
	if a.User != "" && a.Lang != sp.tag {
		sp = pageLanguage{a.Lang, true}
	}
	p.frame = s.newFrame(r.tenant, sp)
	page, err := s.pages.render(sp.tag, "decline", p)
	if err != nil {
		return err
	}
	w.Header().Set("X-Robots-Tag", "noindex")
	writePage(w, status, page)
	return nil
}
