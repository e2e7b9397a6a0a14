package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/session"
	"dialtone/internal/throttle"
)

// Linearizable tests that concurrent calls are linearizable: that the store answers as if each call
// had been executed at one moment between its start and its end. Clients create, activate, confirm,
// decline, enable, disable, delete and find accounts with a few user names, replace links and undo
// that, set passwords by proof and by link, change addresses, leave, stay and are erased, change
// and use second factors, report that a change was not theirs, and record, list and end sessions,
// some with a message about a new browser, while days pass. The store is closed and opened again
// several times. Then porcupine searches the history of each user name for an order of the calls
// that explains all answers, and the test fails if there is none. The calls that succeeded are
// added to successes.
func Linearizable(
	t *testing.T, open func(t *testing.T) Store, reopen func(t *testing.T, s Store) Store,
	seed uint64, operations int, successes Successes,
) {
	const clients, restarts, names = 8, 4, 4
	steps := operations / clients / restarts
	h := &history{test: newTest(t, open(t)), start: time.Now(), known: make(map[string]account.Account)}
	for round := range restarts {
		var all sync.WaitGroup
		for client := range clients {
			rng := rand.New(rand.NewPCG(seed, uint64(round*clients+client)))
			all.Go(func() {
				for i := range steps {
					// A name is never free again after the delete of an active account, so names change.
					first := (round*steps + i) / 32
					var users []string
					for i := range names {
						users = append(users, fmt.Sprintf("user%d", first+i))
					}
					h.step(client, rng, users)
				}
			})
		}
		all.Wait()
		h.Store = reopen(t, h.Store)
	}
	if t.Failed() {
		return
	}
	switch porcupine.CheckOperationsTimeout(oneName, h.operations, time.Minute) {
	case porcupine.Ok:
		t.Logf("%d operations of %d clients over %d restarts, seed %d", len(h.operations), clients, restarts, seed)
		successes.add(h.operations)
	case porcupine.Illegal:
		t.Errorf("seed %d: no order of the calls explains the answers", seed)
		h.logIllegal()
	default:
		t.Errorf("seed %d: the search for an order was not finished in a minute", seed)
	}
}

// logIllegal logs the calls for each user name whose answers have no explanation.
func (h *history) logIllegal() {
	for _, part := range oneName.Partition(h.operations) {
		if porcupine.CheckOperations(oneName, part) {
			continue
		}
		_, info := porcupine.CheckOperationsVerbose(oneName, part, time.Minute)
		var longest []porcupine.Operation
		for _, one := range info.PartialLinearizationsOperations()[0] {
			if len(one) > len(longest) {
				longest = one
			}
		}
		state := oneName.Init()
		explained := make(map[porcupine.Operation]bool)
		for _, op := range longest {
			_, state = oneName.Step(state, op.Input, op.Output)
			explained[op] = true
		}
		h.Logf("the calls that are marked + lead to %q", fmt.Sprintf("%+v", state))
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		for _, op := range part {
			c, out := op.Input.(request), op.Output.(result)
			mark := " "
			if explained[op] {
				mark = "+"
			}
			h.Logf("%s %v to %v: %s %s %.4x link %.4x, %s to %s, password %d, %q, session %.4x of epoch %d, at %v: "+
				"%.4x %s, active %v, disabled %v, confirmed %v, password %d, %q, epoch %d, sessions %.4x, %v; %+v, %+v",
				mark, time.Duration(op.Call), time.Duration(op.Return), c.op, c.user, c.uid[8:], c.link, c.was, c.email,
				c.passwords, c.sealed, c.session.id, c.session.epoch, c.at.Format(time.StampMicro),
				out.uid[8:], out.email, out.active, out.disabled, out.confirmed, out.passwords, out.sealed,
				out.epoch, out.sessions, out.err, c.ownRequest, out.ownResult)
		}
	}
}

// Successes counts how often calls succeeded.
type Successes map[operation]int

func (n Successes) add(history []porcupine.Operation) {
	for _, op := range history {
		if out := op.Output.(result); out.err == nil && (out.done || op.Input.(request).op != erase) {
			n[op.Input.(request).op]++
		}
	}
}

