package account

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/mailmsg"
	"dialtone/internal/tenant"
)

// DataFormat is the version of Data. It increases when a member is removed or its meaning
// changes, but not for new members.
const DataFormat = 1

// DataStore reads what is stored about a person.
type DataStore interface {
	// HeldAbout returns what the store contains about an account: all members of Data except Tenant, Account,
	// Credential and Changes, and Account.PasswordChanged. Its parts are read one after the other.
	HeldAbout(ctx context.Context, a Account, host string) (Data, error)

	// DataChanges returns up to limit changes of an account in the audit trail with an ID above after, the oldest
	// first.
	DataChanges(ctx context.Context, a Account, host string, after int64, limit int) ([]DataChange, error)

	// OlderChanges returns the ID of the newest change of an account that is older than its newest n, or 0 if there
	// is none.
	OlderChanges(ctx context.Context, a Account, host string, n int) (int64, error)

	// AddDataNotice adds the notice that a person's data was taken, unless one was made after
	// since. It reports whether the notice was added. It fails with ErrHeld, and with
	// fault.NotFound for an account that does not exist or is not active.
	AddDataNotice(ctx context.Context, a Account, n Notice, since, now time.Time) (added bool, err error)
}

// Data is everything that is stored about the owner of an account, as JSON. It contains no
// credential, token or link, since somebody who finds the file could use the account with them.
// It contains no names of operators, since these are personal data too. docs/integrating.md
// documents it. Times have the zone UTC.
type Data struct {
	Format int       `json:"format"`
	Made   time.Time `json:"made"`

	Tenant        DataTenant     `json:"tenant"`
	Account       DataAccount    `json:"account"`
	Credential    DataCredential `json:"credential"`
	Messages      []DataMessage  `json:"messages"`
	Links         []DataLink     `json:"links"`
	Sessions      []DataSession  `json:"sessions"`
	Browsers      []DataBrowser  `json:"known_browsers"`
	SecondFactors DataFactors    `json:"second_factors"`
	LookUps       []DataLookUp   `json:"look_ups"`
	// ChangesLeftOut means that Changes has only the newest MaxDataChanges.
	ChangesLeftOut bool         `json:"changes_left_out"`
	Changes        []DataChange `json:"changes"` // last, as DataFile.Write writes it
}

// DataTenant is the platform that the account is on.
type DataTenant struct {
	Host    string `json:"host"`
	Realm   string `json:"realm"`
	Product string `json:"product"`
}

// DataAccount is the row of the account. Times that are not known, or have not come, are null.
type DataAccount struct {
	ID          string     `json:"id"`
	User        string     `json:"user"`
	Name        string     `json:"name"`
	Email       string     `json:"email"`
	Role        Role       `json:"role"`
	Language    string     `json:"language"`
	State       State      `json:"state"`
	StateSince  *time.Time `json:"state_since"`
	StateReason string     `json:"state_reason"`
	Created     time.Time  `json:"created"`
	// Expires is when a waiting account is removed.
	Expires   *time.Time `json:"expires"`
	Activated *time.Time `json:"activated"`
	Confirmed *time.Time `json:"confirmed"`
	// Network is where the signup came from.
	Network     string     `json:"signup_network"`
	FirstSignIn *time.Time `json:"first_signin"`
	// Erased is when an account that is leaving will be erased.
	Erased *time.Time `json:"erased"`
	// PasswordChanged is when the password was last changed.
	PasswordChanged *time.Time `json:"password_changed"`
}

// DataCredential describes what is stored instead of the password.
type DataCredential struct {
	Held     bool   `json:"held"`
	SHA256   bool   `json:"sha256"`
	Included bool   `json:"included"`
	Why      string `json:"why"`
}

// whyNoCredential is DataCredential.Why.
const whyNoCredential = "Digests of the password are held, encrypted. They are not included, because somebody " +
	"who has them can use the account as with the password. The password itself is not held."

