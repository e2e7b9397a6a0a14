package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/test/process"
)

// changeWithin is the time within which a change of readiness is visible and logged, as
// docs/operating.md promises.
const changeWithin = 5 * time.Second

// eventuallyLogged waits for at most changeWithin until the log contains n lines with a text.
func eventuallyLogged(t *testing.T, p *serverProcess, text string, n int) {
	t.Helper()
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), changeWithin)
	defer cancel()
	err := process.Poll(ctx, func() error {
		if got := p.stderr.Count(text); got != n {
			return fmt.Errorf("%d lines with %s, want %d", got, text, n)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("not within %v: %v\n%s", changeWithin, err, p.stderr)
	}
	t.Logf("%s after %v", text, time.Since(start).Round(time.Millisecond))
}

// A pickup directory that becomes read-only is logged once, and so is its repair, even if nobody
// requests /readyz.
func TestReadOnlyPickupDirectory(t *testing.T) {
	t.Parallel()
	s := newService(t)
	p := s.start()
	dir := filepath.Join(s.dir, "pickup")
	const failed, recovered = `"msg":"not ready","check":"pickup"`, `"msg":"ready again","check":"pickup"`
	for i := range 2 {
		s.must(os.Chmod(dir, 0o500))
		eventuallyLogged(t, p, failed, i+1)
		p.readiness(t, 503, `{"name":"pickup","ok":false`)
		s.must(os.Chmod(dir, 0o750))
		eventuallyLogged(t, p, recovered, i+1)
		p.readiness(t, 200, `{"name":"pickup","ok":true}`)
	}
	p.mustStop(t)
	if a, b := p.stderr.Count(failed), p.stderr.Count(recovered); a != 2 || b != 2 {
		t.Errorf("two faults: %d and %d lines", a, b)
	}
}

// A relay that cannot be reached is a warning. It does not make the server unready.
func TestUnreachableRelayWarns(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	p := start(t, launch{data: t.TempDir(), flags: []string{"--mail-relay=smtp://" + closed.Addr().String()}})
	p.readiness(t, 200, `{"name":"relay","ok":true}`)
	v := newVisitor(p.address, "")
	defer v.leave()
	if a, err := v.signup("ann"); err != nil || !a.OK {
		t.Fatalf("%v, %v", a, err)
	}
	p.readiness(t, 200, `{"name":"relay","ok":true,"warning":"the relay takes no messages: connecting`)
	eventuallyLogged(t, p, `"level":"WARN","msg":"check warns","check":"relay"`, 1)
	if text := p.stderr.String(); strings.Contains(text, email("ann")) {
		t.Error("the log has the address")
	}
}

// A trigger that Dialtone did not create does not prevent a server from starting. The server logs
// it and warns, and verify reports a fault.
func TestForeignTrigger(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	p := start(t, launch{data: data})
	p.readiness(t, 200, `{"name":"audit trail","ok":true}`)
	p.mustStop(t)
	db, err := sql.Open("sqlite", filepath.Join(data, "dialtone.db"))
	if err == nil {
		_, err = db.Exec(`CREATE TRIGGER hide AFTER INSERT ON audit BEGIN DELETE FROM audit WHERE id = NEW.id; END`)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	p = start(t, launch{data: data})
	p.readiness(t, 200, `{"name":"audit trail","ok":true,"warning":"dialtone did not create the trigger hide`)
	eventuallyLogged(t, p, `"level":"ERROR","msg":"database schema is not as made"`, 1)
	p.mustStop(t)
	out, err := exec.Command(binary(t), "verify", "--data", data).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FAULT  database: dialtone did not create the trigger hide") {
		t.Errorf("verify: %v, %s", err, out)
	}
}

// health and doctor ignore the answer of another server on the same port, but accept that of a
// server of an earlier version, which does not identify itself.
func TestHealthOfAnotherServer(t *testing.T) {
	t.Parallel()
	own, other := t.TempDir(), t.TempDir()
	start(t, launch{data: own}).mustStop(t)
	p := start(t, launch{data: other})
	ask := func(data, at string, status int, says string) {
		t.Helper()
		environ := []string{"DIALTONE_DATA=" + data, "DIALTONE_OPS_LISTEN=" + at, "DIALTONE_LISTEN=127.0.0.1:9"}
		got, out, stderr := runCommand(t, environ, "health")
		if got != status || !strings.Contains(out+stderr, says) {
			t.Errorf("health of %s: status %d, %s%s", data, got, out, stderr)
		}
		found := false
		for _, f := range examined(t, environ...) {
			found = found || f.Check == "server" && f.Level == finding.Fault && strings.Contains(f.Cause, says)
		}
		if found != (status != 0) {
			t.Errorf("doctor of %s: %v", data, found)
		}
	}
	at := strings.TrimPrefix(p.operators, "http://")
	ask(other, at, 0, "ready\n")
	ask(own, at, exitFailed, "is another server of Dialtone, and not that of "+own)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"ok":true,"checks":[{"name":"store","ok":true}]}`)
	}))
	defer old.Close()
	ask(own, old.Listener.Addr().String(), 0, "ready\n")
}
