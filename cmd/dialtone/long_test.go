//go:build long

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"dialtone/internal/account"
)

// The tests named TestLong take minutes, and need root, loop devices and strace. They run only if
// asked to (make test-long), so they fail if something is missing, instead of being skipped.

// ownMounts runs the test again in a process with its own mount namespace, and reports whether this
// is that process.
func ownMounts(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inNamespace) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal("mount namespace: ", err)
		}
		return true
	}
	var missing []string
	if os.Getuid() != 0 {
		missing = append(missing, "root")
	}
	for _, name := range []string{"strace", "mkfs.ext4", "e2fsck", "mount", "fsfreeze", "sh"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		missing = append(missing, "loop devices (/dev/loop-control)")
	}
	if len(missing) > 0 {
		t.Fatalf("this test needs %s", strings.Join(missing, ", "))
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	pattern := "^" + t.Name() + "$"
	if _, part, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		pattern += "/" + part
	}
	cmd := exec.Command(path, "-test.run="+pattern, "-test.v", "-test.timeout=50m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &unix.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	return false
}

// disk is an ext4 file system in a file.
type disk struct {
	t                   *testing.T
	image, dir, options string
}

func newDisk(t *testing.T, size int64, options string) *disk {
	t.Helper()
	d := &disk{t: t, image: filepath.Join(t.TempDir(), "disk"), dir: t.TempDir(), options: options}
	d.make(size)
	t.Cleanup(func() { unix.Unmount(d.dir, unix.MNT_DETACH) })
	return d
}

func (d *disk) make(size int64) {
	d.t.Helper()
	os.Remove(d.image)
	f, err := os.Create(d.image)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.run("mkfs.ext4", "-q", "-F", "-O", "has_journal", d.image)
	d.mount()
}

func (d *disk) run(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	options := "loop"
	if d.options != "" {
		options += "," + d.options
	}
	d.run("mount", "-t", "ext4", "-o", options, d.image, d.dir)
}

