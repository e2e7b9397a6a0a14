package phonetest_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/phonetest"
	"dialtone/internal/postgrestest"
)

// BenchmarkKamailio has sipp register phones at Kamailio, which finds each among 200 thousand accounts: by the directory's view, over
// HTTP from another such store, and by a table as Kamailio makes its own, turn about. Over HTTP it is measured
// twice: with what is remembered for a minute, and with nothing remembered. The ratios of the rates are what it says; the rates are those of a machine that
// sipp, Kamailio, the database and the directory share.
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
	for i := range accounts {
		u := fmt.Sprintf("u%d", 1+i)
		l.member(u, "phone.test", u)
	}
	web, rpc := l.kamailio()
	rates := make(map[*phonetest.Server][]float64)
	var cold []float64
	for b.Loop() {
		for range rounds {
			for _, s := range []*phonetest.Server{view, flat, web} {
				rates[s] = append(rates[s], registrations/s.Registrations(b, users, "phone.test").Seconds())
			}
			web.RPC(b, rpc, rpcToken, "htable.flush", `"ha1"`)
			cold = append(cold, registrations/web.Registrations(b, users, "phone.test").Seconds())
		}
	}
	median := func(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }
	b.ReportMetric(median(rates[view]), "view-reg/s")
	b.ReportMetric(median(rates[flat]), "flat-reg/s")
	b.ReportMetric(median(rates[view])/median(rates[flat]), "view/flat")
	b.ReportMetric(median(rates[web])/median(rates[flat]), "http/flat")
	b.ReportMetric(median(cold)/median(rates[flat]), "http-cold/flat")
}
