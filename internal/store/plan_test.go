package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/delivery"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
)

// planned is an engine whose queries find nothing. It records the indexes that SQLite would use to
// find accounts. It is also a transaction.
type planned struct {
	engine.Engine
	engine.Tx
	t    *testing.T
	used *[]string
}

func (p planned) Reads(context.Context) engine.Querier { return p }

func (p planned) Each(_ func(engine.Scanner) error, query string, args ...any) error {
	return p.Engine.Reads(p.t.Context()).Each(func(row engine.Scanner) error {
		var id, parent, unused int64
		var step string
		err := row.Scan(&id, &parent, &unused, &step)
		how, index, ok := strings.Cut(step, " USING ")
		if words := strings.Fields(how); ok && slices.Contains([]string{"account", "a"}, words[1]) {
			*p.used = append(*p.used, words[0]+" "+index)
		}
		return err
	}, `EXPLAIN QUERY PLAN `+query, args...)
}

func (p planned) Row(query string, args ...any) engine.Scanner {
	if err := p.Each(nil, query, args...); err != nil {
		p.t.Error(err)
	}
	return nothing{}
}

type nothing struct{}

func (nothing) Scan(...any) error { return sql.ErrNoRows }

// Statements about some accounts do not read all accounts of a tenant. PostgreSQL's plans depend on
// the contents of the tables; SQLite's do not.
func TestPlans(t *testing.T) {
	e, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "dialtone.db"), func(engine.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const uid = "SEARCH PRIMARY KEY (uid=?)"
	now, ctx := time.Unix(0, 0), t.Context()
	for name, c := range map[string]struct {
		read func(s *Store, p planned)
		want []string
	}{
		"accounts of an address": {func(s *Store, _ planned) { s.OfEmail(ctx, 1, "a", now) }, []string{
			"SEARCH INDEX account_email (tenant=? AND <expr>=?)",
			"SEARCH INDEX account_waiting_email (tenant=? AND <expr>=?)"}},
		"accounts of a mailed reset link": {
			func(_ *Store, p planned) { accountsOf(p, usableOfEmail, 0, 1, "a") },
			[]string{"SEARCH INDEX account_email (tenant=? AND <expr>=?)"}},
		"page by address": {
			func(_ *Store, p planned) {
				w := (&pager{tenant: 1, text: "a"}).candidates(startOf(phaseEmail), nil)
				p.Each(nil, selection(phaseEmail, accountColumns, `account`, w.String(), `1`, `1`), w.args...)
			},
			[]string{"SEARCH INDEX account_email (tenant=? AND <expr>>? AND <expr><?)",
				"SEARCH INDEX account_waiting_email (tenant=? AND <expr>>? AND <expr><?)"}},
		"reset link": {
			func(_ *Store, p planned) { findResetLink(p, account.Account{Tenant: 1}, [32]byte{}, now) },
			[]string{uid}},
		"unsent messages": {
			func(s *Store, _ planned) { s.Unsent(ctx, 1, delivery.Failed, 10) }, []string{uid}},
		"messages that wait to be written": {
			func(s *Store, _ planned) { s.Unwritten(ctx, 1) }, []string{uid}},
		"messages that wait to be delivered": {
			func(s *Store, _ planned) { s.MailBacklog(ctx, 1) }, []string{uid}},
	} {
		var used []string
		p := planned{Engine: e, t: t, used: &used}
		c.read(&Store{engine: p}, p)
		if !slices.Equal(used, c.want) {
			t.Errorf("%s: %q, want %q", name, used, c.want)
		}
	}
}

// A page by address reads only as many accounts as fit on it, and does not sort all that match.
func TestPlanOfAPageOnPostgreSQL(t *testing.T) {
	e, err := postgres.Open(t.Context(), "", postgrestest.Shared(t).Database(t), func(engine.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if err := e.Write(func(tx engine.Tx) error {
		return tx.Script(`
			INSERT INTO tenant (host, realm, public_url, settings, created) VALUES ('a', 'a', '', '{}', 0);
			INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, activated, epoch,
				credential, has_sha256, first_signin)
			SELECT decode(md5(n::text), 'hex'), (SELECT min(id) FROM tenant), n, '', 'a' || n, '', FALSE, 0, 0,
				CASE WHEN n % 10 > 0 THEN 0 END, 0, '', FALSE, NULL FROM generate_series(1, 20000) n;
			ANALYZE account`)
	}); err != nil {
		t.Fatal(err)
	}
	tenant, err := engine.Count(e.Reads(t.Context()), `SELECT min(id) FROM tenant`)
	if err != nil {
		t.Fatal(err)
	}
	w := (&pager{tenant: tenant, text: "a"}).candidates(startOf(phaseEmail), nil)
	for name, statement := range map[string]string{
		"bound": selection(phaseEmail, `uid`, `account`, w.String(), `1 OFFSET 249`, `250`),
		"read":  selection(phaseEmail, accountColumns, `account`, w.String(), `50`, `50`),
	} {
		var plan []string
		if err := e.Reads(t.Context()).Each(func(row engine.Scanner) error {
			var line string
			err := row.Scan(&line)
			plan = append(plan, line)
			return err
		}, `EXPLAIN `+statement, w.args...); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(plan, "\n")
		if strings.Count(text, "account_email") != 1 || strings.Count(text, "account_waiting_email") != 1 ||
			strings.Count(text, "Sort  (") != strings.Count(text, "Incremental Sort  (") {
			t.Errorf("%s:\n%s", name, text)
		}
	}
}
