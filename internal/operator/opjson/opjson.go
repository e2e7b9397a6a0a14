// Package opjson defines the JSON form of what operators get. Commands, the pages and the API
// for operators print the same values, so that programs can read the output of each. The struct
// tags named doc describe the members in the API's document.
package opjson

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/i18n"
	"dialtone/internal/operator"
	"dialtone/internal/session"
	"dialtone/internal/sipserver"
)

// Account is an account without secrets. Times that are not known, or have not come, are null.
type Account struct {
	ID          string        `json:"id" doc:"The UID. Empty for a deleted account."`
	User        string        `json:"user"`
	Name        string        `json:"name" doc:"The display name."`
	Email       string        `json:"email"`
	Role        account.Role  `json:"role"`
	Disabled    bool          `json:"disabled" doc:"Whether the owner cannot sign in. Also true before the activation."`
	State       account.State `json:"state"`
	StateSince  *time.Time    `json:"state_since"`
	StateBy     string        `json:"state_by" doc:"Who set the state, in words, or empty."`
	StateReason string        `json:"state_reason"`
	Created     time.Time     `json:"created"`
	Activated   *time.Time    `json:"activated"`
	Confirmed   *time.Time    `json:"confirmed"`
	Network     string        `json:"signup_network" doc:"The network of the signup: /24 or /48, or empty."`
	FirstSignIn *time.Time    `json:"first_signin"`
	Erased      *time.Time    `json:"erased" doc:"When the account will be erased, if its owner has left."`
	Lang        i18n.Tag      `json:"lang"`
	Factors     []string      `json:"second_factors" doc:"app, passkey, both or none."`

	signInUnknown bool
}

// SignInUnknown reports whether it is unknown if and when the person first signed in. Then FirstSignIn is nil.
func (a Account) SignInUnknown() bool { return a.signInUnknown }

// OfAccount returns the view of an account.
func OfAccount(a account.Account) Account {
	since, by, reason := a.Since()
	v := Account{
		ID: a.UID.String(), User: a.User, Name: a.Name, Email: a.Email, Role: a.Role, Disabled: a.Disabled,
		State:      a.State(),
		StateSince: TimeOrNil(since), StateBy: audit.WordsOf(by), StateReason: reason, Created: a.Created,
		Activated: TimeOrNil(a.Activated), Confirmed: TimeOrNil(a.Confirmed), Network: a.Net,
		FirstSignIn: TimeOrNil(a.FirstSignIn), Erased: TimeOrNil(a.Leaving), Lang: a.Lang, Factors: a.Factors.Words(),
		signInUnknown: a.FirstSignIn.IsZero() && !a.NotSignedIn,
	}
	if v.Lang == "" {
		v.Lang = i18n.English
	}
	return v
}

// AccountDetail is everything that operators see about a user name. If a deleted account keeps
// the name, the state is closed, and only the time of the deletion and the changes are known.
type AccountDetail struct {
	Account
	Role     *account.Role `json:"role" doc:"Null for a deleted account."`
	Created  *time.Time    `json:"created" doc:"Null for a deleted account."`
	Lang     *i18n.Tag     `json:"lang" doc:"Null for a deleted account."`
	Sessions []Session     `json:"sessions"`
	Factors
	Lookups  []Lookup  `json:"lookups" doc:"When phone servers last looked up the account."`
	Messages []Message `json:"mail" doc:"The newest 50 messages, newest first."`
	Changes  []Change  `json:"changes" doc:"The newest 50 changes in the audit trail, newest first."`
}

// OfDetail returns the view of everything that is known about a user name.
func OfDetail(d operator.Detail) AccountDetail {
	v := AccountDetail{
		Sessions: All(d.Sessions, OfSession), Factors: OfFactors(d.Factors), Lookups: All(d.Lookups, OfLookup),
		Messages: All(d.Messages, OfMessage), Changes: All(d.Changes, OfChange),
	}
	if d.Account == nil {
		v.Account = Account{User: d.User, State: account.Closed, Disabled: true, Factors: []string{}}
		if d.Closed != nil {
			v.StateSince = &d.Closed.Closed
		}
		if d.Deletion != nil {
			v.StateBy, v.StateReason = d.Deletion.Actor.Words(), d.Deletion.Reason
		}
		return v
	}
	v.Account = OfAccount(*d.Account)
	v.Role, v.Created, v.Lang = &v.Account.Role, &v.Account.Created, &v.Account.Lang
	return v
}

// ClosedName is the user name of a deleted account, which nobody else can take.
type ClosedName struct {
	User   string    `json:"user"`
	Closed time.Time `json:"closed" doc:"When the account was deleted."`
}

// OfClosedName returns the view of the name of a deleted account.
func OfClosedName(n account.ClosedName) ClosedName { return ClosedName(n) }

// ResetLink is a link to choose a new password, or a description of one that was sent in a message.
type ResetLink struct {
	User  string    `json:"user"`
	Link  *string   `json:"link" doc:"A secret. It works once. Null if it was sent in a message."`
	To    *string   `json:"to" doc:"The address that it was sent to, or null."`
	Until time.Time `json:"until" doc:"When it ends."`
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
	App           *time.Time `json:"app" doc:"When the authenticator app was added, or null."`
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
	Kind     string     `json:"kind" doc:"What it is, such as activation or reset, or empty if that is not known."`
	To       string     `json:"to"`
	State    string     `json:"state"`
	Since    time.Time  `json:"since" doc:"When it was queued."`
	Ended    *time.Time `json:"ended" doc:"When it was sent, failed, was discarded or replaced, or null."`
	Expires  *time.Time `json:"expires"`
	Attempts int        `json:"attempts"`
	Answer   string     `json:"answer" doc:"The mail server's answer to the last attempt."`
}

// OfMessage returns the view of a message.
func OfMessage(m account.DataMessage) Message {
	return Message{m.ID, m.Kind, m.To, m.State, m.Since, m.Ended, m.Expires, m.Attempts, m.Answer}
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

// All returns the views of the elements of a list. The result is not nil.
func All[T, V any](list []T, of func(T) V) []V {
	views := make([]V, len(list))
	for i, v := range list {
		views[i] = of(v)
	}
	return views
}

// TimeOrNil returns nil for the zero time, so that it is null in JSON.
func TimeOrNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
