package conformance

import (
	"fmt"
	"time"

	"dialtone/internal/delivery"
	"dialtone/internal/hook"
	operators "dialtone/internal/operator"
	"dialtone/internal/outbox"
	"dialtone/internal/stats"
)

// statsStore is the part of Store for package stats, and for operators.
type statsStore interface {
	stats.Store
	operators.StatsStore
}

// wantSame compares the printed forms of values.
func (t *test) wantSame(got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Fatalf("got  %s\nwant %s", g, w)
	}
}

func counted(tenant int64, day stats.Day, kind stats.Kind, n int64) stats.Count {
	return stats.Count{Tenant: tenant, Day: day, Kind: kind, N: n}
}

// counts returns the counts of a tenant from day 0 to day 1000, in short.
func (t *test) counts(tenant int64) (list []string) {
	t.Helper()
	found, err := t.Counts(t.ctx, tenant, 0, 1000)
	t.must(err)
	for _, c := range found {
		list = append(list, fmt.Sprint(int64(c.Day), " ", c.Kind, " ", c.N))
	}
	return list
}

var countTests = []testCase{
	{"are added, and summed over tenants", func(t *test) {
		other := t.addTenant("other.test")
		t.must(t.AddCounts(t.ctx, []stats.Count{
			counted(t.tenant, 10, stats.Signup, 3), counted(t.tenant, 11, stats.Signup, 1),
			counted(other, 10, stats.Signup, 100),
		}))
		t.must(t.AddCounts(t.ctx, []stats.Count{
			counted(t.tenant, 10, stats.SignIn, 5), counted(t.tenant, 10, stats.Signup, 4),
		}))
		t.wantEqual(t.counts(t.tenant), []string{"10 signin 5", "10 signup 7", "11 signup 1"})
		t.wantEqual(t.counts(other), []string{"10 signup 100"})
		t.wantEqual(t.counts(0), []string{"10 signin 5", "10 signup 107", "11 signup 1"})
		list, err := t.Counts(t.ctx, t.tenant, 11, 11)
		if err != nil || len(list) != 1 {
			t.Errorf("of one day: %v, %v", list, err)
		}
	}},
	{"of a tenant that was removed are ignored", func(t *test) {
		gone := t.addTenant("gone.test")
		t.must(t.AddCounts(t.ctx, []stats.Count{counted(gone, 10, stats.Signup, 1)}))
		t.must(t.RemoveTenant(t.ctx, "gone.test", false, noon))
		t.must(t.AddCounts(t.ctx, []stats.Count{
			counted(t.tenant, 10, stats.Signup, 1), counted(gone, 10, stats.Signup, 1),
		}))
		t.wantEqual(t.counts(0), []string{"10 signup 1"})
	}},
	{"of several servers at once are all added", func(t *test) {
		t.concurrently(32, func(i int) error {
			return t.AddCounts(t.ctx, []stats.Count{
				counted(t.tenant, 10, stats.SignIn, 1), counted(t.tenant, 10, stats.Signup, 2),
			})
		})
		t.wantEqual(t.counts(t.tenant), []string{"10 signin 32", "10 signup 64"})
	}},
	{"of old days are removed, the oldest first", func(t *test) {
		other := t.addTenant("other.test")
		for day := range stats.Day(4) {
			t.must(t.AddCounts(t.ctx, []stats.Count{
				counted(t.tenant, day, stats.Signup, 1), counted(other, day, stats.Signup, 1),
			}))
		}
		n, err := t.RemoveCounts(t.ctx, 3, 3)
		t.must(err)
		t.wantSame(n, 3)
		t.wantEqual(t.counts(0), []string{"1 signup 1", "2 signup 2", "3 signup 2"})
		n, err = t.RemoveCounts(t.ctx, 3, 100)
		t.must(err)
		t.wantSame(n, 3)
		t.wantEqual(t.counts(0), []string{"3 signup 2"})
	}},
}

var backlogTests = []testCase{
	{"of mail count the messages that were not sent", func(t *test) {
		mail := func(tenant int64) operators.MailBacklog {
			t.Helper()
			b, err := t.MailBacklog(t.ctx, tenant)
			t.must(err)
			return b
		}
		t.wantSame(mail(0), operators.MailBacklog{})
		t.record(t.addEnqueued("sent", noon), delivery.Sent, "250 ok")
		t.record(t.addEnqueued("bad", noon), delivery.Failed, "550 no")
		t.record(t.addEnqueued("late", noon.Add(time.Minute)), delivery.Deferred, "451 later")
		t.addEnqueued("new", noon.Add(2*time.Minute))
		t.addEnqueued("newer", noon.Add(3*time.Minute))
		want := operators.MailBacklog{Waiting: 2, Deferred: 1, Failed: 1, Oldest: noon.Add(time.Minute)}
		t.wantSame(mail(0), want)
		t.wantSame(mail(t.tenant), want)
		other := t.addTenant("other.test")
		t.wantSame(mail(other), operators.MailBacklog{})
		s := t.addPending("unwritten", noon.Add(30*time.Second))
		want.Waiting, want.Oldest = 3, noon.Add(30*time.Second)
		t.wantSame(mail(0), want)
		t.wantSame(mail(t.tenant), want)
		t.wantSame(mail(other), operators.MailBacklog{})
		t.ack([]outbox.Ref{ref(s)})
		want.Waiting, want.Oldest = 2, noon.Add(time.Minute)
		t.wantSame(mail(0), want)
	}},
	{"of hooks are those of a tenant", func(t *test) {
		other := t.addTenant("other.test")
		t.addHook("both")
		own := t.addHook("own", t.tenant)
		t.addHook("other", other)
		t.addActive("ann", noon)
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		_, err = t.SetRole(t.ctx, t.tenant, "ann", "admin", noon.Add(time.Minute))
		t.must(err)
		n := t.claim(own, noon.Add(time.Hour), 1)
		t.must(t.Report(t.ctx, []hook.Result{
			{Notification: n[0], Failure: "refused", RetryAt: noon.Add(2 * time.Hour)},
		}, noon.Add(time.Hour)))
		list, err := t.HookBacklogs(t.ctx, t.tenant)
		t.must(err)
		t.wantSame(list, []operators.HookBacklog{
			{Name: "both", Kind: hook.Kamailio, Waiting: 2, Oldest: noon, Shared: true},
			{
				Name: "own", Kind: hook.Kamailio, Waiting: 2, Oldest: noon, LastFailure: noon.Add(time.Hour),
				LastError: "refused",
			},
		})
		list, err = t.HookBacklogs(t.ctx, 0)
		t.must(err)
		t.wantSame(len(list), 3)
	}},
	{"of hooks are counted up to a limit", func(t *test) {
		t.addEventHook("a", hook.AccountCreated)
		t.ack(t.addMany(stats.MaxCounted + 2))
		list, err := t.HookBacklogs(t.ctx, 0)
		t.must(err)
		t.wantSame(int64(list[0].Waiting), int64(stats.MaxCounted+1))
	}},
}
