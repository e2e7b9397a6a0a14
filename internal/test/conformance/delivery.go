package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/outbox"
)

// handed adds an account whose message waits for the relay.
func (b *bench) handed(user string, at time.Time) account.Signup {
	b.Helper()
	a := b.join(user, at)
	b.hand(a, at)
	return a
}

func (b *bench) hand(a account.Signup, at time.Time) {
	b.Helper()
	left, err := b.Enqueue(b.ctx,
		[]outbox.Ref{{Tenant: a.Account.Tenant, Account: a.Account.UID, Message: a.Message}}, at)
	b.must(err)
	if len(left) > 0 {
		b.Fatalf("%d are left", len(left))
	}
}

// dueMessages are the users whose messages are due, in order.
func (b *bench) dueMessages(at time.Time, without ...string) (users []string) {
	b.Helper()
	list, _, err := b.DueMessages(b.ctx, at, delivery.Position{}, without, 100)
	b.must(err)
	for _, d := range list {
		users = append(users, d.User)
	}
	return users
}

func (b *bench) delivery(a account.Signup) delivery.Delivery {
	b.Helper()
	d, err := b.Delivery(b.ctx, a.Message)
	b.must(err)
	return d
}

// becomes records a state, with a day until the next try of one that is put off.
func (b *bench) becomes(a account.Signup, s delivery.State, answer string) {
	b.Helper()
	d := b.delivery(a)
	d.State, d.Answer, d.Attempts, d.Due = s, answer, d.Attempts+1, time.Time{}
	if s == delivery.Deferred {
		d.Due = noon.Add(24 * time.Hour)
	}
	b.must(b.Record(b.ctx, []delivery.Delivery{d}))
}

func (b *bench) messageIs(a account.Signup, want delivery.State) {
	b.Helper()
	if got := b.delivery(a).State; got != want {
		b.Fatalf("the message is %s, want %s", got, want)
	}
}

// noDelivery wants that nothing is known of a message.
func (b *bench) noDelivery(a account.Signup) {
	b.Helper()
	_, err := b.Delivery(b.ctx, a.Message)
	b.refused(err, fault.NotFound)
	_, err = b.OfAccount(b.ctx, a.Account.Tenant, a.Account.UID)
	b.refused(err, fault.NotFound)
}

func id() mailmsg.ID { return mailmsg.ID(fresh()) }

