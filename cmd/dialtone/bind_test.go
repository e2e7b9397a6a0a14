package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/store/sqlite"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// older converts a store and its seal.key to those of an earlier version. url is empty for SQLite.
func older(t *testing.T, data, url string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(data, "keys", "seal.key")
	ring, err := keyfile.Read(path)
	must(err)
	must(keyfile.Replace(path, ring.Lenient()))
	var e engine.Engine
	var s *store.Store
	if url == "" {
		onFile, err := sqlite.Open(t.Context(), filepath.Join(data, "dialtone.db"), nil)
		must(err)
		e, s = onFile, teststore.OnSQLite(onFile, ring)
	} else {
		onServer, err := postgres.Open(t.Context(), "", url, nil)
		must(err)
		e, s = onServer, teststore.OnPostgres(onServer, ring)
	}
	defer s.Close()
	sealer := account.NewSealer(ring)
	_, err = s.Reseal(t.Context(), account.UID{}, 1000, func(a account.Account) []byte {
		c, err := sealer.Open(a)
		must(err)
		sealer.SealOld(&a, c)
		return a.Sealed
	})
	must(err)
	must(e.Write(func(tx engine.Tx) error {
		_, err := tx.Exec(`UPDATE revision SET n = 0 WHERE subject = 'binding'`)
		_, err2 := tx.Exec(`UPDATE schema_floor SET floor = 1 WHERE version = 13`)
		return errors.Join(err, err2)
	}))
}

// runCommand runs a command and returns its exit status and output.
func runCommand(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	var out, log strings.Builder
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &log
	err := cmd.Run()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), log.String()
}

// proves checks that the password of a user is the right one. The account is pending.
func proves(t *testing.T, p *serverProcess, user string) {
	t.Helper()
	v := newVisitor(p.address, "")
	defer v.leave()
	if a, err := v.signIn(user, password(user)); err != nil || a.Error != "not_activated" {
		t.Errorf("%s signs in: %+v, %v", user, a, err)
	}
}

func isStrict(t *testing.T, data string) bool {
	t.Helper()
	ring, err := keyfile.Read(filepath.Join(data, "keys", "seal.key"))
	if err != nil {
		t.Fatal(err)
	}
	return ring.IsStrict()
}

func wantNoFaults(t *testing.T, env []string, data string) {
	t.Helper()
	if _, out, _ := runCommand(t, env, "verify", "--data", data); !strings.Contains(out, "no faults found") ||
		strings.Contains(out, "not bound") {
		t.Errorf("verify says\n%s", out)
	}
}

func TestBindSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, backup := filepath.Join(dir, "data"), filepath.Join(dir, "backup.db")
	join := func(p *serverProcess, user string) {
		t.Helper()
		v := newVisitor(p.address, "")
		defer v.leave()
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	p := start(t, launch{data: data})
	if !isStrict(t, data) {
		t.Error("the key of a new store is not strict")
	}
	join(p, "ann")
	p.mustStop(t)
	older(t, data, "")
	mustOutput(t, "backup", backup, "--data", data)

	// A server binds the names before it answers.
	p = start(t, launch{data: data})
	if !isStrict(t, data) {
		t.Error("the server has not made the key strict")
	}
	if !strings.Contains(p.stderr.String(), `"credentials bound to their user names","accounts":1,"damaged":0`) {
		t.Errorf("the log is\n%s", p.stderr)
	}
	wantNoFaults(t, nil, data)
	proves(t, p, "ann")
	join(p, "bob")
	p.mustStop(t)

	// An earlier backup is refused until an operator vouches for its user names.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.RemoveAll(filepath.Join(data, "dialtone.db"+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(backup, filepath.Join(data, "dialtone.db")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--listen", "127.0.0.1:0"}, {"verify"}} {
		status, _, stderr := runCommand(t, nil, append(args, "--data", data)...)
		if status != exitConfig || !strings.Contains(stderr, "run: dialtone keys bind") {
			t.Errorf("dialtone %s: status %d, %s", args[0], status, stderr)
		}
	}
	if status, out, stderr := runCommand(t, nil, "keys", "bind", "--data", data); status != 0 ||
		!strings.HasPrefix(out, "credentials bound to their user names: 1\n") {
		t.Errorf("keys bind: status %d, %s%s", status, out, stderr)
	}
	p = start(t, launch{data: data})
	wantNoFaults(t, nil, data)
	proves(t, p, "ann")

	// A running server may be one of an earlier version.
	older(t, data, "")
	if status, _, stderr := runCommand(t, nil, "keys", "bind", "--data", data); status == 0 ||
		!strings.Contains(stderr, "another server runs on this data directory") {
		t.Errorf("while a server runs: status %d, %s", status, stderr)
	}
	p.mustStop(t)
	if _, out, _ := runCommand(t, nil, "keys", "bind", "--data", data); !strings.HasSuffix(out, "names: 1\n") {
		t.Errorf("keys bind: %s", out)
	}
	if _, out, _ := runCommand(t, nil, "keys", "bind", "--data", data); !strings.Contains(out, "already") {
		t.Errorf("another time: %s", out)
	}
}

