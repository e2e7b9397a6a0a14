package sqlstore_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/sqlstore"
	"dialtone/internal/tenant"
)

// The migrations that databases out there have been through, for ever as they were.
var frozen = map[string]string{
	"0000_initial.sqlite.sql":         "517b26ec58003e2ecadd45bb16d0b7e5fe525d4cfa672cd01de43f1fde9618db",
	"0000_initial.postgres.sql":       "5e03ca708555a3de179fa562a9042171ae5dbc0da8f76755784b0dbc5d0ba61a",
	"0001_nodes.postgres.sql":         "9805240c406bc29baf7614e48aa28757fe78c87c26fb31f991f43e34025ef76a",
	"0001_nodes.sqlite.sql":           "753422959c6b7d1d9cef06524ecd1ae132b18f302e882445040c5ce6feeaac29",
	"0002_phone_servers.postgres.sql": "e6757d4a465818dfe43bea0f211eebd6865ff3110bc742112123d3f72a5fd28a",
	"0002_phone_servers.sqlite.sql":   "fc9de5df7ce3bddc6369d1219d39563c0a7ebcc3f3f179d7d760982cf1d55c5f",
	"0003_export.postgres.sql":        "826630478984efc90eb0f244c7f01eb58787e36cc11ead80703b74e5d2b99f82",
	"0003_export.sqlite.sql":          "322a7b5a40a0a98e6be3126e7d8e30a55a217fbdba29eb83272c5a8a3fa563e9",
	"0004_hooks.postgres.sql":         "375b6f848a28036733d7654dc37f92a7f48c0d1dd31c1b33db42173028e0d615",
	"0004_hooks.sqlite.sql":           "98d2cfec6643466e0219aefcd80b8bfe140acff787575ac20cc95308e38bc2d2",
	"0005_delivery.sqlite.sql":        "73870f26feb15755d7d34c5b0e0ce36b20acffbde1b5965675dae85f299536cf",
	"0005_delivery.postgres.sql":      "650c3e1df9aa672f59227e0907d44dda330cd21befcc4b823dd786b9e5012b1f",
	"0006_lang.postgres.sql":          "e44bc2fdc31e68fb5fedb0e6553a3f4d2204de537e024dfb7fa4e85619091f87",
	"0006_lang.sqlite.sql":            "b0ba964488db1bdf266271569e86555924b3b84007bed3a8d881acb64660e456",
	"0007_resend.postgres.sql":        "30172f9fbcd5575d3100ad4b0d5ac1c4be6c3dd2a25f4c3e3c9f43b9a66a9dd0",
	"0007_resend.sqlite.sql":          "801625417979616870e96526a6c050834ba0649c1f7582adf8068fe8f45c258e",
	"0008_confirmed.postgres.sql":     "14a15ef4de54928decb11778154af8d02e67fe7b71355410ba23271f3a753134",
	"0008_confirmed.sqlite.sql":       "14a15ef4de54928decb11778154af8d02e67fe7b71355410ba23271f3a753134",
}

func TestMigrationsAreFrozen(t *testing.T) {
	missing := maps.Clone(frozen)
	files, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join("migrations", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != frozen[f.Name()] {
			t.Errorf("%s has the checksum %s; a change of the schema is a new file, and its checksum is written here", f.Name(), got)
		}
		delete(missing, f.Name())
	}
	for name := range missing {
		t.Errorf("%s is gone", name)
	}
}

// oldDatabase is a database as version 0 wrote it, and the ring that it was sealed with.
func oldDatabase(t *testing.T) (path string, ring *secret.Ring) {
	t.Helper()
	dir := t.TempDir()
	key, err := os.ReadFile("testdata/version-0.seal.key")
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "seal.key")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if ring, err = keyfile.Read(keyFile); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("testdata/version-0.sql")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "dialtone.db")
	alter(t, path, string(text))
	return path, ring
}

