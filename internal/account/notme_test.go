package account_test

import (
	"strings"
	"testing"

	"dialtone/internal/account"
)

// TestNotMe checks how a person recovers an account whose password somebody else changed.
func TestNotMe(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	token := o.resetToken("ann")
	_, noticeTokens := o.sent(func() {
		_, err := o.Accounts.Reset(o.Context(), o.Tenant, token, "ann", o.newPassword("ann", newWords), from(1))
		o.Must(err)
		o.Must(o.Outbox.Flush(o.Context()))
	})
	before, err := o.Accounts.Find(o.Context(), o.Tenant.ID, "ann")
	o.Must(err)
	_, _, err = o.Accounts.NotMe(o.Context(), o.At("other.test").Tenant, noticeTokens[0], from(1))
	o.Is(err, account.ErrLinkUsed)
	undone, err := o.Accounts.NotMeLink(o.Context(), o.Tenant, noticeTokens[0])
	o.Must(err)
	if undone.Account.User != "ann" || undone.Email != before.Email || undone.App || undone.Passkeys != 0 {
		t.Errorf("the link undoes %+v", undone)
	}
	got, path, err := o.Accounts.NotMe(o.Context(), o.Tenant, noticeTokens[0], from(1))
	o.Must(err)
	after, err := o.Accounts.Find(o.Context(), o.Tenant.ID, "ann")
	o.Must(err)
	if after.Epoch != before.Epoch+1 || got.UID != after.UID || got.Epoch != after.Epoch {
		t.Error("the sessions are still valid")
	}
	next, ok := strings.CutPrefix(path, "/reset.html?token=")
	o.Log.Hide(next)
	if !ok {
		t.Fatalf("got %q", path)
	}
	_, _, err = o.Accounts.NotMe(o.Context(), o.Tenant, noticeTokens[0], from(1))
	o.Is(err, account.ErrLinkUsed)
	for _, link := range []string{noticeTokens[0], next, "x"} {
		_, err = o.Accounts.NotMeLink(o.Context(), o.Tenant, link)
		o.Is(err, account.ErrLinkUsed)
	}
	_, err = o.Accounts.Reset(o.Context(), o.Tenant, next, "ann", o.newPassword("ann", newWords+"!"), from(1))
	o.Must(err)
	if o.Log.Count(`"msg":"password.not-me","outcome":"ok"`) != 1 {
		t.Error("the log does not say that somebody did not change the password")
	}
}
