package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"dialtone/internal/atomicfile"
	"dialtone/internal/fault"
	"dialtone/internal/regularfile"
)

// A restore puts everything into DATA/restore.unfinished first, and checks it there. When
// everything is ready, it writes the plan, a list of what goes where, and then carries it out. So a
// killed restore leaves one of two states. Without a plan, nothing was put in place, and another
// restore starts from the beginning. With a plan, everything was checked, and another restore
// carries out the rest of it. As long as the directory exists, no server starts.
const (
	unfinished = "restore.unfinished"
	finished   = "restore.finished" // the same directory while it is removed
	planFile   = "plan.json"
)

// ErrRestoring means that a restore into the data directory was started but not completed.
var ErrRestoring = fault.Needs(fault.Correction, "a restore was started but not finished")

// CheckRestored fails with ErrRestoring while a restore is not finished. It removes the remains of
// a finished one.
func (d Dir) CheckRestored() error {
	err := d.Restored()
	if err == nil {
		_ = os.RemoveAll(filepath.Join(string(d), finished)) // it does no harm
	}
	return err
}

// Restored does what CheckRestored does, but removes nothing.
func (d Dir) Restored() error {
	path := filepath.Join(string(d), unfinished)
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: %s exists; run the same dialtone restore command again", ErrRestoring, path)
}

// Restoring is a restore in progress. The caller holds the lock of the data directory.
type Restoring struct {
	dir  Dir
	path string
}

// Move says where a file or directory of a restore goes. From is relative to the restore's own
// directory.
type Move struct{ From, To string }

// BeginRestore begins a restore into a data directory that is empty except for the names in
// allowed. It removes the remains of an earlier restore that had put nothing in place. If an
// earlier one was ready, planned is set, and only Finish is left to do.
func (d Dir) BeginRestore(allowed ...string) (r *Restoring, planned bool, err error) {
	r = &Restoring{d, filepath.Join(string(d), unfinished)}
	_, err = os.Lstat(r.Path(planFile))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return r, err == nil, err
	}
	if err := d.checkEmpty(append(allowed, unfinished, finished, "serve.lock", "lost+found")); err != nil {
		return nil, false, err
	}
	if err := os.RemoveAll(r.path); err != nil {
		return nil, false, err
	}
	return r, false, r.create()
}

// BeginEpoch begins a restore of a database that other tools have put in place. It may have been begun before.
func (d Dir) BeginEpoch() (*Restoring, error) {
	r := &Restoring{d, filepath.Join(string(d), unfinished)}
	if _, err := os.Lstat(r.Path(planFile)); err == nil {
		return nil, fmt.Errorf("%w: that of an archive into %s; finish it first, by the same command", ErrRestoring, d)
	}
	if err := os.RemoveAll(r.path); err != nil {
		return nil, err
	}
	return r, r.create()
}

func (r *Restoring) create() error {
	if err := atomicfile.Mkdir(r.path, 0o700); err != nil {
		return err
	}
	return atomicfile.SyncDir(string(r.dir))
}

// checkEmpty fails if the directory contains anything that is not allowed. Its error names it.
func (d Dir) checkEmpty(allowed []string) error {
	list, err := os.ReadDir(string(d))
	if err != nil {
		return err
	}
	var left []string
	for _, e := range list {
		if !slices.Contains(allowed, e.Name()) {
			left = append(left, e.Name())
		}
	}
	if len(left) == 0 {
		return nil
	}
	const shown = 10
	names := strings.Join(left[:min(len(left), shown)], ", ")
	if len(left) > shown {
		names += fmt.Sprintf(" and %d more", len(left)-shown)
	}
	return fmt.Errorf("%s is not empty: it contains %s; move them away, or restore into another directory, because "+
		"remains of one database must not be mixed with another", d, names)
}

// Path returns the path of a file of the restore.
func (r *Restoring) Path(name string) string { return filepath.Join(r.path, name) }

