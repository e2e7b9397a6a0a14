package crashfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite uses a file system through a VFS, which is a table of C functions. Here they are Go
// functions. They behave like those of SQLite's unix VFS, and do the same steps in the same order.
// For example, the first sync of a new WAL also syncs its directory and ignores its errors, and a
// file whose status cannot be read counts as missing.

// sqliteFS is the state of an FS for SQLite.
type sqliteFS struct {
	once  sync.Once
	name  string
	vfs   uintptr
	mu    sync.Mutex
	files map[int]*shared // by node
	open  atomic.Int32
}

// shared is the state that the connections to one file share.
type shared struct {
	// The database lock, https://www.sqlite.org/lockingv3.html.
	readers                      map[*handle]bool
	reserved, pending, exclusive *handle

	regions []uintptr // shared memory with the wal-index
	mapped  int       // number of connections that have mapped it
	slots   [sqlite3.SQLITE_SHM_NLOCK]struct {
		readers int
		writer  *handle
	}
}

// handle is an open file.
type handle struct {
	fs      *FS
	path    string
	node    int
	dirSync bool
	delete  bool
	temp    []byte // of a file without a name
	isTemp  bool

	level              int32
	mapped             bool
	slotRead, slotHeld [sqlite3.SQLITE_SHM_NLOCK]bool
}

// cFile is an sqlite3_file. The number stands for a handle, since C memory must not hold Go
// pointers.
type cFile struct {
	base   sqlite3.Tsqlite3_file
	number uintptr
}

var (
	numbers atomic.Uintptr
	objects sync.Map // number -> *FS or *handle
	methods uintptr
	once    sync.Once
)

func register(object any) uintptr {
	n := numbers.Add(1)
	objects.Store(n, object)
	return n
}

func object[T any](number uintptr) T {
	v, _ := objects.Load(number)
	return v.(T)
}

// at returns a pointer to the value at an address in C memory.
func at[T any](p uintptr) *T { return *(**T)(unsafe.Pointer(&p)) }

func bytesAt(p uintptr, n int32) []byte { return unsafe.Slice(at[byte](p), n) }

// c returns a function in the form in which C calls it.
func c[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// VFS registers the file system with SQLite if it is not registered yet, and returns the name of its
// VFS.
func (f *FS) VFS() string {
	f.sqlite.once.Do(func() {
		tls := libc.NewTLS()
		defer tls.Close()
		once.Do(func() { methods = makeMethods(tls) })
		number := register(f)
		f.sqlite.name = fmt.Sprintf("crashfs-%d", number)
		name, err := libc.CString(f.sqlite.name)
		if err != nil {
			panic(err)
		}
		f.sqlite.vfs = libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_vfs{})))
		if rc := sqlite3.Xsqlite3_initialize(tls); rc != sqlite3.SQLITE_OK {
			panic(fmt.Sprint("crashfs: SQLite does not start: ", rc))
		}
		v := at[sqlite3.Tsqlite3_vfs](f.sqlite.vfs)
		*v = *at[sqlite3.Tsqlite3_vfs](sqlite3.Xsqlite3_vfs_find(tls, 0))
		v.FiVersion = 2
		v.FszOsFile = int32(unsafe.Sizeof(cFile{}))
		v.FpNext, v.FzName, v.FpAppData = 0, name, number
		v.FxOpen, v.FxDelete, v.FxAccess = c(vfsOpen), c(vfsDelete), c(vfsAccess)
		v.FxFullPathname = c(vfsFullPathname)
		v.FxSleep, v.FxCurrentTimeInt64 = c(vfsSleep), c(vfsTime)
		if rc := sqlite3.Xsqlite3_vfs_register(tls, f.sqlite.vfs, 0); rc != sqlite3.SQLITE_OK {
			panic(fmt.Sprint("crashfs: SQLite refuses the VFS: ", rc))
		}
	})
	return f.sqlite.name
}

