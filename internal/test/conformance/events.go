package conformance

import (
	"time"

	"dialtone/internal/account"
	"dialtone/internal/hook"
	"dialtone/internal/outbox"
)

// addEventHook adds a webhook for some events, at all tenants.
func (t *test) addEventHook(name string, events ...hook.EventType) hook.Hook {
	t.Helper()
	h := hook.Hook{
		ID: newID(), Name: name, Kind: hook.Webhook, URL: "https://hooks.test/", AllTenants: true, Events: events,
		Created: noon,
	}
	t.must(t.AddHook(t.ctx, h))
	return h
}

// wantEvents checks the notifications about a user that are due, and reports them as delivered.
func (t *test) wantEvents(h hook.Hook, user string, events ...hook.EventType) {
	t.Helper()
	var want []string
	for _, e := range events {
		want = append(want, string(e)+" phone.test "+user)
	}
	t.wantEqual(t.deliverDue(h, noon.Add(24*time.Hour)), want)
}

var eventTests = []testCase{
	{"are stored with the hook", func(t *test) {
		h := t.addEventHook("a", hook.AccountCreated, hook.AccountDeleted)
		t.wantSame(t.hookState("a").Events, h.Events)
		due, err := t.Due(t.ctx, noon)
		t.must(err)
		t.wantSame(len(due), 0)
	}},
	{"report a new account when its message is acknowledged", func(t *test) {
		h, phone := t.addEventHook("a", hook.AccountCreated), t.addHook("phone")
		a := t.addPending("ann", noon.Add(time.Second))
		t.wantEvents(h, "ann")
		t.ack([]outbox.Ref{ref(a)})
		list := t.claim(h, noon.Add(time.Hour), 10)
		if len(list) != 1 || list[0].Type != hook.AccountCreated || list[0].User != "ann" ||
			list[0].EventID != a.Account.UID || list[0].Account != a.Account.UID ||
			!list[0].At.Equal(noon.Add(time.Second)) {
			t.Fatalf("got %+v", list)
		}
		// Another acknowledgement adds none, whether the notification waits or was delivered.
		t.ack([]outbox.Ref{ref(a)})
		t.must(t.Report(t.ctx, []hook.Result{{Notification: list[0]}}, noon.Add(time.Hour)))
		t.ack([]outbox.Ref{ref(a)})
		t.wantEvents(h, "ann")
		t.wantEvents(phone, "ann")
	}},
	{"report a new account when its message is enqueued", func(t *test) {
		h := t.addEventHook("a", hook.AccountCreated)
		a := t.addPending("ann", noon)
		t.enqueue(a, noon)
		t.enqueue(a, noon)
		t.wantEvents(h, "ann", hook.AccountCreated)
	}},
	{"do not report an account that was undone", func(t *test) {
		h := t.addEventHook("a", hook.AccountCreated)
		a := t.addPending("ann", noon)
		t.must(t.Undo(t.ctx, a, noon))
		t.ack([]outbox.Ref{ref(a)})
		t.enqueue(a, noon)
		t.wantEvents(h, "ann")
	}},
	{"report a new account once if it got another link before", func(t *test) {
		h := t.addEventHook("a", hook.AccountCreated)
		a := t.addPending("ann", noon)
		r := t.resend(a.Account, a.Account.Email, noon.Add(time.Minute))
		t.ack([]outbox.Ref{newRef(r)})
		t.wantEvents(h, "ann", hook.AccountCreated)
		t.ack([]outbox.Ref{ref(a), newRef(r)})
		t.wantEvents(h, "ann")
		again := t.resend(t.find("ann", noon.Add(time.Hour)), a.Account.Email, noon.Add(time.Hour))
		t.ack([]outbox.Ref{newRef(again)})
		t.wantEvents(h, "ann")
	}},
	{"report a new account at once if an operator sets another address", func(t *test) {
		h := t.addEventHook("a", hook.AccountCreated, hook.AccountEmail)
		t.addActive("ann", noon)
		_, err := t.ReplaceEmail(t.ctx, t.tenant, "ann", "new@mail.test", noon)
		t.must(err)
		t.wantEvents(h, "ann", hook.AccountCreated, hook.AccountEmail)
	}},
	{"report the steps of an account", func(t *test) {
		h := t.addEventHook("a", hook.Events...)
		phone := t.addHook("phone")
		a := t.addPending("ann", noon)
		at := noon.Add(time.Minute)
		_, err := t.Activate(t.ctx, t.tenant, a.Token, at)
		t.must(err)
		t.wantEvents(h, "ann", hook.AccountActivated)
		_, err = t.Activate(t.ctx, t.tenant, a.Token, at)
		t.wantSame(err, account.ErrActive)
		for range 2 { // the second one changes nothing
			at = at.Add(time.Minute)
			_, err = t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, at)
			t.must(err)
		}
		t.wantEvents(h, "ann", hook.AccountConfirmed)
		_, err = t.SetProfile(t.ctx, account.ProfileChange{Account: t.find("ann", at), Name: "Ann"}, at)
		t.must(err)
		t.wantEvents(h, "ann", hook.AccountProfile)
		_, err = t.SetProfile(t.ctx, account.ProfileChange{Account: t.find("ann", at), Name: "Ann"}, at)
		t.must(err)
		t.wantEvents(h, "ann")
		t.setEmail("ann", "new@mail.test", at)
		t.wantEvents(h, "ann", hook.AccountEmail)
		d := t.leave("ann", at)
		t.wantEvents(h, "ann", hook.AccountDisabled)
		_, err = t.Stay(t.ctx, t.tenant, d.Token, at)
		t.must(err)
		t.wantEvents(h, "ann", hook.AccountEnabled)
		_, err = t.Disable(t.ctx, t.tenant, "ann", at)
		t.must(err)
		_, err = t.Enable(t.ctx, t.tenant, "ann", at)
		t.must(err)
		_, err = t.Enable(t.ctx, t.tenant, "ann", at) // changes nothing
		t.must(err)
		_, err = t.SetRole(t.ctx, t.tenant, "ann", account.Admin, at)
		t.must(err)
		t.must(t.Delete(t.ctx, t.tenant, "ann", at))
		t.wantEvents(h, "ann", hook.AccountDeleted, hook.AccountDisabled, hook.AccountEnabled, hook.AccountRole)
		// Phone servers get the same events as before.
		t.wantEvents(phone, "ann", hook.AccountDeleted, hook.AccountDisabled, hook.AccountDisabled, hook.AccountRole)
	}},
	{"report a link that activates and confirms at once, with two notifications", func(t *test) {
		h := t.addEventHook("a", hook.AccountActivated, hook.AccountConfirmed)
		a := t.addPending("ann", noon)
		_, err := t.Confirm(t.ctx, t.tenant, a.Token, a.Account.UID, noon)
		t.must(err)
		list := t.claim(h, noon.Add(time.Hour), 10)
		if len(list) != 2 || list[0].ID() == list[1].ID() {
			t.Fatalf("got %+v", list)
		}
	}},
	{"report that an operator activates an account", func(t *test) {
		h := t.addEventHook("a", hook.Events...)
		t.addPending("ann", noon)
		_, err := t.EnableNow(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantEvents(h, "ann", hook.AccountActivated)
		t.addPending("bob", noon)
		_, err = t.Disable(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		t.wantEvents(h, "bob", hook.AccountDisabled)
		_, err = t.EnableNow(t.ctx, t.tenant, "bob", noon)
		t.must(err)
		t.wantEvents(h, "bob", hook.AccountActivated, hook.AccountEnabled)
	}},
	{"report the deletion of a waiting account", func(t *test) {
		h, phone := t.addEventHook("a", hook.AccountDeleted), t.addHook("phone")
		t.addPending("ann", noon)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		t.wantEvents(h, "ann", hook.AccountDeleted)
		t.wantEvents(phone, "ann")
	}},
	{"are only those that the hook subscribes to", func(t *test) {
		created, role := t.addEventHook("a", hook.AccountCreated), t.addEventHook("b", hook.AccountRole)
		none := t.addEventHook("c", hook.TenantRemoved)
		a := t.addActive("ann", noon)
		t.ack([]outbox.Ref{ref(a)})
		_, err := t.SetRole(t.ctx, t.tenant, "ann", account.Admin, noon)
		t.must(err)
		_, err = t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		t.wantEvents(created, "ann", hook.AccountCreated)
		t.wantEvents(role, "ann", hook.AccountRole)
		t.wantEvents(none, "ann")
		t.addTenant("other.test")
		t.wantEqual(t.deliverDue(none, noon), nil)
		t.must(t.RemoveTenant(t.ctx, "other.test", false, noon))
		t.wantEqual(t.deliverDue(none, noon), []string{"tenant.removed other.test"})
	}},
	{"are sent once for concurrent activations", func(t *test) {
		h := t.addEventHook("a", hook.AccountActivated, hook.AccountCreated)
		a := t.addPending("ann", noon)
		got := t.concurrently(20, func(i int) error {
			if i%2 == 0 {
				_, err := t.Ack(t.ctx, []outbox.Ref{ref(a)}, noon)
				return err
			}
			_, err := t.Activate(t.ctx, t.tenant, a.Token, noon.Add(time.Duration(i)*time.Second))
			return err
		})
		if got[succeeded] != 11 { // ten acknowledgements, and one activation
			t.Errorf("got %v", got)
		}
		t.wantEvents(h, "ann", hook.AccountActivated, hook.AccountCreated)
	}},
}
