package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
	"dialtone/internal/test/teststore"
)

// A copy is killed after some tables have been copied. The target is not accepted as a store, and
// the same command completes it.
func TestStoreCopyContinuesAfterKill(t *testing.T) {
	t.Parallel()
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
	log := new(process.Log)
	copier := process.Run(t, command(copying...), log, func() error {
		if log.Count("copy spent") == 0 { // the table taken is next
			return errors.New("no table has been copied")
		}
		return nil
	})
	copier.Kill()
	if copier.ExitCode() != -1 {
		t.Fatalf("the copy ended before it was killed: exit status %d\n%s", copier.ExitCode(), log)
	}
	if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
		t.Fatal(err)
	}
	var accounts, taken int
	row := conn.QueryRow(ctx, `SELECT (SELECT count(*) FROM account), (SELECT count(*) FROM taken)`)
	if err := row.Scan(&accounts, &taken); err != nil || accounts != 1 || taken != 0 {
		t.Fatalf("%d rows of account and %d of taken, %v", accounts, taken, err)
	}
	out, err := command("--data", data, "tenant", "list").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not completed") {
		t.Errorf("an incomplete copy is opened as a store: %v\n%s", err, out)
	}
	if out, err := command(copying...).CombinedOutput(); err != nil {
		t.Errorf("the copy is not completed: %v\n%s", err, out)
	}
	if out, err := command("--data", data, "account", "show", "ann", "--tenant",
		"localhost").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
