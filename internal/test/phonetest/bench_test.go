package phonetest_test

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
)

// BenchmarkKamailio has sipp register phones at Kamailio, which finds each among 200 thousand accounts: by the directory's view, over
// HTTP from a store with as many, and by a table as Kamailio makes its own, turn about. Over HTTP each turn is measured twice: with
// nothing remembered, and then with what was. The ratios of the rates, median of the turns, are what it says; the rates are those of
// a machine that sipp, Kamailio, the database and the directory share.
func BenchmarkKamailio(b *testing.B) {
	const accounts, registrations, rounds = 200_000, 20_000, 3
	p := onPostgres(b, postgrestest.Start(b))
	conn, err := pgx.Connect(b.Context(), p.admin)
	p.must(err)
	defer conn.Close(b.Context())
	for _, statement := range []string{
		`INSERT INTO dialtone_directory.entry (uid, realm, username, address, role, ha1, ha1b, ha1_sha256)
			SELECT decode(md5(i::text), 'hex'), 'phone.test', 'u' || i, 'u' || i || '@phone.test', 'guest', md5('u' || i || ':phone.test:u' || i), '', ''
			FROM generate_series(1, ` + fmt.Sprint(accounts) + `) i`,
		`CREATE SCHEMA flat`,
		`CREATE TABLE flat.subscriber (id SERIAL PRIMARY KEY, username VARCHAR(64) NOT NULL, domain VARCHAR(64) NOT NULL, password VARCHAR(64) NOT NULL,
			ha1 VARCHAR(128) NOT NULL, ha1b VARCHAR(128) NOT NULL, role VARCHAR(16) NOT NULL, UNIQUE (username, domain))`,
		`INSERT INTO flat.subscriber (username, domain, password, ha1, ha1b, role) SELECT username, realm, '', ha1, ha1b, role FROM dialtone_directory.entry`,
		`CREATE TABLE flat.domain AS SELECT * FROM dialtone_kamailio.domain`,
		`CREATE TABLE flat.domain_attrs AS SELECT * FROM dialtone_kamailio.domain_attrs`,
		`CREATE TABLE flat.version AS SELECT * FROM dialtone_kamailio.version`,
		`VACUUM ANALYZE`,
	} {
		_, err := conn.Exec(b.Context(), statement)
		p.must(err)
	}
	users := make([]string, registrations)
	for i := range users {
		users[i] = fmt.Sprintf("u%d", 1+i*(accounts/registrations))
	}
	view, _ := p.kamailio()
	_, err = p.GrantExport(b.Context(), "flat", "flat_table", "s3cret")
	p.must(err)
	p.using = fmt.Sprintf(p.url, "flat_table:s3cret")
	flat, _ := p.kamailio()
	l := overHTTP(b, onSQLite(b))
	l.crowd(accounts, "phone.test")
	web, rpc := l.kamailio(patient)
	rates := make(map[string][]float64)
	measure := func(name string, s *phonetest.Server) {
		rates[name] = append(rates[name], registrations/s.Registrations(b, users, "phone.test").Seconds())
	}
	for b.Loop() {
		for range rounds {
			measure("flat", flat)
			measure("view", view)
			web.RPC(b, rpc, rpcToken, "htable.flush", `"ha1"`)
			before := l.asked.Load()
			measure("http-cold", web)
			cold := l.asked.Load()
			measure("http", web)
			b.Logf("over HTTP, the directory was asked %d times, and %d times for those that it had told of", cold-before, l.asked.Load()-cold)
		}
	}
	median := func(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }
	for name, list := range rates {
		b.Logf("%s: %.0f registrations a second", name, list)
		b.ReportMetric(median(list), name+"-reg/s")
		of := make([]float64, len(list))
		for i := range list {
			of[i] = list[i] / rates["flat"][i]
		}
		if name != "flat" {
			b.ReportMetric(median(of), name+"/flat")
		}
	}
}

// crowd adds active accounts u1, u2…, each with its name as the password. It writes the rows that the program would, all at once.
func (p *platform) crowd(n int, host string) {
	p.Helper()
	conn, err := conn.Open(p.file(), conn.Options{})
	p.must(err)
	defer func() { p.must(conn.Close()) }()
	p.must(conn.Script(`BEGIN IMMEDIATE`))
	now := time.Now()
	for i := range n {
		user := fmt.Sprint("u", 1+i)
		uid := account.NewUID(now)
		c := digest.Credential{HA1: digest.Compute(user, host, user)}
		var token [32]byte
		rand.Read(token[:])
		_, err := conn.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, activated, epoch,
			credential, has_sha256, token) VALUES ($1, $2, $3, $3, $4, 'guest', FALSE, $5, $5, $5, 0, $6, FALSE, $7)`,
			uid[:], p.tenants[host], user, user+"@mail.test", now.UnixMicro(), p.vault.Seal(p.tenants[host], uid[:], c.Marshal()), token[:])
		p.must(err)
	}
	p.must(conn.Script(`COMMIT`))
}