// Check fails the test if calls of an account's owner never succeeded. In fewer than three histories up to three kinds
// of calls may never have succeeded.
func (n Successes) Check(t *testing.T, histories uint64) {
	t.Logf("successes: %v", n)
	var missing []operation
	for _, op := range []operation{
		notMe, setPassword, addReset, readReset, resetPassword, end, endOthers,
		addEmail, setEmail, leave, stay, erase, startApp, finishApp, removeApp, useStep, useRecovery, addPasskey,
		removePasskey, usePasskey,
	} {
		if n[op] == 0 {
			missing = append(missing, op)
		}
	}
	if len(missing) > 3 || len(missing) > 0 && histories >= 3 {
		t.Errorf("never succeeded: %v", missing)
	}
}

// operation is a method of the store.
type operation string

const (
	create    operation = "create"
	activate  operation = "activate"
	confirm   operation = "confirm"
	decline   operation = "decline"
	enable    operation = "enable"
	enableNow operation = "enableNow"
	disable   operation = "disable"
	remove    operation = "delete"
	resend    operation = "resend"
	undo      operation = "undo resend"
	find      operation = "find"

	setPassword   operation = "set password"
	resetPassword operation = "set password by link"
	addReset      operation = "add reset link"
	readReset     operation = "read reset link"
	notMe         operation = "not me"
	record        operation = "record session"
	sessions      operation = "list sessions"
	end           operation = "end session"
	endOthers     operation = "end other sessions"
)

// request is a call of the store.
type request struct {
	op    operation
	user  string
	at    time.Time
	uid   account.UID // of the account, except for enable, enableNow, disable, remove and find
	link  [32]byte    // that create and resend set, activate, confirm and decline open, and undo removes
	was   string      // the address before the change, for resend, undo and decline
	email string      // the address that create and resend set

	passwords int64           // that of the account whose password was proved, for setPassword
	factors   account.Factors // those of that account
	sealed    string          // the credential that create, setPassword and resetPassword set
	until     time.Time       // when the link of addReset or the reset link of notMe expires
	next      [32]byte        // the reset link that notMe makes
	notice    notMeLink       // in the message of setPassword, resetPassword and record, or zero
	unsent    bool            // addReset makes a link without a message
	session   listed          // that record and endOthers add and end ends; sessions lists those of its epoch
	ownRequest
}

// notMeLink is the link in a message about a change.
type notMeLink struct {
	link        [32]byte
	made, until int64 // as UnixMicro
	codes       bool  // the message is about recovery codes that were used or replaced
}

func notMeOf(n account.Notice) notMeLink {
	return notMeLink{n.Token, n.Made.UnixMicro(), n.Until.UnixMicro(),
		n.Kind == mailmsg.RecoveryUsed || n.Detail == mailmsg.CodesReplaced}
}

// listed is a session in the list of an account.
type listed struct {
	id    [16]byte
	epoch int64
}

// result is what a call returned.
type result struct {
	err              error // as canonical returns it
	uid              account.UID
	disabled, active bool
	confirmed        bool
	email            string
	passwords, epoch int64
	sealed           string
	sessions         string // the IDs of listed sessions, sorted and concatenated
	noticed          bool   // record added a message about a new browser
	ownResult
}

// history records the calls of all clients. They share a clock, which sometimes jumps by days.
type history struct {
	*test
	start time.Time
	days  atomic.Int64

	mu         sync.Mutex
	operations []porcupine.Operation
	links      []link
	resets     []resetLink
	notMe      []ownLink // in messages about changes
	sessions   []ownSession
	known      map[string]account.Account // the active accounts that were returned last, by user
	ownLinks
}

// resetLink is a reset link that a client may open.
type resetLink struct {
	user   string
	notice account.Notice
}

// ownLink is the link in a message about a change to the account of a user.
type ownLink struct {
	user  string
	token [32]byte
}

// ownSession is a session of a user.
type ownSession struct {
	user   string
	record session.Record
}

// link is a link that a client may open.
type link struct {
	account account.Account
	token   [32]byte
	newer   *account.LinkReplacement // or nil for the link of a signup
}