// SeedSQLite makes SQLite's own random numbers, such as the salts of a WAL, depend only on a seed above
// 0. It affects all file systems of the process.
func SeedSQLite(seed int32) {
	tls := libc.NewTLS()
	defer tls.Close()
	args := libc.NewVaList(seed, uintptr(0))
	defer libc.Xfree(tls, args)
	sqlite3.Xsqlite3_test_control(tls, sqlite3.SQLITE_TESTCTRL_PRNG_SEED, args)
}

// Close unregisters the file system from SQLite. All databases on it must be closed.
func (f *FS) Close() error {
	if f.sqlite.vfs == 0 {
		return nil
	}
	if n := f.sqlite.open.Load(); n != 0 {
		return fmt.Errorf("crashfs: SQLite has %d files open", n)
	}
	tls := libc.NewTLS()
	defer tls.Close()
	v := at[sqlite3.Tsqlite3_vfs](f.sqlite.vfs)
	sqlite3.Xsqlite3_vfs_unregister(tls, f.sqlite.vfs)
	objects.Delete(v.FpAppData)
	libc.Xfree(tls, v.FzName)
	libc.Xfree(tls, f.sqlite.vfs)
	f.sqlite.vfs = 0
	return nil
}

func makeMethods(tls *libc.TLS) uintptr {
	p := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(sqlite3.Tsqlite3_io_methods{})))
	*at[sqlite3.Tsqlite3_io_methods](p) = sqlite3.Tsqlite3_io_methods{
		FiVersion: 2,
		FxClose:   c(fileClose), FxRead: c(fileRead), FxWrite: c(fileWrite), FxTruncate: c(fileTruncate),
		FxSync: c(fileSync), FxFileSize: c(fileSize), FxLock: c(fileLock), FxUnlock: c(fileUnlock),
		FxCheckReservedLock: c(fileCheckReserved), FxFileControl: c(fileControl), FxSectorSize: c(fileSectorSize),
		FxDeviceCharacteristics: c(fileCharacteristics), FxShmMap: c(shmMap), FxShmLock: c(shmLock),
		FxShmBarrier: c(shmBarrier), FxShmUnmap: c(shmUnmap),
	}
	return p
}

func code(err error, otherwise int32) int32 {
	pe, ok := err.(*fs.PathError)
	switch {
	case err == nil:
		return sqlite3.SQLITE_OK
	case ok && pe.Err == syscall.ENOSPC && otherwise == sqlite3.SQLITE_IOERR_WRITE:
		return sqlite3.SQLITE_FULL
	}
	return otherwise
}

func vfsOpen(tls *libc.TLS, pVfs, zName, pFile uintptr, flags int32, pOut uintptr) int32 {
	file := at[cFile](pFile)
	*file = cFile{}
	f := object[*FS](at[sqlite3.Tsqlite3_vfs](pVfs).FpAppData)
	h := &handle{fs: f, node: -1, delete: flags&sqlite3.SQLITE_OPEN_DELETEONCLOSE != 0}
	if zName == 0 {
		h.isTemp = true
	} else if err := h.open(libc.GoString(zName), flags&sqlite3.SQLITE_OPEN_CREATE != 0); err != nil {
		return sqlite3.SQLITE_CANTOPEN
	}
	const journals = sqlite3.SQLITE_OPEN_MAIN_JOURNAL | sqlite3.SQLITE_OPEN_SUPER_JOURNAL | sqlite3.SQLITE_OPEN_WAL
	h.dirSync = flags&sqlite3.SQLITE_OPEN_CREATE != 0 && flags&journals != 0
	if pOut != 0 {
		*at[int32](pOut) = flags
	}
	f.sqlite.open.Add(1)
	file.base.FpMethods, file.number = methods, register(h)
	return sqlite3.SQLITE_OK
}

// open opens a file. If create is set, it creates a missing one.
func (h *handle) open(p string, create bool) error {
	h.path = p
	op, err := h.fs.do(Op{Kind: Open, Path: p}, func(op *Op) error {
		id, dir, name, err := h.fs.disk.find(p)
		if errors.Is(err, syscall.ENOENT) && create && dir >= 0 {
			op.Kind, op.node, op.name = Create, dir, name
			return nil
		}
		h.node = id
		return err
	})
	if err == nil && op.Kind == Create {
		h.node = h.fs.idOf(op)
	}
	return err
}

