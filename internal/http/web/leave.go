package web

import (
	"errors"
	"mime"
	"net/http"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
)

// leavePage is /leave.html. Days is how long the audit trail keeps a change.
type leavePage struct {
	frame
	Email string
	Days  int
}

// stayPage is /stay.html. User is the account, which is erased at Until. User is empty if the link
// does not work.
type stayPage struct {
	frame
	User  string
	Until time.Time
}

// leave starts the erasure of an account for its owner, who has proved the password. If the request
// carried a session of the account, that has ended, and its cookie is removed.
func (s *Site) leave(w http.ResponseWriter, r *request, proved account.Account, _ struct{}) error {
	owner, err := s.signedIn(r)
	ends := err == nil && owner.UID == proved.UID
	a, err := s.deps.Accounts.Leave(r.Context(), r.tenant, proved, r.from)
	if errors.Is(err, account.ErrNotActivated) {
		return s.notActivated(r, proved, err)
	}
	if err != nil {
		return err
	}
	if ends {
		setCookie(w, r.tenant, sessionCookie, "", -time.Second)
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK    bool      `json:"ok"`
		Until time.Time `json:"until"`
	}{true, a.Leaving.UTC().Truncate(time.Second)})
}

func (s *Site) leavePage(w http.ResponseWriter, r *request, a account.Account) error {
	sp := s.pageLanguage(r)
	p := leavePage{s.switching(r.tenant, sp), a.Email, s.deps.ChangeDays}
	p.SignedIn = a.User
	return s.show(w, sp, "leave", p)
}

// stayPage shows the form for an owner who wants to keep the account after all. It uses nothing up.
func (s *Site) stayPage(w http.ResponseWriter, r *request) error {
	sp := s.pageLanguage(r)
	a, err := s.deps.Accounts.StayLink(r.Context(), r.tenant, tokenOf(r.URL))
	status, sp, err := linkOutcome(sp, a, err)
	if err != nil {
		return err
	}
	return s.linkPage(w, status, sp, "stay", stayPage{s.linkFrame(r, sp), a.User, a.Leaving})
}

// stay uses up the link of the message about leaving. It starts no session.
func (s *Site) stay(w http.ResponseWriter, r *request) error {
	if err := sameSite(r); err != nil {
		return err
	}
	token, err := readLink(w, r.Request)
	if err != nil {
		return err
	}
	a, err := s.deps.Accounts.Stay(r.Context(), r.tenant, token, r.from)
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, okUser{true, a.User})
}

// data is like writeData, for pages of this host.
func (s *Site) data(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	a, err := s.signedIn(r)
	if fault.Is(err, fault.Unauthorized) && (r.Header.Get("Sec-Fetch-Mode") == "navigate" || wantsPage(r.Request)) {
		s.toLoginFor(w, r, "/leave.html", ended(r))
		return nil
	}
	if err != nil {
		return signInFirst(w, err, "the data of an account are for its owner")
	}
	return s.writeData(w, r, a, struct{}{})
}

// writeData writes a file with everything that is stored about the owner of an account.
func (s *Site) writeData(w http.ResponseWriter, r *request, a account.Account, _ struct{}) error {
	d, err := s.deps.Accounts.Data(r.Context(), r.tenant, a, r.from)
	if err != nil {
		return err
	}
	s.writeDataFile(w, r, a.User, d)
	return nil
}

// writeDataFile writes a file with everything that is stored about a person.
func (s *Site) writeDataFile(w http.ResponseWriter, r *request, user string, d *account.DataFile) {
	w.Header().Set("Content-Disposition",
		mime.FormatMediaType("attachment", map[string]string{"filename": user + "@" + r.tenant.Host + ".json"}))
	w.Header()["Content-Type"] = answer.JSONType
	if err := d.Write(r.Context(), w); err != nil {
		if r.Context().Err() == nil {
			s.deps.Log.ErrorContext(r.Context(), "data file not complete", "request", r.from.Request, "err", err)
		}
		panic(http.ErrAbortHandler) // so that the client does not think the file is complete
	}
}
