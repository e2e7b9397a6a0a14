package transfer

import (
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/postgrestest"
)

// BenchmarkChangePage reads pages of 50 changes from a trail of a million, and verifies it.
func BenchmarkChangePage(b *testing.B) {
	ring := secret.NewRing(noon)
	file, err := openFile(b.Context(), filepath.Join(b.TempDir(), "a.db"), ring)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	database, err := openPostgres(b.Context(), ring, "a", postgrestest.Shared(b).Database(b))
	if err != nil {
		b.Fatal(err)
	}
	defer database.Close()
	for name, s := range map[string]*testStore{"SQLite": file, "PostgreSQL": database} {
		fillTrail(b, s, name)
		for what, f := range map[string]audit.Filter{
			"all":              {},
			"a small tenant":   {Tenant: "small.test"},
			"a person":         {Tenant: "big.test", User: "user7"},
			"a rare actor":     {Actor: "olga"},
			"a rare action":    {Action: "keys."},
			"a network":        {Net: netip.MustParsePrefix("198.51.100.0/24")},
			"an hour long ago": {Since: noon.Add(1000 * time.Second), Before: noon.Add(4600 * time.Second)},
		} {
			for _, newest := range []bool{false, true} {
				f.Newest = newest
				b.Run(fmt.Sprintf("%s/%s/newest=%t", name, what, newest), func(b *testing.B) {
					var times []time.Duration
					next, found := "", 0
					for b.Loop() {
						began := time.Now()
						p, err := s.ChangePage(b.Context(), f, next, 50)
						if err != nil {
							b.Fatal(err)
						}
						times = append(times, time.Since(began))
						next, found = p.Next, max(found, len(p.Changes))
					}
					b.ReportMetric(float64(slices.Max(times).Microseconds())/1000, "ms-max")
					b.ReportMetric(float64(found), "found")
				})
			}
		}
		b.Run(name+"/verify", func(b *testing.B) {
			k := audit.NewKeeper(audit.KeeperDeps{
				Store: s, Ring: func() (*secret.Ring, error) { return ring, nil }, Log: slog.New(slog.DiscardHandler),
				Now: func() time.Time { return noon },
			})
			began := time.Now()
			if err := k.CoverNow(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(time.Since(began).Seconds(), "s-cover")
			for b.Loop() {
				v, err := audit.Verify(b.Context(), audit.VerifyDeps{Store: s, Ring: ring, Now: noon},
					func(f string) { b.Error(f) }, func(string) {})
				if err != nil || v.Changes < 1_000_000 {
					b.Fatal(v, err)
				}
			}
		})
	}
}

// fillTrail adds a million changes.
func fillTrail(b *testing.B, s *testStore, name string) {
	numbers := `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)`
	event := `CAST(printf('%%016d', i) AS BLOB)`
	if name == "PostgreSQL" {
		numbers = `WITH n AS (SELECT generate_series(1, 1000000) AS i)`
		event = `decode(lpad(i::text, 16, '0'), 'escape')`
	}
	err := s.engine.Write(func(tx engine.Tx) error {
		return tx.Script(fmt.Sprintf(`INSERT INTO audit (event, at, action, outcome, tenant, account, username, subject,
				before, after, actor_kind, actor, actor_id, sudo_user, reason, net, request) `+numbers+`
			SELECT `+event+`, %d + i * 1000000, CASE i %% 100000 WHEN 7 THEN 'keys.rotate'
				ELSE 'password.change' END, 'ok',
				CASE i %% 50000 WHEN 3 THEN 'small.test' ELSE 'big.test' END, '', 'user' || (i %% 5000), '', '', '',
				CASE i %% 20000 WHEN 5 THEN 'command' ELSE 'person' END, CASE i %% 20000 WHEN 5 THEN 'olga' ELSE '' END,
				'', '', '',
				CASE i %% 90000 WHEN 9 THEN '198.51.100.0/24' ELSE '192.0.2.0/24' END, 'r' || i FROM n`,
			engine.Micros(noon)))
	})
	if err != nil {
		b.Fatal(err)
	}
}