func vfsDelete(tls *libc.TLS, pVfs, zPath uintptr, dirSync int32) int32 {
	f, p := object[*FS](at[sqlite3.Tsqlite3_vfs](pVfs).FpAppData), libc.GoString(zPath)
	if err := f.Remove(p); err != nil {
		if errors.Is(err, syscall.ENOENT) {
			return sqlite3.SQLITE_IOERR_DELETE_NOENT
		}
		return sqlite3.SQLITE_IOERR_DELETE
	}
	if dirSync != 0 {
		return code(f.syncDir(path.Dir(p), false), sqlite3.SQLITE_IOERR_DIR_FSYNC)
	}
	return sqlite3.SQLITE_OK
}

// syncDir syncs a directory. With unseen no fault applies: in some places SQLite ignores the result,
// and relies on the file system to make the name of a new file durable with the sync of the file.
func (f *FS) syncDir(p string, unseen bool) error {
	_, err := f.do(Op{Kind: SyncDir, Path: p, unseen: unseen}, func(op *Op) (err error) {
		op.node, _, _, err = f.disk.find(p)
		return err
	})
	return err
}

func vfsAccess(tls *libc.TLS, pVfs, zPath uintptr, flags int32, pOut uintptr) int32 {
	f, p := object[*FS](at[sqlite3.Tsqlite3_vfs](pVfs).FpAppData), libc.GoString(zPath)
	var there bool
	_, err := f.do(Op{Kind: Stat, Path: p}, func(op *Op) error {
		id, _, _, err := f.disk.find(p)
		there = err == nil && (f.disk.nodes[id].isDir() || len(f.disk.nodes[id].data) > 0 ||
			flags != sqlite3.SQLITE_ACCESS_EXISTS)
		return nil
	})
	*at[int32](pOut) = 0
	if there && err == nil {
		*at[int32](pOut) = 1
	}
	return sqlite3.SQLITE_OK
}

func vfsFullPathname(tls *libc.TLS, pVfs, zPath uintptr, n int32, zOut uintptr) int32 {
	p := libc.GoString(zPath)
	if !strings.HasPrefix(p, "/") || int(n) <= len(p) {
		return sqlite3.SQLITE_CANTOPEN
	}
	out := bytesAt(zOut, n)
	out[copy(out, p)] = 0
	return sqlite3.SQLITE_OK
}

func vfsSleep(tls *libc.TLS, pVfs uintptr, micros int32) int32 {
	time.Sleep(time.Duration(micros) * time.Microsecond)
	return micros
}

// vfsTime returns the time as a Julian day in milliseconds.
func vfsTime(tls *libc.TLS, pVfs, pOut uintptr) int32 {
	*at[int64](pOut) = time.Now().UnixMilli() + 210866760000000
	return sqlite3.SQLITE_OK
}

func handleOf(pFile uintptr) *handle { return object[*handle](at[cFile](pFile).number) }

func fileClose(tls *libc.TLS, pFile uintptr) int32 {
	file := at[cFile](pFile)
	h := object[*handle](file.number)
	h.unlock(sqlite3.SQLITE_LOCK_NONE)
	if h.delete && !h.isTemp {
		h.fs.Remove(h.path)
	}
	objects.Delete(file.number)
	h.fs.sqlite.open.Add(-1)
	file.base.FpMethods = 0
	return sqlite3.SQLITE_OK
}

func fileRead(tls *libc.TLS, pFile, zBuf uintptr, n int32, off int64) int32 {
	h, buf := handleOf(pFile), bytesAt(zBuf, n)
	got := 0
	take := func(data []byte) {
		if off < int64(len(data)) {
			got = copy(buf, data[off:])
		}
	}
	if h.isTemp {
		take(h.temp)
	} else if _, err := h.fs.do(Op{Kind: Read, Path: h.path, Off: off, Size: int(n)}, func(*Op) error {
		take(h.fs.disk.nodes[h.node].data)
		return nil
	}); err != nil {
		return sqlite3.SQLITE_IOERR_READ
	}
	if got < int(n) {
		clear(buf[got:])
		return sqlite3.SQLITE_IOERR_SHORT_READ
	}
	return sqlite3.SQLITE_OK
}

