package web

import (
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/operator"
)

// messagesView is /admin/messages.
type messagesView struct {
	adminFrame
	Mail     operator.MailBacklog
	Messages []listedMessage
}

// listedMessage is an unsent message.
type listedMessage struct {
	ID, User, UserURL, To, Kind, Answer string
	State                               delivery.State
	Since                               time.Time
	// Due is the time of the next attempt, or zero if there is none.
	Due      time.Time
	Attempts int
	// Retry means that it can be sent again.
	Retry bool
}

func (s *Site) showMessages(w http.ResponseWriter, r *adminRequest) error {
	return s.writeMessages(w, r, "")
}

func (s *Site) writeMessages(w http.ResponseWriter, r *adminRequest, problem string) error {
	v := messagesView{adminFrame: s.adminFrame(r, adminMessages, "retried", "discarded")}
	v.Problem = problem
	list, err := s.deps.Operators.Unsent(r.Context(), r.caller, r.tenant, adminPageSize)
	if err != nil {
		return err
	}
	counts, err := s.deps.Operators.Stats(r.Context(), r.caller, r.tenant, 1)
	if err != nil {
		return err
	}
	v.Mail = counts.Mail
	for _, d := range list {
		v.Messages = append(v.Messages, listedMessage{
			d.Message.String(), d.User, v.Link(adminAccount, "user", d.User), d.Email, d.Kind, d.Answer, d.State,
			d.Since, d.Due, d.Attempts, d.State != delivery.Waiting,
		})
	}
	return s.adminShow(w, r, "admin-messages", problem, v)
}

// messageFields are the fields of the forms of /admin/messages.
var messageFields = []string{"do", "id", "reason"}

func (s *Site) changeMessage(w http.ResponseWriter, r *adminRequest, f adminFields) error {
	var id mailmsg.ID
	b, err := hex.DecodeString(f["id"])
	if err != nil || len(b) != len(id) {
		return s.writeMessages(w, r, "gone")
	}
	copy(id[:], b)
	done := "retried"
	switch f["do"] {
	case "retry":
		_, err = s.deps.Operators.RetryMessage(r.Context(), r.caller, r.tenant, id, f["reason"])
	case "discard":
		done = "discarded"
		_, err = s.deps.Operators.DiscardMessage(r.Context(), r.caller, r.tenant, id, f["reason"])
	default:
		return fault.New(fault.Invalid, "the form is not one of this page; load the page again")
	}
	if errors.Is(err, operator.ErrSignInAgain) {
		return s.showAgain(w, r, f, "")
	}
	problem, ok := problemOf(err)
	if err == nil {
		return s.toAdmin(w, r, adminMessages, done)
	} else if !ok {
		return err
	}
	if problem == "conflict" {
		problem = "message"
	}
	return s.writeMessages(w, r, problem)
}