// step makes one random call and records it. Some calls are for one of the users, others for the account of
// a random link.
func (h *history) step(client int, rng *rand.Rand, users []string) {
	user := users[rng.IntN(len(users))]
	if rng.IntN(50) == 0 {
		h.days.Add(int64(rng.IntN(8)))
	}
	c := request{user: user, at: noon.AddDate(0, 0, int(h.days.Load())).Add(time.Since(h.start).Truncate(tick))}
	var do func() (account.Account, error)
	var own ownResult
	switch n := rng.IntN(38); {
	case n > 14:
		if do = h.person(&c, &own, rng, users); do == nil {
			return
		}
	case n < 3:
		a := h.signup(user, c.at)
		a.Account.Email = h.anyAddress(rng, user)
		c.op, c.uid, c.link, c.email = create, a.Account.UID, a.Token, a.Account.Email
		c.sealed = string(a.Account.Sealed)
		h.addLink(link{a.Account, a.Token, nil})
		do = func() (account.Account, error) { return a.Account, h.Create(h.ctx, a, c.at) }
	case n < 6:
		l, ok := h.anyLink(rng)
		if !ok {
			return
		}
		c.op, c.uid, c.user, c.link = activate, l.account.UID, l.account.User, l.token
		do = func() (account.Account, error) { return h.Activate(h.ctx, h.tenant, l.token, c.at) }
		if rng.IntN(3) == 0 {
			c.op = confirm
			do = func() (account.Account, error) { return h.Confirm(h.ctx, h.tenant, l.token, l.account.UID, c.at) }
		}
	case n == 14:
		l, ok := h.anyLink(rng)
		if !ok {
			return
		}
		d := account.Decline{Account: l.account, Token: l.token}
		d.Recipient = []throttle.Allowance{allowance(newBucket(), 3)}
		d.Account.Email = h.anyAddress(rng, l.account.User)
		d.Places = [][16]byte{newID(), newID(), newID()}
		c.op, c.uid, c.user, c.link, c.was = decline, l.account.UID, l.account.User, l.token, d.Account.Email
		do = func() (account.Account, error) { return account.Account{}, h.Decline(h.ctx, d, c.at) }
	case n >= 12:
		l, ok := h.anyLink(rng)
		if !ok {
			return
		}
		r := h.newLink(l.account, h.anyAddress(rng, l.account.User), c.at)
		r.Was = h.anyAddress(rng, l.account.User)
		c.op, c.uid, c.user = resend, l.account.UID, l.account.User
		c.link, c.was, c.email = r.Token, r.Was, r.Account.Email
		h.addLink(link{l.account, r.Token, &r})
		do = func() (account.Account, error) { return account.Account{}, h.Resend(h.ctx, r, c.at) }
	case n == 11:
		l, ok := h.anyLink(rng)
		if !ok || l.newer == nil {
			return
		}
		c.op, c.uid, c.user, c.link, c.was = undo, l.account.UID, l.account.User, l.token, l.newer.Was
		do = func() (account.Account, error) { return account.Account{}, h.UndoResend(h.ctx, *l.newer, c.at) }
	case n == 6 && rng.IntN(2) == 0:
		c.op = enableNow
		do = func() (account.Account, error) { return h.EnableNow(h.ctx, h.tenant, user, c.at) }
	case n == 6:
		c.op = enable
		do = func() (account.Account, error) { return h.Enable(h.ctx, h.tenant, user, c.at) }
	case n == 7 && rng.IntN(3) == 0:
		c.op = disable
		do = func() (account.Account, error) { return h.Disable(h.ctx, h.tenant, user, c.at) }
	case n == 8 && rng.IntN(4) == 0:
		c.op = remove
		do = func() (account.Account, error) { return account.Account{}, h.Delete(h.ctx, h.tenant, user, c.at) }
	default:
		c.op = find
		do = func() (account.Account, error) { return h.Find(h.ctx, h.tenant, user, c.at) }
	}
	called := time.Since(h.start)
	a, err := do()
	returned := time.Since(h.start)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil && fault.KindOf(err) == fault.Internal, errors.Is(err, fault.ErrInDoubt):
		h.Errorf("%s %s: %v", c.op, c.user, err)
	case fault.Is(err, fault.Overloaded) && !errors.Is(err, account.ErrAddressChanged):
		// A write was not started in time, and changed nothing.
		h.Logf("%s %s: %v", c.op, c.user, err)
		return
	}
	if err == nil && !a.Pending() {
		h.known[a.User] = a
	}
	out := result{
		err: canonical(err), uid: a.UID, disabled: a.Disabled, active: !a.Pending(), confirmed: !a.Confirmed.IsZero(),
		email: a.Email, passwords: a.Passwords, epoch: a.Epoch, sealed: string(a.Sealed), ownResult: own,
	}
	out.factors = a.Factors
	if !a.Leaving.IsZero() {
		out.leaving = a.Leaving.UnixMicro()
	}
	switch c.op {
	case sessions:
		out.sessions = a.Name
	case record:
		out.noticed = a.Name == notedAs
	}
	if err == nil && c.notice != (notMeLink{}) && (c.op != record || out.noticed) {
		h.notMe = append(h.notMe, ownLink{c.user, c.notice.link})
	}
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: client, Input: c, Call: int64(called), Output: out, Return: int64(returned),
	})
}

