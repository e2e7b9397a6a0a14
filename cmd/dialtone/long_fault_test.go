//go:build long

package main

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/cmd/dialtone/internal/serve"
	"dialtone/internal/mail/pickup"
	"dialtone/internal/mailmsg"
)

// The server continues during faults of disks and of the machine, or exits so that a restart
// recovers.
func TestLongFaults(t *testing.T) {
	if !ownMounts(t) {
		return
	}
	t.Run("sync fails sometimes", testSyncFailsSometimes)
	t.Run("sync of the WAL fails", testWALFails)
	t.Run("sync of the database file fails", testDatabaseFileFails)
	t.Run("sync of the pickup directory fails", testPickupSyncFails)
	t.Run("failed write that others have seen", testFailedWriteSeenByOthers)
	t.Run("failed commit", testFailedCommit)
	t.Run("failed commit and power cut", testFailedCommitAndPowerCut)
	t.Run("disk full", testDiskFull)
	t.Run("no file descriptors", testNoDescriptors)
	t.Run("frozen pickup", func(t *testing.T) { testFrozen(t, false) })
	t.Run("frozen data and pickup", func(t *testing.T) { testFrozen(t, true) })
}

// syncs are the system calls that SQLite syncs a file with.
const syncs = "fsync,fdatasync"

// watchedServer is a testServer whose readiness is watched.
type watchedServer struct {
	*testServer
	ready *readyState
}

func newWatchedServer(t *testing.T, data, pickup string, env ...string) *watchedServer {
	t.Helper()
	ops := freeAddress(t)
	p := newTestServer(t, launch{data: data, listen: freeAddress(t), flags: []string{"--ops-listen", ops},
		env: env}, pickup)
	return &watchedServer{testServer: p, ready: newReadyState(t, ops)}
}

// restart starts the server again, with the same addresses and directories.
func (w *watchedServer) restart() {
	w.Helper()
	w.serverProcess = start(w, launch{data: w.data, listen: w.address, flags: []string{"--ops-listen",
		w.ready.address, "--mail-pickup-dir", w.pickup}})
}

func (w *watchedServer) wal() string      { return filepath.Join(w.data, "dialtone.db-wal") }
func (w *watchedServer) database() string { return filepath.Join(w.data, "dialtone.db") }

// refused sends forms until one gets an error, at most limit of them. It returns that form.
func (w *watchedServer) refused(limit int) (v *visitor, form url.Values) {
	w.Helper()
	for range limit {
		v, form = w.next()
		a, err := v.post(form)
		switch {
		case err != nil:
			w.Fatal(err)
		case a.Status == 500 && a.Error == "server_error", a.Status == 503 && a.RetryAfter != "":
			return v, form
		case a.Status != 200:
			w.Fatalf("during the fault: %s", a)
		}
	}
	w.Fatalf("%d signups succeed in spite of the fault", limit)
	return nil, nil
}

// notReadyWhileRefusing checks that /readyz notices within noticeWithin that all signups are
// refused. If the disk is full, a checkpoint may free space. Then the store is ready again, and the
// test fills that space too.
func (w *watchedServer) notReadyWhileRefusing(fill func()) {
	w.Helper()
	since := time.Now()
	for deadline := since.Add(time.Minute); time.Now().Before(deadline); {
		status, text := w.ready.ask()
		if status == 503 {
			w.ready.down = max(w.ready.down, time.Since(since))
			return
		}
		if time.Since(since) > noticeWithin {
			w.Errorf("/readyz says %d, though all signups were refused for %v: %s", status, time.Since(since), text)
			return
		}
		v, form := w.next()
		a, err := v.post(form)
		if err != nil {
			w.Fatal(err)
		}
		if v.leave(); a.Status == 200 {
			fill()
			since = time.Now()
		}
		<-time.After(20 * time.Millisecond)
	}
	w.Error("the disk does not get full")
}

// settled waits until there is no outbox row.
func (w *watchedServer) settled() {
	w.Helper()
	deadline := time.Now().Add(noticeWithin)
	for verified(w.T, w.data, w.pickup).Waiting > 0 {
		if time.Now().After(deadline) {
			w.Fatal("there are still outbox rows")
		}
		<-time.After(50 * time.Millisecond)
	}
}

