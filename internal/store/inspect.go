package store

import (
	"context"

	"dialtone/internal/account"
)

var _ account.Inspector = (*Store)(nil)

// Consistent implements account.Inspector.
func (s *Store) Consistent(ctx context.Context, report func(string)) error {
	return s.engine.consistent(ctx, report)
}

func (l *lite) consistent(ctx context.Context, report func(string)) error {
	return faults(l.reads(ctx), report,
		`SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'`,
		`SELECT "table" || ' has a row that refers to no ' || parent FROM pragma_foreign_key_check`)
}

// faults calls report for each row of the queries. A row is one sentence.
func faults(q querier, report func(string), queries ...string) error {
	for _, query := range queries {
		err := q.each(func(row scanner) error {
			var fault string
			if err := row.Scan(&fault); err != nil {
				return err
			}
			report(fault)
			return nil
		}, query)
		if err != nil {
			return err
		}
	}
	return nil
}

// Each implements account.Inspector.
func (s *Store) Each(ctx context.Context, f func(account.Account, []byte, bool) error) error {
	return s.engine.reads(ctx).each(func(row scanner) error {
		var token []byte
		var closed bool
		a, err := scanAccount(prefixed{row, []any{&token, &closed}})
		if err != nil {
			return err
		}
		return f(a, token, closed)
	}, `SELECT token, closed IS NOT NULL, `+accountColumns+` FROM account`)
}