// addLink adds a link for anyLink to return. That may happen before the store has the link.
func (h *history) addLink(l link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links = append(h.links, l)
}

// anyLink returns one of the last 20 links, or false if there is none.
func (h *history) anyLink(rng *rand.Rand) (link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return recent(h.links, rng, 20)
}

// anyAddress returns an address of a user. Users share no address, since reset links are for all accounts
// of an address, and the history of each user name is checked alone.
func (h *history) anyAddress(rng *rand.Rand, user string) string {
	return []string{"a.", "b."}[rng.IntN(2)] + user + "@mail.test"
}

// person chooses a call that an active account's owner makes, and returns it, or nil if there is
// nothing to call it for.
func (h *history) person(
	c *request, out *ownResult, rng *rand.Rand, users []string,
) func() (account.Account, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	none := account.Account{}
	a, known := h.known[c.user]
	for _, i := range rng.Perm(len(users)) { // mostly an account that is active
		if other := h.known[users[i]]; a.State() != account.Active && rng.IntN(4) > 0 {
			a, c.user, known = other, users[i], other.User != ""
		}
	}
	c.uid, c.session.epoch, c.passwords, c.factors = a.UID, a.Epoch, a.Passwords, a.Factors
	switch n := rng.IntN(26); {
	case n >= 10:
		if !known {
			return nil
		}
		return h.own(c, out, rng, a)
	case n < 2 && known:
		c.op, c.sealed = setPassword, fmt.Sprintf("new %x", newID())
		p := h.password(c, a)
		return func() (account.Account, error) { return h.SetPassword(h.ctx, p, c.at) }
	case n == 2 && (known || rng.IntN(4) == 0):
		c.op = addReset
		l := resetLink{c.user, notice(mailmsg.Reset, c.at)}
		if c.unsent = rng.IntN(2) == 0; c.unsent {
			l.notice.Message = mailmsg.ID{}
		}
		l.notice.Until = c.at.AddDate(0, 0, 7)
		c.link, c.until = l.notice.Token, l.notice.Until
		h.resets = append(h.resets, l)
		return func() (account.Account, error) {
			return h.AddResetLink(h.ctx, h.newResetLink(l.user, l.notice), c.at)
		}
	case n == 3 || n == 4:
		l, ok := recent(h.resets, rng, 3)
		if !ok {
			return nil
		}
		if a, ok = h.known[l.user]; !ok {
			return nil
		}
		c.user, c.uid, c.link = l.user, a.UID, l.notice.Token
		if n == 3 {
			c.op = readReset
			return func() (account.Account, error) {
				list, _, err := h.ResetLink(h.ctx, h.tenant, c.link, c.at)
				if err == nil && (len(list) != 1 || list[0].User != c.user) {
					err = fmt.Errorf("the link of %s is for %v", c.user, list)
				}
				return none, err
			}
		}
		c.op, c.sealed = resetPassword, fmt.Sprintf("new %x", newID())
		p := h.password(c, a)
		p.Link = &l.notice.Token
		return func() (account.Account, error) { return h.SetPassword(h.ctx, p, c.at) }
	case n == 5 && rng.IntN(2) == 0:
		l, ok := recent(h.notMe, rng, 3)
		if !ok {
			return nil
		}
		n := unsent(c.at)
		n.Until = c.at.AddDate(0, 0, 7)
		c.op, c.user, c.link, c.next, c.until = notMe, l.user, l.token, n.Token, n.Until
		h.resets = append(h.resets, resetLink{c.user, n})
		return func() (account.Account, error) { return h.NotMe(h.ctx, h.tenant, c.link, n, c.at) }
	case n == 5 && known:
		c.op = endOthers
		own := newRecord(a, noon)
		own.Epoch++
		c.session = listed{own.ID, own.Epoch}
		user := c.user
		return func() (account.Account, error) {
			err := h.EndOthers(h.ctx, own, c.at)
			if err == nil { // nobody knows its ID before
				h.mu.Lock()
				defer h.mu.Unlock()
				h.sessions = append(h.sessions, ownSession{user, own})
			}
			return none, err
		}
	case (n == 6 || n == 7) && known:
		c.op = sessions
		return func() (account.Account, error) {
			list, err := h.Sessions(h.ctx, c.uid, c.session.epoch, noon)
			var ids []string
			for _, r := range list {
				ids = append(ids, string(r.ID[:]))
			}
			slices.Sort(ids)
			return account.Account{Name: strings.Join(ids, "")}, err
		}
	case n == 8 && known && rng.IntN(3) > 0:
		r := newRecord(a, noon)
		if rng.IntN(2) == 0 {
			r = signIn(a, "192.0.2.0/24", fmt.Sprintf("%x", r.ID), c.at.Add(session.SettlingTime))
			r.Began, r.Seen = noon, noon
			r.New.Notice.Until = c.at.AddDate(0, 0, 7)
			c.notice = notMeOf(r.New.Notice)
		}
		h.sessions = append(h.sessions, ownSession{c.user, r})
		c.op, c.session.id = record, r.ID
		return func() (account.Account, error) { return h.recordSession(r) }
	case n >= 8:
		own, ok := recent(h.sessions, rng, 4)
		if !ok {
			return nil
		}
		r := own.record
		r.New = nil
		c.user, c.uid, c.session = own.user, r.Account, listed{r.ID, r.Epoch}
		if n == 8 {
			c.op = record
			return func() (account.Account, error) { return h.recordSession(r) }
		}
		c.op = end
		return func() (account.Account, error) { return none, h.End(h.ctx, c.uid, r.Epoch, r.ID, c.at) }
	}
	return nil
}

