package conformance

import (
	"time"

	"dialtone/internal/account"
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
	{"goes out once for many files at the same time, and for each account", func(t *test) {
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
	{"is for an active account alone", func(t *test) {
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
