// Package crashfs is a file system in memory for tests of durability. It can be stopped at any moment,
// and then shows what a machine could find on its disk after a power cut.
//
// It guarantees no more than real file systems do. The data of a file is on disk after a sync of
// the file, a name after a sync of its directory, and everything after SyncAll (syncfs). A power
// cut may keep or drop any unsynced change, in any order, and tear a write. A failed sync drops the
// data: the cache marks it as clean, and the next sync succeeds without it. If only the process
// ends, the cache is kept until Forget.
//
// Every operation goes through one function, which records it in a journal. Moments restores the state
// at every moment of a recorded run, and Fail makes operations fail. SQLite uses the file system
// through VFS, and package pickup through the methods of its FileSystem interface.
//
// There are no modes and owners, no renames or links between directories, and no file for the memory
// that connections share (the -shm file), which SQLite rebuilds after a crash.
package crashfs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Kind is what an operation does.
type Kind string

// The kinds of operations. Those from Open to Share change nothing.
const (
	Create, MakeDir, Write, Truncate, Remove, Rename, Link, Sync, SyncDir, SyncAll Kind = "create", "mkdir",
		"write", "truncate", "remove", "rename", "link", "fsync", "fsync dir", "syncfs"
	// CreateUnnamed is open(2) with O_TMPFILE, LinkUnnamed is linkat(2) of such a file.
	CreateUnnamed, LinkUnnamed Kind = "create unnamed", "link unnamed"
	// Forget is posix_fadvise(POSIX_FADV_DONTNEED): clean pages of the cache are read from disk again.
	Forget Kind = "fadvise"

	Open, Read, Stat, List, Chmod, Close, Share Kind = "open", "read", "stat", "list", "chmod", "close",
		"map shared memory"

	// Mark is not an operation. It marks a moment in the journal at which something else happened.
	Mark Kind = "mark"
)

// Op is an operation in the journal.
type Op struct {
	Kind Kind
	Path string
	To   string // of a rename or a link
	Off  int64
	Data []byte // the part that was written
	Size int    // of a read
	Err  error

	node          int // the file, or the directory of a name
	newNode       int // the file of CreateUnnamed and LinkUnnamed
	name, newName string
	reverts       bool
	unseen        bool // the caller ignores errors, so no fault applies
}

// Changes reports whether crashes before and after the operation can leave different disks.
func (op Op) Changes() bool {
	switch op.Kind {
	case Create, MakeDir, Write, Truncate, Remove, Rename, Link, Sync, SyncDir, SyncAll, CreateUnnamed, LinkUnnamed:
		return true
	}
	return false
}

// MayFail reports whether a Fault can make the operation fail.
func (op Op) MayFail() bool { return op.Kind != Mark && !op.unseen }

func (op Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", op.Kind, op.Path)
	switch op.Kind {
	case Rename, Link:
		fmt.Fprintf(&b, " -> %s", path.Base(op.To))
	case Write:
		fmt.Fprintf(&b, " %d bytes at %d", len(op.Data), op.Off)
	case Read:
		fmt.Fprintf(&b, " %d bytes at %d", op.Size, op.Off)
	case Truncate:
		fmt.Fprintf(&b, " to %d", op.Off)
	}
	if op.Err != nil {
		fmt.Fprintf(&b, ": %v", op.Err)
	}
	return b.String()
}

// Fault makes operations fail.
type Fault struct {
	// After is how many operations succeed before the one that fails.
	After int
	// Err is the error of the failing operation.
	Err syscall.Errno
	// Stays makes all later operations fail too, until the fault is healed.
	Stays bool
	// Only selects the operations that are counted and may fail. If it is nil, all are.
	Only func(Op) bool
	// Reverts makes a failed sync drop the data from the cache, too.
	Reverts bool
}

// FS is one file system. It is safe for concurrent use.
type FS struct {
	// Before is called before each operation, without locks, unless it is nil.
	Before func(Op)

	mu      sync.Mutex
	disk    *disk
	dead    bool
	left    int // operations until the file system stops, if positive
	begin   *disk
	journal []Op
	faults  []*armed

	sqlite sqliteFS
}

// New returns an empty file system.
func New() *FS { return on(newDisk()) }

func on(d *disk) *FS { return &FS{disk: d, sqlite: sqliteFS{files: make(map[int]*shared)}} }

// Record starts a new journal at the current state.
func (f *FS) Record() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.begin, f.journal = f.disk.clone(), nil
}

// Journal returns the operations since Record. Their number is the current moment.
func (f *FS) Journal() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.journal)
}

// Now returns the current moment in the journal.
func (f *FS) Now() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.journal)
}

// SyncFile makes the data of a file durable.
func (f *FS) SyncFile(p string) error {
	_, err := f.do(Op{Kind: Sync, Path: p}, func(op *Op) (err error) {
		op.node, _, _, err = f.disk.find(op.Path)
		return err
	})
	return err
}

