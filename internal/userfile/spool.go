package userfile

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io"
	"os"
)

// spool keeps a stream in an unnamed temporary file, encrypted with a key that is only in memory.
type spool struct {
	file *os.File
	size int64
	key  [32]byte
}

func newSpool(from io.Reader) (*spool, error) {
	f, err := os.CreateTemp("", "dialtone-import-*")
	if err != nil {
		return nil, err
	}
	s := &spool{file: f}
	rand.Read(s.key[:])
	out := bufio.NewWriterSize(f, maxValue)
	s.size, err = io.Copy(cipher.StreamWriter{S: s.stream(), W: out}, from)
	if err := errors.Join(os.Remove(f.Name()), err, out.Flush()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// stream returns the key stream. The key encrypts only one stream.
func (s *spool) stream() cipher.Stream {
	block, err := aes.NewCipher(s.key[:])
	if err != nil {
		panic(err) // the key has the right length
	}
	return cipher.NewCTR(block, make([]byte, aes.BlockSize))
}

// reader returns the stream from its beginning.
func (s *spool) reader() io.Reader {
	return cipher.StreamReader{S: s.stream(), R: io.NewSectionReader(s.file, 0, s.size)}
}

func (s *spool) close() error { return s.file.Close() }
