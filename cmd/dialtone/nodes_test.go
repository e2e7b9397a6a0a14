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
	"testing"
	"time"

	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// proxyAddress is HAProxy's address in deploy/postgresql/haproxy.cfg.
const proxyAddress = "127.0.0.10:18080"

// fleet is the example in deploy/postgresql, with its own files: HAProxy, three servers, a primary
// and a standby.
type fleet struct {
	*testing.T
	dir, url         string
	primary, standby *postgrestest.Cluster
	nodes            [3]*serverProcess
}

func deployFile(name string) string { return filepath.Join("..", "..", "deploy", "postgresql", name) }

// settings returns the settings in a configuration file of PostgreSQL.
func settings(t *testing.T, path string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		// The standby starts after the primary. Until then, no commit would return.
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
		f.startNode(i)
	}
	f.proxy()
	return f
}

func (f *fleet) data(i int) string { return filepath.Join(f.dir, fmt.Sprintf("node%d", i+1)) }

func (f *fleet) environ() []string {
	return []string{"DIALTONE_DATABASE=" + f.url, "DIALTONE_KEYS_DIR=" + filepath.Join(f.dir, "keys")}
}

// startNode starts a server with the configuration of the example.
func (f *fleet) startNode(i int) {
	f.Helper()
	host := fmt.Sprintf("127.0.0.1%d", i+1)
	cmd := exec.Command(binary(f), "--config", deployFile("dialtone.toml"), "serve", "--data",
		f.data(i), "--listen", host+":18080", "--ops-listen", host+":18081")
	cmd.Env = f.environ()
	p, err := launched(cmd, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(p.Kill)
	f.nodes[i] = p
}

// proxy starts HAProxy and waits until it has found a server.
func (f *fleet) proxy() {
	f.Helper()
	cmd := exec.Command(process.Find(f, "haproxy"), "-db", "-f", deployFile("haproxy.cfg"))
	process.Run(f, cmd, new(process.Log), func() error {
		v := newVisitor(proxyAddress, "")
		defer v.leave()
		_, err := v.captcha()
		return err
	})
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

// messages returns the messages of all servers by recipient. If there are two of one message, they
// must have the same Message-ID.
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
	t.Parallel()
	f := newFleet(t)

	t.Run("one visitor at all servers", func(t *testing.T) {
		v := newVisitor(proxyAddress, "")
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
		for range 6 { // the proxy sends the challenge and the response to different servers
			if a, err := v.signIn("ann", password("ann")); err != nil || a.Status != http.StatusOK {
				t.Errorf("sign-in: %v, %v", a, err)
			}
		}
	})

	t.Run("24 concurrent signups from one address", func(t *testing.T) {
		from := nextAddress()
		forms := newVisitor(proxyAddress, "")
		defer forms.leave()
		var mu sync.Mutex
		statuses := make(map[int]int)
		var all sync.WaitGroup
		for i := range 24 {
			form, err := forms.form(fmt.Sprintf("crowd%d", i))
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				v := newVisitor(proxyAddress, from)
				defer v.leave()
				a, err := v.post(form)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				statuses[a.Status]++
			})
		}
		all.Wait()
		if statuses[http.StatusOK] != 3 || statuses[http.StatusTooManyRequests] != 21 {
			t.Errorf("got %v", statuses)
		}
	})

	t.Run("a new tenant is known to all servers", func(t *testing.T) {
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

	t.Run("open forms after a rotation of keys", func(t *testing.T) {
		v := newVisitor(proxyAddress, "")
		defer v.leave()
		form, err := v.form("kim")
		if err != nil {
			t.Fatal(err)
		}
		f.command("keys", "rotate")
		if a, err := v.post(form); err != nil || !a.OK {
			t.Errorf("a form from before the rotation: %v, %v", a, err)
		}
		for i := range 6 {
			if a, err := newVisitor(proxyAddress, "").signup(fmt.Sprintf("lee%d", i)); err != nil ||
				!a.OK {
				t.Errorf("a form from after the rotation: %v, %v", a, err)
			}
		}
	})

	t.Run("a server is killed and the primary is lost", func(t *testing.T) {
		l := f.load()
		l.until(40)
		f.nodes[1].Kill()
		l.until(40)
		f.primary.Crash(t)
		l.untilRefused()
		f.standby.Promote(t)
		promoted := time.Now()
		l.until(1)
		t.Logf("the first signup %v after the promotion", time.Since(promoted).Round(time.Millisecond))
		l.until(40)
		f.startNode(1) // it recovers its own messages
		l.until(20)
		l.end()
		for _, p := range f.nodes {
			p.mustStop(t) // this also removes messages of failed signups
		}
		l.check()
	})
}

// fleetLoad is the visitors of a fleet, and the answers they got.
type fleetLoad struct {
	*fleet
	address string // of the proxy
	stop    chan struct{}
	all     sync.WaitGroup

	mu         sync.Mutex
	changed    *sync.Cond
	answers    map[string]answer // by user
	unanswered map[string]bool   // users who got no answer, or one of the proxy
	accepted   int
	refused    int
}

func (f *fleet) load() *fleetLoad {
	l := &fleetLoad{fleet: f, address: proxyAddress, stop: make(chan struct{}),
		answers: make(map[string]answer), unanswered: make(map[string]bool)}
	l.begin()
	return l
}

func (l *fleetLoad) begin() {
	l.changed = sync.NewCond(&l.mu)
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

func (l *fleetLoad) one(user string) {
	v := newVisitor(l.address, "").useNewConnections()
	form, err := v.form(user)
	var a answer
	if err == nil {
		a, err = v.post(form)
	} else {
		user = "" // there was no signup
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case user == "":
		l.refused++
	case err != nil || a.Error == "" && !a.OK:
		l.unanswered[user] = true
		l.refused++
	default:
		l.answers[user] = a
		if a.OK {
			l.accepted++
		} else {
			l.refused++
		}
	}
	l.changed.Broadcast()
}

func (l *fleetLoad) until(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := l.accepted + n; l.accepted < want; {
		l.changed.Wait()
	}
}

func (l *fleetLoad) untilRefused() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for want := l.refused + 1; l.refused < want; {
		l.changed.Wait()
	}
}

func (l *fleetLoad) end() {
	close(l.stop)
	l.all.Wait()
}

// check compares the answers with the accounts and messages.
func (l *fleetLoad) check() {
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
	var accepted, refused int
	for user, a := range l.answers {
		_, written := messages[email(user)]
		switch {
		case a.OK && (!accounts[user] || !written):
			l.Errorf("%s was answered 200; account %v, message %v", user, accounts[user], written)
		case !a.OK && (accounts[user] || written):
			l.Errorf("%s was answered %v; account %v, message %v", user, a, accounts[user], written)
		case a.OK:
			accepted++
		default:
			refused++
		}
	}
	for user := range l.unanswered {
		if _, written := messages[email(user)]; accounts[user] != written {
			l.Errorf("%s got no answer; account %v, message %v", user, accounts[user], written)
		}
	}
	l.Logf("%d signups answered, %d refused, %d without an answer", accepted, refused, len(l.unanswered))
}
