//go:build long

package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/test/postgrestest"
)

// A server has its own network namespace, with one link to the database and one to its visitors.
// Under load, the first link goes down and up several times. Then packets are lost without any
// error.
func TestLongPartition(t *testing.T) {
	c := postgrestest.Start(t)
	f := &fleet{T: t, dir: t.TempDir(), url: c.Database(t)}

	name := fmt.Sprintf("dialtone-%d", os.Getpid())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	ip("netns", "add", name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", name).Run() })
	ip("-n", name, "link", "set", "lo", "up")
	for i, link := range []string{"dtdb", "dtweb"} {
		ip("link", "add", link, "type", "veth", "peer", "name", link+"in", "netns", name)
		t.Cleanup(func() { exec.Command("ip", "link", "del", link).Run() })
		ip("addr", "add", fmt.Sprintf("10.203.%d.1/30", i), "dev", link)
		ip("-n", name, "addr", "add", fmt.Sprintf("10.203.%d.2/30", i), "dev", link+"in")
		ip("link", "set", link, "up")
		ip("-n", name, "link", "set", link+"in", "up")
	}
	forward(t, "10.203.0.1:5432", c.Addr())

	cmd := exec.Command("ip", "netns", "exec", name, binary(t), "serve", "--data", f.data(0), "--listen",
		"10.203.1.2:8080",
		"--ops-listen", "10.203.1.2:8081", "--ops-allow-cleartext", "--http-trusted-proxies", "10.203.1.1")
	cmd.Env = []string{"DIALTONE_DATABASE=" + strings.Replace(f.url, c.Addr(), "10.203.0.1:5432", 1),
		"PATH=" + os.Getenv("PATH"), "DIALTONE_KEYS_DIR=" + filepath.Join(f.dir, "keys")}
	if err := os.MkdirAll(f.data(0), 0o755); err != nil {
		t.Fatal(err)
	}
	stdout, err := os.Create(filepath.Join(f.dir, "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = stdout, stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })

	// A proxy passes the addresses of the visitors on.
	inner := &url.URL{Scheme: "http", Host: "10.203.1.2:8080"}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = inner.Scheme, inner.Host, r.In.Host
		r.SetXForwarded()
	}}
	server := &http.Server{Handler: proxy}
	go server.Serve(front)
	t.Cleanup(func() { server.Close() })
	l := &fleetLoad{fleet: f, address: front.Addr().String(), stop: make(chan struct{}),
		answers: make(map[string]answer), unanswered: make(map[string]bool)}
	for deadline := time.Now().Add(startWithin); ; {
		v := newVisitor(l.address, "")
		_, err := v.captcha()
		v.leave()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(stdout.Name())
			t.Fatalf("the server does not answer: %v\n%s", err, text)
		}
	}
	l.begin()
	const cuts = 8
	for range cuts {
		l.until(100)
		ip("link", "set", "dtdb", "down")
		down := time.Now()
		l.untilRefused()
		refused := time.Since(down)
		v := newVisitor(l.address, "")
		if _, err := v.captcha(); err != nil {
			t.Errorf("a captcha without the database: %v", err)
		}
		began := time.Now()
		if _, err := v.signup("nobody"); err != nil {
			t.Errorf("a signup without the database: %v", err)
		}
		later := time.Since(began)
		v.leave()
		ip("link", "set", "dtdb", "up")
		up := time.Now()
		l.until(1)
		t.Logf("link down: first refusal after %v, a later one took %v; link up: first signup after %v",
			refused.Round(time.Millisecond), later.Round(time.Millisecond),
			time.Since(up).Round(time.Millisecond))
	}
	l.until(100)
	l.end()
	// The end of the server also removes messages of failed signups.
	exec.Command("ip", "netns", "exec", name, "kill", "-TERM", fmt.Sprint(cmd.Process.Pid)).Run()
	select {
	case <-ended:
	case <-time.After(2 * stopWithin):
		t.Error("the server does not end")
	}
	l.check()
}

// forward forwards connections to a server that listens only on loopback.
func forward(t *testing.T, listen, target string) {
	t.Helper()
	from, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	t.Cleanup(func() {
		from.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range open {
			c.Close()
		}
	})
	go func() {
		for {
			a, err := from.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", target)
			if err != nil {
				a.Close()
				continue
			}
			mu.Lock()
			open = append(open, a, b)
			mu.Unlock()
			for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
				go func() {
					defer way[0].Close()
					defer way[1].Close()
					io.Copy(way[1], way[0])
				}()
			}
		}
	}()
}

// A server is killed under load and not restarted. When its lease has expired, another server
// writes its messages, under the same names.
func TestLongDeadServer(t *testing.T) {
	f := newFleet(t)
	l := f.load()
	l.until(300)
	f.nodes[1].Kill()
	l.until(100)
	l.end()
	conn, err := pgx.Connect(t.Context(), f.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	dead, err := os.ReadFile(filepath.Join(f.data(1), "node.id"))
	if err != nil {
		t.Fatal(err)
	}
	left := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM outbox WHERE node = $1`,
			strings.TrimSpace(string(dead))).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := left()
	if before == 0 {
		t.Fatal("the server left no outbox rows")
	}
	began := time.Now()
	for left() > 0 {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("%d outbox rows still belong to the dead server", left())
		}
		<-time.After(time.Second)
	}
	t.Logf("%d messages were taken over after %v", before, time.Since(began).Round(time.Second))
	for _, i := range []int{0, 2} {
		f.nodes[i].mustStop(t)
	}
	// A message that was being staged remains. No mail server takes it, and only a restart of that
	// server would remove it.
	staged, err := filepath.Glob(filepath.Join(f.data(1), "pickup", ".*.part"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range staged {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	l.check()
}
