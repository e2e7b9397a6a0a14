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
	// endOthers is the value of the field end for all sessions but this one.
	endOthers = "others"
)

// signInFirst returns the error for a program without a session, in place of session.ErrDenied.
func signInFirst(w http.ResponseWriter, err error, why string) error {
	if !fault.Is(err, fault.Unauthorized) {
		return err
	}
	// RFC 9110 section 15.5.2 requires a challenge. Browsers ignore a scheme that they do not know.
	w.Header().Set("WWW-Authenticate", "Cookie")
	return fault.New(fault.Unauthorized, "sign in first; %s", why)
}

const sessionsOfPeople = "the list of sessions is for people who are signed in"

// listSessions answers with the sessions of the person who is signed in. It is for scripts on pages of
// this host, as turn is.
func (s *Site) listSessions(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	list, current, err := s.deps.Authenticator.Sessions(r.Context(), r.tenant, cookie(r, sessionCookie), r.from)
	if err != nil {
		return signInFirst(w, err, sessionsOfPeople)
	}
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

// endSessions ends one session, or all but this one. A form of the page without scripts is redirected
// back to the page.
func (s *Site) endSessions(w http.ResponseWriter, r *request) error {
	if err := ownPage(r); err != nil {
		return err
	}
	sp := s.pageLanguage(r)
	if r.URL.RawQuery == "lang="+string(sp.tag) {
		r.URL.RawQuery = ""
	}
	end := form.Field{Name: "end"}
	if err := readForm(w, r.Request, &end); err != nil {
		return err
	}
	token := cookie(r, sessionCookie)
	var err error
	if end.Value == endOthers {
		var next string
		if next, err = s.deps.Authenticator.EndOthers(r.Context(), r.tenant, token, r.from); err == nil {
			setSession(w, r, next)
		}
	} else {
		var id [16]byte
		b, bad := hex.DecodeString(end.Value)
		if bad != nil || len(b) != len(id) {
			return fault.Field("end", "send the id of a session, or %s", endOthers)
		}
		copy(id[:], b)
		err = s.deps.Authenticator.End(r.Context(), r.tenant, token, id, r.from)
	}
	if wantsPage(r.Request) {
		switch {
		case err == nil, errors.Is(err, session.ErrNoSession): // it has ended in any case
			said := "#ended"
			if end.Value == endOthers {
				said = "#others-ended"
			}
			http.Redirect(w, r.Request, s.newFrame(r.tenant, sp).To(sessionsPage)+said, http.StatusSeeOther)
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

// setSession signs the browser in with the token of a session.
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
