package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A server and commands on a database that was overwritten in the middle say what to do, once.
func TestDamagedDatabase(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	mustOutput(t, "tenant", "add", "localhost", "--data", data)
	path := filepath.Join(data, "dialtone.db")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const header = 100
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xa7}, int(info.Size())-header), header); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"serve", "--listen=127.0.0.1:0"}, {"tenant", "list"}, {"verify"}} {
		status, _, stderr := runCommand(t, []string{}, append(args, "--data", data)...)
		if status != exitConfig || strings.Count(stderr, "restore it from a backup") != 1 {
			t.Errorf("%s: status %d\n%s", args[0], status, stderr)
		}
	}
	runCommand(t, []string{}, "doctor", "--data", data)
	if beside, err := filepath.Glob(path + "-*"); err != nil || len(beside) > 0 {
		t.Errorf("%v were not there before", beside)
	}
}