// nothingLeft sends a form again that got an error. It must succeed, because nothing of it was
// saved.
func (w *watchedServer) nothingLeft(v *visitor, form url.Values) {
	w.Helper()
	if a, err := v.post(form); err != nil || a.Status != 200 {
		w.Fatalf("%s signs up again after an error: %v, %v\n%s", form.Get("user"), a, err, w.stderr)
	}
}

// crowd sends forms from many addresses until finish is called, and sends each again until it is
// answered with 200. A form that was answered with 500 must not have been saved. One that was
// answered with 503, or not at all, may have been saved.
type crowd struct {
	end                      chan struct{}
	all                      sync.WaitGroup
	mu                       sync.Mutex
	answered, refused, saved int // saved counts forms that were saved without a 200
	err                      error
}

func (w *watchedServer) crowd(n int) *crowd {
	c := &crowd{end: make(chan struct{})}
	for i := range n {
		c.all.Go(func() {
			for j := 0; ; j++ {
				select {
				case <-c.end:
					return
				default:
				}
				if err := c.person(w.address, fmt.Sprintf("crowd-%d-%d-%d", i, j, visitors.Load())); err != nil {
					c.mu.Lock()
					c.err = err
					c.mu.Unlock()
					return
				}
			}
		})
	}
	return c
}

func (c *crowd) person(address, user string) error {
	v := newVisitor(address, "")
	defer v.leave()
	deadline := time.Now().Add(30 * time.Second)
	form, err := v.form(user)
	for err != nil && time.Now().Before(deadline) { // the server is restarting
		<-time.After(5 * time.Millisecond)
		form, err = v.form(user)
	}
	if err != nil {
		return err
	}
	for unknown := false; ; {
		a, err := v.post(form)
		c.mu.Lock()
		switch {
		case err != nil, a.Status == 503:
			unknown = true
			c.refused++
		case a.Status == 200:
			c.answered++
		case a.Status == 500:
			c.refused++
		case unknown && a.Error == "captcha_failed":
			c.saved++
		default:
			c.mu.Unlock()
			return fmt.Errorf("%s: %s", user, a)
		}
		c.mu.Unlock()
		if err == nil && (a.Status == 200 || a.Error == "captcha_failed") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: timeout: %v, %v", user, a, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (c *crowd) finish(t *testing.T) {
	t.Helper()
	close(c.end)
	c.all.Wait()
	if c.err != nil {
		t.Fatal(c.err)
	}
}

// outcomeUnknown sends a form whose commit fails.
func (w *watchedServer) outcomeUnknown(v *visitor, form url.Values) {
	w.Helper()
	if a, err := v.post(form); err != nil || a.Status != 503 || a.RetryAfter == "" {
		w.Fatalf("a signup whose commit fails: %v, %v; want 503 with Retry-After\n%s", a, err, w.stderr)
	}
}

// exits waits until the server has exited, as it does after a failed commit.
func (w *watchedServer) exits() (after time.Duration) {
	w.Helper()
	since := time.Now()
	select {
	case <-w.Done():
	case <-time.After(serve.ExitTimeout):
		w.Fatalf("the server does not exit\n%s", w.stderr)
	}
	if status := w.ExitCode(); status != exitRestart {
		w.Fatalf("exit status %d, want %d\n%s", status, exitRestart, w.stderr)
	}
	return time.Since(since)
}

// sentAgain sends a form again after its commit has failed, and reports whether it had been saved.
func (w *watchedServer) sentAgain(v *visitor, form url.Values) (saved bool) {
	w.Helper()
	a, err := v.post(form)
	if err != nil || a.Status != 200 && a.Error != "captcha_failed" {
		w.Fatalf("the same form after a restart: %v, %v; want 200 or captcha_failed", a, err)
	}
	w.consistent()
	return a.Status != 200
}

// Some syncs of the WAL, the database file or both fail under load, in different patterns. The
// server is restarted when it exits, as a supervisor would.
func testSyncFailsSometimes(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "")
	var answered, refused, saved, faults, restarts int
	for _, which := range [][]string{{w.wal()}, {w.database()}, {w.wal(), w.database()}} {
		for _, when := range []string{"1", "2", "1..3", "2+2", "3+7", "5+11", "1+4", "20"} {
			stop := inject(t, w.serverProcess, syncs, "error=EIO:when="+when, which...)
			c := w.crowd(8)
			begin := time.Now()
			ended := false
			for time.Since(begin) < 400*time.Millisecond {
				select {
				case <-w.Done():
					w.exits()
					w.restart()
					ended = true
					restarts++
				case <-time.After(10 * time.Millisecond):
				}
			}
			stop()
			c.finish(t)
			answered += c.answered
			refused += c.refused
			saved += c.saved
			faults++
			if len(which) == 1 && which[0] == w.database() && (ended || c.refused > 0) {
				t.Errorf("requests noticed a failing sync of the database file only, when=%s", when)
			}
		}
	}
	w.ready.wait(true, time.Now())
	w.consistent()
	w.noPanic(t)
	w.Kill()
	w.restart()
	w.consistent()
	verified(t, w.data, w.pickup)
	t.Logf("%d patterns of failing syncs, %d restarts: %d signups answered 200, lost 0; %d other answers, "+
		"after which the same form succeeded or had been saved (%d)",
		faults, restarts, answered, refused, saved)
}