// DataMessage is a message to the person. Its text is not stored.
type DataMessage struct {
	ID   string `json:"id"`
	Kind string `json:"kind,omitempty"`
	To   string `json:"to"`
	// State is "writing" until the message is in the pickup directory, and then the state of
	// its delivery, or "written" if there is no relay.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	// Ended is when the message was sent, failed, was discarded or was replaced, or nil.
	Ended    *time.Time `json:"ended"`
	Expires  *time.Time `json:"expires"`
	Attempts int        `json:"attempts"`
	// Answer is the mail server's answer to the last attempt.
	Answer string `json:"answer"`
	// Net is the network that the change came from, and Detail is the Detail of a mailmsg.Link.
	Net    string `json:"net"`
	Detail string `json:"detail,omitempty"`
}

// At returns the time of the state: Ended if it is known, or else Since.
func (m DataMessage) At() time.Time {
	if m.Ended != nil {
		return *m.Ended
	}
	return m.Since
}

// DataLink is a link that works until a time. A link of the kind activation_replaced only tells
// why it no longer works.
type DataLink struct {
	Kind  string     `json:"kind"`
	Made  *time.Time `json:"made"`
	Until time.Time  `json:"until"`
	// To is the address that the link was sent to, or empty.
	To string `json:"to"`
}

// DataSession is a browser that is signed in.
type DataSession struct {
	Began   time.Time `json:"began"`
	Seen    time.Time `json:"seen"`
	Until   time.Time `json:"until"`
	Net     string    `json:"net"`
	Browser string    `json:"browser"`
	// How is "password", "code" or "passkey".
	How string `json:"how"`
}

// DataBrowser is a browser and network that somebody signed in from. It is remembered to recognize new ones.
type DataBrowser struct {
	Net     string    `json:"net"`
	Browser string    `json:"browser"`
	Until   time.Time `json:"until"`
}

// DataFactors are the second factors.
type DataFactors struct {
	// App is nil without an authenticator app.
	App           *DataApp      `json:"app"`
	RecoveryCodes int64         `json:"recovery_codes"`
	Passkeys      []DataPasskey `json:"passkeys"`
}

// DataApp is an authenticator app. Since is when its first code was entered.
type DataApp struct {
	Made  time.Time  `json:"made"`
	Since *time.Time `json:"since"`
}

// DataPasskey is a passkey.
type DataPasskey struct {
	Name string     `json:"name"`
	Site string     `json:"site"`
	Made time.Time  `json:"made"`
	Used *time.Time `json:"used"`
}

// DataLookUp is approximately when a phone server last asked for the account.
type DataLookUp struct {
	Server string    `json:"server"`
	How    string    `json:"how"`
	At     time.Time `json:"at"`
}

// DataChange is a change of the account in the audit trail. By is "person", "command" for an operator, or "system".
type DataChange struct {
	ID      int64     `json:"-"`
	At      time.Time `json:"at"`
	Action  string    `json:"action"`
	Outcome string    `json:"outcome"`
	Before  string    `json:"before"`
	After   string    `json:"after"`
	By      string    `json:"by"`
	Reason  string    `json:"reason"`
	// Net is where the person made the change from, and empty for changes by others.
	Net string `json:"network"`
}

const (
	// MaxDataChanges is the maximum number of changes in a file of a person's data.
	MaxDataChanges = 10_000
	// dataPage is the number of changes that are read at a time.
	dataPage = 500
)

// DataFile writes everything that is stored about a person. It holds one page of changes at a
// time and no open read transaction, so that a slow reader occupies little memory and does not
// block the store.
type DataFile struct {
	data Data
	// page is the first page of changes, and next returns the page after an ID.
	page []DataChange
	next func(ctx context.Context, after int64) ([]DataChange, error)
}

// Write writes the data as JSON. It fails with errors of the store and of w. After an error the output is
// incomplete.
func (f *DataFile) Write(ctx context.Context, w io.Writer) error {
	f.data.Changes = []DataChange{}
	b, err := json.MarshalIndent(f.data, "", "  ")
	if err != nil {
		return err
	}
	const end = "[]\n}"
	if _, err := w.Write(append(b[:len(b)-len(end)], '[')); err != nil {
		return err
	}
	empty := len(f.page) == 0
	for separator := "\n    "; len(f.page) > 0; {
		for _, c := range f.page {
			b, err := json.MarshalIndent(c, "    ", "  ")
			if err != nil {
				return err
			}
			if _, err := w.Write(append([]byte(separator), b...)); err != nil {
				return err
			}
			separator = ",\n    "
		}
		last := len(f.page) - 1
		if f.page, err = f.next(ctx, f.page[last].ID); err != nil {
			return err
		}
	}
	closing := "\n  ]\n}\n"
	if empty {
		closing = "]\n}\n"
	}
	_, err = io.WriteString(w, closing)
	return err
}

