// Package archive writes and reads backups: one tar file, which may be encrypted with age.
//
//	header.json     the format and who wrote it, so that any other file is refused immediately
//	dialtone.db     a copy of the SQLite database
//	dialtone.toml   the configuration file
//	keys/           seal.key, sign.key and turn.key
//	pickup/         messages that waited for the mail server
//	badmail/        messages that could not be sent, and why
//	manifest.json   what the archive contains, with the SHA-256 of each file
//
// All but header.json and manifest.json may be missing.
//
// # Guarantees
//
// The manifest is the last member, so a truncated archive is never mistaken for a complete one.
// Read reports success only if the archive contains exactly the files of its manifest, each with
// its size and hash, and nothing follows. In an encrypted archive, age detects every change too.
//
// A reader does not trust the archive. It accepts no names other than those above, so no path leads
// elsewhere. It accepts only regular files that are not sparse, each only once, and limits their
// sizes. The caller sets the limit for the database.
//
// # How it works
//
// Both directions stream: memory does not grow with the files.
//
// # What it is not
//
// The package opens no database and puts no files in place: its callers do. An archive that is not
// encrypted proves nothing about who made it, since anyone who changes a file can change the
// manifest. Nor does an encrypted one: the recipient is not secret, and everybody who knows it can
// encrypt another archive for it. The origin is proved only if the database opens with keys that do
// not come from the archive.
package archive

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"
	"time"
)

// Format is the version of the format. A program reads archives of its version and of earlier ones.
const Format = 1

// The names of the members that are always present, and of the others.
const (
	headerName   = "header.json"
	manifestName = "manifest.json"

	Database      = "dialtone.db"
	Configuration = "dialtone.toml"
	KeysDir       = "keys/"
	PickupDir     = "pickup/"
	BadmailDir    = "badmail/"
)

// The limits on what is read. MaxSmall is the greatest length of a key, a message and the
// configuration, in bytes.
const MaxSmall = 4 << 20

const (
	maxHeader   = 64 << 10
	maxManifest = 64 << 10 // without its files
	maxEntry    = 512      // of a file in the manifest
	maxFiles    = 1_000_000
)

// Header is the first member.
type Header struct {
	Format int `json:"dialtone_backup"`
	// Version is the version of the program that wrote the archive.
	Version string    `json:"version"`
	Made    time.Time `json:"made"`
}

// Manifest is the last member.
type Manifest struct {
	Header
	// Host is the name of the machine.
	Host string `json:"host"`
	// Engine is "sqlite", or "postgresql" for an archive without the database.
	Engine string `json:"engine"`
	// Schema is the version of the database's schema.
	Schema int64 `json:"schema"`
	// LastChange is the ID of the latest change in the audit trail, or 0, and LastChangeAt its
	// time.
	LastChange   int64     `json:"last_change"`
	LastChangeAt time.Time `json:"last_change_at,omitzero"`
	Tenants      int64     `json:"tenants"`
	Accounts     int64     `json:"accounts"`
	// Messages is how many messages are in the archive.
	Messages int `json:"messages"`
	// Keys says whether seal.key is in the archive.
	Keys  bool   `json:"keys"`
	Files []File `json:"files"`
}

// Bytes returns the size of all files together.
func (m Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Has reports whether the archive has a file.
func (m Manifest) Has(name string) bool {
	for _, f := range m.Files {
		if f.Name == name {
			return true
		}
	}
	return false
}

// File is a file of the archive.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ErrFormat is wrapped by every error of Read about the archive itself.
var ErrFormat = errors.New("this is not a complete Dialtone backup")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

var (
	keyFile     = regexp.MustCompile(`\Akeys/(seal|sign|turn)\.key\z`)
	messageFile = regexp.MustCompile(`\A(pickup/[0-9a-f]{32}\.eml|badmail/[0-9a-f]{32}\.(eml|txt))\z`)
)

// limitOf returns how large a file may be, or false if no file has this name.
func limitOf(name string, maxDatabase int64) (int64, bool) {
	switch {
	case name == Database:
		return maxDatabase, true
	case name == Configuration, keyFile.MatchString(name), messageFile.MatchString(name):
		return MaxSmall, true
	}
	return 0, false
}

// ValidName reports whether an archive may have a file of this name.
func ValidName(name string) bool {
	_, ok := limitOf(name, 0)
	return ok
}

// Writer writes an archive.
type Writer struct {
	tar   *tar.Writer
	made  time.Time
	head  Header
	files []File
	seen  map[string]bool
}

// NewWriter writes the header of an archive.
func NewWriter(w io.Writer, version string, made time.Time) (*Writer, error) {
	a := &Writer{
		tar: tar.NewWriter(w), made: made.UTC(), head: Header{Format, version, made.UTC()}, seen: make(map[string]bool),
	}
	return a, a.addJSON(headerName, a.head)
}

func (w *Writer) addJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := w.begin(name, int64(len(b))); err != nil {
		return err
	}
	_, err = w.tar.Write(b)
	return err
}

