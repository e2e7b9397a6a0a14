package operator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/operator"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// bulkWorld is a world with a service, and a caller with all scopes.
type bulkWorld struct {
	*world.World
	*operator.Service
	caller operator.Caller
	// covered is how often checkpoints were written.
	covered *int
}

func newBulkWorld(t *testing.T) bulkWorld {
	w := world.New(t, world.Options{})
	covered := new(int)
	return bulkWorld{
		w, operator.NewService(operator.Deps{
			Accounts: w.Accounts, Store: w.Store, Now: w.Now, CoverTrail: func(context.Context) { *covered++ },
		}),
		operator.Caller{Actor: audit.Actor{Kind: audit.Command, Name: "ci", ID: "1"}, Scopes: operator.Scopes}, covered,
	}
}

var bots = account.Query{Text: "bot"}

// bots adds n active accounts: bot0, bot1 and so on.
func (w bulkWorld) bots(n int) {
	w.Helper()
	for i := range n {
		w.Member(fmt.Sprint("bot", i))
	}
}

// start starts a bulk change and lets it count its accounts.
func (w bulkWorld) start(action operator.BulkAction, q account.Query) operator.Bulk {
	w.Helper()
	b, err := w.StartBulk(w.Context(), w.caller, w.World.Tenant, action, q, "bots")
	w.Must(err)
	_, err = w.WorkBulk(w.Context())
	w.Must(err)
	b, err = w.Bulk(w.Context(), w.caller, w.World.Tenant, b.ID)
	w.Must(err)
	if b.State != operator.BulkReady {
		w.Fatalf("after the count: %+v", b)
	}
	return b
}

func TestBulk(t *testing.T) {
	w := newBulkWorld(t)
	w.bots(25)
	w.Member("ann")
	w.Advance(time.Second)
	b := w.start(operator.BulkDelete, bots)
	if b.Found != 25 || b.Cause.Reason != "bots" {
		t.Fatalf("%+v", b)
	}
	_, err := w.RunBulk(t.Context(), w.caller, w.World.Tenant, b.ID, 24)
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("another number: %v", err)
	}
	_, err = w.RunBulk(t.Context(), w.caller, w.World.Tenant, b.ID, 25)
	w.Must(err)
	b, err = w.WorkBulk(t.Context())
	w.Must(err)
	if b.State != operator.BulkDone || b.Done != 25 {
		t.Errorf("at the end: %+v", b)
	}
	if n := *w.covered; n != 1 {
		t.Errorf("checkpoints were written %d times", n)
	}
	if _, err := w.WorkBulk(t.Context()); !errors.Is(err, operator.ErrNoBulk) {
		t.Errorf("more work: %v", err)
	}
	// The files contain nothing of the accounts any more.
	for _, name := range []string{w.DatabaseFile(), w.DatabaseFile() + "-wal"} {
		text, err := os.ReadFile(name)
		if err == nil && bytes.Contains(text, []byte("bot7@")) {
			t.Errorf("%s has the address of a deleted account", name)
		}
	}
	list, err := w.Bulks(t.Context(), w.caller, w.World.Tenant, 10)
	if err != nil || len(list) != 1 || list[0].ID != b.ID {
		t.Errorf("the list is %+v, %v", list, err)
	}
	w.Advance(31 * 24 * time.Hour)
	w.Must(w.RemoveOldBulks(t.Context()))
	if _, err := w.Bulk(t.Context(), w.caller, w.World.Tenant, b.ID); !errors.Is(err, operator.ErrNoBulk) {
		t.Errorf("an old one: %v", err)
	}
}

