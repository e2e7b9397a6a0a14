package conformance

import (
	"fmt"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
)

// takeData adds the message about the data of an account, and reports whether it was added.
func (t *test) takeData(a account.Account, at time.Time) (n account.Notice, added bool) {
	t.Helper()
	n = notice(mailmsg.DataTaken, at)
	n.Until = at.Add(account.NoticeLife)
	added, err := t.AddDataNotice(t.ctx, a, n, at.Add(-account.DataNoticeEvery), at)
	t.must(err)
	return n, added
}

var dataTests = []testCase{
	{"goes out once a day", func(t *test) {
		a := t.active("ann")
		n, added := t.takeData(a, noon)
		if !added {
			t.Error("no message for the first file")
		}
		for _, later := range []time.Duration{tick, time.Hour, account.DataNoticeEvery - tick} {
			if _, added := t.takeData(a, noon.Add(later)); added {
				t.Errorf("another message after %s", later)
			}
		}
		list := t.messagesOf(mailmsg.DataTaken)
		if len(list) != 1 || list[0].Message != n.Message || list[0].Email != a.Email || list[0].Net != n.Net {
			t.Errorf("the messages are %+v", list)
		}
		t.wantEqual(t.trailOf("ann"), []string{"account.data"})
		if _, added := t.takeData(a, noon.Add(account.DataNoticeEvery)); !added {
			t.Error("no message after a day")
		}
		before := t.find("ann", noon)
		t.must(t.notMe(n.Token, noon.Add(25*time.Hour)))
		if got := t.find("ann", noon); got.Epoch != before.Epoch+1 {
			t.Error("the link ends no session")
		}
	}},
	{"goes out once for concurrent files of an account", func(t *test) {
		a := t.active("ann")
		t.takeData(t.active("bob"), noon)
		t.concurrently(8, func(int) error {
			n := notice(mailmsg.DataTaken, noon)
			_, err := t.AddDataNotice(t.ctx, a, n, noon.Add(-account.DataNoticeEvery), noon)
			return err
		})
		if n := len(t.messagesOf(mailmsg.DataTaken)); n != 2 {
			t.Errorf("%d messages for two accounts", n)
		}
	}},
	{"is for active accounts only", func(t *test) {
		a := t.active("ann")
		_, err := t.Disable(t.ctx, t.tenant, "ann", noon)
		t.must(err)
		add := func(a account.Account) error {
			_, err := t.AddDataNotice(t.ctx, a, notice(mailmsg.DataTaken, noon), noon.Add(-time.Hour), noon)
			return err
		}
		t.wantErr(add(a), account.ErrHeld)
		t.wantKind(add(t.addPending("bob", noon).Account), fault.NotFound)
	}},
}

var dataChangeTests = []testCase{
	{"are read in pages, and the newest can be found", func(t *test) {
		a, b := t.active("ann"), t.active("bob")
		add := func(a account.Account, reason string) {
			ctx := audit.With(t.ctx, audit.Cause{Actor: audit.Actor{Kind: audit.Person}, Reason: reason})
			t.must(t.AddChange(ctx, audit.Change{
				At: noon, Action: audit.AccountData, Outcome: audit.OK, Tenant: "phone.test", User: a.User,
				Account: a.UID.String(),
			}))
		}
		for i := range 7 {
			add(a, fmt.Sprint("ann ", i))
			add(b, fmt.Sprint("bob ", i))
		}
		read := func(after int64, limit int) (reasons []string, last int64) {
			t.Helper()
			list, err := t.DataChanges(t.ctx, a, "phone.test", after, limit)
			t.must(err)
			for _, c := range list {
				reasons, last = append(reasons, c.Reason), c.ID
			}
			return reasons, last
		}
		first, last := read(0, 4)
		t.wantEqual(first, []string{"ann 0", "ann 1", "ann 2", "ann 3"})
		second, last := read(last, 4)
		t.wantEqual(second, []string{"ann 4", "ann 5", "ann 6"})
		third, _ := read(last, 4)
		t.wantEqual(third, nil)
		for n, want := range map[int]string{7: "", 10: "", 3: "ann 4", 1: "ann 6"} {
			older, err := t.OlderChanges(t.ctx, a, "phone.test", n)
			t.must(err)
			if want == "" {
				if older != 0 {
					t.Errorf("older than the newest %d is %d", n, older)
				}
				continue
			}
			newest, _ := read(older, 10)
			if len(newest) != n || newest[0] != want {
				t.Errorf("the newest %d are %q", n, newest)
			}
		}
	}},
	{"have a newest one, and show whether there was a recent deletion", func(t *test) {
		want := func(found bool) {
			t.Helper()
			id, got, err := t.LastChange(t.ctx, audit.AccountDelete, audit.TenantRemove)
			t.must(err)
			if id != t.lastChange() || got != found {
				t.Errorf("got %d and %t, want %d and %t", id, got, t.lastChange(), found)
			}
		}
		want(false)
		t.addActive("ann", noon)
		t.must(t.Delete(t.ctx, t.tenant, "ann", noon))
		want(true)
		t.addActive("bob", noon)
		want(true)
	}},
}
