package web_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/session"
)

// afterFind is a store that calls then after an account was found for the proof of its password.
type afterFind struct {
	account.Store
	then *func()
}

func (s afterFind) Find(
	ctx context.Context, tenant int64, user string, now time.Time,
) (account.Account, error) {
	a, err := s.Store.Find(ctx, tenant, user, now)
	if then := *s.then; then != nil {
		*s.then = nil
		then()
	}
	return a, err
}

// TestNoProof checks that the scheme alone, which scripts send to get a challenge, is not a proof:
// it is treated like a missing header, needs no form, and does not count as a failed attempt.
func TestNoProof(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	v := s.visitor("a.test")
	for method, paths := range map[string][]string{
		"GET": {"/signin.ashx"}, "POST": {
			"/signin.ashx", "/resend.ashx", "/activate.ashx", "/password.ashx", "/email.ashx", "/profile.ashx",
		},
	} {
		for _, path := range paths {
			for _, scheme := range []string{"X-Digest", "x-digest"} {
				a := v.do(t, method, path, "", "X-Requested-With", "fetch", "Authorization", scheme)
				description := a.wantError(t, 401, "unauthorized")
				if want := session.ErrNoProof.Error(); description != want {
					t.Errorf("%s %s: %q, want %q", method, path, description, want)
				}
				if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "X-Digest realm=") {
					t.Errorf("%s %s: the challenge is %q", method, path, a.header.Get("WWW-Authenticate"))
				}
			}
		}
	}
	if n := s.Log.Count(`"outcome":"malformed"`); n != 0 {
		t.Errorf("%d attempts failed", n)
	}
}

// TestAccountGoneAfterProof checks that an account that is disabled or deleted after the proof gets
// the answer to a wrong proof, with a new challenge.
func TestAccountGoneAfterProof(t *testing.T) {
	t.Parallel()
	var then func()
	s := startServerWith(t, options{store: func(store account.Store) account.Store {
		return afterFind{store, &then}
	}})
	for name, end := range map[string]func(account.Account) error{
		"disabled": func(a account.Account) error {
			_, err := s.Store.Disable(context.Background(), a.Tenant, a.User, s.Now())
			return err
		},
		"deleted": func(a account.Account) error {
			return s.Store.Delete(context.Background(), a.Tenant, a.User, s.Now())
		},
	} {
		for action, send := range map[string]func(person, string) answer{
			"resend": func(who person, _ string) answer {
				return s.visitor("a.test").resend(t, who.user, who.password, "")
			},
			"confirm": func(who person, token string) answer {
				return s.visitor("a.test").confirm(t, who.user, who.password, token)
			},
		} {
			t.Run(action+" of an account "+name, func(t *testing.T) {
				who := s.pending(t, "a.test")
				token, a := s.token(t, who), s.find(t, who)
				failed := errors.New("not called")
				then = func() { failed = end(a) }
				got := send(who, token)
				if failed != nil {
					t.Fatal(failed)
				}
				if action == "confirm" && name == "deleted" {
					// The link is gone too, so it is not that of the account.
					got.wantError(t, 400, "invalid_request")
					return
				}
				got.wantError(t, 401, "unauthorized")
				got.challenge(t)
			})
		}
	}
}
