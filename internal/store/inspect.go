package store

import (
	"context"

	"dialtone/internal/account"
	"dialtone/internal/store/engine"
)

var _ account.Inspector = (*Store)(nil)

// Consistent implements account.Inspector.
func (s *Store) Consistent(ctx context.Context, report func(string)) error {
	if e, ok := s.engine.(engine.Checker); ok {
		if err := e.Check(ctx, report); err != nil {
			return err
		}
	}
	return s.CheckSchema(ctx, report)
}

// CheckSchema compares the schema of the database with the one that the migrations create, as
// engine.SchemaChecker does.
func (s *Store) CheckSchema(ctx context.Context, report func(string)) error {
	if e, ok := s.engine.(engine.SchemaChecker); ok {
		return e.CheckSchema(ctx, report)
	}
	return nil
}

// EachLink implements account.Inspector.
func (s *Store) EachLink(ctx context.Context, f func(token []byte, user string) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var token []byte
		var user string
		if err := row.Scan(&token, &user); err != nil {
			return err
		}
		return f(token, user)
	}, `SELECT link.token, username FROM link JOIN account ON uid = link.account`)
}

// Each implements account.Inspector.
func (s *Store) Each(ctx context.Context, f func(account.Account, []byte, bool) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var token []byte
		var closed bool
		a, err := scanAccount(row, &token, &closed)
		if err != nil {
			return err
		}
		return f(a, token, closed)
	}, `SELECT token, closed IS NOT NULL, `+accountColumns+` FROM account`)
}

// EachApp implements account.Inspector.
func (s *Store) EachApp(ctx context.Context, f func(account.Account, account.App) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var app account.App
		a, err := scanAccount(row, &app.Sealed)
		if err != nil {
			return err
		}
		return f(a, app)
	}, `SELECT app, `+accountColumns+` FROM account JOIN (SELECT account AS owner, sealed AS app FROM totp) t
		ON owner = uid`)
}

// EachPasskey implements account.Inspector.
func (s *Store) EachPasskey(ctx context.Context, f func(account.Account, account.Passkey) error) error {
	return s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		var k account.Passkey
		a, err := scanAccount(row, &k.ID, &k.RP, &k.Name, &k.Sealed)
		if err != nil {
			return err
		}
		k.Account = a.UID
		return f(a, k)
	}, `SELECT id, rp, label, sealed, `+accountColumns+` FROM account
		JOIN (SELECT id, account AS owner, rp, name AS label, sealed FROM passkey) p ON owner = uid`)
}