func testWALFails(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "")
	const times = 5
	var longest time.Duration
	saved := 0
	for range times {
		v, form := w.next()
		w.settled() // so that only the signup is affected
		stop := inject(t, w.serverProcess, syncs, "error=EIO", w.wal())
		w.outcomeUnknown(v, form)
		longest = max(longest, w.exits())
		stop()
		w.restart()
		if w.sentAgain(v, form) {
			saved++
		}
	}
	verified(t, w.data, w.pickup)
	w.mustStop(t)
	t.Logf("%d failed commits: the server exited within %v; %d of the signups had been saved",
		times, longest, saved)
}

// A checkpoint syncs the database file, but no signup waits for it. If it fails, all signups are
// still in the WAL.
func testDatabaseFileFails(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "")
	stop := inject(t, w.serverProcess, syncs, "error=EIO", w.database())
	c := w.crowd(12)
	deadline := time.Now().Add(60 * time.Second)
	for { // until the WAL has been full several times
		info, err := os.Stat(w.wal())
		w.must(err)
		if info.Size() > 12<<20 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the WAL has %d bytes", info.Size())
		}
		<-time.After(10 * time.Millisecond)
	}
	status, _ := w.ready.ask()
	c.finish(t)
	if c.refused > 0 {
		t.Errorf("%d signups failed, though the WAL could be synced", c.refused)
	}
	w.Kill()
	stop()
	w.restart()
	w.consistent()
	verified(t, w.data, w.pickup)

	v, form := w.next()
	w.settled()
	stop = inject(t, w.serverProcess, syncs, "error=EIO", w.wal(), w.database())
	w.outcomeUnknown(v, form)
	w.exits()
	stop()
	w.restart()
	w.sentAgain(v, form)
	verified(t, w.data, w.pickup)
	t.Logf("%d signups answered 200 though the database file cannot be synced (/readyz says %d), "+
		"lost 0 after kill -9", c.answered, status)
}

// If the pickup directory cannot be synced, the outbox rows remain, but the messages are there.
func testPickupSyncFails(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "")
	var answered, again int
	var status int
	for _, when := range []string{"1", "1+2", "2+3", "1+1"} {
		stop := inject(t, w.serverProcess, "syncfs", "error=EIO:when="+when, w.pickup)
		c := w.crowd(6)
		errors := w.stderr.Count("outbox flush failed")
		deadline := time.Now().Add(20 * time.Second)
		for w.stderr.Count("outbox flush failed") == errors && time.Now().Before(deadline) {
			<-time.After(10 * time.Millisecond)
		}
		if time.Now().After(deadline) {
			t.Errorf("when=%s: the log does not say that the sync failed", when)
		}
		status, _ = w.ready.ask()
		c.finish(t)
		stop()
		if c.refused > 0 {
			t.Errorf("%d signups failed", c.refused)
		}
		answered += c.answered
		w.settled() // a flush that succeeds, after which the next failure is logged
	}
	w.Kill()
	w.restart()
	w.settled()
	again = w.stderr.Count(`"msg":"message.republish"`)
	w.consistent()
	t.Logf("%d signups answered 200 (/readyz says %d), lost 0 after kill -9, %d messages written again at "+
		"the start, no outbox row left after the fault", answered, status, again)
}

