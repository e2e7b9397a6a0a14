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
	"dialtone/internal/secret"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/test/phonetest"
	"dialtone/internal/test/postgrestest"
)

// BenchmarkKamailio registers phones with sipp at three Kamailios, in turn. They look the credentials
// up among 200,000 accounts: in the export's view, over HTTP, and in a table of Kamailio's own schema.
// HTTP is measured with an empty cache and with a full one. The result is the ratio of the rates, as
// the median of the rounds. The absolute rates include every program, as all run on one machine.
func BenchmarkKamailio(b *testing.B) {
	const accounts, registrations, rounds = 200_000, 20_000, 3
	p := onPostgres(b, postgrestest.Start(b))
	conn, err := pgx.Connect(b.Context(), p.admin)
	p.Must(err)
	defer conn.Close(b.Context())
	for _, statement := range []string{
		`INSERT INTO dialtone_directory.entry (uid, realm, username, address, role, ha1, ha1b, ha1_sha256)
			SELECT decode(md5(i::text), 'hex'), 'phone.test', 'u' || i, 'u' || i || '@phone.test', 'guest',
				md5('u' || i || ':phone.test:u' || i), '', ''
			FROM generate_series(1, ` + fmt.Sprint(accounts) + `) i`,
		`CREATE SCHEMA flat`,
		`CREATE TABLE flat.subscriber (id SERIAL PRIMARY KEY, username VARCHAR(64) NOT NULL,
			domain VARCHAR(64) NOT NULL, password VARCHAR(64) NOT NULL, ha1 VARCHAR(128) NOT NULL,
			ha1b VARCHAR(128) NOT NULL, role VARCHAR(16) NOT NULL, UNIQUE (username, domain))`,
		`INSERT INTO flat.subscriber (username, domain, password, ha1, ha1b, role)
			SELECT username, realm, '', ha1, ha1b, role FROM dialtone_directory.entry`,
		`CREATE TABLE flat.domain AS SELECT * FROM dialtone_kamailio.domain`,
		`CREATE TABLE flat.domain_attrs AS SELECT * FROM dialtone_kamailio.domain_attrs`,
		`CREATE TABLE flat.version AS SELECT * FROM dialtone_kamailio.version`,
		`VACUUM ANALYZE`,
	} {
		_, err := conn.Exec(b.Context(), statement)
		p.Must(err)
	}
	users := make([]string, registrations)
	for i := range users {
		users[i] = fmt.Sprintf("u%d", 1+i*(accounts/registrations))
	}
	view := p.kamailio()
	_, err = p.Store.GrantExport(b.Context(), "flat", "flat_table", "s3cret")
	p.Must(err)
	p.using = fmt.Sprintf(p.url, "flat_table:s3cret")
	flat := p.kamailio()
	l := overHTTP(b, onSQLite(b))
	l.addMany(accounts, "phone.test")
	web := l.kamailio(unlimited)
	rates := make(map[string][]float64)
	measure := func(name string, s *phonetest.Server) {
		rates[name] = append(rates[name], registrations/s.Registrations(b, users, "phone.test").Seconds())
	}
	for b.Loop() {
		for range rounds {
			measure("flat", flat)
			measure("view", view)
			web.RPC(b, "htable.flush", "ha1")
			before := l.asked.Load()
			measure("http-cold", web)
			cold := l.asked.Load()
			measure("http", web)
			b.Logf("over HTTP, %d look-ups with an empty cache and %d with a full one",
				cold-before, l.asked.Load()-cold)
		}
	}
	median := func(list []float64) float64 { return slices.Sorted(slices.Values(list))[len(list)/2] }
	for name, list := range rates {
		b.Logf("%s: %.0f registrations a second", name, list)
		b.ReportMetric(median(list), name+"-reg/s")
		ratios := make([]float64, len(list))
		for i := range list {
			ratios[i] = list[i] / rates["flat"][i]
		}
		if name != "flat" {
			b.ReportMetric(median(ratios), name+"/flat")
		}
	}
}

// addMany adds the active accounts u1, u2…, whose passwords are their names, in one transaction.
func (p *platform) addMany(n int, host string) {
	p.Helper()
	conn, err := conn.Open(p.file, conn.Options{})
	p.Must(err)
	defer func() { p.Must(conn.Close()) }()
	p.Must(conn.Script(`BEGIN IMMEDIATE`))
	id := p.At(host).Tenant.ID
	now, vault := time.Now(), secret.NewVault(p.SealRing, "credential")
	for i := range n {
		user := fmt.Sprint("u", 1+i)
		uid := account.NewUID(now)
		c := digest.Credential{HA1: digest.Compute(user, host, user)}
		var token [32]byte
		rand.Read(token[:])
		_, err := conn.Exec(`INSERT INTO account (uid, tenant, username, name, email, role, held,
			created, expires, activated, epoch, credential, has_sha256, token)
			VALUES ($1, $2, $3, $3, $4, 'guest', FALSE, $5, $5, $5, 0, $6, FALSE, $7)`,
			uid[:], id, user, user+"@mail.test", now.UnixMicro(), vault.Seal(id, uid[:], c.Marshal()), token[:])
		p.Must(err)
	}
	p.Must(conn.Script(`COMMIT`))
}