// With the keys in the environment, the command prints what to set.
func TestBindKeyOfEnvironment(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	seal := secret.NewRing(time.Now()).Text()
	env := []string{"DIALTONE_KEYS_SEAL=" + seal, "DIALTONE_KEYS_SIGN=" + secret.NewRing(time.Now()).Text()}
	p := start(t, launch{data: data, env: env})
	if !strings.Contains(p.stderr.String(), "run dialtone keys bind, and set DIALTONE_KEYS_SEAL") {
		t.Errorf("the log is\n%s", p.stderr)
	}
	p.mustStop(t)
	status, out, stderr := runCommand(t, env, "keys", "bind", "--data", data)
	ring, err := secret.ParseRing(out)
	if status != 0 || err != nil || !ring.IsStrict() || ring.Lenient().Text() != seal ||
		!strings.Contains(stderr, "new content of DIALTONE_KEYS_SEAL") {
		t.Errorf("status %d, %s, %v", status, stderr, err)
	}
	env[0] = "DIALTONE_KEYS_SEAL=" + out
	p = start(t, launch{data: data, env: env})
	if strings.Contains(p.stderr.String(), "bound to their user names") {
		t.Errorf("the log is\n%s", p.stderr)
	}
	p.mustStop(t)
}

// Servers that share a database keep running while the command binds the names.
func TestBindPostgres(t *testing.T) {
	t.Parallel()
	url, data := postgrestest.Shared(t).Database(t), t.TempDir()
	env := []string{"DIALTONE_DATABASE=" + url}
	signup := func(p *serverProcess, user string) {
		t.Helper()
		v := newVisitor(p.address, "")
		defer v.leave()
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	p := start(t, launch{data: data, env: env})
	signup(p, "ann")
	p.mustStop(t)
	older(t, data, url)
	p = start(t, launch{data: data, env: env})
	if !strings.Contains(p.stderr.String(), "when all servers run this version, run dialtone keys bind") {
		t.Errorf("the log is\n%s", p.stderr)
	}
	signup(p, "bob") // in the older form, because an older server may have to open it
	status, out, stderr := runCommand(t, env, "keys", "bind", "--data", data)
	if status != 0 || !strings.HasPrefix(out, "credentials bound to their user names: 2;") ||
		!strings.Contains(out, "restart all servers") {
		t.Fatalf("status %d, %s%s", status, out, stderr)
	}
	signup(p, "cid") // in the newer form, though the server has not read the strict key yet
	for _, user := range []string{"ann", "bob", "cid"} {
		proves(t, p, user)
	}
	p.mustStop(t)
	p = start(t, launch{data: data, env: env})
	for _, user := range []string{"ann", "bob", "cid"} {
		proves(t, p, user)
	}
	wantNoFaults(t, env, data)
	p.mustStop(t)
}
