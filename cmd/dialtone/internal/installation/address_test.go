package installation

import "testing"

func TestDialAddress(t *testing.T) {
	for listen, want := range map[string]string{
		":8081": "127.0.0.1:8081", "0.0.0.0:8081": "127.0.0.1:8081", "[::]:8081": "[::1]:8081",
		"127.0.0.1:8081": "127.0.0.1:8081", "ops.example.org:8081": "ops.example.org:8081",
	} {
		if got := DialAddress(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}
