package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// shares bound how much of a processor each server gets, so that servers which would be on machines
// of their own can be added up on one machine. They are control groups, which take root and a Linux
// that has them.
type shares struct{ dirs []string }

// newShares makes so many groups of a part of a processor each. It reports false where the system has none.
func newShares(n int, part float64) (*shares, bool) {
	s := &shares{}
	const period = 20_000 // µs: short against what is measured
	for i := range n {
		name := fmt.Sprintf("dialtone-bench-%d-%d", os.Getpid(), i)
		ok := false
		for _, v := range []struct{ root, file, text string }{
			{"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", strconv.Itoa(int(part * period))},
			{"/sys/fs/cgroup", "cpu.max", fmt.Sprintf("%d %d", int(part*period), period)},
		} {
			dir := filepath.Join(v.root, name)
			if os.Mkdir(dir, 0o755) != nil {
				continue
			}
			// Only version 1 has this file.
			os.WriteFile(filepath.Join(dir, "cpu.cfs_period_us"), []byte(strconv.Itoa(period)), 0o644)
			if os.WriteFile(filepath.Join(dir, v.file), []byte(v.text), 0o644) != nil {
				os.Remove(dir)
				continue
			}
			s.dirs, ok = append(s.dirs, dir), true
			break
		}
		if !ok {
			s.end()
			return nil, false
		}
	}
	return s, true
}

func (s *shares) put(i, pid int) error {
	return os.WriteFile(filepath.Join(s.dirs[i], "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// end removes the groups, whose processes have ended.
func (s *shares) end() {
	for _, dir := range s.dirs {
		os.Remove(dir)
	}
}
