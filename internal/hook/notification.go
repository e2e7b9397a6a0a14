package hook

import (
	"context"
	"encoding/hex"
	"time"

	"dialtone/internal/account"
)

// EventType is the type of a change of an account or a tenant.
type EventType string

// The event types. They are published in docs/directory.md, so their names do not change.
const (
	AccountDisabled EventType = "account.disabled"
	AccountDeleted  EventType = "account.deleted"
	AccountRole     EventType = "account.role"
	AccountPassword EventType = "account.password"
	TenantAdded     EventType = "tenant.added"
	TenantChanged   EventType = "tenant.changed"
	TenantRemoved   EventType = "tenant.removed"

	AccountCreated   EventType = "account.created"
	AccountActivated EventType = "account.activated"
	AccountConfirmed EventType = "account.confirmed"
	AccountEnabled   EventType = "account.enabled"
	AccountEmail     EventType = "account.email"
	AccountProfile   EventType = "account.profile"
)

// PhoneEvents are the events that phone servers need. A hook without Events is notified of these.
var PhoneEvents = []EventType{
	AccountDisabled, AccountDeleted, AccountRole, AccountPassword, TenantAdded, TenantChanged, TenantRemoved,
}

// Events are all events, in the order in which they are shown and stored.
var Events = append([]EventType{
	AccountCreated, AccountActivated, AccountConfirmed, AccountEnabled, AccountEmail, AccountProfile,
}, PhoneEvents...)

// EndsRegistrations reports whether the phone server must end the registrations of the
// account's phones, because their credentials are no longer accepted.
func (t EventType) EndsRegistrations() bool {
	return t == AccountDisabled || t == AccountDeleted || t == AccountPassword
}

// Notification is a change that a hook must be notified of.
type Notification struct {
	Hook ID
	// EventID identifies the change. It is the same for all hooks.
	EventID account.UID
	// Account is zero for a change of a tenant.
	Account account.UID
	Type    EventType
	Tenant  int64
	// Host, Realm and User are as of the change. User is empty for a change of a tenant.
	Host, Realm, User string
	At                time.Time
	// Attempts counts the claims, including this one.
	Attempts int
	// ClaimEnds is when the claim ends. It identifies the claim.
	ClaimEnds time.Time
}

// ID returns the message ID. It is the same for every attempt, and different for every change.
func (n Notification) ID() string {
	id := "msg_" + hex.EncodeToString(n.EventID[:])
	if n.Account != (account.UID{}) {
		id += "_" + hex.EncodeToString(n.Account[:])
	}
	return id
}

// Result is the outcome of an attempt to deliver a notification.
type Result struct {
	Notification
	// Failure is why the attempt failed. It is empty if the attempt succeeded or was not made.
	Failure string
	// RetryAt is when to try again. If it is zero, the notification is removed: it was delivered,
	// or with a Failure it is abandoned.
	RetryAt time.Time
}

// Queue stores notifications. Every method is one transaction. Package conformance tests these
// rules.
//
// The stores of accounts and tenants add notifications in the transactions of their changes: every change of an
// account, and AddTenant, SetTenant and RemoveTenant for a tenant. RemoveTenant also adds one for every account
// of the tenant. Each change adds one notification for every hook of the tenant that is notified of such
// events. AccountCreated is added by the transaction that removes the outbox entry of the first message, so
// that a signup does not wait for it. A hook without Events is only notified of accounts that were once activated.
type Queue interface {
	// Due returns the hooks that have a notification due.
	Due(ctx context.Context, now time.Time) ([]Hook, error)

	// Claim claims up to limit due notifications of a hook, starting with those that were never
	// tried, and returns them ordered by the time of the change. They are due again at until.
	// Concurrent calls never return the same notification.
	Claim(ctx context.Context, hook ID, now, until time.Time, limit int) ([]Notification, error)

	// Report applies results, and records failures with the hooks. It ignores results for
	// notifications that are gone. It also ignores a result whose claim is no longer the
	// current one, unless the notification was delivered.
	Report(ctx context.Context, results []Result, now time.Time) error

	// NotificationsAdded returns a channel that receives a value soon after a change by this
	// process that may have added notifications.
	NotificationsAdded() <-chan struct{}
}
