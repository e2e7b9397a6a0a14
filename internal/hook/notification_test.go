package hook_test

import (
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/hook"
)

func TestNotificationID(t *testing.T) {
	n := hook.Notification{EventID: account.UID{1}}
	event := "msg_01" + strings.Repeat("00", 15)
	if got := n.ID(); got != event {
		t.Errorf("of a tenant: got %s, want %s", got, event)
	}
	n.Account = account.UID{2}
	if got, want := n.ID(), event+"_02"+strings.Repeat("00", 15); got != want {
		t.Errorf("of an account: got %s, want %s", got, want)
	}
}

func TestEndsRegistrations(t *testing.T) {
	for event, want := range map[hook.EventType]bool{
		hook.AccountDisabled: true, hook.AccountDeleted: true, hook.AccountPassword: true,
		hook.AccountRole: false, hook.TenantAdded: false, hook.TenantChanged: false, hook.TenantRemoved: false,
	} {
		if got := event.EndsRegistrations(); got != want {
			t.Errorf("%s: %v, want %v", event, got, want)
		}
	}
}

func TestNewURLLength(t *testing.T) {
	const start = "https://hooks.example.org/"
	for excess, want := range []bool{true, false} {
		url := start + strings.Repeat("a", 2048+excess-len(start))
		if _, err := hook.New(hook.Hook{Name: "a", Kind: hook.Webhook, URL: url}); (err == nil) != want {
			t.Errorf("%d bytes: %v", len(url), err)
		}
	}
}