// Forget drops the clean pages of a file from the cache. After a failed sync, they differ from the
// disk.
func (f *FS) Forget(p string) {
	f.do(Op{Kind: Forget, Path: p, unseen: true}, func(op *Op) (err error) {
		op.node, _, _, err = f.disk.find(op.Path)
		return err // a missing file has no pages
	})
}

// Mark adds a line to the journal.
func (f *FS) Mark(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begin != nil {
		f.journal = append(f.journal, Op{Kind: Mark, Path: fmt.Sprintf(format, args...)})
	}
}

// armed is a fault, and whether it has made an operation fail.
type armed struct {
	Fault
	hit bool
}

// Fail arms a fault. disarm removes it and reports whether it occurred.
func (f *FS) Fail(fault Fault) (disarm func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := &armed{Fault: fault}
	f.faults = append(f.faults, a)
	return func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.faults = slices.DeleteFunc(f.faults, func(other *armed) bool { return other == a })
		return a.hit
	}
}

// StopAfter stops the file system after n more operations: all later ones fail and change nothing.
// Crash then returns what is left.
func (f *FS) StopAfter(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = n + 1
}

// Resume revokes StopAfter.
func (f *FS) Resume() { f.StopAfter(-1) }

// Stopped reports whether the file system has stopped.
func (f *FS) Stopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// Crash stops the file system, and returns the one that is found afterwards. Further operations on
// the old one fail and change nothing.
func (f *FS) Crash(v Variant) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	return on(f.disk.crash(v))
}

// Clone returns a copy in which everything is synced.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return on(f.disk.crash(Cuts[0]))
}

// Torn returns the lengths at which a power cut at this moment may tear the last write.
func (f *FS) Torn() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.disk.torn()
}

// Moments calls each for every moment of the journal, from the one before the first operation to the
// one after the last, with the file system of that moment. It skips moments after operations that
// change nothing, and ends if each returns false.
func (f *FS) Moments(each func(at int, then *FS) bool) {
	f.mu.Lock()
	d, journal := f.begin.clone(), slices.Clone(f.journal)
	f.mu.Unlock()
	then := on(d)
	for at := range len(journal) + 1 {
		if at > 0 {
			op := journal[at-1]
			if !op.Changes() && op.Kind != Mark {
				continue
			}
			d.apply(op)
		}
		if !each(at, then) {
			return
		}
	}
}

// Image identifies everything that programs see, now or after Forget: two file systems of one
// process with the same Image have the same names and contents.
func (f *FS) Image() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var b strings.Builder
	f.disk.walk(0, "", func(name string, n *node) {
		fmt.Fprintf(&b, "%q %t %d", name, n.isDir(), len(n.data))
		if !n.isDir() {
			now, forgotten := n.sums()
			fmt.Fprint(&b, now, forgotten)
		}
	})
	return b.String()
}

// Files returns the sorted paths of all files.
func (f *FS) Files() (list []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disk.walk(0, "", func(name string, n *node) {
		if !n.isDir() {
			list = append(list, name)
		}
	})
	return list
}

