package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A write that the system refuses in the middle of a commit leaves the commit in doubt. Here the
// cause is the limit on the size of files, which needs no privileges; a failing disk looks the same
// to SQLite.
func TestFailedCommitEndsTheServer(t *testing.T) {
	p := newTestServer(t, launch{data: t.TempDir()}, "")
	for range 3 { // so that the WAL is longer than any message
		v, form := p.next()
		if a, err := v.post(form); err != nil || a.Status != 200 {
			t.Fatal(a, err)
		}
	}
	before := p.users()
	v, form := p.next()
	wal, err := os.Stat(filepath.Join(p.data, "dialtone.db-wal"))
	p.must(err)
	limit := unix.Rlimit{Cur: uint64(wal.Size()), Max: unix.RLIM_INFINITY}
	p.must(unix.Prlimit(p.Pid(), unix.RLIMIT_FSIZE, &limit, nil))
	a, err := v.post(form)
	if err != nil || a.Status != 503 || a.Error != "overloaded" || a.RetryAfter == "" {
		t.Errorf("a signup whose commit failed: %v, %v; want 503 with Retry-After", a, err)
	}
	select {
	case <-p.Done():
	case <-time.After(stopWithin):
		t.Fatalf("the server is still running\n%s", p.stderr)
	}
	if status := p.ExitCode(); status != exitRestart {
		t.Errorf("exit status %d, want %d", status, exitRestart)
	}
	if n := p.stderr.Count(`"msg":"store failed; exiting"`); n != 1 {
		t.Errorf("%d lines of the log say why\n%s", n, p.stderr)
	}

	p.serverProcess = start(t, launch{data: p.data, listen: p.address})
	p.consistent()
	after := p.users()
	user := form.Get("user")
	saved := slices.Contains(after, user)
	if !saved && !slices.Equal(after, before) || saved && len(after) != len(before)+1 {
		t.Errorf("accounts before the failure %q, after the restart %q", before, after)
	}
	want := 200
	if saved {
		want = 400 // its captcha is spent
	}
	if a, err := v.post(form); err != nil || a.Status != want {
		t.Errorf("the same form after the restart: %v, %v; want %d", a, err, want)
	}
	p.consistent()
	p.mustStop(t)
}

// users returns the sorted names of all accounts.
func (p *testServer) users() (list []string) {
	for _, a := range shownAccounts(p, p.data) {
		list = append(list, a.User)
	}
	slices.Sort(list)
	return list
}
