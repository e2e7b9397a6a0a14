package opjson

import (
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/operator"
)

// Token is a token of the API, without its secret.
type Token struct {
	ID      string           `json:"id"`
	Name    string           `json:"name"`
	Tenant  *string          `json:"tenant" doc:"The host of the only tenant at which it works, or null for all."`
	Scopes  []operator.Scope `json:"scopes"`
	Created time.Time        `json:"created"`
	By      string           `json:"created_by" doc:"Who made it, in words."`
	Expires *time.Time       `json:"expires"`
	Expired bool             `json:"expired"`
	Used    *time.Time       `json:"used" doc:"When it was last used, up to a minute too early."`
}

// OfToken returns the view of a token. hostOf returns the host of a tenant.
func OfToken(t operator.Token, now time.Time, hostOf func(id int64) string) Token {
	v := Token{
		ID: t.ID, Name: t.Name, Scopes: list(t.Scopes), Created: t.Made, By: audit.WordsOf(t.MadeBy),
		Expires: TimeOrNil(t.Expires), Expired: !t.Expires.IsZero() && !now.Before(t.Expires),
		Used: TimeOrNil(t.Used),
	}
	if t.Tenant != 0 {
		host := hostOf(t.Tenant)
		v.Tenant = &host
	}
	return v
}

// MadeToken is a new token.
type MadeToken struct {
	Token
	Secret string `json:"secret" doc:"The token itself. It cannot be shown again."`
}

// Delivery is a message that was not sent, without its link.
type Delivery struct {
	ID       string         `json:"id"`
	Tenant   string         `json:"tenant"`
	User     string         `json:"user"`
	Email    string         `json:"email"`
	Kind     string         `json:"kind" doc:"What it is, such as activation or reset, or empty if that is not known."`
	State    delivery.State `json:"state"`
	Since    time.Time      `json:"since" doc:"When it was queued."`
	Ended    *time.Time     `json:"ended" doc:"When it was sent, failed, was discarded or replaced, or null."`
	Attempts int            `json:"attempts"`
	Next     *time.Time     `json:"next" doc:"When the next attempt is, or null."`
	Expires  time.Time      `json:"expires"`
	Answer   string         `json:"answer" doc:"The mail server's answer to the last attempt."`
	Server   string         `json:"server" doc:"The server that sends it, or empty if there is only one."`
}

// OfDelivery returns the view of a message at the tenant with a host.
func OfDelivery(d delivery.Delivery, host string) Delivery {
	v := Delivery{
		ID: d.Message.String(), Tenant: host, User: d.User, Email: d.Email, Kind: d.Kind, State: d.Shown(),
		Since: d.Since, Ended: TimeOrNil(d.Ended),
		Attempts: d.Attempts, Expires: d.Expires, Answer: d.Answer, Server: d.Node,
	}
	if d.State.Open() {
		v.Next = &d.Due
	}
	return v
}
