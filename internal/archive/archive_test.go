package archive_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"dialtone/internal/archive"
)

var made = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

const message = "pickup/00112233445566778899aabbccddeeff.eml"

// files are the files of sample.
var files = [][2]string{
	{archive.Database, strings.Repeat("SQLite", 5000)}, {archive.Configuration, "data = \"x\"\n"},
	{"keys/seal.key", "v1 …\n"}, {message, "Subject: hello\r\n\r\n"},
}

func sample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := archive.NewWriter(&b, "1.0", made)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := w.Add(f[0], int64(len(f[1])), strings.NewReader(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	m, err := w.Close(archive.Manifest{Engine: "sqlite", Schema: 17, Accounts: 3})
	if err != nil || !m.Keys || m.Messages != 1 {
		t.Fatalf("the manifest is %+v, %v", m, err)
	}
	return b.Bytes()
}

type discard struct{ bytes.Buffer }

func (*discard) Close() error { return nil }

// read reads an archive, and returns its files.
func read(r io.Reader) (map[string]*discard, archive.Manifest, error) {
	found := make(map[string]*discard)
	m, err := archive.Read(r, archive.Options{
		MaxDatabase: 1 << 20,
		Begin: func(name string, _ int64) (io.WriteCloser, error) {
			found[name] = new(discard)
			return found[name], nil
		},
	})
	return found, m, err
}

func TestWrittenIsRead(t *testing.T) {
	found, m, err := read(bytes.NewReader(sample(t)))
	if err != nil || m.Accounts != 3 || m.Schema != 17 || !m.Made.Equal(made) || len(found) != len(files) {
		t.Fatalf("%d files, %+v, %v", len(found), m, err)
	}
	for _, f := range files {
		if found[f[0]].String() != f[1] {
			t.Errorf("%s is different", f[0])
		}
	}
}

// Read refuses every truncated archive, and one with a changed byte in a file, a hash or a name.
func TestTruncatedAndChanged(t *testing.T) {
	whole := sample(t)
	end := bytes.LastIndex(whole, []byte("}")) + 1
	for n := 0; n < end; n += 97 {
		if _, _, err := read(bytes.NewReader(whole[:n])); !errors.Is(err, archive.ErrFormat) {
			t.Fatalf("cut off at %d of %d: %v", n, len(whole), err)
		}
	}
	for _, f := range files {
		at := bytes.Index(whole, []byte(f[1]))
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		if _, _, err := read(bytes.NewReader(changed)); !errors.Is(err, archive.ErrFormat) {
			t.Errorf("%s was changed: %v", f[0], err)
		}
	}
	if _, _, err := read(bytes.NewReader(append(bytes.Clone(whole), "more"...))); !errors.Is(err, archive.ErrFormat) {
		t.Errorf("something follows: %v", err)
	}
}

// Crafted archives are refused.
func TestCraftedArchives(t *testing.T) {
	type member struct {
		tar.Header
		content string
	}
	header := member{tar.Header{Name: "header.json"},
		`{"dialtone_backup":1,"version":"1","made":"2026-03-01T12:00:00Z"}`}
	manifest := member{tar.Header{Name: "manifest.json"},
		`{"dialtone_backup":1,"version":"1","made":"2026-03-01T12:00:00Z","engine":"postgresql","files":[]}`}
	newer := member{tar.Header{Name: "header.json"}, `{"dialtone_backup":99,"version":"9"}`}
	for claim, c := range map[string]struct {
		members []member
		want    string
	}{
		"nothing":          {nil, "cut off"},
		"another tar":      {[]member{{tar.Header{Name: "x"}, "x"}}, "does not begin"},
		"a newer format":   {[]member{newer}, "newer"},
		"no manifest":      {[]member{header}, "cut off"},
		"a path up":        {[]member{header, {tar.Header{Name: "keys/../../etc/passwd"}, "x"}}, "contains"},
		"an absolute path": {[]member{header, {tar.Header{Name: "/dialtone.db"}, "x"}}, "contains"},
		"a path in keys":   {[]member{header, {tar.Header{Name: "keys/./seal.key"}, "x"}}, "contains"},
		"another file":     {[]member{header, {tar.Header{Name: "node.id"}, "x"}}, "contains"},
		"a link": {[]member{header, {tar.Header{Name: archive.Database, Typeflag: tar.TypeSymlink, Linkname: "/etc"},
			""}}, "not a regular file"},
		"a hard link": {[]member{header, {tar.Header{Name: archive.Database, Typeflag: tar.TypeLink, Linkname: "x"},
			""}}, "not a regular file"},
		"a device": {[]member{header, {tar.Header{Name: archive.Database, Typeflag: tar.TypeBlock}, ""}},
			"not a regular file"},
		"a FIFO": {[]member{header, {tar.Header{Name: archive.Database, Typeflag: tar.TypeFifo}, ""}},
			"not a regular file"},
		"a folder":  {[]member{header, {tar.Header{Name: "keys/", Typeflag: tar.TypeDir}, ""}}, "not a regular file"},
		"twice":     {[]member{header, {tar.Header{Name: message}, "x"}, {tar.Header{Name: message}, "y"}}, "twice"},
		"not named": {[]member{header, {tar.Header{Name: message}, "x"}, manifest}, "not in its manifest"},
		"empty objects": {[]member{header, {tar.Header{Name: "manifest.json"},
			`{"files":[` + strings.Repeat("{},", 200) + `{}]}`}}, "more files than it"},
		"a long manifest": {[]member{header, {tar.Header{Name: "manifest.json"},
			strings.Repeat(" ", 65<<10)}}, "too large"},
		"more": {[]member{header, manifest, {tar.Header{Name: message}, "x"}}, "follows"},
		"a large database": {[]member{header, {tar.Header{Name: archive.Database}, strings.Repeat("x", 1<<20+1)}},
			"at most 1048576"},
		"a large message": {[]member{header, {tar.Header{Name: message}, strings.Repeat("x", 4<<20+1)}}, "at most"},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, m := range c.members {
			m.Size = int64(len(m.content))
			if m.Typeflag == 0 {
				m.Typeflag = tar.TypeReg
			}
			if err := w.WriteHeader(&m.Header); err != nil {
				t.Fatal(claim, err)
			}
			if _, err := io.WriteString(w, m.content); err != nil {
				t.Fatal(claim, err)
			}
		}
		w.Close()
		if _, _, err := read(&b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", claim, err, c.want)
		}
	}
}

// A sparse file, which is large but takes no space in the archive, is refused in both forms.
func TestSparse(t *testing.T) {
	whole := sample(t)
	at := bytes.Index(whole, []byte(archive.Database+"\x00"))
	block := func(name string, flag byte, content string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, content)
		w.Flush()
		b.Bytes()[156] = flag
		checksum(b.Bytes()[:512])
		return b.Bytes()
	}
	// The map describes one piece of data, of size zero, at the end.
	size := "900000"
	spread := "1\n" + size + "\n0\n"
	spread += strings.Repeat("\x00", 512-len(spread))
	records := ""
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=" + archive.Database,
		"GNU.sparse.realsize=" + size} {
		records += fmt.Sprintf("%d %s\n", len(r)+4, r)
	}
	pax := append(block("x", tar.TypeXHeader, records), block(archive.Database, tar.TypeReg, spread)...)
	for want, member := range map[string][]byte{
		"is a sparse file":   pax,
		"invalid tar header": block(archive.Database, tar.TypeGNUSparse, ""), // this one has no map
	} {
		b := append(append(bytes.Clone(whole[:at]), member...), whole[at:]...)
		_, _, err := read(bytes.NewReader(b))
		if !errors.Is(err, archive.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// checksum corrects the sum of a header block.
func checksum(block []byte) {
	copy(block[148:156], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
}

func TestEncryption(t *testing.T) {
	own, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	to, err := archive.ParseRecipient(own.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.ParseRecipient("age1wrong"); err == nil {
		t.Error("a wrong recipient is accepted")
	}
	if _, err := archive.Encrypt(io.Discard, nil); err == nil {
		t.Error("a backup is encrypted to nobody")
	}
	var b bytes.Buffer
	w, err := archive.Encrypt(&b, archive.Recipients{to})
	if err != nil {
		t.Fatal(err)
	}
	w.Write(sample(t))
	w.Close()
	open := func(sealed []byte, key *age.X25519Identity) error {
		r, encrypted, err := archive.Decrypt(bytes.NewReader(sealed), strings.NewReader(key.String()+"\n"))
		if err != nil || !encrypted {
			return fmt.Errorf("encrypted %v: %w", encrypted, err)
		}
		_, _, err = read(r)
		return err
	}
	if err := open(b.Bytes(), own); err != nil {
		t.Error(err)
	}
	if err := open(b.Bytes(), other); err == nil || !strings.Contains(err.Error(), "encrypted to others") {
		t.Errorf("with another key: %v", err)
	}
	if _, _, err := archive.Decrypt(bytes.NewReader(b.Bytes()), nil); !errors.Is(err, archive.ErrEncrypted) {
		t.Errorf("without a key: %v", err)
	}
	if bytes.Contains(b.Bytes(), []byte("SQLite")) {
		t.Error("the database is in the clear")
	}
	for n := 0; n < b.Len(); n += 199 {
		changed := bytes.Clone(b.Bytes())
		changed[n] ^= 1
		if err := open(changed, own); err == nil {
			t.Fatalf("the change of byte %d is not noticed", n)
		}
		if err := open(b.Bytes()[:n], own); err == nil {
			t.Fatalf("the end at byte %d is not noticed", n)
		}
	}
}

// FuzzRead checks that for any input, only valid names and sizes are passed on, and that after a
// success every file matches the manifest.
func FuzzRead(f *testing.F) {
	whole := sample(f)
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		names := make(map[string]*discard)
		m, err := archive.Read(bytes.NewReader(b), archive.Options{
			MaxDatabase: 1 << 20,
			Begin: func(name string, size int64) (io.WriteCloser, error) {
				if !archive.ValidName(name) || strings.Contains(name, "..") || size > 4<<20 || names[name] != nil {
					t.Fatalf("the file %q of %d bytes is accepted", name, size)
				}
				names[name] = new(discard)
				return names[name], nil
			},
		})
		total := 0
		for _, content := range names {
			total += content.Len()
		}
		if total > len(b) {
			t.Fatalf("%d bytes became %d", len(b), total)
		}
		if err != nil {
			return
		}
		if len(m.Files) != len(names) {
			t.Fatalf("%d files, and the manifest has %d", len(names), len(m.Files))
		}
		if _, err := json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}