var deliveryRules = []rule{
	{"a message that is handed over waits to be sent, and no more to be written again", func(b *bench) {
		a := b.join("ann", noon)
		b.noDelivery(a)
		b.hand(a, noon.Add(time.Minute))
		b.equal(b.waiting(), nil)
		d := b.delivery(a)
		want := delivery.Delivery{
			Message: a.Message,
			Account: a.Account.UID,
			Tenant:  b.tenant,
			User:    "ann",
			Email:   "ann@mail.test",
			Node:    d.Node,
			State:   delivery.Waiting,
			Since:   noon.Add(time.Minute),
			Expires: noon.Add(account.PendingLife),
			Due:     noon.Add(time.Minute),
		}
		if d != want {
			b.Errorf("got %+v, want %+v", d, want)
		}
		if got, err := b.OfAccount(b.ctx, b.tenant, a.Account.UID); err != nil || got != want {
			b.Errorf("the account's: %+v, %v", got, err)
		}
	}},
	{"what was handed over once is not handed over again", func(b *bench) {
		a := b.handed("ann", noon)
		b.becomes(a, delivery.Sent, "250 ok")
		b.hand(a, noon.Add(time.Hour))
		b.messageIs(a, delivery.Sent)
		b.equal(b.dueMessages(noon.Add(time.Hour)), nil)
	}},
	{"an account that was taken back has nothing to be sent", func(b *bench) {
		a := b.join("ann", noon)
		b.must(b.Undo(b.ctx, a, noon))
		b.hand(a, noon)
		b.noDelivery(a)
	}},
	{"what is due comes in the order in which it became due, at most so many", func(b *bench) {
		for i, user := range []string{"zoe", "ann", "mia", "bob"} {
			b.handed(user, noon.Add(time.Duration(i)*time.Second))
		}
		b.equal(b.dueMessages(noon.Add(2*time.Second)), []string{"zoe", "ann", "mia"})
		list, next, err := b.DueMessages(b.ctx, noon.Add(time.Hour), delivery.Position{}, nil, 2)
		b.must(err)
		if len(list) != 2 || list[0].User != "zoe" || list[1].User != "ann" {
			b.Errorf("got %+v", list)
		}
		list, next, err = b.DueMessages(b.ctx, noon.Add(time.Hour), next, nil, 3)
		b.must(err)
		if len(list) != 2 || list[0].User != "mia" || list[1].User != "bob" || next != (delivery.Position{}) {
			b.Errorf("behind them: %+v, %+v", list, next)
		}
	}},
	{"what became due at one moment is gone through from place to place", func(b *bench) {
		for i := range 7 {
			b.handed(fmt.Sprint("ann", i), noon)
		}
		seen, place := make(map[string]int), delivery.Position{}
		for range 4 {
			list, next, err := b.DueMessages(b.ctx, noon, place, nil, 2)
			b.must(err)
			for _, d := range list {
				seen[d.User]++
			}
			place = next
		}
		if len(seen) != 7 || place != (delivery.Position{}) {
			b.Errorf("seen: %v, then %+v", seen, place)
		}
	}},
	{"domains are left out by their whole name", func(b *bench) {
		for _, to := range []string{"ann@mail.test", "bob@slow.test", "cid@other.slow.test", "dan@notslow.test"} {
			a := b.admission(to[:3], noon)
			a.Account.Email = to
			b.must(b.Create(b.ctx, a, noon))
			b.hand(a, noon)
		}
		got := b.dueMessages(noon, "slow.test", "mail.test")
		slices.Sort(got)
		b.equal(got, []string{"cid", "dan"})
	}},
	{"an outcome is kept whole", func(b *bench) {
		a := b.handed("ann", noon)
		d := b.delivery(a)
		d.State, d.Attempts, d.Answer, d.Due = delivery.Deferred, 3, "451 später", noon.Add(time.Hour)
		b.must(b.Record(b.ctx, []delivery.Delivery{d}))
		if got := b.delivery(a); got != d {
			b.Errorf("got %+v, want %+v", got, d)
		}
		b.equal(b.dueMessages(noon.Add(time.Hour-tick)), nil)
		b.equal(b.dueMessages(noon.Add(time.Hour)), []string{"ann"})
	}},
	{"hundreds of outcomes are recorded by one call", func(b *bench) {
		all := make([]account.Signup, 300)
		var sent []outbox.Ref
		for i := range all {
			all[i] = b.admission(fmt.Sprint("ann", i), noon)
			sent = append(sent, outbox.Ref{Tenant: b.tenant, Account: all[i].Account.UID, Message: all[i].Message})
		}
		if got := b.crowd(len(all), func(i int) error { return b.Create(b.ctx, all[i], noon) }); got[-1] != len(all) {
			b.Fatalf("got %v", got)
		}
		_, err := b.Enqueue(b.ctx, sent, noon)
		b.must(err)
		list, _, err := b.DueMessages(b.ctx, noon, delivery.Position{}, nil, 1000)
		b.must(err)
		if len(list) != len(all) {
			b.Fatalf("%d are due", len(list))
		}
		for i := range list {
			list[i].State, list[i].Due = delivery.Sent, time.Time{}
		}
		b.must(b.Record(b.ctx, list[1:]))
		if got := b.dueMessages(noon); len(got) != 1 || got[0] != list[0].User {
			b.Errorf("%d are due", len(got))
		}
	}},
	{"what was sent stays sent", func(b *bench) {
		a := b.handed("ann", noon)
		b.becomes(a, delivery.Sent, "250 ok")
		for _, s := range []delivery.State{delivery.Deferred, delivery.Failed, delivery.Waiting, delivery.Discarded} {
			b.becomes(a, s, "no")
			b.messageIs(a, delivery.Sent)
		}
		_, err := b.Retry(b.ctx, a.Message, noon)
		b.refused(err, fault.Conflict)
		_, err = b.Discard(b.ctx, a.Message, "why", noon)
		b.refused(err, fault.Conflict)
		b.messageIs(a, delivery.Sent)
	}},
	{"what was discarded on its way is sent where it was, and else stays discarded", func(b *bench) {
		ann, bob := b.handed("ann", noon), b.handed("bob", noon)
		for _, a := range []account.Signup{ann, bob} {
			d, err := b.Discard(b.ctx, a.Message, "an operator did it", noon)
			if err != nil || d.State != delivery.Discarded || d.Answer != "an operator did it" {
				b.Errorf("got %+v, %v", d, err)
			}
		}
		b.equal(b.dueMessages(noon.Add(-tick)), nil)
		if got := b.dueMessages(noon); len(got) != 2 {
			b.Errorf("the files of %q are to be removed", got)
		}
		b.becomes(ann, delivery.Sent, "250 ok")
		b.becomes(bob, delivery.Deferred, "451 later")
		b.messageIs(ann, delivery.Sent)
		b.messageIs(bob, delivery.Discarded)
		b.becomes(bob, delivery.Discarded, "done")
		b.equal(b.dueMessages(noon.Add(48*time.Hour)), nil)
		_, err := b.Retry(b.ctx, bob.Message, noon)
		b.refused(err, fault.Conflict)
	}},
	{"a message that failed is tried again as if it had just come", func(b *bench) {
		a := b.handed("ann", noon)
		b.becomes(a, delivery.Failed, "550 no such user")
		b.equal(b.dueMessages(noon.Add(time.Hour)), nil)
		d, err := b.Retry(b.ctx, a.Message, noon.Add(time.Hour))
		b.must(err)
		if d.State != delivery.Waiting || d.Attempts != 0 || !d.Since.Equal(noon.Add(time.Hour)) ||
			!d.Due.Equal(noon.Add(time.Hour)) ||
			d != b.delivery(a) {
			b.Errorf("got %+v", d)
		}
	}},
	{"not when its link has expired", func(b *bench) {
		a := b.handed("ann", noon)
		b.becomes(a, delivery.Failed, "550 no")
		_, err := b.Retry(b.ctx, a.Message, noon.Add(account.PendingLife))
		b.refused(err, fault.Conflict)
		if n, err := b.RetryAll(b.ctx, noon.Add(account.PendingLife)); err != nil || n != 0 {
			b.Errorf("all: %d, %v", n, err)
		}
		b.messageIs(a, delivery.Failed)
	}},
	{"all that were put off or have failed are tried again, and no others", func(b *bench) {
		for i, s := range []delivery.State{
			delivery.Waiting, delivery.Deferred, delivery.Failed, delivery.Sent, delivery.Discarded,
		} {
			a := b.handed(fmt.Sprint("ann", i), noon)
			if s != delivery.Waiting {
				b.becomes(a, s, "an answer")
			}
		}
		if n, err := b.RetryAll(b.ctx, noon); err != nil || n != 2 {
			b.Errorf("%d, %v", n, err)
		}
		got := b.dueMessages(noon)
		slices.Sort(got)
		b.equal(got, []string{"ann0", "ann1", "ann2"})
	}},
	{"nothing is known of strange messages", func(b *bench) {
		b.handed("ann", noon)
		_, err := b.Delivery(b.ctx, id())
		b.refused(err, fault.NotFound)
		_, err = b.Retry(b.ctx, id(), noon)
		b.refused(err, fault.NotFound)
		_, err = b.Discard(b.ctx, id(), "why", noon)
		b.refused(err, fault.NotFound)
		b.must(b.Record(b.ctx, []delivery.Delivery{{Message: id(), Tenant: b.tenant, State: delivery.Sent}}))
		b.must(b.Record(b.ctx, nil))
	}},
	{"an account is not told of another tenant's message", func(b *bench) {
		a := b.handed("ann", noon)
		_, err := b.OfAccount(b.ctx, b.addTenant("other.test"), a.Account.UID)
		b.refused(err, fault.NotFound)
	}},
	{"an account is told nothing of an older message while a newer one is not handed over", func(b *bench) {
		a := b.handed("ann", noon)
		b.becomes(a, delivery.Failed, "550 nobody")
		r := b.resent(a.Account, "right@mail.test", noon.Add(time.Minute))
		_, err := b.OfAccount(b.ctx, b.tenant, a.Account.UID)
		b.refused(err, fault.NotFound)
		_, err = b.Enqueue(b.ctx,
			[]outbox.Ref{{Tenant: b.tenant, Account: a.Account.UID, Message: r.Message}},
			noon.Add(time.Minute))
		b.must(err)
		d, err := b.OfAccount(b.ctx, b.tenant, a.Account.UID)
		if err != nil || d.Message != r.Message || d.State != delivery.Waiting {
			b.Errorf("got %+v, %v", d, err)
		}
	}},
	{"a message that a newer one has replaced is not tried again", func(b *bench) {
		a, other := b.handed("ann", noon), b.handed("bob", noon)
		b.becomes(a, delivery.Failed, "550 nobody")
		b.becomes(other, delivery.Failed, "550 nobody")
		r := b.resent(a.Account, "right@mail.test", noon.Add(time.Minute))
		older := func() {
			_, err := b.Retry(b.ctx, a.Message, noon.Add(time.Minute))
			b.refused(err, fault.Conflict)
			if n, err := b.RetryAll(b.ctx, noon.Add(time.Minute)); err != nil || n > 1 {
				b.Errorf("%d are tried again, %v", n, err)
			}
			b.messageIs(a, delivery.Failed)
		}
		older()
		b.messageIs(other, delivery.Waiting)
		_, err := b.Enqueue(b.ctx,
			[]outbox.Ref{{Tenant: b.tenant, Account: a.Account.UID, Message: r.Message}},
			noon.Add(time.Minute))
		b.must(err)
		older()
		d, err := b.Delivery(b.ctx, r.Message)
		b.must(err)
		d.State, d.Answer = delivery.Failed, "550 nobody"
		b.must(b.Record(b.ctx, []delivery.Delivery{d}))
		if d, err := b.Retry(b.ctx, r.Message, noon.Add(2*time.Minute)); err != nil || d.State != delivery.Waiting {
			b.Errorf("the newest: %+v, %v", d, err)
		}
	}},
	{"what is known of messages goes with their account", func(b *bench) {
		gone := b.handed("gone", noon)
		b.must(b.Delete(b.ctx, b.tenant, "gone", noon))
		b.noDelivery(gone)
		closed := b.handed("closed", noon)
		_, err := b.Enable(b.ctx, b.tenant, "closed", noon)
		b.must(err)
		b.must(b.Delete(b.ctx, b.tenant, "closed", noon))
		b.noDelivery(closed)
		swept := b.handed("swept", noon)
		_, err = b.Store.Sweep(b.ctx, noon.Add(account.PendingLife), noon.Add(account.PendingLife), 100)
		b.must(err)
		b.noDelivery(swept)
	}},
	{"a sweep removes what is known of messages whose links have expired, so many at a time", func(b *bench) {
		var all []account.Signup
		for i := range 3 {
			a := b.handed(fmt.Sprint("ann", i), noon.Add(time.Duration(i)*time.Second))
			_, err := b.Enable(b.ctx, b.tenant, a.Account.User, noon)
			b.must(err)
			b.becomes(a, delivery.Sent, "250 ok")
			all = append(all, a)
		}
		end := noon.Add(account.PendingLife)
		swept, err := b.Store.Sweep(b.ctx, end.Add(time.Second), noon, 1)
		b.must(err)
		if !swept.More {
			b.Error("it does not say that there is more")
		}
		b.noDelivery(all[0])
		_, err = b.Store.Sweep(b.ctx, end.Add(time.Second), noon, 100)
		b.must(err)
		b.noDelivery(all[1])
		b.messageIs(all[2], delivery.Sent)
	}},
	{"it is known which messages have a delivery, and which have an outbox row still", func(b *bench) {
		handed, joined, stranger := b.handed("ann", noon), b.join("bob", noon), id()
		list, unsettled, err := b.Classify(b.ctx, []mailmsg.ID{handed.Message, joined.Message, stranger})
		b.must(err)
		if len(list) != 1 || list[0] != b.delivery(handed) || !slices.Equal(unsettled, []mailmsg.ID{joined.Message}) {
			b.Errorf("got %+v and %v", list, unsettled)
		}
		if list, unsettled, err := b.Classify(b.ctx, nil); err != nil || len(list)+len(unsettled) > 0 {
			b.Errorf("of none: %v, %v, %v", list, unsettled, err)
		}
		many := make([]mailmsg.ID, 500)
		for i := range many {
			many[i] = id()
		}
		_, _, err = b.Classify(b.ctx, many)
		b.must(err)
	}},
	{"a file of which nothing is known is claimed for the account that its link is for", func(b *bench) {
		a := b.join("ann", noon)
		b.settle([]outbox.Ref{{Account: a.Account.UID, Message: a.Message}})
		stranger := delivery.FoundFile{Message: id(), Token: [32]byte{1}}
		for range 2 {
			strangers, err := b.ClaimFiles(b.ctx,
				[]delivery.FoundFile{{Message: a.Message, Token: a.Token}, stranger},
				noon.Add(time.Hour))
			b.must(err)
			if !slices.Equal(strangers, []mailmsg.ID{stranger.Message}) {
				b.Errorf("strangers: %v", strangers)
			}
			if d := b.delivery(a); d.State != delivery.Waiting || !d.Due.Equal(noon.Add(time.Hour)) ||
				!d.Expires.Equal(a.Account.Expires) {
				b.Errorf("got %+v", d)
			}
		}
		b.equal(b.dueMessages(noon.Add(time.Hour)), []string{"ann"})
	}},
	{"not for an account that needs it no more", func(b *bench) {
		active, expired := b.member("ann", noon), b.join("bob", noon)
		strangers, err := b.ClaimFiles(b.ctx, []delivery.FoundFile{
			{Message: active.Message, Token: active.Token},
			{Message: expired.Message, Token: expired.Token},
		}, noon.Add(account.PendingLife))
		b.must(err)
		if len(strangers) != 2 {
			b.Errorf("strangers: %v", strangers)
		}
		b.noDelivery(active)
	}},
	{"the backlog is what is still to be sent", func(b *bench) {
		if got, err := b.Backlog(b.ctx); err != nil || got != (delivery.Backlog{}) {
			b.Errorf("of nothing: %+v, %v", got, err)
		}
		b.becomes(b.handed("sent", noon), delivery.Sent, "250 ok")
		b.becomes(b.handed("late", noon.Add(time.Minute)), delivery.Deferred, "451 later")
		b.handed("new", noon.Add(2*time.Minute))
		b.handed("newer", noon.Add(3*time.Minute))
		if got, err := b.Backlog(b.ctx); err != nil ||
			got != (delivery.Backlog{Waiting: 2, Deferred: 1, Oldest: noon.Add(time.Minute)}) {
			b.Errorf("got %+v, %v", got, err)
		}
	}},
	{"all of some states are gone through in the order in which they came", func(b *bench) {
		b.becomes(b.handed("sent", noon), delivery.Sent, "250 ok")
		b.handed("new", noon.Add(2*time.Minute))
		b.becomes(b.handed("late", noon.Add(time.Minute)), delivery.Deferred, "451 later")
		var users []string
		b.must(b.EachDelivery(b.ctx, []delivery.State{delivery.Waiting, delivery.Deferred},
			func(d delivery.Delivery) error {
				users = append(users, d.User)
				return nil
			}))
		b.equal(users, []string{"late", "new"})
		enough := errors.New("enough")
		b.is(b.EachDelivery(b.ctx, []delivery.State{delivery.Sent},
			func(delivery.Delivery) error { return enough }), enough)
	}},
	{
		"a message that a newer one has replaced is discarded when the newer one is handed over, and not before",
		func(b *bench) {
			a := b.handed("ann", noon)
			r := b.resent(a.Account, "right@mail.test", noon.Add(time.Minute))
			b.messageIs(a, delivery.Waiting) // the newer link may be undone yet
			newer := a
			newer.Message = r.Message
			for range 2 { // as after a commit of which nothing was heard
				b.hand(newer, noon.Add(2*time.Minute))
				b.messageIs(a, delivery.Discarded)
				b.messageIs(newer, delivery.Waiting)
			}
			b.equal([]string{b.delivery(a).Answer}, []string{account.ErrReplaced.Error()})
			// There is a file to remove and a message to send.
			b.equal(b.dueMessages(noon.Add(2*time.Minute)), []string{"ann", "ann"})
		},
	},
	{"a message that was sent stays sent under a newer one", func(b *bench) {
		a := b.handed("ann", noon)
		b.becomes(a, delivery.Sent, "250 ok")
		newer := a
		newer.Message = b.resent(a.Account, a.Account.Email, noon.Add(time.Minute)).Message
		b.hand(newer, noon.Add(2*time.Minute))
		b.messageIs(a, delivery.Sent)
	}},
	{
		"a message that is handed over takes along the rows of older ones, and is not discarded by one of them",
		func(b *bench) {
			a := b.join("ann", noon)
			newer, older := a, a
			older.Message = b.resent(a.Account, a.Account.Email, noon.Add(time.Minute)).Message
			newer.Message = b.resent(a.Account, a.Account.Email, noon.Add(2*time.Minute)).Message
			b.hand(newer, noon.Add(3*time.Minute))
			b.equal(b.waiting(), nil)
			b.hand(older, noon.Add(4*time.Minute))
			b.hand(a, noon.Add(4*time.Minute))
			b.messageIs(newer, delivery.Waiting)
			b.equal(b.dueMessages(noon.Add(4*time.Minute)), []string{"ann"})
		},
	},
}

