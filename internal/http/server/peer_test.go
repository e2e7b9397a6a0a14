package server

import (
	"net/http"
	"testing"
)

func TestPeer(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:5060":           "192.0.2.1",
		"[::ffff:192.0.2.1]:5060":  "192.0.2.1",
		"[2001:db8::1]:5060":       "2001:db8::1",
		"[fe80::1%eth0]:5060":      "fe80::1",
		"[::ffff:127.0.0.1%1]:443": "127.0.0.1",
		"192.0.2.1":                "invalid IP",
		"@":                        "invalid IP",
		"":                         "invalid IP",
	} {
		if got := Peer(&http.Request{RemoteAddr: remote}); got.String() != want {
			t.Errorf("the peer of %q is %s, want %s", remote, got, want)
		}
	}
}
