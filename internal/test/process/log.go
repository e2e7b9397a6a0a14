package process

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Log collects what is written to it. It may be read while it is written. The zero value is empty.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends to the log. It never fails.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns the whole log.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Tail returns the end of the log: its last lines, 8 KiB at most.
func (l *Log) Tail() string {
	const limit = 8 << 10
	text := l.String()
	if len(text) <= limit {
		return text
	}
	text = text[len(text)-limit:]
	if _, lines, ok := strings.Cut(text, "\n"); ok {
		return lines
	}
	return text
}

// Count returns how often text is in the log.
func (l *Log) Count(text string) int { return strings.Count(l.String(), text) }

// Lines returns the complete lines of the log, without their line breaks.
func (l *Log) Lines() []string {
	lines := strings.Split(l.String(), "\n")
	return lines[:len(lines)-1]
}

// Reset empties the log.
func (l *Log) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

// Wait waits until the log contains one of the texts, and returns the whole log.
func (l *Log) Wait(t testing.TB, texts ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Timeout)
	defer cancel()
	err := Poll(ctx, func() error {
		for _, text := range texts {
			if l.Count(text) > 0 {
				return nil
			}
		}
		return fmt.Errorf("the log has none of %q", texts)
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, l.Tail())
	}
	return l.String()
}
