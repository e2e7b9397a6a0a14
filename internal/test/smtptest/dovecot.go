package smtptest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
)

// mechanisms are the login mechanisms that Postfix offers, with their parameters in Dovecot's
// protocol.
var mechanisms = map[string]string{
	"PLAIN":    "plaintext",
	"LOGIN":    "plaintext",
	"CRAM-MD5": "dictionary\tactive",
}

// startAuthServer starts a server that checks passwords for Postfix, and returns its address. It
// speaks Dovecot's authentication protocol, version 1.1. users maps names to passwords.
func startAuthServer(t testing.TB, users map[string]string) string {
	t.Helper()
	return Serve(t, func(conn net.Conn) { authenticate(conn, users) })
}

// authenticate serves one connection.
func authenticate(conn net.Conn, users map[string]string) {
	fmt.Fprint(conn, "VERSION\t1\t1\n")
	for name, kind := range mechanisms {
		fmt.Fprintf(conn, "MECH\t%s\t%s\n", name, kind)
	}
	fmt.Fprint(conn, "SPID\t1\nCUID\t1\nCOOKIE\t00000000000000000000000000000000\nDONE\n")
	open := make(map[string]sasl.Server)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		f := strings.Split(lines.Text(), "\t")
		if len(f) < 3 || f[0] != "AUTH" && f[0] != "CONT" {
			continue
		}
		id := f[1]
		var response []byte
		if f[0] == "AUTH" {
			x := session{s: &Server{opts: Options{Users: users}}}
			open[id], _ = x.Auth(f[2])
			for _, p := range f[3:] {
				if text, ok := strings.CutPrefix(p, "resp="); ok {
					response, _ = base64.StdEncoding.DecodeString(text)
				}
			}
		} else {
			response, _ = base64.StdEncoding.DecodeString(f[2])
		}
		if open[id] == nil {
			fmt.Fprintf(conn, "FAIL\t%s\n", id)
			continue
		}
		challenge, done, err := open[id].Next(response)
		switch {
		case err != nil:
			fmt.Fprintf(conn, "FAIL\t%s\n", id)
		case done:
			fmt.Fprintf(conn, "OK\t%s\tuser=somebody\n", id)
		default:
			fmt.Fprintf(conn, "CONT\t%s\t%s\n", id, base64.StdEncoding.EncodeToString(challenge))
			continue
		}
		delete(open, id)
	}
}