// recordSession records a session. The name of the account that it returns is notedAs if a message was added.
func (h *history) recordSession(r session.Record) (a account.Account, err error) {
	added, err := h.RecordSessions(h.ctx, []session.Record{r})
	if len(added) > 0 {
		a.Name = notedAs
	}
	return a, err
}

const notedAs = "noticed"

// password returns the change of a password of an account that a request makes. Its message has a link.
func (h *history) password(c *request, a account.Account) account.PasswordChange {
	p := newPassword(a, c.sealed, c.at)
	p.Notice.Until = c.at.AddDate(0, 0, 7)
	c.notice = notMeOf(p.Notice)
	return p
}

// recent returns one of the last n elements of a list, or false if it is empty.
func recent[T any](list []T, rng *rand.Rand, n int) (one T, ok bool) {
	if len(list) == 0 {
		return one, false
	}
	n = min(n, len(list))
	return list[len(list)-n+rng.IntN(n)], true
}

// canonical returns one value for all errors that mean the same to a caller, so that errors can be
// compared with ==.
func canonical(err error) error {
	switch {
	case err == nil || slices.Contains([]error{
		account.ErrActive, account.ErrExpired, account.ErrHeld, account.ErrWaiting, account.ErrReplaced,
		account.ErrAddressChanged, account.ErrPasswordChanged, account.ErrLinkUsed, session.ErrNoSession,
		session.ErrDenied, account.ErrAppOn, account.ErrAppOff, account.ErrAppReplaced, account.ErrCodeWrong,
		account.ErrPasskeyStale, account.ErrPasskeyKnown, account.ErrNoPasskey, account.ErrPasskeyChanged,
	}, err):
		return err
	case fault.Is(err, fault.NotFound):
		return errAbsent
	case fault.Is(err, fault.Conflict):
		return account.ErrTaken
	}
	return err
}

