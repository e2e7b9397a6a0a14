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

// addEnqueued creates an account whose message is enqueued for the relay.
func (t *test) addEnqueued(user string, at time.Time) account.Signup {
	t.Helper()
	a := t.addPending(user, at)
	t.enqueue(a, at)
	return a
}

func (t *test) enqueue(a account.Signup, at time.Time) {
	t.Helper()
	t.enqueueRef(ref(a), at)
}

func (t *test) enqueueRef(message outbox.Ref, at time.Time) {
	t.Helper()
	left, err := t.Enqueue(t.ctx, []outbox.Ref{message}, at)
	t.must(err)
	if len(left) > 0 {
		t.Fatalf("%d messages are left", len(left))
	}
}

// dueMessages returns the users whose messages are due, in order, without those of some domains.
func (t *test) dueMessages(at time.Time, domains ...string) (users []string) {
	t.Helper()
	list, _, err := t.DueMessages(t.ctx, at, delivery.Position{}, domains, 100)
	t.must(err)
	for _, d := range list {
		users = append(users, d.User)
	}
	return users
}

func (t *test) delivery(a account.Signup) delivery.Delivery {
	t.Helper()
	d, err := t.Delivery(t.ctx, a.Message)
	t.must(err)
	return d
}

// record records an attempt and its outcome. A deferred message is due again a day after noon.
func (t *test) record(a account.Signup, s delivery.State, answer string) {
	t.Helper()
	d := t.delivery(a)
	d.State, d.Answer, d.Attempts, d.Due = s, answer, d.Attempts+1, time.Time{}
	if s == delivery.Deferred {
		d.Due = noon.Add(24 * time.Hour)
	}
	t.must(t.Record(t.ctx, []delivery.Delivery{d}))
}

func (t *test) wantState(a account.Signup, want delivery.State) {
	t.Helper()
	if got := t.delivery(a).State; got != want {
		t.Fatalf("the state is %s, want %s", got, want)
	}
}

// wantNoDelivery checks that the store knows nothing about the delivery of a message.
func (t *test) wantNoDelivery(a account.Signup) {
	t.Helper()
	_, err := t.Delivery(t.ctx, a.Message)
	t.wantKind(err, fault.NotFound)
	_, err = t.OfAccount(t.ctx, a.Account.Tenant, a.Account.UID)
	t.wantKind(err, fault.NotFound)
}

func newMessageID() mailmsg.ID { return mailmsg.ID(newID()) }

