package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/postgrestest"
)

// A call reads an account before a concurrent change is committed, and writes it afterwards. The
// answer takes the change into account.
func TestChangeBetweenReadAndWrite(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, secret.NewRing(noon), "a", url)
	ctx, tenantID := t.Context(), addTenant(t, s, "phone.test")
	activate := func(a account.Signup) error { _, err := s.Activate(ctx, tenantID, a.Token, noon); return err }
	confirm := func(a account.Signup) error {
		_, err := s.Confirm(ctx, tenantID, a.Token, a.Account.UID, noon)
		return err
	}
	earlier := noon.Add(-time.Hour)
	both := fmt.Sprintf("activated = %[1]d, confirmed = %[1]d", engine.Micros(earlier))
	for _, c := range []struct {
		name, set string
		do        func(account.Signup) error
		want      error
		valid     func(account.Account) bool
	}{
		{"hold before Activate", "held = TRUE", activate, account.ErrHeld,
			func(a account.Account) bool { return a.Held && a.Pending() }},
		{"hold before Confirm", "held = TRUE", confirm, account.ErrHeld,
			func(a account.Account) bool { return a.Held && a.Pending() && a.Confirmed.IsZero() }},
		{"confirmation before Activate", both, activate, account.ErrActive,
			func(a account.Account) bool { return a.Activated.Equal(earlier) }},
		{"confirmation before Confirm", both, confirm, nil,
			func(a account.Account) bool { return a.Activated.Equal(earlier) && a.Confirmed.Equal(earlier) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newSignup(tenantID, strings.ReplaceAll(c.name, " ", "-"))
			if err := s.Create(ctx, a, noon); err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			change := `BEGIN; UPDATE account SET ` + c.set + ` WHERE username = '` + a.Account.User + `'`
			if _, err := conn.Exec(ctx, change); err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() { answer <- c.do(a) }()
			eventually(t, "the call waits for the change", func() bool {
				return s.count(t, `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
			})
			if _, err := conn.Exec(ctx, `COMMIT`); err != nil {
				t.Fatal(err)
			}
			if err := <-answer; !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if got, err := s.Find(ctx, tenantID, a.Account.User, noon); err != nil || !c.valid(got) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// An account has expired for the server that gives its name to a signup, and not yet for another one,
// whose clock is behind and which changes it. The change finds the new account.
func TestChangeWhileNameIsReused(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, secret.NewRing(noon), "a", url)
	ctx, tenantID := t.Context(), addTenant(t, s, "phone.test")
	for user, change := range map[string]func(user string) error{
		"enable":  func(user string) error { _, err := s.EnableNow(ctx, tenantID, user, noon); return err },
		"disable": func(user string) error { _, err := s.Disable(ctx, tenantID, user, noon); return err },
		"role":    func(user string) error { _, err := s.SetRole(ctx, tenantID, user, account.User, noon); return err },
		"delete":  func(user string) error { return s.Delete(ctx, tenantID, user, noon) },
	} {
		t.Run(user, func(t *testing.T) {
			if err := s.Create(ctx, newSignup(tenantID, user), noon); err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			_, err = conn.Exec(ctx, `CREATE TEMPORARY TABLE newer AS SELECT * FROM account WHERE username = '`+user+`';
				UPDATE newer SET uid = decode(md5(username), 'hex'), token = NULL;
				BEGIN; DELETE FROM account WHERE username = '`+user+`'; INSERT INTO account SELECT * FROM newer`)
			if err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() { answer <- change(user) }()
			eventually(t, "the call waits for the signup", func() bool {
				return s.count(t, `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
			})
			if _, err := conn.Exec(ctx, `COMMIT`); err != nil {
				t.Fatal(err)
			}
			if err := <-answer; err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestPasskeyUseWaitsForDisable checks that the use of a passkey waits for a disable that was not committed when it
// began, and is refused then.
func TestPasskeyUseWaitsForDisable(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, secret.NewRing(noon), "a", url)
	ctx, tenantID := t.Context(), addTenant(t, s, "phone.test")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.Create(ctx, newSignup(tenantID, "ann"), noon))
	a, err := s.EnableNow(ctx, tenantID, "ann", noon)
	must(err)
	k := account.Passkey{
		ID: []byte("1"), Account: a.UID, RP: "phone.test", Name: "Key", Made: noon, Sealed: []byte("1"),
	}
	_, err = s.AddPasskey(ctx, account.NewPasskey{Account: a, Passkey: k}, noon)
	must(err)
	conn, err := pgx.Connect(ctx, url)
	must(err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `BEGIN; UPDATE account SET held = TRUE WHERE username = 'ann'`)
	must(err)
	answer := make(chan error, 1)
	go func() { answer <- s.UsePasskey(ctx, k, []byte("2"), noon) }()
	eventually(t, "the use waits for the disable", func() bool {
		return s.count(t, `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
	})
	_, err = conn.Exec(ctx, `COMMIT`)
	must(err)
	if err := <-answer; !errors.Is(err, account.ErrNoPasskey) {
		t.Errorf("got %v, want %v", err, account.ErrNoPasskey)
	}
}