func (w *Writer) begin(name string, size int64) error {
	return w.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: w.made.Truncate(time.Second),
	})
}

// Add adds a file of exactly size bytes.
func (w *Writer) Add(name string, size int64, r io.Reader) error {
	limit, ok := limitOf(name, size)
	switch {
	case !ok:
		return fmt.Errorf("a backup has no file %q", name)
	case size > limit:
		return fmt.Errorf("%s has %d bytes: too large for a backup", name, size)
	case w.seen[name]:
		return fmt.Errorf("%s is added twice", name)
	}
	w.seen[name] = true
	if err := w.begin(name, size); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(w.tar, sum), r, size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w.files = append(w.files, File{name, size, hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// Close writes the manifest, with the header and the files that were added, and returns it. The
// archive is complete then.
func (w *Writer) Close(m Manifest) (Manifest, error) {
	m.Header, m.Files = w.head, w.files
	m.Keys = w.seen[KeysDir+"seal.key"]
	m.Messages = 0
	for _, f := range m.Files {
		if strings.HasSuffix(f.Name, ".eml") {
			m.Messages++
		}
	}
	return m, errors.Join(w.addJSON(manifestName, m), w.tar.Close())
}

// Options limit what Read accepts.
type Options struct {
	// MaxDatabase is the largest size of the database that the caller has room for.
	MaxDatabase int64
	// Begin is called for each file, before its size is verified, and returns the destination of
	// its content. If Read fails, what was written must not be used. ValidName accepts every name.
	Begin func(name string, size int64) (io.WriteCloser, error)
}

// Read reads an archive that is not encrypted, or was decrypted. If it returns no error, the
// archive is complete, and each file matches the manifest.
func Read(r io.Reader, o Options) (Manifest, error) {
	counted := &counter{r: r}
	t := tar.NewReader(counted)
	var m Manifest
	head, err := readHeader(t)
	if err != nil {
		return m, err
	}
	found := make(map[string]File)
	for {
		h, err := next(t)
		if err != nil {
			return m, err
		}
		if h.Name == manifestName {
			if m, err = readManifest(t, h, head, len(found)); err != nil {
				return m, err
			}
			break
		}
		limit, ok := limitOf(h.Name, o.MaxDatabase)
		_, twice := found[h.Name]
		switch {
		case !ok:
			return m, broken("it contains %q", short(h.Name))
		case twice:
			return m, broken("it contains %s twice", h.Name)
		case h.Size > limit:
			return m, fmt.Errorf("%s in the backup has %d bytes, and at most %d are accepted here; free disk space, "+
				"if it is the database", h.Name, h.Size, limit)
		case len(found) == maxFiles:
			return m, broken("it contains too many files")
		}
		before := counted.n
		if found[h.Name], err = copyFile(t, h, o.Begin); err != nil {
			return m, err
		}
		// Every byte of a file is in the archive: a sparse file would be larger than what was read.
		if counted.n-before < h.Size-bufferSize {
			return m, broken("%s is larger than its content in the archive", h.Name)
		}
	}
	if _, err := t.Next(); err != io.EOF {
		return m, broken("something follows its manifest")
	}
	// What follows the end of the tar is padding. With an encrypted archive, reading it also proves
	// that it is not truncated.
	if err := onlyZeros(r); err != nil {
		return m, err
	}
	return m, compare(m, found)
}

// bufferSize is how much of a small file may have been read in advance.
const bufferSize = 512

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// next returns the next member, which is a regular file that is not sparse.
func next(t *tar.Reader) (*tar.Header, error) {
	h, err := t.Next()
	switch {
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return nil, broken("it ends before its manifest: it was cut off")
	case errors.Is(err, tar.ErrHeader), errors.Is(err, tar.ErrInsecurePath), errors.Is(err, tar.ErrFieldTooLong):
		return nil, broken("%v", err)
	case err != nil:
		return nil, err
	case h.Typeflag != tar.TypeReg:
		return nil, broken("%q is not a regular file", short(h.Name))
	case h.Size < 0:
		return nil, broken("%q has no size", short(h.Name))
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse") {
			return nil, broken("%q is a sparse file", short(h.Name))
		}
	}
	return h, nil
}

// short shortens a name for an error. A crafted archive may contain long ones.
func short(name string) string { return name[:min(len(name), 80)] }

func readHeader(t *tar.Reader) (head Header, err error) {
	h, err := next(t)
	switch {
	case err != nil:
		return head, err
	case h.Name != headerName || h.Size > maxHeader:
		return head, broken("it does not begin with %s", headerName)
	}
	b, err := io.ReadAll(t)
	if err != nil {
		return head, cut(err)
	}
	if json.Unmarshal(b, &head) != nil || head.Format < 1 {
		return head, broken("%s cannot be read", headerName)
	}
	if head.Format > Format {
		return head, fmt.Errorf("the backup was written by version %q of Dialtone, which is newer; "+
			"restore it with that version", short(head.Version))
	}
	return head, nil
}

// readManifest reads the manifest of an archive in which files were found.
func readManifest(t *tar.Reader, h *tar.Header, head Header, files int) (m Manifest, err error) {
	if h.Size > maxManifest+maxEntry*int64(files) {
		return m, broken("its manifest is too large")
	}
	b, err := io.ReadAll(t)
	if err != nil {
		return m, cut(err)
	}
	// Empty objects would take a hundred times their length.
	if bytes.Count(b, []byte("{")) > files+100 {
		return m, broken("its manifest lists more files than it contains")
	}
	if json.Unmarshal(b, &m) != nil {
		return m, broken("its manifest cannot be read")
	}
	if m.Format != head.Format || m.Version != head.Version || !m.Made.Equal(head.Made) {
		return m, broken("its manifest belongs to another header")
	}
	if m.Engine != "sqlite" && m.Engine != "postgresql" {
		return m, broken("its manifest names the unknown engine %q", short(m.Engine))
	}
	if has := m.Has(Database); has != (m.Engine == "sqlite") {
		state := map[bool]string{true: "lists", false: "does not list"}[has]
		return m, broken("its manifest names the engine %s, and %s %s", m.Engine, state, Database)
	}
	return m, nil
}

// cut converts an error from reading the content of a member.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return broken("it was cut off")
	}
	return err
}