var errAbsent = fault.New(fault.NotFound, "absent")

// nameState is the state of one user name. It is comparable, as porcupine needs it.
type nameState struct {
	uid          account.UID // zero if no account has the name
	expires      time.Time
	active, held bool
	confirmed    bool
	closed       bool
	link         [32]byte
	olderLinks   string // the links before link, concatenated
	sameAddress  string // those of olderLinks that went to email, since it was last changed
	email        string

	passwords, epoch int64
	sealed           string
	mailed           reset  // the reset link with a message
	unsent           string // those without one, as withUnsent writes them
	sessions         string // the recorded ones of the epoch, sorted and concatenated
	ended            string // those that End has ended, sorted and concatenated
	notMe            string // the links in messages about changes, each with its times and its address, sorted
	ownState
}

// withNotMe returns a state with another link of a message about a change, which goes to the account's address.
func (s nameState) withNotMe(l notMeLink) nameState {
	list := append(strings.Fields(s.notMe), fmt.Sprintf("%x:%016x:%016x:%016x:%s:%t", l.link, l.made,
		l.until, s.emails, s.email, l.codes))
	slices.Sort(list)
	s.notMe = strings.Join(list, " ")
	return s
}

// openNotMe returns a state without such a link, and without those that went to later addresses. It returns the
// link, the address that the message went to, and how often the address had been changed, and reports whether the link
// was there and had not expired.
func (s nameState) openNotMe(link [32]byte, at time.Time) (
	next nameState, l notMeLink, email string, emails int64, ok bool) {
	list := strings.Fields(s.notMe)
	i := slices.IndexFunc(list, func(one string) bool { return strings.HasPrefix(one, fmt.Sprintf("%x:", link)) })
	if i < 0 {
		return s, l, "", 0, false
	}
	opened := strings.Split(list[i], ":")
	if opened[2] <= fmt.Sprintf("%016x", at.UnixMicro()) {
		return s, l, "", 0, false
	}
	list = slices.DeleteFunc(list, func(text string) bool {
		one := strings.Split(text, ":")
		return one[0] == opened[0] || one[3] > opened[3] && one[4] != opened[4]
	})
	s.notMe = strings.Join(list, " ")
	fmt.Sscanf(opened[1], "%x", &l.made)
	fmt.Sscanf(opened[3], "%x", &emails)
	l.codes = opened[5] == "true"
	return s, l, opened[4], emails, true
}

// withUnsent returns a list of reset links without a message, with another one.
func (s nameState) withUnsent(list string, link [32]byte, until time.Time) string {
	links := append(strings.Fields(list), fmt.Sprintf("%x:%016x:%016x", link, until.UnixMicro(), s.emails))
	slices.Sort(links)
	return strings.Join(links, " ")
}

// unsentBefore returns the reset links without a message that were made when the address had been changed less often.
func (s nameState) unsentBefore(emails int64) string {
	return strings.Join(slices.DeleteFunc(strings.Fields(s.unsent), func(one string) bool {
		return strings.Split(one, ":")[2] >= fmt.Sprintf("%016x", emails)
	}), " ")
}

// unsentOpens reports whether a call is made with one of these links before it expires, and how often the address had
// been changed when the link was made.
func (s nameState) unsentOpens(c request) (emails int64, opens bool) {
	for _, text := range strings.Fields(s.unsent) {
		one := strings.Split(text, ":")
		if one[0] == fmt.Sprintf("%x", c.link) && one[1] > fmt.Sprintf("%016x", c.at.UnixMicro()) {
			fmt.Sscanf(one[2], "%x", &emails)
			return emails, true
		}
	}
	return 0, false
}

// hasID reports whether an ID is one of several that are concatenated.
func hasID(ids string, id [16]byte) bool { return slices.Contains(splitIDs(ids), string(id[:])) }

// withID returns concatenated IDs with another one, sorted.
func withID(ids string, id [16]byte) string {
	list := append(splitIDs(ids), string(id[:]))
	slices.Sort(list)
	return strings.Join(slices.Compact(list), "")
}

// withoutID returns concatenated IDs without one.
func withoutID(ids string, id [16]byte) string {
	list := slices.DeleteFunc(splitIDs(ids), func(s string) bool { return s == string(id[:]) })
	return strings.Join(list, "")
}