// A write to the disk of the pickup directory fails, and the error is first reported to somebody else: to another
// program's syncfs, or to the move of a message to badmail. Sync must report it too. The disk is a file in a small file
// system that is full.
func testFailedWriteSeenByOthers(t *testing.T) {
	for name, see := range map[string]func(d *pickup.Dir, old mailmsg.ID, other *os.File) error{
		"by another program": func(_ *pickup.Dir, _ mailmsg.ID, other *os.File) error {
			return unix.Syncfs(int(other.Fd()))
		},
		"by a move to badmail": func(d *pickup.Dir, old mailmsg.ID, _ *os.File) error {
			return d.MoveToBadmail(old, "refused")
		},
	} {
		t.Run(name, func(t *testing.T) {
			small := t.TempDir()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(unix.Mount("none", small, "tmpfs", 0, "size=6m"))
			t.Cleanup(func() { unix.Unmount(small, unix.MNT_DETACH) })
			k := &disk{t: t, image: filepath.Join(small, "image"), dir: t.TempDir()}
			must(os.WriteFile(k.image, nil, 0o600))
			must(os.Truncate(k.image, 64<<20))
			k.run("mkfs.ext2", "-q", "-F", "-b", "4096", k.image)
			k.run("mount", "-t", "ext2", "-o", "loop", k.image, k.dir)
			t.Cleanup(func() { unix.Unmount(k.dir, unix.MNT_DETACH) })

			d, err := pickup.Open(filepath.Join(k.dir, "pickup"))
			must(err)
			other, err := os.Open(k.dir)
			must(err)
			defer other.Close()
			publish := func(id mailmsg.ID) {
				t.Helper()
				m, err := d.Stage(id, bytes.Repeat([]byte("x"), 64<<10))
				must(err)
				must(m.Publish())
			}
			publish(mailmsg.ID{1})
			must(d.Sync())
			full, err := os.Create(filepath.Join(small, "full"))
			must(err)
			defer full.Close()
			for err == nil {
				_, err = full.Write(make([]byte, 64<<10))
			}
			publish(mailmsg.ID{2})
			unix.Sync() // the kernel writes, and notes that it failed
			if err := see(d, mailmsg.ID{1}, other); err == nil {
				t.Fatal("the disk did not fail")
			}
			if err := d.Sync(); err == nil {
				t.Error("Sync did not report that a message may be lost")
			}
		})
	}
}

// After a failed commit and a restart, the signup is there completely or not at all, however the
// server ended.
func testFailedCommit(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(w *watchedServer, endFault func())
	}{
		{"exits", func(w *watchedServer, endFault func()) { w.exits(); endFault() }},
		{"the fault ends, then it exits", func(w *watchedServer, endFault func()) { endFault(); w.exits() }},
		{"kill", func(w *watchedServer, endFault func()) { w.Kill(); endFault() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatchedServer(t, t.TempDir(), "")
			const times = 10
			saved := 0
			for range times {
				// The WAL is new after a start, or has some groups of commits.
				for range w.n % 3 {
					v, form := w.next()
					w.nothingLeft(v, form)
				}
				v, form := w.next()
				w.settled()
				endFault := inject(t, w.serverProcess, syncs, "error=EIO", w.wal(), w.database())
				w.outcomeUnknown(v, form)
				c.end(w, endFault)
				w.restart()
				w.consistent()
				if w.sentAgain(v, form) {
					saved++
				}
			}
			verified(t, w.data, w.pickup)
			t.Logf("%d failed commits: %d signups saved, %d not saved, 0 in part", times, saved, times-saved)
		})
	}
}

// The same with a power cut just after the answer.
func testFailedCommitAndPowerCut(t *testing.T) {
	d := newDisk(t, 96<<20, "")
	w := newWatchedServer(t, filepath.Join(d.dir, "data"), "")
	saved := 0
	const times = 10
	for range times {
		v, form := w.next()
		w.settled()
		stop := inject(t, w.serverProcess, syncs, "error=EIO", w.wal(), w.database())
		w.outcomeUnknown(v, form)
		w.must(d.cut())
		w.Kill()
		stop()
		d.restore()
		w.restart()
		w.consistent()
		verified(t, w.data, w.pickup)
		if w.sentAgain(v, form) {
			saved++
		}
	}
	w.mustStop(t)
	t.Logf("%d power cuts just after a failed commit: %d signups saved, %d not saved, 0 in part",
		times, saved, times-saved)
}

