package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/asynclog"
	"dialtone/internal/config"
	"dialtone/internal/store/engine"
	"dialtone/internal/test/process"
)

// testServer is a server for fault injection, and a visitor who has an account there.
type testServer struct {
	*testing.T
	*serverProcess
	data, pickup string
	v            *visitor
	n            int
}

const regular = "regular"

func newTestServer(t *testing.T, l launch, pickup string) *testServer {
	t.Helper()
	if pickup == "" {
		pickup = filepath.Join(l.data, "pickup")
	} else {
		l.flags = append(l.flags, "--mail-pickup-dir", pickup)
	}
	p := &testServer{T: t, serverProcess: start(t, l), data: l.data, pickup: pickup}
	p.v = newVisitor(p.address, "")
	t.Cleanup(p.v.leave)
	if a, err := p.v.signup(regular); err != nil || a.Status != 200 {
		t.Fatal(a, err)
	}
	list, err := messagesIn(pickup)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	if status, page, err := p.v.open(list[0].link); status != 200 || err != nil {
		t.Fatalf("activation: %d %v\n%s", status, err, page)
	}
	return p
}

// next returns a new visitor with an unused address, and a valid form.
func (p *testServer) next() (*visitor, url.Values) {
	p.Helper()
	p.n++
	v := newVisitor(p.address, "")
	p.Cleanup(v.leave)
	form, err := v.form(fmt.Sprintf("person-%d", p.n))
	if err != nil {
		p.Fatal(err)
	}
	return v, form
}

// duringFault sends a form several times during a fault, and expects a 500 each time. Then it ends
// the fault and sends the same form again. Captchas and sign-ins do not depend on the broken part,
// so they must work all the time.
func (p *testServer) duringFault(times int, begin, end func()) {
	p.Helper()
	before := len(shownAccounts(p, p.data))
	v, form := p.next()
	begin()
	for range times {
		a, err := v.post(form)
		if err != nil || a.Status != 500 || a.Error != "server_error" || a.Description == "" {
			p.Fatalf("during the fault: %v, %v; want 500 server_error\n%s", a, err, p.stderr)
		}
		if strings.Contains(a.Description, "/") {
			p.Errorf("the answer contains a path: %s", a.Description)
		}
	}
	if _, err := v.captcha(); err != nil {
		p.Errorf("captcha: %v", err)
	}
	if a, err := v.signIn(regular, password(regular)); err != nil || a.Status != 200 {
		p.Errorf("sign-in: %v, %v", a, err)
	}
	end()
	if list := shownAccounts(p, p.data); len(list) != before {
		p.Errorf("%d accounts after the fault, %d before", len(list), before)
	}
	p.recovers(v, form)
}

// recovers sends a form that failed before. Its captcha must not be used up, and the failure must
// not count towards the limits.
func (p *testServer) recovers(v *visitor, form url.Values) {
	p.Helper()
	// The server tries again once a second.
	deadline := time.Now().Add(10 * time.Second)
	a, err := v.post(form)
	for err == nil && a.Status == 500 && time.Now().Before(deadline) {
		<-time.After(50 * time.Millisecond)
		a, err = v.post(form)
	}
	if err != nil || a.Status != 200 {
		p.Fatalf("after the fault: %v, %v; want 200", a, err)
	}
	if a, err := v.post(form); err != nil || a.Status != 200 {
		p.Errorf("the same form once more: %v, %v; want 200", a, err)
	}
	user := form.Get("user")
	for i, want := range []int{200, 200, 429} {
		if a, err := v.signup(fmt.Sprintf("%s-%d", user, i)); err != nil || a.Status != want {
			p.Errorf("signup %d from the address: %v, %v; want %d", i+2, a, err, want)
		}
	}
	p.consistent()
}

// consistent checks that the pickup directory contains one complete message for every account, and
// nothing else.
func (p *testServer) consistent() {
	p.Helper()
	list, err := messagesIn(p.pickup)
	if err != nil {
		p.Error(err)
	}
	count := make(map[string]int)
	for _, m := range list {
		count[m.to]++
	}
	accounts := shownAccounts(p, p.data)
	for _, a := range accounts {
		if count[a.Email] != 1 {
			p.Errorf("%s has %d messages", a.User, count[a.Email])
		}
	}
	if len(list) != len(accounts) {
		p.Errorf("%d messages, %d accounts", len(list), len(accounts))
	}
}