func splitIDs(ids string) (list []string) {
	for one := range slices.Chunk([]byte(ids), 16) {
		list = append(list, string(one))
	}
	return list
}

func (s nameState) exists(at time.Time) bool {
	return s.uid != account.UID{} && !s.closed && (s.active || s.expires.After(at))
}

// reset is a reset link, or zero.
type reset struct {
	link  [32]byte
	until time.Time
}

// opens reports whether a call is made with this link before it expires.
func (r reset) opens(c request) bool { return r.link == c.link && r.until.After(c.at) }

// hasLink reports whether a link is one of several that are concatenated.
func hasLink(links string, link [32]byte) bool {
	for i := 0; i < len(links); i += len(link) {
		if links[i:i+len(link)] == string(link[:]) {
			return true
		}
	}
	return false
}

// oneName is the sequential specification of a store, for one user name.
var oneName = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		byUser := make(map[string][]porcupine.Operation)
		for _, op := range all {
			user := op.Input.(request).user
			byUser[user] = append(byUser[user], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byUser {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return nameState{} },
	Step: func(state, input, output any) (bool, any) {
		s, c, out := state.(nameState), input.(request), output.(result)
		next, want, own, ok := s.afterOwn(c)
		if !ok {
			next, want = s.after(c)
		}
		if c.op == end && (c.session.epoch != s.epoch || hasID(s.ended, c.session.id)) {
			// A call that recorded the session when it ended may have left its record, which nothing lists.
			return out.err == nil || out.err == session.ErrNoSession, s
		}
		if want != nil && s.mayAnswer(c, out.err) {
			return true, s
		}
		if want != out.err || want == nil && (own.email != out.ownResult.email || own.done != out.done ||
			own.left != out.left) {
			return false, s
		}
		if out.noticed {
			if next.uid != c.uid || next.closed || next.held || !next.active {
				return false, s
			}
			next = next.withNotMe(c.notice)
		}
		if want == nil && out.uid != (account.UID{}) && c.op != create {
			if out.email != next.email || out.uid != next.uid || out.active != next.active ||
				out.confirmed != next.confirmed ||
				out.passwords != next.passwords || out.epoch != next.epoch || out.sealed != next.sealed ||
				out.factors != next.factors() || out.leaving != next.leaving ||
				out.disabled != (next.held || !next.active) {
				return false, s
			}
		}
		if c.op == sessions && c.session.epoch == s.epoch && out.sessions != s.sessions {
			return false, s
		}
		return true, next
	},
}

// after returns the state after a call, and the error that the call must return.
func (s nameState) after(c request) (nameState, error) {
	if c.op == create {
		if s.closed || s.exists(c.at) {
			return s, account.ErrTaken
		}
		return nameState{
			uid: c.uid, expires: c.at.Add(account.PendingLife), link: c.link, email: c.email, sealed: c.sealed,
		}, nil
	}
	if c.op == activate || c.op == confirm {
		switch {
		case s.uid != c.uid || s.closed || s.link != c.link && !hasLink(s.olderLinks, c.link):
			return s, errAbsent
		case s.link != c.link:
			return s, account.ErrReplaced
		case s.held:
			return s, account.ErrHeld
		case s.active && c.op == activate:
			return s, account.ErrActive
		case !s.active && !s.expires.After(c.at):
			return s, account.ErrExpired
		}
		s.active, s.confirmed = true, s.confirmed || c.op == confirm
		return s, nil
	}
	if c.op == undo {
		if s.uid == c.uid && !s.active && !s.closed && s.link == c.link && s.olderLinks != "" {
			last := len(s.olderLinks) - len(s.link)
			copy(s.link[:], s.olderLinks[last:])
			s.olderLinks, s.email = s.olderLinks[:last], c.was
		}
		return s, nil
	}
	switch c.op {
	case record:
		if s.uid == c.uid && !s.closed && !s.held && s.epoch == c.session.epoch && !hasID(s.ended, c.session.id) {
			s.sessions = withID(s.sessions, c.session.id)
		}
		return s, nil
	case sessions:
		return s, nil
	case end:
		if !hasID(s.sessions, c.session.id) {
			return s, session.ErrNoSession
		}
		s.sessions, s.ended = withoutID(s.sessions, c.session.id), withID(s.ended, c.session.id)
		return s, nil
	case endOthers:
		if s.uid != c.uid || s.closed || s.held || s.epoch != c.session.epoch-1 {
			return s, session.ErrDenied
		}
		s.epoch, s.sessions = c.session.epoch, withID("", c.session.id)
		return s, nil
	case notMe:
		next, l, email, emails, ok := s.openNotMe(c.link, c.at)
		switch {
		case !ok:
			return s, account.ErrLinkUsed
		case s.byOperator:
			return s, account.ErrHeld
		}
		if next.emailLink = (reset{}); next.email != email {
			next.email, next.emails = email, s.emails+1
		}
		next.ownState = next.withoutFactorsSince(l.made)
		if l.codes {
			next.app.codes = ""
		}
		next.epoch, next.passwords, next.sessions = s.epoch+1, s.passwords+1, ""
		next.mailed = reset{}
		next.unsent = next.withUnsent(next.unsentBefore(emails), c.next, c.until)
		next.held, next.leaving, next.stayLink = false, 0, reset{}
		return next, nil
	case readReset:
		if _, unsent := s.unsentOpens(c); !s.exists(c.at) || s.byOperator || !s.mailed.opens(c) && !unsent {
			return s, account.ErrLinkUsed
		}
		return s, nil
	}
	ofAccount := c.op == resend || c.op == decline || c.op == setPassword || c.op == resetPassword
	if !s.exists(c.at) || ofAccount && s.uid != c.uid {
		return s, errAbsent
	}
	switch c.op {
	case setPassword, resetPassword, addReset:
		from, unsent := s.unsentOpens(c)
		switch {
		case s.byOperator, c.op == setPassword && s.held:
			return s, account.ErrHeld
		case !s.active:
			return s, errAbsent
		case c.op == addReset:
			if c.unsent {
				s.mailed, s.unsent = reset{}, s.withUnsent("", c.link, c.until)
			} else {
				s.mailed = reset{c.link, c.until}
			}
			return s, nil
		case c.op == setPassword && !s.proves(c):
			return s, account.ErrPasswordChanged
		case c.op == resetPassword && !s.mailed.opens(c) && !unsent:
			return s, account.ErrLinkUsed
		}
		if c.op == resetPassword {
			if s.mailed.opens(c) {
				s.confirmed, from = true, s.emails
			}
			s.unsent = s.unsentBefore(from)
			s.held, s.leaving, s.stayLink = false, 0, reset{} // the owner stays
		}
		s.passwords, s.epoch, s.sealed = s.passwords+1, s.epoch+1, c.sealed
		s.mailed, s.sessions, s.emailLink = reset{}, "", reset{}
		s = s.withNotMe(c.notice)
	case resend:
		switch {
		case s.held:
			return s, account.ErrHeld
		case s.active:
			return s, account.ErrActive
		case s.email != c.was:
			return s, account.ErrAddressChanged
		}
		s.olderLinks += string(s.link[:])
		s.sameAddress += string(s.link[:])
		if c.email != c.was {
			s.sameAddress = ""
		}
		s.link, s.email = c.link, c.email
	case decline:
		switch {
		case s.link != c.link && !hasLink(s.olderLinks, c.link):
			return s, errAbsent
		case s.link != c.link && !hasLink(s.sameAddress, c.link):
			return s, account.ErrReplaced
		case s.held:
			return s, account.ErrHeld
		case s.active:
			return s, account.ErrActive
		case s.email != c.was:
			return s, account.ErrAddressChanged
		}
		return nameState{}, nil
	case enable:
		if !s.held && !s.active {
			return s, account.ErrWaiting
		}
		s.held, s.byOperator, s.leaving = false, false, 0
	case enableNow:
		s.active, s.held, s.byOperator, s.leaving = true, false, false, 0
	case disable:
		s.held, s.byOperator, s.epoch, s.sessions = true, true, s.epoch+1, ""
		s.mailed, s.unsent, s.notMe, s.emailLink, s.stayLink = reset{}, "", "", reset{}, reset{}
	case remove:
		if !s.active {
			return nameState{}, nil
		}
		return s.erased(), nil
	}
	return s, nil
}