var keyRules = []rule{
	{"keys are a tenant's own, in order of selector", func(b *bench) {
		other := b.addTenant("other.test")
		for _, k := range []delivery.SigningKey{
			{Tenant: b.tenant, Selector: "b", Created: noon, Sealed: []byte("one")},
			{Tenant: b.tenant, Selector: "a", Created: noon.Add(tick), Sealed: []byte("two")},
			{Tenant: other, Selector: "a", Created: noon, Sealed: []byte("three")},
		} {
			b.must(b.AddSigningKey(b.ctx, k))
		}
		list, err := b.SigningKeys(b.ctx, b.tenant)
		b.must(err)
		if len(list) != 2 || list[0].Selector != "a" || list[1].Selector != "b" ||
			!bytes.Equal(list[0].Sealed, []byte("two")) ||
			!list[0].Created.Equal(noon.Add(tick)) ||
			list[0].Tenant != b.tenant {
			b.Errorf("got %+v", list)
		}
	}},
	{"a selector is given once, and again when its key was removed", func(b *bench) {
		k := delivery.SigningKey{Tenant: b.tenant, Selector: "a", Created: noon, Sealed: []byte("one")}
		b.must(b.AddSigningKey(b.ctx, k))
		k.Sealed = []byte("two")
		b.refused(b.AddSigningKey(b.ctx, k), fault.Conflict)
		list, err := b.SigningKeys(b.ctx, b.tenant)
		b.must(err)
		if len(list) != 1 || string(list[0].Sealed) != "one" {
			b.Errorf("got %+v", list)
		}
		b.must(b.RemoveSigningKey(b.ctx, b.tenant, "a"))
		b.refused(b.RemoveSigningKey(b.ctx, b.tenant, "a"), fault.NotFound)
		b.must(b.AddSigningKey(b.ctx, k))
	}},
	{"keys go with their tenant", func(b *bench) {
		other := b.addTenant("other.test")
		b.must(b.AddSigningKey(b.ctx,
			delivery.SigningKey{Tenant: other, Selector: "a", Created: noon, Sealed: []byte("one")}))
		b.must(b.RemoveTenant(b.ctx, "other.test", false, noon))
		list, err := b.SigningKeys(b.ctx, other)
		b.must(err)
		if len(list) > 0 {
			b.Errorf("got %+v", list)
		}
	}},
}
