package conformance

import (
	"context"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/delivery"
	"dialtone/internal/fault"
	"dialtone/internal/store"
)

// epochs is a store that can begin a new epoch after it was restored.
type epochs interface {
	BeginEpoch(ctx context.Context, subject, before, after string, now time.Time) (store.NewEpoch, error)
}

var epochTests = []testCase{
	{"ends links, withdraws messages, and notifies phone servers of all accounts and tenants", func(t *test) {
		ann, bob := t.addPending("ann", noon), t.addPending("bob", noon)
		_, err := t.Activate(t.ctx, t.tenant, bob.Token, noon)
		t.must(err)
		held := t.addActive("carla", noon)
		_, err = t.Disable(t.ctx, t.tenant, "carla", noon)
		t.must(err)
		t.addActive("dora", noon)
		t.must(t.Delete(t.ctx, t.tenant, "dora", noon))
		h := t.addHook("all")
		last, epoch := t.lastChange(), t.find("bob", noon).Epoch
		n, err := t.Store.(epochs).BeginEpoch(t.as("fire"), "backup", "before", "after", noon)
		t.must(err)
		if n.Waiting != 1 || n.Withdrawn == 0 || n.Notifications != 4 {
			t.Errorf("got %+v", n)
		}
		for _, a := range []account.Signup{ann, bob} {
			_, err := t.Linked(t.ctx, t.tenant, a.Token, noon)
			t.wantKind(err, fault.NotFound)
		}
		entries, err := t.Pending(t.ctx)
		t.must(err)
		if len(entries) > 0 {
			t.Errorf("%d messages are still to be written", len(entries))
		}
		d, err := t.Delivery(t.ctx, ann.Message)
		t.must(err)
		if d.State != delivery.Discarded || !d.Due.IsZero() {
			t.Errorf("the message of ann is %+v", d)
		}
		for _, user := range []string{"bob", "carla"} {
			if got := t.find(user, noon).Epoch; got < epoch+store.EpochStep {
				t.Errorf("the epoch of %s is %d, and was about %d", user, got, epoch)
			}
		}
		if got := t.find("carla", noon); !got.Held || got.UID != held.Account.UID {
			t.Errorf("carla is %+v", got)
		}
		t.wantEqual(t.deliverDue(h, noon), []string{"account.deleted phone.test dora",
			"account.disabled phone.test carla", "account.role phone.test bob", "tenant.changed phone.test"})
		list := t.changes(audit.Filter{AfterID: last})
		if len(list) != 1 || list[0].Action != audit.Restore || list[0].Subject != "backup" ||
			list[0].Before != "before" || list[0].After != "after" || list[0].Reason != "fire" {
			t.Errorf("the changes are %+v", list)
		}
		if id := t.addTenant("new.test"); id < t.tenant+100 {
			t.Errorf("the id %d may have been assigned before", id)
		}
		_, err = t.Store.(epochs).BeginEpoch(t.as(""), "backup", "", "", noon)
		t.must(err)
	}},
}
