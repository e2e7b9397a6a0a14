package postgrestest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// prefix is how the names of temporary folders begin.
const prefix = "dialtone-postgrestest-"

// memory is where a cluster goes that need not be on a disk: the system's file system in memory, where it has one with
// room, and nobody has said where temporary files go. Making a database there takes a tenth of the time.
func memory() string {
	const place, room = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(place, &fs) != nil || uint64(fs.Bavail)*uint64(fs.Bsize) < room {
		return ""
	}
	return place
}

// folder makes a temporary folder, which is held as long as the file is open. Those that nobody holds any more, since a
// process was killed, are removed before.
func folder(in string) (*os.File, error) {
	if in == "" {
		in = os.TempDir()
	}
	sweep(in)
	for range 10 {
		dir, err := os.MkdirTemp(in, prefix)
		if err != nil {
			return nil, err
		}
		if held := hold(dir); held != nil {
			return held, nil
		}
	}
	return nil, fmt.Errorf("somebody removes the new folders in %s", in)
}

// sweep removes the folders that nobody holds. A server that was left in one, where the system does not end it, notices
// within a minute that its files are gone, and ends.
func sweep(in string) {
	dirs, _ := filepath.Glob(filepath.Join(in, prefix+"*")) // the pattern is in order
	for _, dir := range dirs {
		if held := hold(dir); held != nil {
			os.RemoveAll(dir)
			held.Close()
		}
	}
}

// hold is the folder, opened and locked, or nil where somebody else has it.
func hold(dir string) *os.File {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		// Whoever had it before may have removed it.
		if _, err := os.Stat(dir); err == nil {
			return f
		}
	}
	f.Close()
	return nil
}
