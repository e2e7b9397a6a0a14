package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/secret"
	"dialtone/internal/store/sqlite/conn"
	"dialtone/internal/test/teststore"
)

const bareGroup = 64

// bareSite is a database and a directory of messages that are written without the program. They grow
// from turn to turn, as those of the program do.
type bareSite struct {
	conn *conn.Conn
	box  string
	n    int
}

func newBare(ctx context.Context, dir, name string) (*bareSite, func(), error) {
	s := &bareSite{box: filepath.Join(dir, name)}
	conn, err := openBare(ctx, filepath.Join(dir, name+".db"), s.box)
	if err != nil {
		return nil, nil, err
	}
	s.conn = conn
	return s, func() { conn.Close() }, nil
}

// groups measures the machine's limit for signups: their rows in transactions of 64, their files,
// and nothing else. The files of the next group are written during the commit of the current one.
func (s *bareSite) groups(duration time.Duration) (figures, error) {
	box := s.box
	groups := make(chan [][16]byte, 1)
	stop := make(chan struct{})
	var files sync.WaitGroup
	for range 2 {
		files.Go(func() {
			for {
				group := make([][16]byte, bareGroup)
				for i := range group {
					rand.Read(group[i][:])
					if err := writeMessage(box, group[i]); err != nil {
						return
					}
				}
				select {
				case groups <- group:
				case <-stop:
					return
				}
			}
		})
	}
	before, began := s.n, time.Now()
	for time.Since(began) < duration {
		group := <-groups
		if err := s.insert(group); err != nil {
			return figures{}, err
		}
		files.Go(func() {
			for _, id := range group {
				name := filepath.Join(box, hex.EncodeToString(id[:]))
				os.Rename(name+".part", name+".eml")
			}
		})
	}
	elapsed := time.Since(began)
	close(stop)
	files.Wait()
	return figures{rate: float64(s.n-before) / elapsed.Seconds()}, nil
}

// lone measures signups one after another, each with its own transaction and file.
func (s *bareSite) lone(count int) (figures, error) {
	n := 0
	return drive(1, "", time.Hour, func(*client) func() error {
		return func() error {
			if n++; n > count {
				return io.EOF
			}
			var id [16]byte
			rand.Read(id[:])
			if err := writeMessage(s.box, id); err != nil {
				return err
			}
			if err := s.insert([][16]byte{id}); err != nil {
				return err
			}
			name := filepath.Join(s.box, hex.EncodeToString(id[:]))
			return os.Rename(name+".part", name+".eml")
		}
	}), nil
}

// message is about as long as a real message.
var message = []byte(strings.Repeat("A line that is about as long as those of real messages.\r\n", 15))

// writeMessage writes a message under a temporary name.
func writeMessage(box string, id [16]byte) error {
	f, err := os.OpenFile(filepath.Join(box, hex.EncodeToString(id[:])+".part"),
		os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	if _, err := f.Write(message); err != nil {
		return err
	}
	return f.Close()
}

// openBare creates a database with the schema of the program, and opens it as the program does.
func openBare(ctx context.Context, database, box string) (*conn.Conn, error) {
	store, err := teststore.Open(ctx, database, secret.NewRing(time.Now()))
	if err != nil {
		return nil, err
	}
	if err := store.Close(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(box, 0o770); err != nil {
		return nil, err
	}
	conn, err := conn.Open(database, conn.Options{})
	if err != nil {
		return nil, err
	}
	return conn, conn.Script(`PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = 1;
		INSERT INTO tenant (id, host, realm, public_url, settings, created)
		VALUES (1, 'localhost', 'localhost', '', '{}', 0)`)
}

const (
	bareAccount = `INSERT INTO account (uid, tenant, username, name, email, role, held, created, expires, epoch,
			credential, has_sha256, token)
		VALUES ($1, 1, $2, 'Alex Example', $3, 'guest', FALSE, $4, $5, 0, $6, TRUE, $7)`
	bareOutbox = `INSERT INTO outbox (account, message, token) VALUES ($1, $2, $3)`
	bareSpent  = `INSERT INTO spent (expires, nonce) VALUES ($1, $2)`
	bareTaken  = `INSERT INTO taken (bucket, at, account, until) VALUES ($1, $2, $3, $4)`
)

// insert adds the rows of a group of signups in one transaction.
func (s *bareSite) insert(group [][16]byte) error {
	if _, err := s.conn.Exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	now := time.Now()
	us := now.UnixMicro()
	for _, id := range group {
		s.n++
		var noise [32 + 16 + 16 + 97 + 64]byte
		rand.Read(noise[:])
		uid := account.NewUID(now)
		user := fmt.Sprintf("bare%d", s.n)
		for _, row := range []struct {
			query string
			args  []any
		}{
			{bareSpent, []any{us + 1, noise[:16]}},
			{bareTaken, []any{noise[16:32], us, uid[:], us + 1}},
			{bareTaken, []any{noise[32:48], us, uid[:], us + 2}},
			{bareAccount, []any{uid[:], user, user + "@example.org", us, us + 3, noise[48:145], noise[145:177]}},
			{bareOutbox, []any{uid[:], id[:], noise[161:225]}},
		} {
			if _, err := s.conn.Exec(row.query, row.args...); err != nil {
				return err
			}
		}
	}
	_, err := s.conn.Exec("COMMIT")
	return err
}
