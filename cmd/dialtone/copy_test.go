package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dialtone/internal/test/postgrestest"
)

// A server on a copy of a running server's data directory exits, and leaves the messages in the
// copy unchanged.
func TestCopyOfDataDirectory(t *testing.T) {
	t.Parallel()
	url, dir := postgrestest.Shared(t).Database(t), t.TempDir()
	env := []string{"DIALTONE_DATABASE=" + url}
	data, copied := filepath.Join(dir, "data"), filepath.Join(dir, "copied")
	first := start(t, launch{data: data, env: env})
	v := newVisitor(first.address, "")
	defer v.leave()
	if a, err := v.signup("ann"); err != nil || !a.OK {
		t.Fatalf("%+v, %v", a, err)
	}
	if err := os.CopyFS(copied, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"seal.key", "sign.key"} {
		if err := os.Chmod(filepath.Join(copied, "keys", key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	status, stdout, stderr := runCommand(t, env, "serve", "--data", copied, "--listen", "127.0.0.1:0")
	if status != exitConfig || stdout != "" || !strings.Contains(stderr, "another server with the same node.id") ||
		!strings.Contains(stderr, "delete node.id") {
		t.Errorf("status %d, %s%s", status, stdout, stderr)
	}
	if a, err := v.signup("bob"); err != nil || !a.OK {
		t.Errorf("the first server, afterwards: %+v, %v", a, err)
	}
	// With its own name, the server runs.
	if err := os.Remove(filepath.Join(copied, "node.id")); err != nil {
		t.Fatal(err)
	}
	start(t, launch{data: copied, env: env}).mustStop(t)

	// A server that was killed starts again at once.
	first.Kill()
	again := start(t, launch{data: data, env: env})
	if strings.Contains(again.stderr.String(), "waiting for a sign") {
		t.Errorf("the log is\n%s", again.stderr)
	}
	again.mustStop(t)
}