// While the server runs, its disk becomes full, and then has space again.
func testDiskFull(t *testing.T) {
	for _, c := range []struct {
		name  string
		times int
		dirs  func(t *testing.T) (disk, data, pickup string)
	}{
		{"data and pickup on one disk", 25, func(t *testing.T) (string, string, string) {
			d := newDisk(t, 24<<20, "")
			return d.dir, filepath.Join(d.dir, "data"), ""
		}},
		{"pickup", 15, func(t *testing.T) (string, string, string) {
			dir := mount(t, "size=256k")
			return dir, t.TempDir(), filepath.Join(dir, "mail")
		}},
		{"pickup without inodes", 10, func(t *testing.T) (string, string, string) {
			dir := mount(t, "size=1m,nr_inodes=60")
			return dir, t.TempDir(), filepath.Join(dir, "mail")
		}},
		{"data", 10, func(t *testing.T) (string, string, string) {
			dir := mount(t, "size=12m")
			return dir, filepath.Join(dir, "data"), filepath.Join(t.TempDir(), "mail")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, data, pickup := c.dirs(t)
			w := newWatchedServer(t, data, pickup)
			filler, size := filepath.Join(dir, "filler"), 1<<20
			if strings.Contains(c.name, "inodes") {
				size = 0
			}
			for range c.times {
				w.fill(filler, size)
				v, form := w.refused(200)
				w.fill(filler, size) // again, because a refused signup frees its space
				w.notReadyWhileRefusing(func() { w.fill(filler, size) })
				w.must(os.RemoveAll(filler))
				w.ready.wait(true, time.Now())
				w.nothingLeft(v, form)
			}
			w.consistent()
			verified(t, w.data, w.pickup)
			w.noPanic(t)
			w.mustStop(t)
			t.Logf("the disk was full %d times: %s", c.times, w.ready)
		})
	}
}

// Idle connections use up the file descriptors of the server.
func testNoDescriptors(t *testing.T) {
	w := newWatchedServer(t, t.TempDir(), "")
	const times = 3
	for range times {
		type try struct {
			v    *visitor
			form url.Values
		}
		var tries []try
		for range 5 { // on connections that are already open
			v, form := w.next()
			tries = append(tries, try{v, form})
		}
		if status, text := w.ready.ask(); status != 200 {
			t.Fatal(status, text)
		}
		most := uint64(w.files(t) + 40)
		var before unix.Rlimit
		w.must(unix.Prlimit(w.Pid(), unix.RLIMIT_NOFILE, nil, &before))
		w.must(unix.Prlimit(w.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: before.Max}, nil))
		idle := w.idle(int(most) + 50)
		since := time.Now()
		var answered, refused int
		failed := tries[:0:0]
		for _, y := range tries {
			switch a, err := y.v.post(y.form); {
			case err != nil:
				t.Fatal(err)
			case a.Status == 200:
				answered++
			case a.Status == 500 || a.Status == 503:
				refused++
				failed = append(failed, y)
			default:
				t.Fatal(a)
			}
		}
		w.ready.wait(false, since)
		for _, c := range idle {
			c.Close()
		}
		since = time.Now()
		w.ready.wait(true, since)
		for _, y := range failed {
			w.nothingLeft(y.v, y.form)
		}
		v, form := w.next() // on a new connection
		w.nothingLeft(v, form)
		w.must(unix.Prlimit(w.Pid(), unix.RLIMIT_NOFILE, &before, nil))
		t.Logf("%d descriptors, %d idle connections: %d signups answered 200, %d with an error", most,
			len(idle), answered, refused)
	}
	w.consistent()
	verified(t, w.data, w.pickup)
	w.noPanic(t)
	w.mustStop(t)
	t.Logf("%d times: %s", times, w.ready)
}

// idle opens connections and sends one request on each, until the server accepts no more.
func (w *watchedServer) idle(limit int) (list []net.Conn) {
	w.Helper()
	for range limit {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(nextAddress())}, Timeout: 2 * time.Second}
		c, err := dialer.Dial("tcp", w.address)
		if err != nil {
			return list
		}
		w.Cleanup(func() { c.Close() })
		list = append(list, c)
		c.SetDeadline(time.Now().Add(time.Second))
		fmt.Fprintf(c, "GET /captcha.ashx HTTP/1.1\r\nHost: localhost:%s\r\n\r\n",
			w.address[strings.LastIndexByte(w.address, ':')+1:])
		if n, err := c.Read(make([]byte, 4096)); err != nil || n == 0 {
			return list
		}
	}
	w.Fatalf("%d idle connections do not use up the descriptors", limit)
	return nil
}