func (d *disk) unmount() {
	d.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := unix.Unmount(d.dir, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			d.t.Fatal("umount: ", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// A shutdown of the file system simulates a power cut: nothing more reaches the disk, not even the
// journal of ext4. The constants are those of the Linux headers.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// cut simulates a power cut.
func (d *disk) cut() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, noLogFlush)
}

// restore mounts the disk after a power cut, which replays the journal of ext4. Then the file
// system must have no errors.
func (d *disk) restore() {
	d.t.Helper()
	d.unmount()
	d.mount()
	d.unmount()
	d.run("e2fsck", "-f", "-n", d.image)
	d.mount()
}

// inject makes system calls of a running server on some files fail or take longer, until stop is
// called or the server exits.
func inject(t *testing.T, p *serverProcess, calls, what string, paths ...string) (stop func()) {
	t.Helper()
	pid := p.Pid()
	args := []string{
		"-f", "-qqq", "-o", os.DevNull, "-p", strconv.Itoa(pid),
		"-e", "trace=" + calls, "-e", "inject=" + calls + ":" + what,
	}
	for _, path := range paths {
		args = append(args, "-P", path)
	}
	cmd := exec.Command("strace", args...)
	cmd.Stderr = new(strings.Builder)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	stop = sync.OnceFunc(func() {
		cmd.Process.Signal(unix.SIGTERM)
		<-ended
	})
	t.Cleanup(stop)
	deadline := time.Now().Add(10 * time.Second)
	for !traced(pid, cmd.Process.Pid) {
		select {
		case <-ended:
			t.Fatalf("strace ended: %s", cmd.Stderr)
		case <-time.After(2 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("strace does not attach: %s", cmd.Stderr)
		}
	}
	return stop
}

// traced reports whether every thread of a process has a tracer.
func traced(pid, tracer int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, path := range threads {
		if n, err := processStatus(path, "TracerPid"); err == nil && n != tracer {
			return false
		}
	}
	return len(threads) > 0
}

// processStatus returns a number in a status file of /proc.
func processStatus(path, name string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}

func (p *serverProcess) status(t *testing.T, name string) int {
	t.Helper()
	n, err := processStatus(fmt.Sprintf("/proc/%d/status", p.Pid()), name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (p *serverProcess) files(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", nextAddress()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// readyState asks a server whether it is ready.
type readyState struct {
	t       *testing.T
	address string
	http    *http.Client
	// down and up are the longest times that the server took to notice a fault and its end.
	down, up time.Duration
}

func newReadyState(t *testing.T, address string) *readyState {
	return &readyState{t: t, address: address, http: &http.Client{Timeout: 10 * time.Second}}
}

func (r *readyState) ask() (status int, text string) {
	resp, err := r.http.Get("http://" + r.address + "/readyz")
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// noticeWithin is how fast /readyz changes, as docs/operating.md promises.
const noticeWithin = 5 * time.Second

// wait waits until the server says that it is ready or not ready. It must do so within
// noticeWithin.
func (r *readyState) wait(ready bool, since time.Time) {
	r.t.Helper()
	want := http.StatusServiceUnavailable
	if ready {
		want = http.StatusOK
	}
	for {
		status, text := r.ask()
		took := time.Since(since)
		if status == want {
			if took > noticeWithin {
				r.t.Errorf("/readyz says %d after %v", want, took)
			}
			if ready {
				r.up = max(r.up, took)
			} else {
				r.down = max(r.down, took)
			}
			return
		}
		if took > 3*noticeWithin {
			r.t.Fatalf("/readyz says %d after %v, want %d: %s", status, took, want, text)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func (r *readyState) String() string {
	return fmt.Sprintf("/readyz notices a fault within %v, and its end within %v",
		r.down.Round(time.Millisecond), r.up.Round(time.Millisecond))
}

// captchaProbe continuously requests captchas, from unused addresses.
type captchaProbe struct {
	t     *testing.T
	end   chan struct{}
	all   sync.WaitGroup
	mu    sync.Mutex
	times []time.Duration
	err   error
}

func watchCaptchas(t *testing.T, address string) *captchaProbe {
	b := &captchaProbe{t: t, end: make(chan struct{})}
	for range 4 {
		b.all.Go(func() {
			v := newVisitor(address, "")
			defer v.leave()
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for {
				select {
				case <-b.end:
					return
				case <-ticker.C:
				}
				begin := time.Now()
				_, err := v.captcha()
				took := time.Since(begin)
				b.mu.Lock()
				b.times = append(b.times, took)
				if err != nil {
					b.err = err
				}
				b.mu.Unlock()
			}
		})
	}
	return b
}

// captchaWithin is the longest time that 99 % of the requests for a captcha may take, whatever load
// and faults the server has.
const captchaWithin = 200 * time.Millisecond

func (b *captchaProbe) done() (n int, p99 time.Duration) {
	b.t.Helper()
	close(b.end)
	b.all.Wait()
	if b.err != nil {
		b.t.Errorf("captcha: %v", b.err)
	}
	p99 = percentile(b.times, 0.99)
	if p99 > captchaWithin || len(b.times) == 0 {
		b.t.Errorf("%d captchas, p99 %v", len(b.times), p99)
	}
	return len(b.times), p99
}

func percentile(times []time.Duration, p float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[int(math.Ceil(p*float64(len(times))))-1]
}

// verified returns the report of dialtone verify --json, which must find no fault.
func verified(t *testing.T, data, pickup string) (r account.Report) {
	t.Helper()
	cmd := exec.Command(binary(t), "verify", "--json", "--data", data)
	cmd.Env = []string{"DIALTONE_MAIL_PICKUP_DIR=" + pickup}
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	if err != nil || len(r.Faults) > 0 || len(r.Notes) > 0 {
		t.Fatalf("verify: %v\n%s", err, out)
	}
	return r
}

// noPanic checks that the log contains no Go stack trace.
func (p *serverProcess) noPanic(t *testing.T) {
	t.Helper()
	for _, word := range []string{"panic", "goroutine ", "fatal error", "DATA RACE"} {
		if p.stderr.Count(word) > 0 {
			t.Fatalf("the log contains %q:\n%s", word, p.stderr)
		}
	}
}