var deliveryTests = []testCase{
	{"a message moves from the outbox to the deliveries", func(t *test) {
		a := t.addPending("ann", noon)
		t.wantNoDelivery(a)
		t.enqueue(a, noon.Add(time.Minute))
		t.wantEqual(t.pendingUsers(), nil)
		d := t.delivery(a)
		want := delivery.Delivery{
			Message: a.Message,
			Account: a.Account.UID,
			Tenant:  t.tenant,
			User:    "ann",
			Email:   "ann@mail.test",
			Node:    d.Node,
			State:   delivery.Waiting,
			Since:   noon.Add(time.Minute),
			Expires: noon.Add(account.PendingLife),
			Due:     noon.Add(time.Minute),
			Kind:    "activation",
		}
		if d != want {
			t.Errorf("got %+v, want %+v", d, want)
		}
		if got, err := t.OfAccount(t.ctx, t.tenant, a.Account.UID); err != nil || got != want {
			t.Errorf("OfAccount: got %+v, %v", got, err)
		}
	}},
	{"a message keeps its recipient, and a failed one is replaced by a newer one", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Failed, "550 no such user")
		at := noon.Add(time.Minute)
		r := t.resend(a.Account, "right@other.test", at)
		if d := t.delivery(a); d.State != delivery.Failed || d.Email != "ann@mail.test" {
			t.Errorf("before the newer message is on the disk: %+v", d)
		}
		t.enqueueRef(newRef(r), at)
		d := t.delivery(a)
		if !d.Replaced() || d.Email != "ann@mail.test" || d.Shown() != delivery.Replaced || !d.Ended.Equal(at) ||
			d.Answer != account.ErrReplaced.Error()+"; last answer: 550 no such user" {
			t.Errorf("the older message: %+v", d)
		}
		if again, err := t.Discard(t.ctx, a.Message, "why", at.Add(tick)); err != nil || again.Answer != d.Answer ||
			!again.Ended.Equal(at) {
			t.Errorf("discarded after it was replaced: %+v, %v", again, err)
		}
		list, err := t.MessagesOf(t.ctx, a.Account.UID, 10)
		t.must(err)
		if len(list) != 2 || list[1].State != "replaced" || list[1].Kind != "activation" || !list[1].At().Equal(at) {
			t.Errorf("the messages of the account: %+v", list)
		}
		if d, err = t.Delivery(t.ctx, r.Message); err != nil || d.Replaced() || d.Email != "right@other.test" ||
			!d.Ended.IsZero() {
			t.Errorf("the newer message: %+v, %v", d, err)
		}
		t.wantEqual(t.dueMessages(at, "other.test"), []string{"ann"}) // the older one's file is removed
		t.wantEqual(t.dueMessages(at, "mail.test"), []string{"ann"})
	}},
	{"a message keeps its recipient if a newer one is made before it is enqueued", func(t *test) {
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, "right@other.test", noon)
		last := a.Account
		last.Email = r.Account.Email
		t.resend(last, "third@other.test", noon)
		t.enqueue(a, noon)
		if d := t.delivery(a); d.Email != "ann@mail.test" {
			t.Errorf("got the recipient %s", d.Email)
		}
		t.enqueueRef(newRef(r), noon)
		if d, err := t.Delivery(t.ctx, r.Message); err != nil || d.Email != "right@other.test" {
			t.Errorf("got the recipient %s, %v", d.Email, err)
		}
	}},
	{"a message is enqueued once", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Sent, "250 ok")
		t.enqueue(a, noon.Add(time.Hour))
		t.wantState(a, delivery.Sent)
		t.wantEqual(t.dueMessages(noon.Add(time.Hour)), nil)
	}},
	{"the message of an undone signup is not enqueued", func(t *test) {
		a := t.addPending("ann", noon)
		t.must(t.Undo(t.ctx, a, noon))
		t.enqueue(a, noon)
		t.wantNoDelivery(a)
	}},
	{"due messages are ordered by their time, and limited", func(t *test) {
		for i, user := range []string{"zoe", "ann", "mia", "bob"} {
			t.addEnqueued(user, noon.Add(time.Duration(i)*time.Second))
		}
		t.wantEqual(t.dueMessages(noon.Add(2*time.Second)), []string{"zoe", "ann", "mia"})
		list, next, err := t.DueMessages(t.ctx, noon.Add(time.Hour), delivery.Position{}, nil, 2)
		t.must(err)
		if len(list) != 2 || list[0].User != "zoe" || list[1].User != "ann" {
			t.Errorf("got %+v", list)
		}
		list, next, err = t.DueMessages(t.ctx, noon.Add(time.Hour), next, nil, 3)
		t.must(err)
		if len(list) != 2 || list[0].User != "mia" || list[1].User != "bob" || next != (delivery.Position{}) {
			t.Errorf("the next page: %+v, %+v", list, next)
		}
	}},
	{"messages that are due at the same time are paged through without repetition", func(t *test) {
		for i := range 7 {
			t.addEnqueued(fmt.Sprint("ann", i), noon)
		}
		seen, position := make(map[string]int), delivery.Position{}
		for range 4 {
			list, next, err := t.DueMessages(t.ctx, noon, position, nil, 2)
			t.must(err)
			for _, d := range list {
				seen[d.User]++
			}
			position = next
		}
		if len(seen) != 7 || position != (delivery.Position{}) {
			t.Errorf("saw %v, and the position is %+v", seen, position)
		}
	}},
	{"domains to leave out are compared whole", func(t *test) {
		for _, to := range []string{"ann@mail.test", "bob@slow.test", "cid@other.slow.test", "dan@notslow.test"} {
			a := t.signup(to[:3], noon)
			a.Account.Email = to
			t.must(t.Create(t.ctx, a, noon))
			t.enqueue(a, noon)
		}
		got := t.dueMessages(noon, "slow.test", "mail.test")
		slices.Sort(got)
		t.wantEqual(got, []string{"cid", "dan"})
	}},
	{"every field of an outcome is kept", func(t *test) {
		a := t.addEnqueued("ann", noon)
		d := t.delivery(a)
		d.State, d.Attempts, d.Answer, d.Due = delivery.Deferred, 3, "451 später", noon.Add(time.Hour)
		t.must(t.Record(t.ctx, []delivery.Delivery{d}))
		if got := t.delivery(a); got != d {
			t.Errorf("got %+v, want %+v", got, d)
		}
		t.wantEqual(t.dueMessages(noon.Add(time.Hour-tick)), nil)
		t.wantEqual(t.dueMessages(noon.Add(time.Hour)), []string{"ann"})
	}},
	{"hundreds of outcomes are recorded in one call", func(t *test) {
		messages := t.addMany(300)
		_, err := t.Enqueue(t.ctx, messages, noon)
		t.must(err)
		list, _, err := t.DueMessages(t.ctx, noon, delivery.Position{}, nil, 1000)
		t.must(err)
		if len(list) != len(messages) {
			t.Fatalf("%d are due", len(list))
		}
		for i := range list {
			list[i].State, list[i].Due = delivery.Sent, time.Time{}
		}
		t.must(t.Record(t.ctx, list[1:]))
		if got := t.dueMessages(noon); len(got) != 1 || got[0] != list[0].User {
			t.Errorf("%d are due", len(got))
		}
	}},
	{"a sent message stays sent", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Sent, "250 ok")
		for _, s := range []delivery.State{delivery.Deferred, delivery.Failed, delivery.Waiting, delivery.Discarded} {
			t.record(a, s, "no")
			t.wantState(a, delivery.Sent)
		}
		_, err := t.Retry(t.ctx, a.Message, noon)
		t.wantKind(err, fault.Conflict)
		_, err = t.Discard(t.ctx, a.Message, "why", noon)
		t.wantKind(err, fault.Conflict)
		t.wantState(a, delivery.Sent)
	}},
	{"a message that is discarded during an attempt becomes sent if the attempt succeeds", func(t *test) {
		ann, bob := t.addEnqueued("ann", noon), t.addEnqueued("bob", noon)
		for _, a := range []account.Signup{ann, bob} {
			d, err := t.Discard(t.ctx, a.Message, "why", noon)
			if err != nil || d.State != delivery.Discarded || d.Answer != "why" {
				t.Errorf("got %+v, %v", d, err)
			}
		}
		t.wantEqual(t.dueMessages(noon.Add(-tick)), nil)
		if got := t.dueMessages(noon); len(got) != 2 {
			t.Errorf("due are %q, want two messages whose files must be removed", got)
		}
		t.record(ann, delivery.Sent, "250 ok")
		t.record(bob, delivery.Deferred, "451 later")
		t.wantState(ann, delivery.Sent)
		t.wantState(bob, delivery.Discarded)
		t.record(bob, delivery.Discarded, "done")
		t.wantEqual(t.dueMessages(noon.Add(48*time.Hour)), nil)
		_, err := t.Retry(t.ctx, bob.Message, noon)
		t.wantKind(err, fault.Conflict)
	}},
	{"Retry makes a failed message new", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Failed, "550 no such user")
		t.wantEqual(t.dueMessages(noon.Add(time.Hour)), nil)
		d, err := t.Retry(t.ctx, a.Message, noon.Add(time.Hour))
		t.must(err)
		if d.State != delivery.Waiting || d.Attempts != 0 || !d.Since.Equal(noon.Add(time.Hour)) ||
			!d.Due.Equal(noon.Add(time.Hour)) || d != t.delivery(a) {
			t.Errorf("got %+v", d)
		}
	}},
	{"Retry refuses a message whose link has expired", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Failed, "550 no")
		_, err := t.Retry(t.ctx, a.Message, noon.Add(account.PendingLife))
		t.wantKind(err, fault.Conflict)
		if n, err := t.RetryAll(t.ctx, noon.Add(account.PendingLife)); err != nil || n != 0 {
			t.Errorf("RetryAll: got %d, %v", n, err)
		}
		t.wantState(a, delivery.Failed)
	}},
	{"RetryAll takes all deferred and failed messages, and no others", func(t *test) {
		for i, s := range []delivery.State{
			delivery.Waiting, delivery.Deferred, delivery.Failed, delivery.Sent, delivery.Discarded,
		} {
			a := t.addEnqueued(fmt.Sprint("ann", i), noon)
			if s != delivery.Waiting {
				t.record(a, s, "an answer")
			}
		}
		if n, err := t.RetryAll(t.ctx, noon); err != nil || n != 2 {
			t.Errorf("got %d, %v, want 2", n, err)
		}
		got := t.dueMessages(noon)
		slices.Sort(got)
		t.wantEqual(got, []string{"ann0", "ann1", "ann2"})
	}},
	{"calls for unknown messages fail or do nothing", func(t *test) {
		t.addEnqueued("ann", noon)
		_, err := t.Delivery(t.ctx, newMessageID())
		t.wantKind(err, fault.NotFound)
		_, err = t.Retry(t.ctx, newMessageID(), noon)
		t.wantKind(err, fault.NotFound)
		_, err = t.Discard(t.ctx, newMessageID(), "why", noon)
		t.wantKind(err, fault.NotFound)
		unknown := delivery.Delivery{Message: newMessageID(), Tenant: t.tenant, State: delivery.Sent}
		t.must(t.Record(t.ctx, []delivery.Delivery{unknown}))
		t.must(t.Record(t.ctx, nil))
	}},
	{"OfAccount returns no message of another tenant", func(t *test) {
		a := t.addEnqueued("ann", noon)
		_, err := t.OfAccount(t.ctx, t.addTenant("other.test"), a.Account.UID)
		t.wantKind(err, fault.NotFound)
	}},
	{"OfAccount returns no older message while a newer one is in the outbox", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Failed, "550 no such user")
		r := t.resend(a.Account, "right@mail.test", noon.Add(time.Minute))
		_, err := t.OfAccount(t.ctx, t.tenant, a.Account.UID)
		t.wantKind(err, fault.NotFound)
		t.enqueueRef(newRef(r), noon.Add(time.Minute))
		d, err := t.OfAccount(t.ctx, t.tenant, a.Account.UID)
		if err != nil || d.Message != r.Message || d.State != delivery.Waiting {
			t.Errorf("got %+v, %v", d, err)
		}
	}},
	{"Retry refuses a replaced message", func(t *test) {
		a, other := t.addEnqueued("ann", noon), t.addEnqueued("bob", noon)
		t.record(a, delivery.Failed, "550 no such user")
		t.record(other, delivery.Failed, "550 no such user")
		r := t.resend(a.Account, "right@mail.test", noon.Add(time.Minute))
		wantNoRetry := func(state delivery.State) {
			t.Helper()
			_, err := t.Retry(t.ctx, a.Message, noon.Add(time.Minute))
			t.wantKind(err, fault.Conflict)
			if n, err := t.RetryAll(t.ctx, noon.Add(time.Minute)); err != nil || n > 1 {
				t.Errorf("RetryAll: got %d, %v", n, err)
			}
			t.wantState(a, state)
		}
		wantNoRetry(delivery.Failed)
		t.wantState(other, delivery.Waiting)
		t.enqueueRef(newRef(r), noon.Add(time.Minute))
		wantNoRetry(delivery.Discarded)
		d, err := t.Delivery(t.ctx, r.Message)
		t.must(err)
		d.State, d.Answer = delivery.Failed, "550 no such user"
		t.must(t.Record(t.ctx, []delivery.Delivery{d}))
		if d, err := t.Retry(t.ctx, r.Message, noon.Add(2*time.Minute)); err != nil || d.State != delivery.Waiting {
			t.Errorf("the newest message: got %+v, %v", d, err)
		}
	}},
	{"deliveries are removed with their account", func(t *test) {
		deleted := t.addEnqueued("deleted", noon)
		t.must(t.Delete(t.ctx, t.tenant, "deleted", noon))
		t.wantNoDelivery(deleted)
		closed := t.addEnqueued("closed", noon)
		_, err := t.EnableNow(t.ctx, t.tenant, "closed", noon)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "closed", noon))
		t.wantNoDelivery(closed)
		swept := t.addEnqueued("swept", noon)
		_, err = t.Sweep(t.ctx, noon.Add(account.PendingLife), noon.Add(account.PendingLife), 100)
		t.must(err)
		t.wantNoDelivery(swept)
	}},
	{"Sweep removes deliveries whose links have expired, up to its limit", func(t *test) {
		var all []account.Signup
		for i := range 3 {
			a := t.addEnqueued(fmt.Sprint("ann", i), noon.Add(time.Duration(i)*time.Second))
			_, err := t.EnableNow(t.ctx, t.tenant, a.Account.User, noon)
			t.must(err)
			t.record(a, delivery.Sent, "250 ok")
			all = append(all, a)
		}
		end := noon.Add(account.PendingLife)
		swept, err := t.Sweep(t.ctx, end.Add(time.Second), noon, 1)
		t.must(err)
		if !swept.More {
			t.Error("Sweep does not report that there is more")
		}
		t.wantNoDelivery(all[0])
		_, err = t.Sweep(t.ctx, end.Add(time.Second), noon, 100)
		t.must(err)
		t.wantNoDelivery(all[1])
		t.wantState(all[2], delivery.Sent)
	}},
	{"Classify tells which messages have a delivery, and which an outbox row", func(t *test) {
		enqueued, pending, unknown := t.addEnqueued("ann", noon), t.addPending("bob", noon), newMessageID()
		list, inOutbox, err := t.Classify(t.ctx, []mailmsg.ID{enqueued.Message, pending.Message, unknown})
		t.must(err)
		if len(list) != 1 || list[0] != t.delivery(enqueued) ||
			!slices.Equal(inOutbox, []mailmsg.ID{pending.Message}) {
			t.Errorf("got %+v and %v", list, inOutbox)
		}
		if list, inOutbox, err := t.Classify(t.ctx, nil); err != nil || len(list)+len(inOutbox) > 0 {
			t.Errorf("no messages: got %v, %v, %v", list, inOutbox, err)
		}
		many := make([]mailmsg.ID, 500)
		for i := range many {
			many[i] = newMessageID()
		}
		_, _, err = t.Classify(t.ctx, many)
		t.must(err)
	}},
	{"ClaimFiles assigns an unknown file to the account of its link", func(t *test) {
		a := t.addPending("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		other := delivery.FoundFile{Message: newMessageID(), Token: [32]byte{1}}
		for range 2 {
			unknown, err := t.ClaimFiles(t.ctx,
				[]delivery.FoundFile{{Message: a.Message, Token: a.Token}, other},
				noon.Add(time.Hour))
			t.must(err)
			if !slices.Equal(unknown, []mailmsg.ID{other.Message}) {
				t.Errorf("unknown are %v", unknown)
			}
			if d := t.delivery(a); d.State != delivery.Waiting || !d.Due.Equal(noon.Add(time.Hour)) ||
				!d.Expires.Equal(a.Account.Expires) {
				t.Errorf("got %+v", d)
			}
		}
		t.wantEqual(t.dueMessages(noon.Add(time.Hour)), []string{"ann"})
	}},
	{"a written message waits only once ClaimFiles has found its file", func(t *test) {
		a := t.addPending("ann", noon)
		at := noon.Add(time.Hour)
		_, err := t.Ack(t.ctx, []outbox.Ref{ref(a)}, at) // late
		t.must(err)
		t.wantState(a, delivery.Written)
		_, err = t.Retry(t.ctx, a.Message, at)
		t.wantKind(err, fault.Conflict)
		_, err = t.Discard(t.ctx, a.Message, "why", at)
		t.wantKind(err, fault.Conflict)
		if n, err := t.RetryAll(t.ctx, at); err != nil || n != 0 {
			t.Errorf("RetryAll: got %d, %v", n, err)
		}
		t.wantEqual(t.dueMessages(at), nil)
		unknown, err := t.ClaimFiles(t.ctx, []delivery.FoundFile{{Message: a.Message, Token: a.Token}}, at)
		t.must(err)
		t.wantSame(len(unknown), 0)
		t.wantState(a, delivery.Waiting)
		t.wantEqual(t.dueMessages(at), []string{"ann"})
	}},
	{"ClaimFiles assigns no file to an active or expired account", func(t *test) {
		active, expired := t.addActive("ann", noon), t.addPending("bob", noon)
		unknown, err := t.ClaimFiles(t.ctx, []delivery.FoundFile{
			{Message: active.Message, Token: active.Token},
			{Message: expired.Message, Token: expired.Token},
		}, noon.Add(account.PendingLife))
		t.must(err)
		if len(unknown) != 2 {
			t.Errorf("unknown are %v", unknown)
		}
		t.wantNoDelivery(active)
	}},
	{"the backlog counts the messages that are still to be sent", func(t *test) {
		if got, err := t.Backlog(t.ctx); err != nil || got != (delivery.Backlog{}) {
			t.Errorf("without messages: got %+v, %v", got, err)
		}
		t.record(t.addEnqueued("sent", noon), delivery.Sent, "250 ok")
		t.record(t.addEnqueued("late", noon.Add(time.Minute)), delivery.Deferred, "451 later")
		t.addEnqueued("new", noon.Add(2*time.Minute))
		t.addEnqueued("newer", noon.Add(3*time.Minute))
		if got, err := t.Backlog(t.ctx); err != nil ||
			got != (delivery.Backlog{Waiting: 2, Deferred: 1, Oldest: noon.Add(time.Minute)}) {
			t.Errorf("got %+v, %v", got, err)
		}
	}},
	{"EachDelivery visits the deliveries in some states in the order of enqueueing", func(t *test) {
		t.record(t.addEnqueued("sent", noon), delivery.Sent, "250 ok")
		t.addEnqueued("new", noon.Add(2*time.Minute))
		t.record(t.addEnqueued("late", noon.Add(time.Minute)), delivery.Deferred, "451 later")
		var users []string
		t.must(t.EachDelivery(t.ctx, []delivery.State{delivery.Waiting, delivery.Deferred},
			func(d delivery.Delivery) error {
				users = append(users, d.User)
				return nil
			}))
		t.wantEqual(users, []string{"late", "new"})
		stop := errors.New("stop")
		t.wantErr(t.EachDelivery(t.ctx, []delivery.State{delivery.Sent},
			func(delivery.Delivery) error { return stop }), stop)
	}},
	{"a replaced message is discarded when the newer one is enqueued, and not before", func(t *test) {
		a := t.addEnqueued("ann", noon)
		r := t.resend(a.Account, "right@mail.test", noon.Add(time.Minute))
		t.wantState(a, delivery.Waiting) // the newer link may still be undone
		newer := a
		newer.Message = r.Message
		for range 2 { // as after a commit whose outcome was unknown
			t.enqueue(newer, noon.Add(2*time.Minute))
			t.wantState(a, delivery.Discarded)
			t.wantState(newer, delivery.Waiting)
		}
		t.wantEqual([]string{t.delivery(a).Answer}, []string{account.ErrReplaced.Error()})
		// There is a file to remove and a message to send.
		t.wantEqual(t.dueMessages(noon.Add(2*time.Minute)), []string{"ann", "ann"})
	}},
	{"a sent message stays sent when a newer one is enqueued", func(t *test) {
		a := t.addEnqueued("ann", noon)
		t.record(a, delivery.Sent, "250 ok")
		newer := a
		newer.Message = t.resend(a.Account, a.Account.Email, noon.Add(time.Minute)).Message
		t.enqueue(newer, noon.Add(2*time.Minute))
		t.wantState(a, delivery.Sent)
	}},
	{"enqueueing removes older messages from the outbox, and none of them discards it", func(t *test) {
		a := t.addPending("ann", noon)
		newer, older := a, a
		older.Message = t.resend(a.Account, a.Account.Email, noon.Add(time.Minute)).Message
		newer.Message = t.resend(a.Account, a.Account.Email, noon.Add(2*time.Minute)).Message
		t.enqueue(newer, noon.Add(3*time.Minute))
		t.wantEqual(t.pendingUsers(), nil)
		t.enqueue(older, noon.Add(4*time.Minute))
		t.enqueue(a, noon.Add(4*time.Minute))
		t.wantState(newer, delivery.Waiting)
		t.wantEqual(t.dueMessages(noon.Add(4*time.Minute)), []string{"ann"})
	}},
}