func (p *testServer) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func TestPickupDirectoryGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, pickup string }{
		{"in the data directory", ""},
		{"elsewhere", filepath.Join(t.TempDir(), "mail")},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newTestServer(t, launch{data: t.TempDir()}, c.pickup)
			away := filepath.Join(t.TempDir(), "away")
			p.duringFault(3,
				func() { p.must(os.Rename(p.pickup, away)) },
				func() {
					if _, err := os.Stat(p.pickup); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s was created again (%v)", p.pickup, err)
					}
					p.must(os.Rename(away, p.pickup))
				})
			p.mustStop(t)
			p.consistent()
		})
	}
}

// A server whose database is removed or replaced exits with status 78, so that no supervisor
// restarts it without the accounts. It says what happened, and the next start does not mistake the
// remains for a store.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim string
		begin func(database, backup string) error
		next  string // what the next start says
	}{
		{"removed", func(database, _ string) error { return os.Remove(database) }, "damaged or has lost content"},
		{"replaced by a backup", func(database, backup string) error { return os.Rename(backup, database) },
			"the WAL next to the database does not belong to it"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			p := newTestServer(t, launch{data: t.TempDir()}, "")
			database, backup := filepath.Join(p.data, "dialtone.db"), filepath.Join(p.data, "backup.db")
			mustOutput(t, "backup", backup, "--data", p.data)
			p.must(c.begin(database, backup))
			select {
			case <-p.Done():
			case <-time.After(stopWithin):
				t.Fatalf("the server runs on\n%s", p.stderr)
			}
			says := "dialtone: " + database + ": the file of the database was removed or replaced while it was open"
			if got := p.ExitCode(); got != exitConfig || p.stderr.Count(says) != 1 ||
				p.stderr.Count(engine.ErrFailed.Error()) != 0 ||
				p.stderr.Count(`"msg":"store failed; exiting","status":78`) != 1 {
				t.Errorf("exit status %d\n%s", got, p.stderr)
			}
			cmd := exec.Command(binary(t), "serve", "--data", p.data, "--listen", "127.0.0.1:0")
			cmd.Env = []string{}
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != exitConfig || !strings.Contains(string(out), c.next) {
				t.Errorf("the next start: %v\n%s", err, out)
			}
		})
	}
}

// When keys are removed, a server keeps using those that it has read, but is not ready. It is ready
// again when they are back.
func TestKeysGone(t *testing.T) {
	t.Parallel()
	p := newTestServer(t, launch{data: t.TempDir()}, "")
	mustOutput(t, "turn", "secret", "--data", p.data)
	mustOutput(t, "tenant", "set", "localhost", "--turn-uri", "turn:turn.example.org", "--data", p.data)
	keys, away := filepath.Join(p.data, "keys"), filepath.Join(p.data, "away")
	p.readiness(p.T, 200, "keys")
	p.must(os.Rename(keys, away))
	p.readiness(p.T, 503, "sign.key: no key file")
	if a, err := p.v.signIn(regular, password(regular)); err != nil || a.Status != 200 {
		t.Errorf("sign-in: %v, %v", a, err)
	}
	p.must(os.Rename(away, keys))
	p.readiness(p.T, 200, "keys")
	seal := filepath.Join(keys, "seal.key")
	p.must(os.Rename(seal, seal+".old"))
	p.readiness(p.T, 503, "seal.key: no key file; correct this, or restore the file")
	p.must(os.Rename(seal+".old", seal))
	p.readiness(p.T, 200, "keys")
	// A removed key for TURN is no longer used. That is not a fault, but is logged.
	const warning = `"msg":"no key for the TURN servers of the tenants; `
	before := p.stderr.Count(warning)
	p.must(os.Remove(filepath.Join(keys, "turn.key")))
	process.Eventually(t, "a warning", func() error {
		if n := p.stderr.Count(warning); n != before+1 {
			return fmt.Errorf("%d warnings, %d before", n, before)
		}
		return nil
	})
	p.readiness(p.T, 200, "keys")
	p.mustStop(t)
}

// A pickup directory that is replaced by another one is used at once.
func TestPickupDirectoryReplaced(t *testing.T) {
	t.Parallel()
	p := newTestServer(t, launch{data: t.TempDir()}, "")
	p.must(os.Rename(p.pickup, p.pickup+".old"))
	p.readiness(p.T, 503, `{"name":"pickup","ok":false`)
	p.must(os.Mkdir(p.pickup, 0o750))
	p.readiness(p.T, 200, `{"name":"pickup","ok":true`)
	v, form := p.next()
	if a, err := v.post(form); err != nil || a.Status != 200 {
		t.Fatal(a, err)
	}
	// The first message is here too if the server had not synced it before the directory was moved.
	list, err := messagesIn(p.pickup)
	list = slices.DeleteFunc(list, func(m message) bool { return !strings.Contains(m.to, form.Get("email")) })
	if err != nil || len(list) != 1 {
		t.Errorf("%d messages, %v", len(list), err)
	}
	p.mustStop(t)
}