// copyFile copies the file of a header to the destination that begin returns.
func copyFile(t *tar.Reader, h *tar.Header, begin func(string, int64) (io.WriteCloser, error)) (f File, err error) {
	to, err := begin(h.Name, h.Size)
	if err != nil {
		return f, err
	}
	var sum hash.Hash = sha256.New()
	n, err := io.Copy(io.MultiWriter(to, sum), t)
	if err = errors.Join(cut(err), to.Close()); err != nil {
		return f, err
	}
	return File{h.Name, n, hex.EncodeToString(sum.Sum(nil))}, nil
}

func onlyZeros(r io.Reader) error {
	buffer, total := make([]byte, 32<<10), 0
	for {
		n, err := r.Read(buffer)
		if total += n; total > 1<<20 || len(bytes.Trim(buffer[:n], "\x00")) > 0 {
			return broken("something follows its end")
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return cut(err)
		}
	}
}

// compare compares a manifest with the files that were found.
func compare(m Manifest, found map[string]File) error {
	for _, f := range m.Files {
		got, ok := found[f.Name]
		switch {
		case !ok:
			return broken("%s is missing from it", short(f.Name))
		case got != f:
			return broken("%s differs from its manifest", f.Name)
		}
		delete(found, f.Name)
	}
	for name := range found {
		return broken("%s is not in its manifest", name)
	}
	return nil
}
