package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/certificate"
	"dialtone/internal/secret/keyfile"
)

// On a database that was overwritten in the middle, a server and commands say once what to do.
func TestDamagedDatabase(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	mustOutput(t, "tenant", "add", "localhost", "--data", data)
	path := filepath.Join(data, "dialtone.db")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const header = 100
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa7}, int(info.Size())-header), header); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--listen=127.0.0.1:0"}, {"tenant", "list"}, {"verify"}} {
		status, _, stderr := runCommand(t, []string{}, append(args, "--data", data)...)
		if status != exitConfig || strings.Count(stderr, "restore it from a backup") != 1 {
			t.Errorf("%s: status %d\n%s", args[0], status, stderr)
		}
	}
	runCommand(t, []string{}, "doctor", "--data", data)
	if beside, err := filepath.Glob(path + "-*"); err != nil || len(beside) > 0 {
		t.Errorf("%v were not there before", beside)
	}
}

// verify opens the private keys in the store.
func TestVerifyOpensPrivateKeys(t *testing.T) {
	data := t.TempDir()
	mustOutput(t, "tenant", "add", "phone.test", "--data", data)
	mustOutput(t, "mail", "dkim", "add", "phone.test", "--selector", "one", "--data", data)
	ring, err := keyfile.Read(filepath.Join(data, "keys", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", filepath.Join(data, "dialtone.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	const authority = "https://ca.test/directory"
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	keys := certificate.NewKeys(ring)
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(`INSERT INTO certificate (tenant, authority, issued, chain, sealed, tried, lease)
		SELECT id, ?, 1, x'00', ?, 1, 0 FROM tenant`, authority, keys.Seal(1, "phone.test", der))
	exec(`INSERT INTO authority_key (authority, sealed, made) VALUES (?, ?, 1)`,
		authority, keys.SealAuthority(authority, der))
	mustOutput(t, "verify", "--data", data)

	exec(`UPDATE certificate SET sealed = ?`, keys.Seal(1, "other.test", der))
	exec(`UPDATE authority_key SET sealed = ?`, keys.SealAuthority(authority, []byte("no key")))
	exec(`UPDATE dkim_key SET selector = 'two'`)
	status, out, _ := runCommand(t, []string{}, "verify", "--data", data)
	if status != exitFailed || strings.Count(out, "FAULT") != 3 {
		t.Errorf("status %d: %s", status, out)
	}
	for _, want := range []string{
		"FAULT  the private key of the certificate for phone.test: ",
		"FAULT  the key of the account with " + authority + ": it is damaged",
		"FAULT  tenant phone.test: DKIM key two: ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in: %s", want, out)
		}
	}
}
