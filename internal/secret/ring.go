package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Redacted is what every secret prints as.
const Redacted = "[secret]"

// Key is 32 secret bytes.
type Key [32]byte

// String and its kin keep a key out of logs.
func (Key) String() string               { return Redacted }
func (Key) GoString() string             { return Redacted }
func (Key) LogValue() slog.Value         { return slog.StringValue(Redacted) }
func (Key) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// Format keeps a key out of the verbs that would print its bytes (%x, %v of an array).
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, Redacted) }

// ID names a key without telling anything of it.
type ID [4]byte

func (id ID) String() string { return hex.EncodeToString(id[:]) }

// derive is HKDF-SHA-256 without salt: the keys are uniform already (RFC 5869 §3.1).
func (k Key) derive(purpose string) Key {
	out, err := hkdf.Key(sha256.New, k[:], nil, "dialtone v1 "+purpose, len(Key{}))
	if err != nil {
		panic("secret: HKDF of 32 bytes cannot fail: " + err.Error())
	}
	return Key(out)
}

func (k Key) id() ID { d := k.derive("key id"); return ID(d[:4]) }

type ringKey struct {
	created time.Time
	key     Key
}

// Ring is the content of one key file: one or more keys, newest first. It never changes; a rotation makes another one.
type Ring struct{ keys []ringKey }

// NewRing is a ring of one new key, for a store without files such as a test's.
func NewRing(now time.Time) *Ring {
	var k Key
	rand.Read(k[:])
	return &Ring{keys: []ringKey{{created: now.UTC().Truncate(time.Second), key: k}}}
}

// Rotated is a ring with a new key in front and at most keep keys in all.
func (r *Ring) Rotated(now time.Time, keep int) *Ring {
	keys := append(NewRing(now).keys, r.keys...)
	return &Ring{keys: keys[:min(keep, len(keys))]}
}

// InUse is how many of the keys may have signed something since a time: the newest, and those that were replaced after it.
func (r *Ring) InUse(since time.Time) int {
	n := 1
	for n < len(r.keys) && r.keys[n-1].created.After(since) {
		n++
	}
	return n
}

// Spread is how old a key is before it signs. By then, every server that shares the keys knows it.
const Spread = 10 * time.Second

// Signing is the ring as it is used at a time: the newest key that is old enough stands in front. Where none is, it is the
// oldest, and so a ring of one key is used at once.
func (r *Ring) Signing(now time.Time) *Ring {
	first := len(r.keys) - 1
	for i, k := range r.keys {
		if now.Sub(k.created) >= Spread {
			first = i
			break
		}
	}
	if first == 0 {
		return r
	}
	keys := []ringKey{r.keys[first]}
	keys = append(append(keys, r.keys[:first]...), r.keys[first+1:]...)
	return &Ring{keys: keys}
}

// Oldest is a ring of the oldest key alone.
func (r *Ring) Oldest() *Ring { return &Ring{keys: r.keys[len(r.keys)-1:]} }

// IDs are the ids of the ring's keys, newest first.
func (r *Ring) IDs() []ID {
	ids := make([]ID, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.key.id()
	}
	return ids
}

// Derive is the key for one purpose under each key of the ring, newest first.
func (r *Ring) Derive(purpose string) []Key {
	out := make([]Key, len(r.keys))
	for i, k := range r.keys {
		out[i] = k.key.derive(purpose)
	}
	return out
}

// ErrNoFile is returned by ReadRing where there is no such file.
var ErrNoFile = errors.New("no key file")

// ReadRing reads a key file. Its error names the file and what is wrong with it: absent (ErrNoFile), open to others than
// its owner, or not of the form that the package comment gives.
func ReadRing(path string) (*Ring, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoFile)
	} else if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %#o lets others read the key; set it to 0600 (chmod 600)", path, mode)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r, err := ParseRing(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s:%w; restore the file from a backup", path, err)
	}
	return r, nil
}

// ParseRing reads the content of a key file; commas may stand for its line ends. Its error says in which line it is not of the
// form that the package comment gives, and nothing of what stands there.
func ParseRing(text string) (*Ring, error) {
	r := &Ring{}
	for i, line := range strings.Split(strings.ReplaceAll(strings.TrimSuffix(text, "\n"), ",", "\n"), "\n") {
		k, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", i+1, err)
		}
		r.keys = append(r.keys, k)
	}
	return r, nil
}

// Text is the content of the ring's key file. It is for whoever keeps the keys elsewhere, and for nobody else.
func (r *Ring) Text() string {
	var b strings.Builder
	for _, k := range r.keys {
		fmt.Fprintf(&b, "v1 %d %s\n", k.created.Unix(), hex.EncodeToString(k.key[:]))
	}
	return b.String()
}

func parseKey(line string) (ringKey, error) {
	f := strings.Split(line, " ")
	if len(f) != 3 || f[0] != "v1" {
		return ringKey{}, errors.New("not a key line (expected: v1 <Unix seconds> <64 hex digits>)")
	}
	created, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return ringKey{}, errors.New("the creation time is not a number of seconds")
	}
	b, err := hex.DecodeString(f[2])
	if err != nil || len(b) != len(Key{}) {
		return ringKey{}, errors.New("the key is not 64 hex digits")
	}
	if Key(b) == (Key{}) {
		return ringKey{}, errors.New("the key is all zeros")
	}
	return ringKey{created: time.Unix(created, 0).UTC(), key: Key(b)}, nil
}

// Create writes the ring to a new file, durable before it returns. It fails with fs.ErrExist where the file is there:
// a key file is never overwritten by a first start.
func (r *Ring) Create(path string) error {
	temp, err := r.stage(path)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	// A link, unlike a rename, does not replace a file that another process made meanwhile.
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Replace writes the ring over an existing file, at once and durably.
func (r *Ring) Replace(path string) error {
	temp, err := r.stage(path)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

func (r *Ring) stage(path string) (temp string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // made with mode 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.WriteString(r.Text()); err != nil {
		return "", err
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// ReadOrCreate reads a key file, or makes it where there is none. Of several processes that start at once, all end with
// the same key.
func ReadOrCreate(path string, now time.Time) (*Ring, error) {
	r, err := ReadRing(path)
	if !errors.Is(err, ErrNoFile) {
		return r, err
	}
	if err := NewRing(now).Create(path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return ReadRing(path)
}
