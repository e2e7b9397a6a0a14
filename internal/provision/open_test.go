package provision_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/provision"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

// platform has one account, and records what is spent. Its methods fail with the errors in its fields.
type platform struct {
	account          account.Account
	spent            map[[16]byte]bool
	find, open, save error
}

func (p *platform) FindUID(context.Context, int64, account.UID) (account.Account, error) {
	return p.account, p.find
}

func (p *platform) Credential(account.Account) (digest.Credential, error) {
	return digest.Credential{}, p.open
}

func (p *platform) Spend(_ context.Context, _ int64, id [16]byte, _ time.Time) (bool, error) {
	if p.save != nil {
		return false, p.save
	}
	first := !p.spent[id]
	p.spent[id] = true
	return first, nil
}

func TestOpen(t *testing.T) {
	made := time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)
	broken := errors.New("broken by the test")
	x := &tenant.Tenant{ID: 7, Host: "a.test", Realm: "a.test"}
	for _, c := range []struct {
		name    string
		change  func(p *platform, now *time.Time, token *string)
		want    error
		outcome string
	}{
		{"succeeds once", func(*platform, *time.Time, *string) {}, nil, "ok"},
		{"succeeds at the last moment", func(_ *platform, now *time.Time, _ *string) {
			*now = made.Add(provision.LinkLife - 1)
		}, nil, "ok"},
		{"fails when expired", func(_ *platform, now *time.Time, _ *string) {
			*now = made.Add(provision.LinkLife)
		}, provision.ErrGone, "expired"},
		{"succeeds when the clock is a minute behind", func(_ *platform, now *time.Time, _ *string) {
			*now = made.Add(-time.Minute)
		}, nil, "ok"},
		{"fails when it is from more than a minute in the future", func(_ *platform, now *time.Time, _ *string) {
			*now = made.Add(-time.Minute - 1)
		}, provision.ErrGone, "expired"},
		{"fails with a changed token", func(_ *platform, _ *time.Time, token *string) {
			*token = "B" + (*token)[1:]
		}, provision.ErrGone, "not_found"},
		{"fails when the account is disabled", func(p *platform, _ *time.Time, _ *string) {
			p.account.Disabled = true
		}, provision.ErrGone, "not_found"},
		{"fails when the account was disabled since", func(p *platform, _ *time.Time, _ *string) {
			p.account.Epoch++
		}, provision.ErrGone, "not_found"},
		{"fails when the account is deleted", func(p *platform, _ *time.Time, _ *string) {
			p.account, p.find = account.Account{}, fault.New(fault.NotFound, "no account")
		}, provision.ErrGone, "not_found"},
		{"fails when the account cannot be read", func(p *platform, _ *time.Time, _ *string) {
			p.find = broken
		}, broken, "server_error"},
		{"fails when the row has the name of another account", func(p *platform, _ *time.Time, _ *string) {
			p.open = secret.ErrSeal
		}, secret.ErrSeal, "server_error"},
		{"fails when it cannot be spent", func(p *platform, _ *time.Time, _ *string) {
			p.save = broken
		}, broken, "server_error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now, ring := made, secret.NewRing(made)
			var log bytes.Buffer
			p := &platform{
				account: account.Account{UID: account.NewUID(made), Tenant: 7, User: "ann", Epoch: 3},
				spent:   make(map[[16]byte]bool),
			}
			clock := func() time.Time { return now }
			links := provision.NewLinks(provision.Deps{
				Accounts: p, Store: p, Now: clock,
				Tickets: func() *provision.Tickets { return provision.NewTickets(ring, clock) },
				Audit:   audit.Log{Logger: slog.New(slog.NewTextHandler(&log, nil))},
			})
			token := links.Make(t.Context(), x, p.account, provision.Linphone, account.Origin{})
			c.change(p, &now, &token)
			open := func() (provision.File, error) {
				return links.Open(t.Context(), x, provision.Linphone, token, account.Origin{})
			}
			file, err := open()
			if !errors.Is(err, c.want) || (err == nil) != (len(file.Text) > 0) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if n := strings.Count(log.String(), "msg=provision.file outcome="+c.outcome+" "); n != 1 {
				t.Errorf("the log has the outcome %s %d times:\n%s", c.outcome, n, &log)
			}
			if _, err := open(); c.want == nil && !errors.Is(err, provision.ErrGone) {
				t.Errorf("the second time: got %v", err)
			}
		})
	}
}