// frozenFor is how long the disk is frozen.
const frozenFor = 30 * time.Second

// If a disk is frozen, writes wait, and everything else continues. If the store is on it, the whole
// program may wait: SQLite's wal-index is a memory-mapped file there, and the Go scheduler does not
// know that a thread waits for a page of it. All answers must still be true.
func testFrozen(t *testing.T, store bool) {
	d := newDisk(t, 96<<20, "")
	data, pickup := t.TempDir(), filepath.Join(d.dir, "mail")
	if store {
		data, pickup = filepath.Join(d.dir, "data"), ""
	}
	w := newWatchedServer(t, data, pickup)
	type person struct {
		v    *visitor
		form url.Values
		answer
		err  error
		took time.Duration
	}
	people := make([]*person, 200)
	for i := range people {
		v, form := w.next()
		v.http.Timeout = frozenFor + 30*time.Second
		people[i] = &person{v: v, form: form}
	}
	before := w.status(t, "Threads")

	// Another process unfreezes the disk, even if this one ends. Until then, a process that writes
	// there cannot even be killed.
	freezer := exec.Command("sh", "-c", `fsfreeze -f "$1" || exit 1; echo frozen; sleep "$2"; fsfreeze -u "$1"`,
		"sh", d.dir, fmt.Sprint(frozenFor.Seconds()))
	out, err := freezer.StdoutPipe()
	w.must(err)
	w.must(freezer.Start())
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal("fsfreeze: ", err)
	}
	since := time.Now()
	others := watchCaptchas(t, w.address)
	var all sync.WaitGroup
	for _, p := range people {
		all.Go(func() {
			begin := time.Now()
			p.answer, p.err = p.v.post(p.form)
			p.took = time.Since(begin)
		})
	}
	if !store {
		w.ready.wait(false, since)
	}
	unfrozen := make(chan error, 1)
	go func() { unfrozen <- freezer.Wait() }()
	var threads, memory int
	for running := true; running; {
		select {
		case err := <-unfrozen:
			w.must(err)
			running = false
		case <-time.After(20 * time.Millisecond):
		}
		threads, memory = max(threads, w.status(t, "Threads")), max(memory, w.status(t, "VmRSS"))
	}
	w.ready.wait(true, time.Now())
	var n int
	var p99 time.Duration
	if store {
		close(others.end)
		others.all.Wait()
		n, p99 = len(others.times), percentile(others.times, 0.99)
	} else {
		n, p99 = others.done()
	}
	all.Wait()
	accounts := make(map[string]bool)
	for _, a := range shownAccounts(t, w.data) {
		accounts[a.User] = true
	}
	var answered, refused, saved, notSaved int
	var quickest, slowest time.Duration
	for _, p := range people {
		user := p.form.Get("user")
		if quickest == 0 || p.took < quickest {
			quickest = p.took
		}
		slowest = max(slowest, p.took)
		switch {
		case p.err == nil && p.Status == 200:
			answered++
			if !accounts[user] {
				t.Errorf("%s was answered 200 and has no account", user)
			}
			continue
		case p.err == nil && (p.Status == 500 || p.Status == 503):
			refused++
			if accounts[user] {
				t.Errorf("%s got an error and has an account", user)
			}
		case p.err != nil:
			if accounts[user] {
				saved++
			} else {
				notSaved++
			}
		default:
			t.Errorf("%s: %s", user, p.answer)
		}
		// A signup that was saved, but whose answer was lost, gets the same answer.
		if a, err := p.v.post(p.form); err != nil || !strings.HasPrefix(a.String(), "200 ") {
			t.Errorf("%s signs up again: %v, %v; want 200", user, a, err)
		}
	}
	if most := before + len(people) + 32; threads > most {
		t.Errorf("%d threads, %d before", threads, before)
	}
	w.consistent()
	verified(t, w.data, w.pickup)
	w.noPanic(t)
	w.mustStop(t)
	t.Logf("frozen for %v: %d captchas, p99 %v; of %d signups %d were answered 200, %d with 500 or 503, "+
		"%d not but saved, %d not and not saved; "+
		"first after %v, last after %v; at most %d threads and %d MB; %s",
		frozenFor, n, p99.Round(100*time.Microsecond), len(people), answered, refused, saved, notSaved,
		quickest.Round(time.Millisecond), slowest.Round(time.Millisecond),
		threads, memory>>10, w.ready)
}
