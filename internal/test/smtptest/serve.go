package smtptest

import (
	"net"
	"testing"
)

// Serve starts a TCP server that handles each connection with do and then closes it. It returns the server's
// address. The server accepts no connection after the test. It is for servers that do not behave like Server.
func Serve(t testing.TB, do func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				do(conn)
			}()
		}
	}()
	return l.Addr().String()
}
