package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/test/postgrestest"
)

// The worked example in deploy/postgresql, with its own files: HAProxy, three servers, a primary
// and a standby.

const example10 = "127.0.0.10:18080" // HAProxy's address in haproxy.cfg

// fleet is the platform of the example.
type fleet struct {
	*testing.T
	dir, url         string
	primary, standby *postgrestest.Cluster
	nodes            [3]*serverProcess
}

func deployFile(name string) string { return filepath.Join("..", "..", "deploy", "postgresql", name) }

// settings are the lines of a configuration file of PostgreSQL.
func settings(t *testing.T, path string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		// Without a standby, which comes when the primary runs, no commit would end.
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); ok && name != "synchronous_standby_names" {
			list = append(list, name+"="+strings.Trim(strings.TrimSpace(value), "'"))
		}
	}
	return list
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{T: t, dir: t.TempDir()}
	f.primary = postgrestest.Start(t, settings(t, deployFile("primary.conf"))...)
	database := f.primary.Database(t)
	f.standby = f.primary.SyncStandby(t)
	name, _, _ := strings.Cut(database[strings.LastIndex(database, "/")+1:], "?")
	f.url = f.primary.URL(name, f.standby)
	for i := range f.nodes {
		f.begin(i)
	}
	f.proxy()
	return f
}

func (f *fleet) data(i int) string { return filepath.Join(f.dir, fmt.Sprintf("node%d", i+1)) }

func (f *fleet) environ() []string {
	return []string{"DIALTONE_DATABASE=" + f.url, "DIALTONE_KEYS_DIR=" + filepath.Join(f.dir, "keys")}
}

// begin starts a server as the example says.
func (f *fleet) begin(i int) {
	f.Helper()
	host := fmt.Sprintf("127.0.0.1%d", i+1)
	cmd := exec.Command(binary(f), "--config", deployFile("dialtone.toml"), "serve", "--data",
		f.data(i), "--listen", host+":18080", "--ops-listen", host+":18081")
	cmd.Env = f.environ()
	p, err := launched(cmd, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.kill)
	f.nodes[i] = p
}

// proxy starts HAProxy and waits until it has found all servers.
func (f *fleet) proxy() {
	f.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy"
	}
	said := newLines()
	cmd := exec.Command(path, "-db", "-f", deployFile("haproxy.cfg"))
	pipe, err := cmd.StderrPipe()
	if err != nil {
		f.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.Fatalf("%v; `make test` installs HAProxy", err)
	}
	read := make(chan struct{})
	go func() { said.read(pipe); close(read) }()
	f.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGKILL)
		<-read
		cmd.Wait()
	})
	v := newVisitor(example10, "")
	defer v.leave()
	deadline := time.Now().Add(startWithin)
	for {
		if _, err = v.captcha(); err == nil {
			return
		}
		if time.Now().After(deadline) {
			f.Fatalf("HAProxy does not answer: %v\n%s", err, said)
		}
	}
}

