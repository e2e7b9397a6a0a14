package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/internal/test/postgrestest"
)

// A command opens and closes signups on all servers on a database within a second, while forms
// arrive: each form is either accepted or refused.
func TestSignupsAreClosedOnAllServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	environ := []string{
		"DIALTONE_DATABASE=" + postgrestest.Shared(t).Database(t), "DIALTONE_KEYS_DIR=" + filepath.Join(dir, "keys"),
	}
	var servers []*serverProcess
	for i := range 2 {
		servers = append(servers, start(t, launch{data: filepath.Join(dir, fmt.Sprint("node", i)), env: environ}))
	}
	command := func(line string) time.Time {
		t.Helper()
		var out strings.Builder
		args := append(strings.Fields(line), "--data", filepath.Join(dir, "node0"))
		if status := run(t.Context(), args, environ, &out, &out); status != 0 {
			t.Fatalf("dialtone %s: status %d, %s", line, status, &out)
		}
		return time.Now()
	}
	users := 0
	// try signs up somebody on each server, and returns the error codes.
	try := func() (codes [2]string) {
		t.Helper()
		for i, p := range servers {
			users++
			a, err := newVisitor(p.address, "").signup(fmt.Sprint("user", users))
			if err != nil || a.OK == (a.Error != "") || !a.OK && (a.Error != "signups_closed" || a.Status != 403) {
				t.Fatalf("%+v, %v", a, err)
			}
			codes[i] = a.Error
		}
		return codes
	}
	for _, c := range []struct{ line, code string }{
		{"signups close", "signups_closed"},
		{"signups open", ""},
		{"signups close --freeze", "signups_closed"},
		{"signups open --freeze", ""},
	} {
		ended := command(c.line)
		for {
			codes := try()
			after := time.Since(ended)
			if codes == [2]string{c.code, c.code} {
				t.Logf("%s: after %v", c.line, after)
				break
			}
			if after > 1500*time.Millisecond { // with what two signups take on a busy machine
				t.Fatalf("%s: %q after %v", c.line, codes, after)
			}
		}
	}
}
