package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// A copy is killed after some tables have been copied. The target is not accepted as a store, and
// the same command completes it.
func TestStoreCopyContinuesAfterKill(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	data := filepath.Join(dir, "data")
	p := start(t, launch{data: data})
	v := newVisitor(p.address, "")
	defer v.leave()
	if a, err := v.signup("ann"); err != nil || !a.OK {
		t.Fatalf("%v, %v", a, err)
	}
	p.mustStop(t)
	url := postgrestest.Shared(t).Database(t)
	// The tables are created before the copy, so that the test can lock one of them.
	s, err := teststore.OpenPostgres(ctx, nil, "", url)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `BEGIN; LOCK TABLE taken IN SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	environ := []string{"TO=" + url, "DIALTONE_DATABASE=" + url}
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(binary(t), args...)
		cmd.Env = environ
		return cmd
	}
	copying := []string{"store", "copy", "--from", "sqlite:" + filepath.Join(data, "dialtone.db"),
		"--to", "env:TO"}
	cmd := command(copying...)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, read := newLines(), make(chan struct{})
	go func() { said.read(pipe); close(read) }()
	_, err = said.find("copy spent", read, time.Now().Add(startWithin)) // and taken comes next
	cmd.Process.Kill()
	<-read
	if cmd.Wait(); cmd.ProcessState.ExitCode() != -1 || err != nil {
		t.Fatalf("it was not killed: %v, %v\n%s", cmd.ProcessState, err, said)
	}
	if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	var accounts, places int
	row := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM taken)`)
	if err := row.Scan(&accounts, &places); err != nil || accounts != 1 || places != 0 {
		t.Fatalf("%d accounts and %d places, %v", accounts, places, err)
	}
	out, err := command("--data", data, "tenant", "list").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not completed") {
		t.Errorf("half a copy is opened: %v\n%s", err, out)
	}
	if out, err := command(copying...).CombinedOutput(); err != nil {
		t.Errorf("it does not go on: %v\n%s", err, out)
	}
	if out, err := command("--data", data, "account", "show", "ann", "--tenant",
		"localhost").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