func TestUpgradeFromVersion0(t *testing.T) {
	path, ring := oldDatabase(t)
	s := open(t, path, ring)
	ctx := t.Context()
	at := noon.Add(24 * time.Hour)

	tenants, version, err := s.Tenants(ctx)
	if err != nil || version != 2 {
		t.Fatalf("the tenants: number %d, %v", version, err)
	}
	want := []tenant.Tenant{
		{ID: 2, Host: "office.test", Realm: "Office", PublicURL: "https://office.test:8443", Created: noon.Add(time.Minute), Settings: tenant.Settings{
			Product: "Bürotelefon", MailFrom: "phones@office.test", SIPServer: "sip.office.test", SIPTransport: "TCP",
			Origins: []string{"https://www.office.test"}, Reserved: []string{"initech"}, Algorithm: digest.SHA256, SignupsPerHour: 100,
		}},
		{ID: 1, Host: "phone.test", Realm: "phone.test", Created: noon},
	}
	if got, want := fmt.Sprintf("%#v", tenants), fmt.Sprintf("%#v", want); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}

	type row struct {
		host, user, name string
		role             account.Role
		disabled, held   bool
		activated        time.Time
		epoch            int64
		full             bool // has all three hashes
	}
	rows := []row{
		{"office.test", "ann", "Other Ann", account.Guest, true, false, time.Time{}, 0, true},
		{"phone.test", "ann", "Ann O'Hara", account.Admin, false, false, noon.Add(time.Hour), 0, true},
		{"phone.test", "bob", "Боб", account.Guest, true, true, noon.Add(time.Hour), 1, false},
		{"phone.test", "dan", "Dan", account.Guest, true, false, time.Time{}, 0, true},
	}
	passwords := []string{"other ann's password", "ann's password", "bob's password", "dan's password"}
	vault := secret.NewVault(ring, "credential")
	var got []row
	for _, tn := range tenants {
		if err := s.List(ctx, tn.ID, at, func(a account.Account) error {
			if a.Email != a.User+"@mail.test" || !a.Created.Equal(noon) || !a.Expires.Equal(noon.Add(account.PendingLife)) || a.Lang != i18n.English {
				t.Errorf("%s: %+v", a.User, a)
			}
			b, err := vault.Open(a.Tenant, a.UID[:], a.Sealed)
			if err != nil {
				return err
			}
			c, err := digest.UnmarshalCredential(b)
			if err != nil {
				return err
			}
			if c.HA1 != digest.Compute(a.User, tn.Realm, passwords[len(got)]) {
				t.Errorf("%s at %s has another password", a.User, tn.Host)
			}
			full := c.HA1B != nil && c.SHA256 != nil
			if full && (*c.HA1B != digest.ComputeB(a.User, tn.Realm, passwords[len(got)]) || *c.SHA256 != digest.ComputeSHA256(a.User, tn.Realm, passwords[len(got)])) {
				t.Errorf("%s at %s has other hashes", a.User, tn.Host)
			}
			if a.HasSHA256 != (c.SHA256 != nil) {
				t.Errorf("%s is said to have SHA-256: %v", a.User, a.HasSHA256)
			}
			got = append(got, row{tn.Host, a.User, a.Name, a.Role, a.Disabled, a.Held, a.Activated, a.Epoch, full})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, rows) {
		t.Errorf("got  %+v\nwant %+v", got, rows)
	}

	tokens := secret.NewVault(ring, "activation token")
	waiting, err := s.Pending(ctx)
	if err != nil || len(waiting) != 2 {
		t.Fatalf("%d messages wait: %v", len(waiting), err)
	}
	for _, w := range waiting {
		text, err := tokens.Open(w.Tenant, w.Message[:], w.SealedToken)
		if err != nil || len(text) != len(secret.Token{}) {
			t.Fatalf("the token of %s: %v", w.User, err)
		}
		a, err := s.Activate(ctx, w.Tenant, secret.Token(text).Hash(), at)
		if err != nil || a.UID != w.Account || a.Disabled {
			t.Errorf("the link of %s: %v", w.User, err)
		}
	}
	if revoked, err := s.Revoked(ctx, 1, [16]byte{1, 2, 3}, noon.Add(12*time.Hour)); err != nil || !revoked {
		t.Errorf("the session that was ended: %v, %v", revoked, err)
	}
	if err := s.Create(ctx, admission(1, "cid"), at); !fault.Is(err, fault.Conflict) {
		t.Errorf("the name of a deleted account: %v", err)
	}
	if id := addTenant(t, s, "new.test"); id != 3 {
		t.Errorf("the next tenant is %d", id)
	}
}

func TestOldDatabaseWantsItsKey(t *testing.T) {
	path, _ := oldDatabase(t)
	if s, err := sqlstore.Open(t.Context(), path, secret.NewRing(noon)); err == nil {
		s.Close()
		t.Error("it opens with another key")
	}
}