// command runs one of the program's commands on the platform.
func (f *fleet) command(args ...string) string {
	f.Helper()
	cmd := exec.Command(binary(f),
		append([]string{"--data", filepath.Join(f.dir, "command")}, args...)...)
	cmd.Env = f.environ()
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.Fatalf("dialtone %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// messages are those of all servers, by recipient. One that is there twice has one Message-ID.
func (f *fleet) messages() map[string]message {
	f.Helper()
	all := make(map[string]message)
	for i := range f.nodes {
		list, err := messagesIn(filepath.Join(f.data(i), "pickup"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.Fatal(err)
		}
		for _, m := range list {
			if other, twice := all[m.to]; twice && other.id != m.id {
				f.Errorf("two messages to %s: %s and %s", m.to, m.id, other.id)
			}
			all[m.to] = m
		}
	}
	return all
}

func TestThreeServers(t *testing.T) {
	f := newFleet(t)

	t.Run("a life over all of them", func(t *testing.T) {
		v := newVisitor(example10, "")
		defer v.leave()
		if a, err := v.signup("ann"); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
		m, ok := f.messages()[email("ann")]
		if !ok {
			t.Fatal("no message")
		}
		if a, err := v.signIn("ann", password("ann")); err != nil || a.Status != http.StatusForbidden {
			t.Errorf("before the link: %v, %v", a, err)
		}
		if status, _, err := v.open(m.link); err != nil || status != http.StatusOK {
			t.Errorf("the link: %d, %v", status, err)
		}
		for range 6 { // challenge and proof are at different servers, as the proxy takes them by turns
			if a, err := v.signIn("ann", password("ann")); err != nil || a.Status != http.StatusOK {
				t.Errorf("sign-in: %v, %v", a, err)
			}
		}
	})

	t.Run("24 at once from one address", func(t *testing.T) {
		from := nextAddress()
		forms := newVisitor(example10, "")
		defer forms.leave()
		var mu sync.Mutex
		kinds := make(map[int]int)
		var all sync.WaitGroup
		for i := range 24 {
			form, err := forms.form(fmt.Sprintf("crowd%d", i))
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				v := newVisitor(example10, from)
				defer v.leave()
				a, err := v.post(form)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				kinds[a.Status]++
			})
		}
		all.Wait()
		if kinds[http.StatusOK] != 3 || kinds[http.StatusTooManyRequests] != 21 {
			t.Errorf("got %v", kinds)
		}
	})

	t.Run("a tenant is seen everywhere within a second", func(t *testing.T) {
		f.command("tenant", "add", "other.test")
		added := time.Now()
		for i, p := range f.nodes {
			for {
				r, err := http.NewRequest("GET", "http://"+p.address+"/captcha.ashx", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Host = "other.test"
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					break
				}
				if time.Since(added) > 5*time.Second {
					t.Fatalf("server %d does not see the tenant", i+1)
				}
			}
		}
		t.Logf("after %v", time.Since(added).Round(time.Millisecond))
	})

	t.Run("a new signing key spoils no form", func(t *testing.T) {
		v := newVisitor(example10, "")
		defer v.leave()
		form, err := v.form("kim")
		if err != nil {
			t.Fatal(err)
		}
		f.command("keys", "rotate")
		if a, err := v.post(form); err != nil || !a.OK {
			t.Errorf("a form of before: %v, %v", a, err)
		}
		for i := range 6 {
			if a, err := newVisitor(example10, "").signup(fmt.Sprintf("lee%d", i)); err != nil ||
				!a.OK {
				t.Errorf("a form of now: %v, %v", a, err)
			}
		}
	})

	t.Run("a server is killed and the primary is lost", func(t *testing.T) {
		l := f.load()
		l.until(150)
		f.nodes[1].kill()
		l.until(150)
		f.primary.Crash(t)
		l.untilRefused()
		f.standby.Promote(t)
		promoted := time.Now()
		l.until(1)
		t.Logf("the first signup %v after the promotion", time.Since(promoted).Round(time.Millisecond))
		l.until(100)
		f.begin(1) // which recovers its own messages
		l.until(50)
		l.end()
		for _, p := range f.nodes {
			p.mustStop(t) // and with it, everything that was to be taken back is
		}
		l.check()
	})
}

// rush is visitors of the fleet, who remember what they were told.
type rush struct {
	*fleet
	address string // where they go
	stop    chan struct{}
	all     sync.WaitGroup

	mu      sync.Mutex
	moved   *sync.Cond
	told    map[string]answer // by user
	silence map[string]bool   // users who got no answer of ours
	made    int
	refused int
}

func (f *fleet) load() *rush {
	l := &rush{fleet: f, address: example10, stop: make(chan struct{}),
		told: make(map[string]answer), silence: make(map[string]bool)}
	l.begin()
	return l
}

func (l *rush) begin() {
	l.moved = sync.NewCond(&l.mu)
	for client := range 8 {
		l.all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				l.one(fmt.Sprintf("load%d-%d", client, i))
			}
		})
	}
}

func (l *rush) one(user string) {
	v := newVisitor(l.address, "").hurried()
	form, err := v.form(user)
	var a answer
	if err == nil {
		a, err = v.post(form)
	} else {
		user = "" // nothing was asked for
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case user == "":
		l.refused++
	case err != nil || a.Error == "" && !a.OK:
		l.silence[user] = true
		l.refused++
	default:
		l.told[user] = a
		if a.OK {
			l.made++
		} else {
			l.refused++
		}
	}
	l.moved.Broadcast()
}

func (l *rush) until(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := l.made + n; l.made < want; {
		l.moved.Wait()
	}
}

func (l *rush) untilRefused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := l.refused + 1; l.refused < want; {
		l.moved.Wait()
	}
}

func (l *rush) end() {
	close(l.stop)
	l.all.Wait()
}

// check compares what visitors were told with accounts and messages.
func (l *rush) check() {
	l.Helper()
	accounts := make(map[string]bool)
	for _, line := range strings.Split(l.command("account", "list", "--tenant", "localhost",
		"--json"), "\n") {
		if _, rest, ok := strings.Cut(line, `"user":"`); ok {
			user, _, _ := strings.Cut(rest, `"`)
			accounts[user] = true
		}
	}
	messages := l.messages()
	var made, refused int
	for user, a := range l.told {
		_, written := messages[email(user)]
		switch {
		case a.OK && (!accounts[user] || !written):
			l.Errorf("%s was answered; account %v, message %v", user, accounts[user], written)
		case !a.OK && (accounts[user] || written):
			l.Errorf("%s was told %v; account %v, message %v", user, a, accounts[user], written)
		case a.OK:
			made++
		default:
			refused++
		}
	}
	for user := range l.silence {
		if _, written := messages[email(user)]; accounts[user] != written {
			l.Errorf("%s got no answer; account %v, message %v", user, accounts[user], written)
		}
	}
	l.Logf("%d signups answered, %d refused, %d without an answer", made, refused, len(l.silence))
}
