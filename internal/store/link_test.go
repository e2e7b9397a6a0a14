package store_test

import (
	"context"
	"errors"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/outbox"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/teststore"
)

// A replaced address may belong to another person. It is kept only to undo the replacement, and
// removed as soon as the newer message is durable, with or without a relay.
func TestReplacedAddressIsRemoved(t *testing.T) {
	for name, complete := range map[string]func(*store.Store, context.Context, []outbox.Ref) ([]outbox.Ref, error){
		"by Ack": func(s *store.Store, ctx context.Context, sent []outbox.Ref) ([]outbox.Ref, error) {
			return s.Ack(ctx, sent, noon)
		},
		"by Enqueue": func(s *store.Store, ctx context.Context, sent []outbox.Ref) ([]outbox.Ref, error) {
			return s.Enqueue(ctx, sent, noon)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			e := openSQLite(t)
			s := teststore.OnSQLite(e, nil)
			a := newSignup(addTenant(t, s, "one.test"), "ann")
			r := account.LinkReplacement{
				Account: a.Account,
				Was:     a.Account.Email,
				Token:   [32]byte{1},
				Message: [16]byte{2},
				Made:    noon,
			}
			r.SealedToken, r.Account.Email = []byte("newer"), "right@mail.test"
			if err := s.Create(ctx, a, noon); err != nil {
				t.Fatal(err)
			}
			if err := s.Resend(ctx, r, noon); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{a.Account.Email, ""} {
				var email string
				err := e.Reads(ctx).
					Row(`SELECT email FROM replaced WHERE account = $1`, a.Account.UID[:]).
					Scan(&email)
				if err != nil || email != want {
					t.Fatalf("the replaced address is %q, want %q; %v", email, want, err)
				}
				ref := outbox.Ref{Tenant: a.Account.Tenant, Account: a.Account.UID, Message: r.Message}
				if left, err := complete(s, ctx, []outbox.Ref{ref}); err != nil || len(left) > 0 {
					t.Fatal(left, err)
				}
			}
		})
	}
}

// A program of an earlier version that changes the address keeps the addresses of older links.
// These links must not remove the account of the right person.
func TestDeclineAfterOlderProgram(t *testing.T) {
	ctx := t.Context()
	e := openSQLite(t)
	s := teststore.OnSQLite(e, nil)
	a := newSignup(addTenant(t, s, "one.test"), "ann")
	r := account.LinkReplacement{
		Account: a.Account, Was: a.Account.Email, Token: [32]byte{1}, Message: [16]byte{2}, Made: noon,
		SealedToken: []byte("newer"),
	}
	if err := errors.Join(s.Create(ctx, a, noon), s.Resend(ctx, r, noon)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.LinkedAddress(ctx, a.Account.Tenant, a.Token, noon); err != nil {
		t.Fatalf("the older link to the same address: %v", err)
	}
	err := e.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE account SET email = 'right@mail.test'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.LinkedAddress(ctx, a.Account.Tenant, a.Token, noon)
	if !errors.Is(err, account.ErrReplaced) {
		t.Errorf("after a change of the address: %v", err)
	}
}
