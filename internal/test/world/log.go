package world

import (
	"strings"
	"sync"
	"testing"

	"dialtone/internal/test/process"
)

// Log is a log that must not contain secrets.
type Log struct {
	process.Log

	mu      sync.Mutex
	secrets map[string]bool
}

// Hide adds secrets, which the log must not contain when the test is over.
func (l *Log) Hide(secrets ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range secrets {
		l.secrets[s] = true
	}
}

// check fails the test for every secret in the log, and shows the log of a test that has failed.
func (l *Log) check(t testing.TB) {
	text := l.String()
	l.mu.Lock()
	defer l.mu.Unlock()
	for s := range l.secrets {
		if strings.Contains(text, s) {
			t.Errorf("the log contains the secret %q", s)
		}
	}
	if t.Failed() {
		t.Logf("the end of the log:\n%s", l.Tail())
	}
}
