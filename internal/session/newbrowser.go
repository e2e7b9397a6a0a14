package session

import (
	"context"
	"errors"
	"net/netip"
	"time"
	"unique"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/tenant"
)

// NewBrowser is a sign-in without a device token of the account. The account's owner gets a message about
// it, unless
//
//   - the account was used with the same label of a browser from the same network: in an older
//     session that is listed, or in a sign-in without a device token within KnownLife,
//   - the account was activated less than SettlingTime ago: people activate it with one device
//     and then use another one, or
//   - the account is not active, or its owner has had MaxNotices such messages within a day.
//
// The browser and network are remembered for KnownLife after each such sign-in, unless the message is left
// out because there were too many. A new password and "this was not me" make the server forget all of them.
//
// The message is sent even if the session has ended before its record is written: otherwise
// somebody could prevent it by signing out at once.
type NewBrowser struct {
	Tenant *tenant.Tenant
	From   account.Origin
	// At is when the person signed in. Net and Browser are those of the session's first record;
	// another browser may use the session later.
	At           time.Time
	Net, Browser string
	// Notice is made before the record is written for the first time.
	Notice account.Notice
	// inDoubt means that a transaction that failed may have added the notice.
	inDoubt bool
}

const (
	// newInterval is the minimum interval between two sign-ins without a device token that are
	// recorded as coming from a possibly new browser, for one account, browser and network.
	newInterval = 10 * time.Minute
	// KnownLife is how long a browser and a network are remembered. A program that signs people
	// in without keeping cookies causes one message per account, not one a day.
	KnownLife = 90 * 24 * time.Hour
	// MaxKnown is how many pairs of browser and network are remembered for an account.
	MaxKnown = 50
	// SettlingTime is how long after the activation new browsers cause no message.
	SettlingTime = time.Hour
	// MaxNotices is how many messages about new browsers an account's owner gets within a day.
	MaxNotices = 3
)

// Noticed is a record whose notice was added, with the account that it is about.
type Noticed struct {
	Record
	Owner account.Account
}

// Notices makes messages about sign-ins and writes them.
type Notices interface {
	// NewBrowserNotice returns a message about a sign-in from a network with a browser, as BrowserOf
	// names it.
	NewBrowserNotice(tenant int64, net, browser string, at time.Time) account.Notice
	// WriteNotice writes a notice whose transaction ended with err. With fault.ErrInDoubt it
	// writes the notice if the store contains it.
	WriteNotice(a account.Account, n account.Notice, err error)
}

// signIn is a sign-in from a possibly new browser that waits to be recorded. It is small, since many can wait.
type signIn struct {
	id      [16]byte // of the session
	account account.UID
	epoch   int64
	at      int64 // Unix time in nanoseconds
	tenant  *tenant.Tenant
	addr    netip.Addr
	request string
	browser unique.Handle[string]
	how     How
	first   bool
	made    *NewBrowser // set by the first call of record
}

// record returns the first record of the session.
func (s *signIn) record() Record {
	at := time.Unix(0, s.at).UTC()
	if s.made == nil {
		s.made = &NewBrowser{
			Tenant: s.tenant, From: account.Origin{Addr: s.addr, Request: s.request},
			At: at, Net: audit.Network(s.addr), Browser: s.browser.Value(),
		}
	}
	return Record{
		ID: s.id, Account: s.account, Epoch: s.epoch, Began: at.Truncate(time.Second), Seen: at,
		Net: s.made.Net, Browser: s.made.Browser, How: s.how, First: s.first, New: s.made,
	}
}

// writeSignIns writes the first records of sessions.
func (u *uses) writeSignIns(ctx context.Context, list []*signIn) error {
	var records []Record
	for _, s := range list {
		records = append(records, s.record())
	}
	return u.write(ctx, records)
}

// makeNotices makes the notices of records that are written for the first time.
func (u *uses) makeNotices(list []Record) {
	for _, s := range list {
		if s.New != nil && s.New.Notice.Kind == "" {
			s.New.Notice = u.notices.NewBrowserNotice(s.New.Tenant.ID, s.New.Net, s.New.Browser, s.New.At)
		}
	}
}

// writeNotices writes the notices that a transaction added or may have added.
func (u *uses) writeNotices(ctx context.Context, list []Record, added []Noticed, err error) {
	for _, s := range added {
		s.New.inDoubt = false
		u.notices.WriteNotice(s.Owner, s.New.Notice, nil)
		u.audit.Record(ctx, audit.Event{
			Action: audit.NewBrowser, Outcome: "ok", Tenant: s.New.Tenant.Host, User: s.Owner.User,
			Email: audit.MaskEmail(s.Owner.Email), Peer: s.New.From.Addr, Request: s.New.From.Request,
		})
	}
	doubt := errors.Is(err, fault.ErrInDoubt)
	for _, s := range list {
		if s.New == nil {
			continue
		}
		// A commit in doubt may have become visible only after the check that followed it.
		// After the next transaction its outcome is certain.
		if s.New.inDoubt = s.New.inDoubt || doubt; s.New.inDoubt && (doubt || err == nil) {
			a := account.Account{Tenant: s.New.Tenant.ID, UID: s.Account}
			u.notices.WriteNotice(a, s.New.Notice, fault.ErrInDoubt)
		}
	}
}
