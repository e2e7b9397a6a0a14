package store

import (
	"slices"
	"testing"

	"dialtone/internal/mailmsg"
)

// Servers of earlier versions panic at a kind in the table outbox that they do not know.
func TestStoredKinds(t *testing.T) {
	old := append([]mailmsg.Kind{mailmsg.Activation, mailmsg.Reset, mailmsg.ConfirmEmail, mailmsg.Leaving},
		mailmsg.NotMe...)
	all := mailmsg.Kinds()
	if len(all) <= len(old) {
		t.Fatalf("there are only the kinds %q", all)
	}
	for _, kind := range all {
		detail := ""
		if kind == mailmsg.FactorChanged {
			detail = mailmsg.AppOn
		}
		stored, storedDetail := storedKind(kind, detail)
		if !slices.Contains(old, mailmsg.Kind(stored)) {
			t.Errorf("the kind %q is stored as %q", kind, stored)
		}
		if k, d := messageKind(stored, storedDetail); k != kind || d != detail {
			t.Errorf("the kind %q with the detail %q is read as %q with %q", kind, detail, k, d)
		}
	}
}