func TestBulkRefusals(t *testing.T) {
	w := newBulkWorld(t)
	w.bots(2)
	b := w.start(operator.BulkDisable, bots)
	ctx := t.Context()
	for name, c := range map[string]struct {
		action operator.BulkAction
		query  account.Query
		reason string
	}{
		"an unknown action":     {"promote", bots, ""},
		"all accounts":          {operator.BulkDisable, account.Query{}, ""},
		"an invalid query":      {operator.BulkDisable, account.Query{States: []account.State{"gone"}}, ""},
		"a reason of two lines": {operator.BulkDisable, bots, "a\nb"},
	} {
		_, err := w.StartBulk(ctx, w.caller, w.World.Tenant, c.action, c.query, c.reason)
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	reader, other := w.caller, w.caller
	reader.Scopes = []operator.Scope{operator.AccountsRead}
	elsewhere := operator.Caller{Tenant: w.World.Tenant.ID + 1, Scopes: operator.Scopes}
	other.Actor.Name = "other"
	for name, c := range map[string]struct {
		caller operator.Caller
		do     func(operator.Caller, *tenant.Tenant) error
		want   fault.Kind
	}{
		"start, by a reader": {reader, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.StartBulk(ctx, c, t, operator.BulkDisable, bots, "")
			return err
		}, fault.Forbidden},
		"run, by a reader": {reader, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.RunBulk(ctx, c, t, b.ID, 2)
			return err
		}, fault.Forbidden},
		"cancel, by a reader": {reader, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.CancelBulk(ctx, c, t, b.ID)
			return err
		}, fault.Forbidden},
		"read, at another tenant": {elsewhere, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.Bulk(ctx, c, t, b.ID)
			return err
		}, fault.Forbidden},
		"list, at another tenant": {elsewhere, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.Bulks(ctx, c, t, 10)
			return err
		}, fault.Forbidden},
		"preview, at another tenant": {elsewhere, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.PreviewBulk(ctx, c, t, b.ID, "", 10)
			return err
		}, fault.Forbidden},
		"run, by another caller": {other, func(c operator.Caller, t *tenant.Tenant) error {
			_, err := w.RunBulk(ctx, c, t, b.ID, 2)
			return err
		}, fault.Conflict},
		"run, too late": {w.caller, func(c operator.Caller, t *tenant.Tenant) error {
			w.Advance(operator.BulkMaxAge + time.Second)
			defer w.Advance(-operator.BulkMaxAge - time.Second)
			_, err := w.RunBulk(ctx, c, t, b.ID, 2)
			return err
		}, fault.Conflict},
	} {
		if err := c.do(c.caller, w.World.Tenant); !fault.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := operator.ParseBulkID("x"); !errors.Is(err, operator.ErrNoBulk) {
		t.Errorf("not an ID: %v", err)
	}
	if id, err := operator.ParseBulkID(b.ID.String()); err != nil || id != b.ID {
		t.Errorf("an ID: %v, %v", id, err)
	}
	_, err := w.RunBulk(ctx, w.caller, w.World.Tenant, b.ID, 2)
	w.Must(err)
}

// The preview shows the newest accounts first, and omits accounts that would not change.
func TestPreviewBulk(t *testing.T) {
	w := newBulkWorld(t)
	for i := range 5 {
		w.Member(fmt.Sprint("bot", i))
		w.Advance(time.Second)
	}
	_, err := w.Accounts.SetRole(t.Context(), w.World.Tenant, "bot4", account.Admin)
	w.Must(err)
	w.World.Disable("bot2")
	b := w.start(operator.BulkDisable, account.Query{States: account.States})
	page, err := w.PreviewBulk(t.Context(), w.caller, w.World.Tenant, b.ID, "", 2)
	w.Must(err)
	if list := page.Accounts; b.Found != 3 || len(list) != 2 || list[0].User != "bot3" || list[1].User != "bot1" {
		t.Errorf("found %d: %+v", b.Found, list)
	}
	page, err = w.PreviewBulk(t.Context(), w.caller, w.World.Tenant, b.ID, page.Next, 2)
	if w.Must(err); len(page.Accounts) != 1 || page.Accounts[0].User != "bot0" || page.Next != "" {
		t.Errorf("the next page has %+v", page)
	}
}

// When a server stops, another one can immediately do the rest.
func TestWorkBulkStops(t *testing.T) {
	w := newBulkWorld(t)
	w.bots(30)
	b := w.start(operator.BulkDisable, bots)
	_, err := w.RunBulk(t.Context(), w.caller, w.World.Tenant, b.ID, 30)
	w.Must(err)
	ctx, cancel := context.WithCancel(t.Context())
	stopping := operator.NewService(operator.Deps{Store: cancelling{w.Store, cancel}, Now: w.Now})
	if b, err = stopping.WorkBulk(ctx); !errors.Is(err, context.Canceled) || b.Done == 0 || b.Done == 30 {
		t.Fatalf("got %v and %+v", err, b)
	}
	if b, err = w.WorkBulk(t.Context()); err != nil || b.State != operator.BulkDone || b.Done != 30 {
		t.Errorf("the other server: %v and %+v", err, b)
	}
}

// cancelling is a store that calls cancel after one part of a bulk change.
type cancelling struct {
	operator.Store
	cancel func()
}

func (s cancelling) WorkBulk(ctx context.Context, b operator.Bulk, limit int,
	now, until time.Time) (operator.Bulk, error) {
	defer s.cancel()
	return s.Store.WorkBulk(ctx, b, limit, now, until)
}

// A program of this version must not run a query of a later one, which may select fewer accounts.
func TestBulkOfNewerProgram(t *testing.T) {
	w := newBulkWorld(t)
	w.bots(1)
	_, err := w.StartBulk(t.Context(), w.caller, w.World.Tenant, operator.BulkDisable, bots, "")
	w.Must(err)
	w.Must(w.Flush())
	c, err := conn.Open(w.DatabaseFile(), conn.Options{})
	w.Must(err)
	_, err = c.Exec(`UPDATE bulk SET query = '{"text":"bot","country":"fr"}'`)
	w.Must(errors.Join(err, c.Close()))
	if b, err := w.WorkBulk(t.Context()); err == nil {
		t.Errorf("it works on %+v", b)
	}
}