// DataNoticeEvery is the shortest time between two messages to an owner about data that was taken.
const DataNoticeEvery = 24 * time.Hour

// Data returns everything that is stored about the owner of an account, at the owner's request.
// The owner gets a message, but at most one per DataNoticeEvery. The address of a waiting
// account gets none, since nobody has confirmed it.
func (s *Service) Data(ctx context.Context, t *tenant.Tenant, a Account, from Origin) (*DataFile, error) {
	d, err := s.data(ctx, t, a)
	if err == nil && !a.Pending() {
		n := s.newNotice(a, mailmsg.DataTaken, NoticeLife, audit.Network(from.Addr))
		var added bool
		added, err = s.deps.Store.AddDataNotice(byOwner(ctx, from), a, n, n.Made.Add(-DataNoticeEvery), n.Made)
		if added || err != nil {
			s.writeAfter(a, n, err)
		}
	}
	s.record(ctx, audit.AccountData, t, a, from, err)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// DataByLetter is Data for an operator who answers a written request. It adds a row to the
// audit trail that the operator has read the data. It fails with fault.NotFound.
func (s *Service) DataByLetter(
	ctx context.Context, t *tenant.Tenant, trail audit.Trail, user string,
) (*DataFile, error) {
	a, err := s.Find(ctx, t.ID, user)
	if err != nil {
		return nil, err
	}
	err = trail.AddChange(ctx, audit.Change{
		At: s.deps.Now(), Action: audit.AccountData, Outcome: audit.OK, Tenant: t.Host,
		Account: a.UID.String(), User: a.User,
	})
	if err != nil {
		return nil, err
	}
	return s.data(ctx, t, a)
}

func (s *Service) data(ctx context.Context, t *tenant.Tenant, a Account) (*DataFile, error) {
	now := s.deps.Now()
	d, err := s.deps.Store.HeldAbout(ctx, a, t.Host)
	if err != nil {
		return nil, err
	}
	d.Format, d.Made = DataFormat, now.UTC().Truncate(time.Second)
	d.Tenant = DataTenant{Host: t.Host, Realm: t.Realm, Product: t.Name()}
	since, _, reason := a.Since()
	changed := d.Account.PasswordChanged
	d.Account = DataAccount{
		ID: hex.EncodeToString(a.UID[:]), User: a.User, Name: a.Name, Email: a.Email, Role: a.Role,
		Language: string(a.Lang), State: a.State(), StateSince: timeOrNil(since), StateReason: reason,
		Created: a.Created, Activated: timeOrNil(a.Activated), Confirmed: timeOrNil(a.Confirmed),
		Erased: timeOrNil(a.Leaving), PasswordChanged: changed,
		Network: a.Net, FirstSignIn: timeOrNil(a.FirstSignIn),
	}
	if a.Pending() {
		d.Account.Expires = timeOrNil(a.Expires)
	}
	d.Credential = DataCredential{Held: true, SHA256: a.HasSHA256, Why: whyNoCredential}
	older, err := s.deps.Store.OlderChanges(ctx, a, t.Host, MaxDataChanges)
	if err != nil {
		return nil, err
	}
	d.ChangesLeftOut = older > 0
	f := &DataFile{data: d, next: func(ctx context.Context, after int64) ([]DataChange, error) {
		return s.deps.Store.DataChanges(ctx, a, t.Host, after, dataPage)
	}}
	f.page, err = f.next(ctx, older)
	return f, err
}

// timeOrNil returns nil for the zero time.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// KindName returns the name of a kind of message in Data.
func KindName(k mailmsg.Kind) string {
	if k == mailmsg.Activation {
		return "activation"
	}
	return string(k)
}
