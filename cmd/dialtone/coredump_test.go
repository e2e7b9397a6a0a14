package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A core file would contain the keys. The test process allows core files, as far as it can.
func TestNoCoreDumps(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	if before.Max == 0 {
		t.Skip("core files are off for all programs")
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: before.Max, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_CORE, &before) })
	p := start(t, launch{data: t.TempDir()})
	var got unix.Rlimit
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_CORE, nil, &got); err != nil {
		t.Fatal(err)
	}
	if got != (unix.Rlimit{}) {
		t.Errorf("the server may write a core file of %d bytes, at most %d", got.Cur, got.Max)
	}
}
