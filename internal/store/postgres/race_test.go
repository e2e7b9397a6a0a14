package postgres_test

import (
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

// What is on its way when a link is looked at, and there when it is written down, counts.
func TestChangeBetweenReadAndWrite(t *testing.T) {
	url := postgrestest.Shared(t).Database(t)
	s := openStore(t, secret.NewRing(midday), "a", url)
	ctx, home := t.Context(), addedTenant(t, s, "phone.test")
	activate := func(a account.Signup) error { _, err := s.Activate(ctx, home, a.Token, midday); return err }
	confirm := func(a account.Signup) error {
		_, err := s.Confirm(ctx, home, a.Token, a.Account.UID, midday)
		return err
	}
	earlier := midday.Add(-time.Hour)
	both := fmt.Sprintf("activated = %[1]d, confirmed = %[1]d", engine.Micros(earlier))
	for _, c := range []struct {
		name, set string
		do        func(account.Signup) error
		want      error
		after     func(account.Account) bool
	}{
		{"a hold, for a link", "held = TRUE", activate, account.ErrHeld,
			func(a account.Account) bool { return a.Held && a.Pending() }},
		{"a hold, for a confirmation", "held = TRUE", confirm, account.ErrHeld,
			func(a account.Account) bool { return a.Held && a.Pending() && a.Confirmed.IsZero() }},
		{"a confirmation, for a link", both, activate, account.ErrActive,
			func(a account.Account) bool { return a.Activated.Equal(earlier) }},
		{"a confirmation, for another", both, confirm, nil,
			func(a account.Account) bool { return a.Activated.Equal(earlier) && a.Confirmed.Equal(earlier) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newcomer(home, strings.ReplaceAll(strings.ReplaceAll(c.name, " ", "-"), ",", ""))
			if err := s.Create(ctx, a, midday); err != nil {
				t.Fatal(err)
			}
			conn, err := pgx.Connect(ctx, url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
			hold := `BEGIN; UPDATE account SET ` + c.set + ` WHERE username = '` + a.Account.User + `'`
			if _, err := conn.Exec(ctx, hold); err != nil {
				t.Fatal(err)
			}
			answer := make(chan error, 1)
			go func() { answer <- c.do(a) }()
			eventually(t, "it waits for the other", func() bool {
				return s.number(t, `SELECT count(*) FROM pg_stat_activity
					WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 0
			})
			if _, err := conn.Exec(ctx, `COMMIT`); err != nil {
				t.Fatal(err)
			}
			if err := <-answer; err != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if got, err := s.Find(ctx, home, a.Account.User, midday); err != nil || !c.after(got) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}
