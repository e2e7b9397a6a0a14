package web

import (
	"slices"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
)

// TestMailKinds checks that each kind of message has a text for operators.
func TestMailKinds(t *testing.T) {
	kinds := append(slices.Clone(mailmsg.NotMe), mailmsg.Activation, mailmsg.Reset, mailmsg.ConfirmEmail,
		mailmsg.Leaving, mailmsg.SetPassword)
	for _, k := range kinds {
		if _, ok := i18n.In(i18n.English).Find("admin.mail_kind." + account.KindName(k)); !ok {
			t.Errorf("%q has no text", account.KindName(k))
		}
	}
	if _, ok := i18n.In(i18n.English).Find("admin.mail.replaced"); !ok {
		t.Error("the state replaced has no text")
	}
}