func (d *disk) walk(id int, name string, each func(string, *node)) {
	n := d.nodes[id]
	each(name, n)
	names := make([]string, 0, len(n.names))
	for name := range n.names {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, child := range names {
		d.walk(n.names[child], name+"/"+child, each)
	}
}

// find returns the node at a path, and its directory and name. Without such a node, the error is
// ENOENT; dir is then -1 if there is no such directory either.
func (d *disk) find(p string) (id, dir int, name string, err error) {
	dirPath, name := path.Split(path.Clean(p))
	for part := range strings.SplitSeq(strings.Trim(dirPath, "/"), "/") {
		if part == "" {
			continue
		}
		next, ok := d.nodes[dir].names[part]
		if !ok || !d.nodes[next].isDir() {
			return -1, -1, name, syscall.ENOENT
		}
		dir = next
	}
	if name == "" {
		return 0, 0, "", nil
	}
	if id, ok := d.nodes[dir].names[name]; ok {
		return id, dir, name, nil
	}
	return -1, dir, name, syscall.ENOENT
}

// do runs an operation. All operations go through it. resolve is called with the lock held; it
// completes the operation, or refuses it.
func (f *FS) do(op Op, resolve func(*Op) error) (Op, error) {
	if f.Before != nil {
		f.Before(op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left > 0 {
		f.left--
		f.dead = f.left == 0
	}
	if f.dead {
		return op, &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: syscall.EIO}
	}
	if resolve != nil {
		if err := resolve(&op); err != nil {
			return op, &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: err}
		}
	}
	if errno, reverts := f.strikes(op); errno != 0 {
		op.Err, op.reverts = errno, reverts
		if op.Kind == Write { // a part may have been written, as on a full disk
			op.Data = op.Data[:len(op.Data)/2/sector*sector]
		}
	}
	op.Data = bytes.Clone(op.Data)
	f.disk.apply(op)
	if f.begin != nil {
		f.journal = append(f.journal, op)
	}
	if op.Err != nil {
		return op, &fs.PathError{Op: string(op.Kind), Path: op.Path, Err: op.Err}
	}
	return op, nil
}

func (f *FS) strikes(op Op) (errno syscall.Errno, reverts bool) {
	for _, a := range f.faults {
		switch {
		case op.unseen, a.Only != nil && !a.Only(op), a.hit && !a.Stays:
		case a.After > 0:
			a.After--
		default:
			a.hit = true
			errno, reverts = a.Err, a.Reverts
		}
	}
	return errno, reverts
}

// named completes an operation on an existing name.
func (f *FS) named(op *Op) (err error) {
	_, op.node, op.name, err = f.disk.find(op.Path)
	return err
}

// unnamed completes an operation on a name that must not exist.
func (f *FS) unnamed(op *Op) (err error) {
	_, op.node, op.name, err = f.disk.find(op.Path)
	switch {
	case err == nil:
		return syscall.EEXIST
	case op.node < 0:
		return syscall.ENOENT
	}
	return nil
}

// MakeDir creates a directory and its parents if they are missing.
func (f *FS) MakeDir(p string) error {
	above := ""
	for part := range strings.SplitSeq(strings.Trim(path.Clean(p), "/"), "/") {
		above += "/" + part
		if _, err := f.do(Op{Kind: MakeDir, Path: above}, f.unnamed); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Create creates a file, which must not exist, in the same steps as a program: it opens, writes and
// closes it.
func (f *FS) Create(p string, data []byte) error {
	op, err := f.do(Op{Kind: Create, Path: p}, f.unnamed)
	if err != nil {
		return err
	}
	id := f.idOf(op)
	_, err = f.do(Op{Kind: Write, Path: p, Data: data, node: id}, nil)
	if err == nil {
		_, err = f.do(Op{Kind: Chmod, Path: p}, nil)
	}
	_, closed := f.do(Op{Kind: Close, Path: p}, nil)
	return errors.Join(err, closed)
}

func (f *FS) idOf(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.disk.nodes[op.node].names[op.name]
}

// Rename renames a file within its directory, atomically. It replaces a file of the new name.
func (f *FS) Rename(from, to string) error {
	_, err := f.do(Op{Kind: Rename, Path: from, To: to}, func(op *Op) error {
		if path.Dir(from) != path.Dir(to) {
			return syscall.EXDEV
		}
		op.newName = path.Base(to)
		return f.named(op)
	})
	return err
}

// Link gives a file another name in its directory. The name must not exist.
func (f *FS) Link(from, to string) error {
	_, err := f.do(Op{Kind: Link, Path: from, To: to}, func(op *Op) error {
		if path.Dir(from) != path.Dir(to) {
			return syscall.EXDEV
		}
		op.newName = path.Base(to)
		if err := f.named(op); err != nil {
			return err
		}
		if _, taken := f.disk.nodes[op.node].names[op.newName]; taken {
			return syscall.EEXIST
		}
		return nil
	})
	return err
}

// Remove removes a file.
func (f *FS) Remove(p string) error {
	_, err := f.do(Op{Kind: Remove, Path: p}, f.named)
	return err
}

// ReadFile returns the content of a file.
func (f *FS) ReadFile(p string) ([]byte, error) {
	var data []byte
	_, err := f.do(Op{Kind: Read, Path: p}, func(op *Op) error {
		id, _, _, err := f.disk.find(p)
		if err == nil {
			data = bytes.Clone(f.disk.nodes[id].data)
			op.Size = len(data)
		}
		return err
	})
	return data, err
}

// List returns the entries of a directory.
func (f *FS) List(p string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	_, err := f.do(Op{Kind: List, Path: p}, func(op *Op) error {
		id, _, _, err := f.disk.find(p)
		if err != nil {
			return err
		}
		for name, child := range f.disk.nodes[id].names {
			list = append(list, fs.FileInfoToDirEntry(info{name, f.disk.nodes[child]}))
		}
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

// SyncDir makes the names in a directory durable.
func (f *FS) SyncDir(p string) error { return f.syncDir(p, false) }

// Walk calls f with the entries of a directory.
func (f *FS) Walk(p string, each func([]fs.DirEntry) error) error {
	list, err := f.List(p)
	if err != nil {
		return err
	}
	return each(list)
}

// SyncAll makes everything durable, as syncfs does for the file system of a directory.
func (f *FS) SyncAll(p string) error {
	_, err := f.do(Op{Kind: SyncAll, Path: p}, nil)
	return err
}

// NewSyncer returns an object whose Sync calls SyncAll.
func (f *FS) NewSyncer(p string) (interface {
	Sync() error
	Close() error
}, error) {
	return syncer{f, p}, nil
}

type syncer struct {
	fs   *FS
	path string
}

func (s syncer) Sync() error { return s.fs.SyncAll(s.path) }
func (syncer) Close() error  { return nil }

type info struct {
	name string
	node *node
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return int64(len(i.node.data)) }
func (i info) IsDir() bool        { return i.node.isDir() }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) Sys() any           { return nil }
func (i info) Mode() fs.FileMode {
	if i.IsDir() {
		return fs.ModeDir | 0o770
	}
	return 0o640
}