func fileWrite(tls *libc.TLS, pFile, zBuf uintptr, n int32, off int64) int32 {
	h := handleOf(pFile)
	if h.isTemp {
		h.temp = change{off: off, data: bytesAt(zBuf, n)}.onto(h.temp)
		return sqlite3.SQLITE_OK
	}
	_, err := h.fs.do(Op{Kind: Write, Path: h.path, Off: off, Data: bytesAt(zBuf, n), node: h.node}, nil)
	return code(err, sqlite3.SQLITE_IOERR_WRITE)
}

func fileTruncate(tls *libc.TLS, pFile uintptr, size int64) int32 {
	h := handleOf(pFile)
	if h.isTemp {
		h.temp = change{off: size, cut: true}.onto(h.temp)
		return sqlite3.SQLITE_OK
	}
	_, err := h.fs.do(Op{Kind: Truncate, Path: h.path, Off: size, node: h.node}, nil)
	return code(err, sqlite3.SQLITE_IOERR_TRUNCATE)
}

func fileSync(tls *libc.TLS, pFile uintptr, flags int32) int32 {
	h := handleOf(pFile)
	if h.isTemp {
		return sqlite3.SQLITE_OK
	}
	if _, err := h.fs.do(Op{Kind: Sync, Path: h.path, node: h.node}, nil); err != nil {
		return sqlite3.SQLITE_IOERR_FSYNC
	}
	if h.dirSync {
		h.fs.syncDir(path.Dir(h.path), true)
		h.dirSync = false
	}
	return sqlite3.SQLITE_OK
}

func fileSize(tls *libc.TLS, pFile, pSize uintptr) int32 {
	h := handleOf(pFile)
	if h.isTemp {
		*at[int64](pSize) = int64(len(h.temp))
		return sqlite3.SQLITE_OK
	}
	_, err := h.fs.do(Op{Kind: Stat, Path: h.path}, func(*Op) error {
		*at[int64](pSize) = int64(len(h.fs.disk.nodes[h.node].data))
		return nil
	})
	return code(err, sqlite3.SQLITE_IOERR_FSTAT)
}

// shared returns the state that all connections to the handle's file share. The caller holds the lock
// of sqliteFS.
func (h *handle) shared() *shared {
	s := h.fs.sqlite.files[h.node]
	if s == nil {
		s = &shared{readers: make(map[*handle]bool)}
		h.fs.sqlite.files[h.node] = s
	}
	return s
}

func fileLock(tls *libc.TLS, pFile uintptr, level int32) int32 {
	h := handleOf(pFile)
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
	if h.isTemp || h.level >= level {
		return sqlite3.SQLITE_OK
	}
	s := h.shared()
	others := func(p *handle) bool { return p != nil && p != h }
	switch {
	case others(s.exclusive), others(s.pending) && level != sqlite3.SQLITE_LOCK_NONE, others(s.reserved) &&
		level >= sqlite3.SQLITE_LOCK_RESERVED:
		return sqlite3.SQLITE_BUSY
	}
	switch level {
	case sqlite3.SQLITE_LOCK_SHARED:
		s.readers[h] = true
	case sqlite3.SQLITE_LOCK_RESERVED:
		s.reserved = h
	default:
		s.pending, h.level = h, sqlite3.SQLITE_LOCK_PENDING
		if len(s.readers) > 1 {
			return sqlite3.SQLITE_BUSY
		}
		s.exclusive = h
	}
	h.level = level
	return sqlite3.SQLITE_OK
}

func fileUnlock(tls *libc.TLS, pFile uintptr, level int32) int32 {
	handleOf(pFile).unlock(level)
	return sqlite3.SQLITE_OK
}

func (h *handle) unlock(level int32) {
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
	if h.isTemp || h.level <= level {
		return
	}
	s := h.shared()
	for _, p := range []**handle{&s.reserved, &s.pending, &s.exclusive} {
		if *p == h {
			*p = nil
		}
	}
	if level == sqlite3.SQLITE_LOCK_NONE {
		delete(s.readers, h)
	}
	h.level = level
}