// A server starts even if the pickup directory fails, so that people can sign in. Messages that
// were lost in a crash are written as soon as the directory works.
func TestLostMessagesWithoutPickupDirectory(t *testing.T) {
	t.Parallel()
	data, mail := t.TempDir(), filepath.Join(t.TempDir(), "mail")
	p := newTestServer(t, launch{data: data}, mail)
	v, form := p.next()
	if a, err := v.post(form); err != nil || a.Status != 200 {
		t.Fatal(a, err)
	}
	p.Kill()
	want, err := messagesIn(mail)
	if err != nil || len(want) != 2 {
		t.Fatalf("%d messages, %v", len(want), err)
	}
	// A power cut removes unsynced files. A directory with the name of the message is a fault even
	// for root.
	names, err := filepath.Glob(filepath.Join(mail, "*.eml"))
	p.must(err)
	for _, name := range names {
		p.must(os.Remove(name))
		p.must(os.MkdirAll(filepath.Join(name, "in-the-way"), 0o755))
	}
	again := start(t, launch{data: data, listen: p.address, flags: []string{"--mail-pickup-dir", mail}})
	if a, err := v.signIn(regular, password(regular)); err != nil || a.Status != 200 {
		t.Errorf("sign-in: %v, %v", a, err)
	}
	for _, name := range names {
		p.must(os.RemoveAll(name))
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, err := messagesIn(mail)
		if err == nil && len(got) == 2 {
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("the message is\n%s\nit was\n%s", got[i].raw, want[i].raw)
				}
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d messages were written again, %v\n%s", len(got), err, again.stderr)
		}
		<-time.After(20 * time.Millisecond)
	}
	again.mustStop(t)
}

// The server works even if nobody reads its log.
func TestUnreadLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T, r *os.File)
	}{
		{"the pipe is full", func(t *testing.T, r *os.File) {
			// The smallest possible pipe is full after about twenty lines.
			if _, err := unix.FcntlInt(r.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
				t.Fatal(err)
			}
		}},
		{"the reader is gone", func(t *testing.T, r *os.File) { r.Close() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			c.prepare(t, r)
			data := t.TempDir()
			p := start(t, launch{data: data, stderr: w})
			w.Close()
			v := newVisitor(p.address, "")
			v.http.Timeout = 5 * time.Second
			for i := range 100 { // each writes a line to the log
				a, err := v.signup("Not-A-Name")
				if err != nil || a.Status != 400 {
					t.Fatalf("signup %d: %v, %v", i, a, err)
				}
			}
			good := newVisitor(p.address, "")
			good.http.Timeout = 5 * time.Second
			if a, err := good.signup(regular); err != nil || a.Status != 200 {
				t.Fatalf("signup: %v, %v", a, err)
			}
			if status, err := p.stop(); err != nil || status != 0 {
				t.Errorf("SIGTERM: status %d, %v", status, err)
			}
			if n := len(shownAccounts(t, data)); n != 1 {
				t.Errorf("%d accounts", n)
			}
		})
	}
}

// inNamespace is set in a process that has its own mount namespace.
const inNamespace = "DIALTONE_TEST_NAMESPACE"

// noMounts is the exit status of a process that is not allowed to mount.
const noMounts = 77

// Full and read-only disks are tmpfs mounts in a mount namespace, which an ordinary user creates in
// a user namespace, or else root. No other process sees the mounts, and they end with the test.
func TestBrokenDisks(t *testing.T) {
	t.Parallel()
	if os.Getenv(inNamespace) == "" {
		ownNamespace(t)
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(noMounts)
	}
	t.Run("pickup directory full", func(t *testing.T) { testFull(t, "size=256k", 1<<20, "pickup") })
	t.Run("pickup directory without inodes", func(t *testing.T) { testFull(t, "size=1m,nr_inodes=30", 0, "pickup") })
	t.Run("data directory full", func(t *testing.T) { testFull(t, "size=8m", 1<<20, "data") })
	t.Run("pickup directory read-only", testReadOnly)
	t.Run("data directory read-only at the start", testReadOnlyStart)
}

