package asynclog_test

import (
	"bufio"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/internal/asynclog"
)

// A reader that pauses is told the number of dropped lines.
func TestDroppedLines(t *testing.T) {
	r, pipe := io.Pipe()
	var dropped atomic.Int64
	w := asynclog.NewWriter(pipe, func(n int64) { dropped.Add(n) })
	const more = 100
	const total = asynclog.QueueLines + 1 + more // the one is in the pipe
	for range total {
		if n, err := w.Write([]byte("line\n")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
	}
	go func() {
		w.Close()
		pipe.Close()
	}()
	var got int64
	for lines := bufio.NewScanner(r); lines.Scan(); {
		got++
	}
	if n := dropped.Load(); n < more || got+n != total {
		t.Errorf("%d lines were read and %d dropped, together %d of %d", got, n, got+n, total)
	}
}

func TestCloseWritesRemainingLines(t *testing.T) {
	var to lines
	w := asynclog.NewWriter(&to, func(int64) { t.Error("lines were dropped") })
	for range 1000 {
		w.Write([]byte("line\n"))
	}
	w.Close()
	if to != 1000 {
		t.Errorf("%d lines", to)
	}
}

// A reader that reads again after Close has given up is told the number of lines that it missed.
func TestCloseReportsWhatItDrops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, pipe := io.Pipe()
		var dropped int64
		w := asynclog.NewWriter(pipe, func(n int64) {
			dropped += n
			pipe.Write([]byte("dropped\n"))
		})
		const total = asynclog.QueueLines + 1 + 100
		for range total {
			w.Write([]byte("line\n"))
		}
		go func() {
			w.Close()
			pipe.Close()
		}()
		time.Sleep(1500 * time.Millisecond) // of the clock of synctest
		var got, reports int64
		for lines := bufio.NewScanner(r); lines.Scan(); {
			if lines.Text() == "dropped" {
				reports++
			} else {
				got++
			}
		}
		if got > 1 || reports != 1 || got+dropped != total {
			t.Errorf("%d lines, %d reports of %d dropped, together %d of %d", got, reports, dropped, got+dropped, total)
		}
	})
}

// A reader that never reads does not prevent Close from returning.
func TestCloseWithStalledReader(t *testing.T) {
	_, pipe := io.Pipe()
	w := asynclog.NewWriter(pipe, func(int64) {})
	w.Write([]byte("line\n"))
	w.Close()
}

// lines counts calls of Write.
type lines int

func (l *lines) Write(line []byte) (int, error) {
	*l++
	return len(line), nil
}
