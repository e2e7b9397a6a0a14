package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"dialtone/cmd/dialtone/internal/finding"
	"dialtone/internal/pathwalk"
	"dialtone/internal/shellword"
)

// ExportReaders describes who can read the file with the exported tables besides its owner. It is empty if the tables
// are in PostgreSQL.
type ExportReaders struct {
	// Group is the group of the file's directory.
	Group string `json:"group"`
	// Blocked tells why the members of the group cannot read the file: one sentence for each directory and file, with
	// the command that changes it.
	Blocked []string `json:"blocked"`

	gid     uint32
	reasons []finding.Finding // of Blocked
}

// block adds a reason why the members of the group cannot read the file.
func (r *ExportReaders) block(cause, next string) {
	r.Blocked = append(r.Blocked, cause+"; "+next)
	r.reasons = append(r.reasons, finding.New(finding.Fault, "export", finding.AboutPhones, cause, next))
}

// ReadersOf examines a file, the files that SQLite creates next to it, and the directories above. If the path contains
// a link of another user, the only advice is about the link: it could lead to a file that must stay private.
func ReadersOf(path string) (ExportReaders, error) {
	r := ExportReaders{Blocked: []string{}}
	link := finding.Link("export", path)
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return r, err
	}
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	if err != nil {
		return r, err
	}
	r.gid = info.Sys().(*syscall.Stat_t).Gid
	r.Group = pathwalk.GroupName(r.gid)
	var above []string
	for d := dir; ; d = filepath.Dir(d) {
		above = append([]string{d}, above...)
		if d == filepath.Dir(d) {
			break
		}
	}
	for _, d := range above {
		err = errors.Join(err, r.examine(d, 1, "x", false))
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		err = errors.Join(err, r.examine(path+suffix, 4, "r", true))
	}
	if link != nil && len(r.Blocked) > 0 {
		r.Blocked, r.reasons = nil, nil
		r.block(link.Cause, link.Next)
	}
	return r, err
}

// examine adds a reason to Blocked if the group lacks a permission. bit is that permission among those of other users.
// own tells that the file belongs to the export, so that its group may be changed; directories above keep their group.
func (r *ExportReaders) examine(path string, bit fs.FileMode, letter string, own bool) error {
	info, err := os.Stat(path)
	if err != nil {
		if own && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	gid, class := info.Sys().(*syscall.Stat_t).Gid, "o"
	if gid == r.gid {
		bit, class = bit<<3, "g"
	}
	if info.Mode().Perm()&bit != 0 {
		return nil
	}
	remedy := fmt.Sprintf("chmod %s+%s %s", class, letter, shellword.Path(path))
	if own && gid != r.gid {
		remedy = fmt.Sprintf("chgrp %s %s", shellword.Quote(r.Group), shellword.Path(path))
	}
	r.block(fmt.Sprintf("%s has the mode %04o and the group %s", path, info.Mode().Perm(), pathwalk.GroupName(gid)),
		"run: "+remedy)
	return nil
}