// ownNamespace runs the test again in a process with its own mount namespace.
func ownNamespace(t *testing.T) {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var why []string
	for _, attr := range []*syscall.SysProcAttr{
		{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		},
		{Cloneflags: syscall.CLONE_NEWNS},
	} {
		cmd := exec.Command(path, "-test.run=^TestBrokenDisks$", "-test.v", "-test.timeout=90s")
		cmd.Env = append(os.Environ(), inNamespace+"=1")
		cmd.SysProcAttr = attr
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); err == nil || ok && exit.ExitCode() != noMounts {
			t.Logf("%s", out)
			if err != nil {
				t.Error(err)
			}
			return
		}
		why = append(why, fmt.Sprint(err, " ", strings.TrimSpace(string(out))))
	}
	t.Skipf("the test cannot mount, neither in a user namespace nor as root: %s. "+
		"Allow user namespaces (sysctl kernel.unprivileged_userns_clone, or "+
		"kernel.apparmor_restrict_unprivileged_userns) or run it as root.",
		strings.Join(why, "; "))
}

func mount(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// testFull fills the disk that has the pickup directory or the data directory with files of a size.
func testFull(t *testing.T, options string, size int, what string) {
	disk := mount(t, options)
	data, pickup := t.TempDir(), filepath.Join(disk, "mail")
	if what == "data" {
		data, pickup = filepath.Join(disk, "data"), filepath.Join(t.TempDir(), "mail")
	}
	p := newTestServer(t, launch{data: data}, pickup)
	filler := filepath.Join(disk, "filler")
	times := 3
	if what == "data" {
		times = 1 // a checkpoint may then free space, so that a 200 is right
	}
	p.duringFault(times,
		func() { p.fill(filler, size) },
		func() { p.must(os.RemoveAll(filler)) })
	p.mustStop(t)
	p.consistent()
	if err := p.checkLog(); err != nil {
		t.Error(err)
	}
}

// fill fills a small disk: with a size of 0 it uses up the inodes, otherwise the space.
func (p *testServer) fill(dir string, size int) {
	p.Helper()
	for range 10_000 {
		err := os.MkdirAll(dir, 0o755)
		if err == nil {
			p.n++
			err = os.WriteFile(filepath.Join(dir, fmt.Sprint("filler-", p.n)), make([]byte, size), 0o644)
		}
		switch {
		case err == nil:
		case !errors.Is(err, syscall.ENOSPC):
			p.Fatal(err)
		case size <= 1:
			return
		default:
			size /= 4
		}
	}
	p.Fatal("the disk does not get full")
}

func testReadOnly(t *testing.T) {
	disk := mount(t, "size=1m")
	p := newTestServer(t, launch{data: t.TempDir()}, filepath.Join(disk, "mail"))
	p.duringFault(3,
		func() { p.must(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m")) },
		func() { p.must(unix.Mount("", disk, "", unix.MS_REMOUNT, "size=1m")) })
	p.mustStop(t)
	p.consistent()
}

// A disk cannot be made read-only while a server has its store open for writing: the kernel returns
// EBUSY. But a server that is started on a read-only disk says so.
func testReadOnlyStart(t *testing.T) {
	disk := mount(t, "size=8m")
	data := filepath.Join(disk, "data")
	p := newTestServer(t, launch{data: data}, filepath.Join(t.TempDir(), "mail"))
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=8m"); !errors.Is(err, unix.EBUSY) {
		t.Errorf("read-only while the server runs: %v, want EBUSY", err)
	}
	p.mustStop(t)
	p.must(unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=8m"))
	cmd := exec.Command(binary(t), "serve", "--data", data, "--listen", "127.0.0.1:0", "--ops-listen",
		"127.0.0.1:0", "--mail-pickup-dir", p.pickup)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitConfig || !strings.Contains(string(out), "read-only file system") {
		t.Errorf("start: %v\n%s", err, out)
	}
	p.must(unix.Mount("", disk, "", unix.MS_REMOUNT, "size=8m"))
	p.serverProcess = start(t, launch{data: data, flags: []string{"--mail-pickup-dir", p.pickup}})
	p.v = newVisitor(p.address, "")
	v, form := p.next()
	p.recovers(v, form)
}

// A reader of the log that pauses gets the number of dropped lines.
func TestLogReportsDroppedLines(t *testing.T) {
	r, w := io.Pipe()
	p := &program{stderr: w}
	log, flush := p.serverLog(config.Log{Level: slog.LevelInfo, Format: config.LogJSON})
	const more = 100
	const total = asynclog.QueueLines + 1 + more // the one is in the pipe
	for i := range total {
		log.Info("line", "n", i)
	}
	go func() {
		flush()
		w.Close()
	}()
	var got, dropped int64
	for in := json.NewDecoder(r); ; {
		var line struct {
			Msg   string
			Lines int64
		}
		if err := in.Decode(&line); err != nil {
			break
		}
		if line.Msg == "line" {
			got++
		}
		dropped += line.Lines
	}
	if sum := got + dropped; dropped < more || sum != total {
		t.Errorf("%d lines were read and %d dropped, together %d of %d", got, dropped, sum, total)
	}
}
