package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// shares limits servers to a part of a processor each, by control groups. So one machine can show
// the performance of several servers on separate machines. It needs Linux and root.
type shares struct{ dirs []string }

// newShares creates n control groups, each limited to a part of a processor. It returns false if the
// system does not allow that.
func newShares(n int, part float64) (*shares, bool) {
	s := &shares{}
	const period = 20_000 // µs, short in relation to a measurement
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

// put moves a process to group i.
func (s *shares) put(i, pid int) error {
	return os.WriteFile(filepath.Join(s.dirs[i], "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// end removes the groups. Their processes must have ended.
func (s *shares) end() {
	for _, dir := range s.dirs {
		os.Remove(dir)
	}
}
