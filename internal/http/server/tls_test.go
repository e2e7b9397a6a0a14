package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/test/tlstest"
)

// withTLS is like withServer, with TLS. Clients that trust roots accept its certificate for a.test.
func withTLS(
	t *testing.T, h http.HandlerFunc, limits Limits, do func(t *testing.T, l *pipes, roots *x509.CertPool),
) {
	a := tlstest.NewAuthority(t)
	cert, err := tls.LoadX509KeyPair(a.Issue(t, "a.test", time.Time{}, "a.test"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		// The clock of the bubble begins in 2000.
		config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
		ctx, cancel := context.WithCancel(t.Context())
		l, ended := newPipes(), make(chan error, 1)
		go func() { ended <- ServeTLS(ctx, l, config, h, limits, discard) }()
		stop := sync.OnceValue(func() error {
			cancel()
			return <-ended
		})
		do(t, l, a.Roots)
		if err := stop(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
}

// client returns a client from an address, and a function that closes its connection.
func (l *pipes) client(from string, roots *x509.CertPool) (*http.Client, func()) {
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots, Time: func() time.Time { return issued }},
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return l.dial(from), nil },
	}
	return &http.Client{Transport: transport}, transport.CloseIdleConnections
}

// issued is a time at which the certificates of this process are valid, whatever the clock of a bubble says.
var issued = time.Now()

// half is an incomplete ClientHello.
const half = "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"

// A handshake must finish within 5 seconds.
func TestHandshakeTime(t *testing.T) {
	for name, text := range map[string]string{"nothing": "", "half a ClientHello": half, "plain HTTP, half": "GET"} {
		t.Run(name, func(t *testing.T) {
			withTLS(t, readBody, noLimits, func(t *testing.T, l *pipes, _ *x509.CertPool) {
				c := l.dial("192.0.2.1")
				defer c.Close()
				if _, err := io.WriteString(c, text); err != nil {
					t.Fatal(err)
				}
				if d := openFor(c); d != 5*time.Second {
					t.Errorf("the connection was open for %v", d)
				}
			})
		})
	}
}

// New connections displace unfinished handshakes, which count towards the limit of their address.
func TestHandshakesAreLimited(t *testing.T) {
	var counts Connections
	limits := Limits{Connections: 3, ConnectionsPerAddress: 2, Counts: &counts}
	withTLS(t, readBody, limits, func(t *testing.T, l *pipes, roots *x509.CertPool) {
		var conns []net.Conn
		for _, from := range []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"} {
			c := l.dial(from)
			defer c.Close()
			io.WriteString(c, half)
			conns = append(conns, c)
		}
		synctest.Wait()
		if !isClosed(conns[2]) {
			t.Error("an address has three connections")
		}
		client, end := l.client("192.0.2.3", roots)
		defer end()
		response, err := client.Get("https://a.test/")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.ProtoMajor != 2 {
			t.Errorf("the answer is %s", response.Proto)
		}
		if !isClosed(conns[0]) || isClosed(conns[1]) || isClosed(conns[3]) {
			t.Error("the first of the handshakes was not displaced, or another was")
		}
	})
}

// A connection with several requests over HTTP/2 waits only while no handler works on one of them.
func TestStreams(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			time.Sleep(4 * time.Second)
		}
		io.WriteString(w, "done")
	}
	withTLS(t, handler, Limits{Connections: 1, ConnectionsPerAddress: 1},
		func(t *testing.T, l *pipes, roots *x509.CertPool) {
			client, end := l.client("192.0.2.1", roots)
			defer end()
			get := func(path string) error {
				response, err := client.Get("https://a.test" + path)
				if err != nil {
					return err
				}
				defer response.Body.Close()
				if text, err := io.ReadAll(response.Body); err != nil || string(text) != "done" {
					return errors.Join(errors.New(string(text)), err)
				}
				return nil
			}
			if err := get("/"); err != nil {
				t.Fatal(err)
			}
			long := make(chan error, 1)
			go func() { long <- get("/long") }()
			time.Sleep(time.Second)
			if err := get("/"); err != nil { // ends while the other works
				t.Fatal(err)
			}
			synctest.Wait()
			other := l.dial("192.0.2.2")
			defer other.Close()
			synctest.Wait()
			if !isClosed(other) {
				t.Error("a connection with a request that is worked on was displaced")
			}
			if err := <-long; err != nil {
				t.Error(err)
			}
			synctest.Wait()
			third := l.dial("192.0.2.2")
			defer third.Close()
			synctest.Wait()
			if isClosed(third) {
				t.Error("a connection that waits was not displaced")
			}
		})
}
