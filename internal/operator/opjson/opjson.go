// Package opjson has the JSON form of what operators get. Commands, the pages and the API for operators print the same
// values, so that a program can read the output of each. The tags doc describe the members in the document of the API.
package opjson

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/i18n"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
)

// Account is an account without secrets. Times that are not known, or have not come, are null.
type Account struct {
	User        string        `json:"user"`
	Name        string        `json:"name" doc:"The display name."`
	Email       string        `json:"email"`
	Role        account.Role  `json:"role"`
	Disabled    bool          `json:"disabled" doc:"Whether the owner cannot sign in: true until the activation, too."`
	State       account.State `json:"state"`
	StateSince  *time.Time    `json:"state_since"`
	StateBy     string        `json:"state_by" doc:"Who set the state, or empty."`
	StateReason string        `json:"state_reason"`
	Created     time.Time     `json:"created"`
	Activated   *time.Time    `json:"activated"`
	Confirmed   *time.Time    `json:"confirmed"`
	Network     string        `json:"signup_network" doc:"The network of the signup: /24 or /48, or empty."`
	FirstSignIn *time.Time    `json:"first_signin"`
	Erased      *time.Time    `json:"erased" doc:"When an account is to be erased whose owner has left."`
	Lang        i18n.Tag      `json:"lang"`
	Factors     []string      `json:"second_factors" doc:"app, passkey, both or none."`

	signInUnknown bool
}

// SignInUnknown reports whether it is not known if the person has signed in, and when. Then FirstSignIn is nil too.
func (a Account) SignInUnknown() bool { return a.signInUnknown }

// OfAccount returns the view of an account.
func OfAccount(a account.Account) Account {
	since, by, reason := a.Since()
	v := Account{
		User: a.User, Name: a.Name, Email: a.Email, Role: a.Role, Disabled: a.Disabled, State: a.State(),
		StateSince: TimeOrNil(since), StateBy: by, StateReason: reason, Created: a.Created,
		Activated: TimeOrNil(a.Activated), Confirmed: TimeOrNil(a.Confirmed), Network: a.Net,
		FirstSignIn: TimeOrNil(a.FirstSignIn), Erased: TimeOrNil(a.Leaving), Lang: a.Lang, Factors: a.Factors.Words(),
		signInUnknown: a.FirstSignIn.IsZero() && !a.NotSignedIn,
	}
	if v.Lang == "" {
		v.Lang = i18n.English
	}
	return v
}

// Session is a session of an account.
type Session struct {
	Began   time.Time `json:"began"`
	Seen    time.Time `json:"seen"`
	Network string    `json:"network"`
	Browser string    `json:"browser"`
	How     string    `json:"how" doc:"password, code or passkey."`
}

// OfSession returns the view of a session.
func OfSession(r session.Record) Session {
	how := string(r.How)
	if r.How == session.ByPassword {
		how = "password"
	}
	return Session{r.Began, r.Seen, r.Net, r.Browser, how}
}

// Factors are the second factors of an account.
type Factors struct {
	App           *time.Time `json:"app" doc:"Since when there is an authenticator app, or null."`
	RecoveryCodes int64      `json:"recovery_codes"`
	Passkeys      []Passkey  `json:"passkeys"`
}

// Passkey is a passkey of an account.
type Passkey struct {
	Name string     `json:"name"`
	Made time.Time  `json:"made"`
	Used *time.Time `json:"used"`
}

// OfFactors returns the view of second factors.
func OfFactors(f account.DataFactors) Factors {
	v := Factors{RecoveryCodes: f.RecoveryCodes, Passkeys: []Passkey{}}
	if f.App != nil {
		v.App = f.App.Since
	}
	for _, p := range f.Passkeys {
		v.Passkeys = append(v.Passkeys, Passkey{p.Name, p.Made, p.Used})
	}
	return v
}

// Lookup is when a phone server last asked for an account.
type Lookup struct {
	Server string        `json:"server"`
	How    sipserver.How `json:"how"`
	At     time.Time     `json:"at"`
}

// OfLookup returns the view of a look-up.
func OfLookup(l sipserver.Lookup) Lookup { return Lookup{l.Server, l.How, l.At} }

// Message is a message to the owner of an account.
type Message struct {
	ID       string     `json:"id"`
	Kind     string     `json:"kind"`
	To       string     `json:"to"`
	State    string     `json:"state"`
	Since    time.Time  `json:"since"`
	Expires  *time.Time `json:"expires"`
	Attempts int        `json:"attempts"`
	Answer   string     `json:"answer" doc:"That of the mail server to the last attempt."`
}

// OfMessage returns the view of a message.
func OfMessage(m account.DataMessage) Message {
	return Message{m.ID, m.Kind, m.To, m.State, m.Since, m.Expires, m.Attempts, m.Answer}
}

// Change is a change in the audit trail.
type Change struct {
	Change    int64           `json:"change"`
	Time      time.Time       `json:"time"`
	Action    audit.Action    `json:"action"`
	Outcome   string          `json:"outcome"`
	Tenant    string          `json:"tenant"`
	User      string          `json:"user"`
	Account   string          `json:"account" doc:"The UID of the account, or empty."`
	Subject   string          `json:"subject"`
	Before    string          `json:"before"`
	After     string          `json:"after"`
	Actor     string          `json:"actor"`
	ActorKind audit.ActorKind `json:"actor_kind"`
	ActorID   string          `json:"actor_id"`
	SudoUser  string          `json:"sudo_user"`
	Reason    string          `json:"reason"`
	Network   string          `json:"network"`
	Request   string          `json:"request"`
}

// OfChange returns the view of a change.
func OfChange(c audit.Change) Change {
	return Change{
		Change: c.ID, Time: c.At, Action: c.Action, Outcome: c.Outcome, Tenant: c.Tenant, User: c.User,
		Account: c.Account, Subject: c.Subject, Before: c.Before, After: c.After,
		Actor: c.Actor.Name, ActorKind: c.Actor.Kind, ActorID: c.Actor.ID, SudoUser: c.Actor.Sudo, Reason: c.Reason,
		Network: c.Net, Request: c.Request,
	}
}

// All returns the views of a list, which is not nil.
func All[T, V any](list []T, of func(T) V) []V {
	views := make([]V, len(list))
	for i, v := range list {
		views[i] = of(v)
	}
	return views
}

// TimeOrNil returns nil for the zero time, which JSON has as null.
func TimeOrNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