func fileCheckReserved(tls *libc.TLS, pFile, pOut uintptr) int32 {
	h := handleOf(pFile)
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
	*at[int32](pOut) = 0
	if !h.isTemp && h.shared().reserved != nil {
		*at[int32](pOut) = 1
	}
	return sqlite3.SQLITE_OK
}

func fileControl(tls *libc.TLS, pFile uintptr, op int32, pArg uintptr) int32 {
	return sqlite3.SQLITE_NOTFOUND
}

func fileSectorSize(tls *libc.TLS, pFile uintptr) int32 { return page }

// fileCharacteristics returns those of the unix VFS on Linux.
func fileCharacteristics(tls *libc.TLS, pFile uintptr) int32 {
	return sqlite3.SQLITE_IOCAP_POWERSAFE_OVERWRITE | sqlite3.SQLITE_IOCAP_SUBPAGE_READ
}

func shmMap(tls *libc.TLS, pFile uintptr, region, size, extend int32, pOut uintptr) int32 {
	h := handleOf(pFile)
	*at[uintptr](pOut) = 0
	h.fs.sqlite.mu.Lock()
	grow := int(region) >= len(h.shared().regions)
	h.fs.sqlite.mu.Unlock()
	if grow && extend != 0 { // the file of the shared memory grows
		if _, err := h.fs.do(Op{Kind: Share, Path: h.path}, nil); err != nil {
			return sqlite3.SQLITE_IOERR_SHMSIZE
		}
	}
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
	s := h.shared()
	if !h.mapped {
		h.mapped = true
		s.mapped++
	}
	for extend != 0 && len(s.regions) <= int(region) {
		s.regions = append(s.regions, libc.Xcalloc(tls, 1, libc.Tsize_t(size)))
	}
	if int(region) < len(s.regions) {
		*at[uintptr](pOut) = s.regions[region]
	}
	return sqlite3.SQLITE_OK
}

func shmLock(tls *libc.TLS, pFile uintptr, offset, n, flags int32) int32 {
	h := handleOf(pFile)
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
	s := h.shared()
	first, end := offset, offset+n
	switch {
	case flags&sqlite3.SQLITE_SHM_UNLOCK != 0:
		for i := first; i < end; i++ {
			if h.slotRead[i] {
				h.slotRead[i] = false
				s.slots[i].readers--
			}
			if h.slotHeld[i] {
				h.slotHeld[i] = false
				s.slots[i].writer = nil
			}
		}
	case flags&sqlite3.SQLITE_SHM_SHARED != 0:
		for i := first; i < end; i++ {
			if w := s.slots[i].writer; w != nil && w != h {
				return sqlite3.SQLITE_BUSY
			}
		}
		for i := first; i < end; i++ {
			if !h.slotRead[i] {
				h.slotRead[i] = true
				s.slots[i].readers++
			}
		}
	default:
		for i := first; i < end; i++ {
			if slot := s.slots[i]; slot.writer != nil && slot.writer != h || slot.readers > 0 &&
				!(h.slotRead[i] && slot.readers == 1) {
				return sqlite3.SQLITE_BUSY
			}
		}
		for i := first; i < end; i++ {
			h.slotHeld[i], s.slots[i].writer = true, h
		}
	}
	return sqlite3.SQLITE_OK
}

func shmBarrier(tls *libc.TLS, pFile uintptr) {
	h := handleOf(pFile)
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
}

func shmUnmap(tls *libc.TLS, pFile uintptr, remove int32) int32 {
	h := handleOf(pFile)
	h.fs.sqlite.mu.Lock()
	defer h.fs.sqlite.mu.Unlock()
	if !h.mapped {
		return sqlite3.SQLITE_OK
	}
	h.mapped = false
	s := h.shared()
	if s.mapped--; s.mapped == 0 {
		for _, p := range s.regions {
			libc.Xfree(tls, p)
		}
		s.regions = nil
	}
	return sqlite3.SQLITE_OK
}
