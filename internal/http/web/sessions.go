package web

import (
	"cmp"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/http/answer"
	"dialtone/internal/http/form"
	"dialtone/internal/session"
)

const (
	sessionsPage = "/sessions.html"
	// endOthers is the value of the field end for all sessions except this one.
	endOthers = "others"
)

// signInFirst returns the error for a program without a session, instead of session.ErrDenied. It
// returns other errors unchanged.
func signInFirst(w http.ResponseWriter, err error, why string) error {
	if !fault.Is(err, fault.Unauthorized) {
		return err
	}
	// RFC 9110 section 15.5.2 requires a challenge. Browsers ignore a scheme that they do not know.
	w.Header().Set("WWW-Authenticate", "Cookie")
	return fault.New(fault.Unauthorized, "sign in first; %s", why)
}

const sessionsOfPeople = "the list of sessions is for the owner of an account"

// listSessions is like listSessionsOf, for pages of this host. It marks the session of the request.
func (s *Site) listSessions(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	list, current, err := s.deps.Authenticator.Sessions(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
	if err != nil {
		return signInFirst(w, err, sessionsOfPeople)
	}
	return writeSessions(w, list, current)
}

// listSessionsOf returns the sessions of an account.
func (s *Site) listSessionsOf(w http.ResponseWriter, r *request, a account.Account, _ struct{}) error {
	list, err := s.deps.Authenticator.SessionsOf(r.Context(), a)
	if err != nil {
		return err
	}
	return writeSessions(w, list, [16]byte{})
}

// writeSessions writes a list of sessions. It marks the one with the ID current.
func writeSessions(w http.ResponseWriter, list []session.Record, current [16]byte) error {
	type member struct {
		ID      string    `json:"id"`
		Began   time.Time `json:"began"`
		Seen    time.Time `json:"seen"`
		Net     string    `json:"net"`
		Browser string    `json:"browser"`
		How     string    `json:"how"`
		Current bool      `json:"current"`
	}
	members := make([]member, len(list))
	for i, x := range list {
		members[i] = member{
			hex.EncodeToString(x.ID[:]), x.Began.UTC().Truncate(time.Second), x.Seen.UTC().Truncate(time.Second),
			x.Net, x.Browser, cmp.Or(string(x.How), "password"), x.ID == current,
		}
	}
	return answer.JSON(w, http.StatusOK, members)
}

// endSessions ends one session, or all except this one. A form that was sent without scripts is
// redirected back to the page.
func (s *Site) endSessions(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	sp := s.pageLanguage(r)
	if r.URL.RawQuery == "lang="+string(sp.tag) {
		r.URL.RawQuery = ""
	}
	end, err := readEnd(w, r.Request, nil)
	if err != nil {
		return err
	}
	token := cookie(r, sessionCookie)
	if end.others {
		var next string
		if next, err = s.deps.Authenticator.EndOthers(r.Context(), r.tenant, token, r.from); err == nil {
			setSession(w, r, next)
		}
	} else {
		err = s.deps.Authenticator.End(r.Context(), r.tenant, token, end.id, r.from)
	}
	if wantsPage(r.Request) {
		switch {
		case err == nil, errors.Is(err, session.ErrNoSession): // it has ended in any case
			said := "#ended"
			if end.others {
				said = "#others-ended"
			}
			http.Redirect(w, r.Request, s.newFrame(r.tenant, sp).To(sessionsPage)+said, http.StatusSeeOther)
			return nil
		case fault.Is(err, fault.Limited):
			http.Redirect(w, r.Request, s.newFrame(r.tenant, sp).To(sessionsPage)+"#too-often", http.StatusSeeOther)
			return nil
		case fault.Is(err, fault.Unauthorized):
			s.toLogin(w, r, "#ended")
			return nil
		}
	}
	if err != nil {
		return signInFirst(w, err, sessionsOfPeople)
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
}

// endForm selects the sessions to end: one, or all others.
type endForm struct {
	id     [16]byte
	others bool
}

// readEnd reads which sessions to end.
func readEnd(w http.ResponseWriter, r *http.Request, _ *session.Attempt) (f endForm, err error) {
	end := form.Field{Name: "end"}
	if err := readForm(w, r, &end); err != nil {
		return f, err
	}
	if f.others = end.Value == endOthers; f.others {
		return f, nil
	}
	b, err := hex.DecodeString(end.Value)
	if err != nil || len(b) != len(f.id) {
		return f, fault.Field("end", "send the id of a session, or %s", endOthers)
	}
	copy(f.id[:], b)
	return f, nil
}

// endSessionsOf ends one session of an account, or all of them: a request with a proof belongs to
// no session.
func (s *Site) endSessionsOf(w http.ResponseWriter, r *request, a account.Account, f endForm) error {
	var err error
	if f.others {
		err = s.deps.Authenticator.EndAllOf(r.Context(), r.tenant, a, r.from)
	} else {
		err = s.deps.Authenticator.EndOf(r.Context(), r.tenant, a, f.id, r.from)
	}
	if errors.Is(err, session.ErrNoSession) { // proved would take a NotFound error for a deleted account
		err = fault.Rule("end", "gone", "there is no such session of the account; it may have ended already, "+
			"so load the list again")
	}
	if err != nil {
		return err
	}
	return answer.JSON(w, http.StatusOK, struct {
		OK bool `json:"ok"`
	}{true})
}

// setSession sets the cookie with the token of a session.
func setSession(w http.ResponseWriter, r *request, token string) {
	setCookie(w, r.tenant, sessionCookie, token, session.Life+afterLife)
}

// listedSession is a session on the page.
type listedSession struct {
	ID string
	// Browser and System are names, or empty if they are not known.
	Browser, System string
	Net             string
	Began, Seen     time.Time
	Current         bool
	How             session.How
}

// sessionsView is /sessions.html.
type sessionsView struct {
	frame
	Sessions []listedSession
}

func (s *Site) showSessions(w http.ResponseWriter, r *request, a account.Account) error {
	list, current, err := s.deps.Authenticator.Sessions(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
	if err != nil {
		return err
	}
	sp := s.pageLanguage(r)
	v := sessionsView{frame: s.switching(r.tenant, sp)}
	v.SignedIn = a.User
	for _, x := range list {
		browser, system, _ := strings.Cut(x.Browser, " on ")
		v.Sessions = append(v.Sessions, listedSession{
			ID: hex.EncodeToString(x.ID[:]), Browser: browser, System: system, Net: x.Net, Began: x.Began, Seen: x.Seen,
			Current: x.ID == current, How: x.How,
		})
	}
	return s.show(w, sp, "sessions", v)
}