// Mkdir creates a directory of the restore, if it is missing.
func (r *Restoring) Mkdir(name string) error {
	err := atomicfile.Mkdir(r.Path(name), 0o700)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	return err
}

// Create creates a file of the restore that only its owner can read. Its Close makes it durable.
func (r *Restoring) Create(name string) (io.WriteCloser, error) {
	f, err := os.OpenFile(r.Path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return durable{f}, atomicfile.InheritOwner(f)
}

type durable struct{ *os.File }

func (f durable) Close() error { return errors.Join(f.Sync(), f.File.Close()) }

// Ready writes the plan. From then on, the restore can only be finished.
func (r *Restoring) Ready(plan []Move) error {
	text, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	return atomicfile.Create(r.Path(planFile), string(text))
}

// Finish carries out the plan, if there is one, and removes the directory of the restore. Anybody
// who could write here may have written a plan that was found. So every destination must be in the
// data directory, or be one of the other files, or be in one of the other directories that the
// configuration names.
func (r *Restoring) Finish(others ...string) error {
	text, err := regularfile.Read(r.Path(planFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var plan []Move
	if err == nil {
		if err := json.Unmarshal(text, &plan); err != nil {
			return fmt.Errorf("%s: %w", r.Path(planFile), err)
		}
	}
	for _, m := range plan {
		if err := r.check(m, others); err != nil {
			return err
		}
	}
	for _, m := range plan {
		if err := r.move(m); err != nil {
			return fmt.Errorf("put %s in place: %w; run the same command again", m.To, err)
		}
	}
	// The directory is removed under another name: without its plan, another restore would start from the beginning,
	// and find the data directory full.
	done := filepath.Join(string(r.dir), finished)
	if err := errors.Join(os.RemoveAll(done), os.Rename(r.path, done), atomicfile.SyncDir(string(r.dir))); err != nil {
		return err
	}
	return os.RemoveAll(done)
}

// Abandon removes the directory of a restore that is not ready.
func (r *Restoring) Abandon() error {
	if _, err := os.Lstat(r.Path(planFile)); err == nil {
		return nil
	}
	return os.RemoveAll(r.path)
}

// check fails if a move is not from the directory of the restore to a place that a restore may write.
func (r *Restoring) check(m Move, others []string) error {
	if !filepath.IsLocal(m.From) {
		return fmt.Errorf("%s moves %q, which is not in %s; nothing was put in place", r.Path(planFile), m.From, r.path)
	}
	to, err := filepath.Abs(m.To)
	if err != nil {
		return err
	}
	for _, place := range append([]string{string(r.dir)}, others...) {
		if place, err = filepath.Abs(place); err != nil {
			return err
		}
		if rel, err := filepath.Rel(place, to); err == nil && filepath.IsLocal(rel) {
			return nil
		}
	}
	return fmt.Errorf("%s writes %q, which is neither in %s nor where the configuration puts the keys and messages; "+
		"nothing was put in place; if keys.dir or mail.pickup_dir was changed after the restore began, change it back",
		r.Path(planFile), m.To, r.dir)
}

// move puts one file or directory in place. If it is in place already, an earlier Finish has moved
// it.
func (r *Restoring) move(m Move) error {
	from := r.Path(m.From)
	if _, err := os.Lstat(from); errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(m.To); err != nil {
			return err
		}
		return nil
	}
	above := filepath.Dir(m.To)
	if err := atomicfile.MkdirAll(above, 0o700); err != nil {
		return err
	}
	err := os.Rename(from, m.To)
	if errors.Is(err, unix.EXDEV) {
		err = copyAcross(from, m.To)
	}
	return errors.Join(err, atomicfile.SyncDir(above))
}

// copyAcross moves a file to another file system.
func copyAcross(from, to string) error {
	source, err := regularfile.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	f, err := atomicfile.CreateTemp(to, ".restore-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(f, source)
	if err = errors.Join(err, atomicfile.InheritOwner(f), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), to)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Remove(from)
}

// Free returns how many bytes a user may still write to the file system of a directory.
func Free(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil
}
