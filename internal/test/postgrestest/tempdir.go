package postgrestest

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// tempPrefix begins the names of temporary directories.
const tempPrefix = "dialtone-postgrestest-"

// memoryDir returns a directory in memory, or "" for the usual temporary directory. It returns ""
// if TMPDIR is set or the file system in memory lacks space. A database is created ten times faster
// in memory.
func memoryDir() string {
	const dir, needed = "/dev/shm", 2 << 30
	var fs syscall.Statfs_t
	if os.Getenv("TMPDIR") != "" || syscall.Statfs(dir, &fs) != nil ||
		uint64(fs.Bavail)*uint64(fs.Bsize) < needed {
		return ""
	}
	return dir
}

// makeTempDir makes a temporary directory in parent and returns it, locked. The lock lasts until the
// file is closed. First it removes the unlocked ones, which killed processes have left.
func makeTempDir(parent string) (*os.File, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	removeStale(parent)
	for range 10 {
		dir, err := os.MkdirTemp(parent, tempPrefix)
		if err != nil {
			return nil, err
		}
		if lock := tryLock(dir); lock != nil {
			return lock, nil
		}
	}
	return nil, fmt.Errorf("another process removes the new directories in %s", parent)
}

// removeStale removes the temporary directories that nothing has locked. A server that still runs in
// one notices within a minute that its files are gone, and ends.
func removeStale(parent string) {
	dirs, _ := filepath.Glob(filepath.Join(parent, tempPrefix+"*")) // the pattern is valid
	for _, dir := range dirs {
		if lock := tryLock(dir); lock != nil {
			os.RemoveAll(dir)
			lock.Close()
		}
	}
}

// tryLock opens and locks a directory. It returns nil if another process has it locked, or has
// removed it.
func tryLock(dir string) *os.File {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		if _, err := os.Stat(dir); err == nil {
			return f
		}
	}
	f.Close()
	return nil
}