var keyTests = []testCase{
	{"are per tenant and ordered by selector", func(t *test) {
		other := t.addTenant("other.test")
		for _, k := range []delivery.SigningKey{
			{Tenant: t.tenant, Selector: "b", Created: noon, Sealed: []byte("one")},
			{Tenant: t.tenant, Selector: "a", Created: noon.Add(tick), Sealed: []byte("two")},
			{Tenant: other, Selector: "a", Created: noon, Sealed: []byte("three")},
		} {
			t.must(t.AddSigningKey(t.ctx, k))
		}
		list, err := t.SigningKeys(t.ctx, t.tenant)
		t.must(err)
		if len(list) != 2 || list[0].Selector != "a" || list[1].Selector != "b" ||
			!bytes.Equal(list[0].Sealed, []byte("two")) || !list[0].Created.Equal(noon.Add(tick)) ||
			list[0].Tenant != t.tenant {
			t.Errorf("got %+v", list)
		}
	}},
	{"have unique selectors, which are free again after removal", func(t *test) {
		k := delivery.SigningKey{Tenant: t.tenant, Selector: "a", Created: noon, Sealed: []byte("one")}
		t.must(t.AddSigningKey(t.ctx, k))
		k.Sealed = []byte("two")
		t.wantKind(t.AddSigningKey(t.ctx, k), fault.Conflict)
		list, err := t.SigningKeys(t.ctx, t.tenant)
		t.must(err)
		if len(list) != 1 || string(list[0].Sealed) != "one" {
			t.Errorf("got %+v", list)
		}
		t.must(t.RemoveSigningKey(t.ctx, t.tenant, "a"))
		t.wantKind(t.RemoveSigningKey(t.ctx, t.tenant, "a"), fault.NotFound)
		t.must(t.AddSigningKey(t.ctx, k))
	}},
	{"are removed with their tenant", func(t *test) {
		other := t.addTenant("other.test")
		t.must(t.AddSigningKey(t.ctx,
			delivery.SigningKey{Tenant: other, Selector: "a", Created: noon, Sealed: []byte("one")}))
		t.must(t.RemoveTenant(t.ctx, "other.test", false, noon))
		list, err := t.SigningKeys(t.ctx, other)
		t.must(err)
		if len(list) > 0 {
			t.Errorf("got %+v", list)
		}
	}},
}
