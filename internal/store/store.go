// Package store keeps all data in an SQL database.
//
// # What it guarantees
//
// Each method of a store interface is one transaction, and no transaction leaves this package. A
// method checks first and writes last: when it returns a fault, it leaves only those changes that
// its interface documents for a refusal. Any other error rolls back everything. A write that
// returned nil is durable.
//
// # How it works
//
// Each file holds the statements about one noun of the domain. They run on an engine (package
// engine), which is SQLite in one file for a single server, or PostgreSQL for any number of
// servers. The statements are the same for both.
//
// A write may run more than once, even after an earlier run was committed but its answer was lost
// (engine.Tx.Repeated). So each write either changes nothing the second time, or can tell that the
// first run was committed.
//
// A change of an account or a tenant is written by Tables.Write of package phonetables, which keeps
// the tables current that phone servers read.
package store

import (
	"context"
	"errors"
	"fmt"

	"dialtone/internal/fault"
	"dialtone/internal/secret"
	"dialtone/internal/store/admission"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
	"dialtone/internal/store/phonetables"
)

// Store is an open database. It is safe for concurrent use, also by several processes.
type Store struct {
	engine engine.Engine
	tables *phonetables.Tables
	added  chan struct{} // of capacity 1; receives when this process may have added notifications

	// Optional interfaces of the engine; nil if it does not implement them.
	node    engine.Node
	grouper admission.Grouper

	takeOver takeOver
	scan     scanLimits
	ordered  bool // links are stored by secret.Token.OrderedHash

	sweeping, correcting bucketCursor
}

// New returns a store on an engine, with the tables for phone servers that belong to it. The engine
// was opened with a check by SealCheck. If the engine cannot be read, it closes the
// engine and fails.
func New(e engine.Engine, tables *phonetables.Tables) (*Store, error) {
	s := &Store{engine: e, tables: tables, added: make(chan struct{}, 1), scan: defaultScan}
	s.node, _ = e.(engine.Node)
	s.grouper, _ = e.(admission.Grouper)
	n, err := engine.Count(e.Reads(context.Background()), `SELECT n FROM revision WHERE subject = 'links'`)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	s.ordered = n == orderedLinks
	return s, nil
}

// LinkHash implements account.LinkHasher.
func (s *Store) LinkHash(t secret.Token) [32]byte {
	if s.ordered {
		return t.OrderedHash()
	}
	return t.Hash()
}

// linksVersion is the first schema version whose programs find ordered links.
const linksVersion = 20

// How a store stores its links, in the table revision.
const (
	hashedLinks  = 0
	orderedLinks = 1
)

// SetLinkOrder sets how a store that has no links yet stores them. Older programs would not find
// ordered links, and are kept out.
func SetLinkOrder(tx engine.Tx, order int64) error {
	_, err := tx.Exec(`UPDATE revision SET n = $1 WHERE subject = 'links'`, order)
	if err != nil || order == hashedLinks {
		return err
	}
	return migrations.KeepOut(tx, linksVersion)
}

// Close finishes the writes that were accepted and closes the database.
func (s *Store) Close() error { return s.engine.Close() }

// Ready commits a write that changes no data. It fails if the database cannot be written to now, or
// if recent writes failed.
func (s *Store) Ready(ctx context.Context) error { return s.engine.Ready(ctx) }

// Broken returns a channel that is closed when a commit has failed and it is unknown whether it is
// on disk. From then on every write fails with fault.ErrInDoubt, and the process must exit. The
// channel is nil for an engine that recovers by itself.
func (s *Store) Broken() <-chan struct{} {
	if e, ok := s.engine.(engine.Failer); ok {
		return e.Failed()
	}
	return nil
}

// Err returns why Broken was closed, wrapped in engine.ErrFailed, and nil before that.
func (s *Store) Err() error {
	if e, ok := s.engine.(engine.Failer); ok {
		return e.Err()
	}
	return nil
}

// ClaimNode takes the name of this node for this process, as engine.Node describes.
func (s *Store) ClaimNode(ctx context.Context, place string, waiting func()) error {
	if s.node == nil {
		return nil
	}
	return s.node.Claim(ctx, place, waiting)
}

// Watch calls changed when a tenant may have changed, until ctx ends. A call may be missed, and an
// engine without notifications makes none, so callers must also compare TenantVersion.
func (s *Store) Watch(ctx context.Context, changed func()) {
	if e, ok := s.engine.(engine.Notifier); ok {
		e.Watch(ctx, changed)
	}
}

// Measures returns the engine's measurements of its writes. The histograms are nil for an engine
// without measurements.
func (s *Store) Measures() engine.Measures {
	if e, ok := s.engine.(engine.Measurer); ok {
		return e.Measures()
	}
	return engine.Measures{}
}

// Load returns the engine's current load.
func (s *Store) Load(ctx context.Context) (engine.Load, error) {
	if e, ok := s.engine.(engine.Measurer); ok {
		return e.Load(ctx)
	}
	return engine.Load{WAL: -1}, nil
}

// Erase removes the remains of deleted rows outside the tables, as far as the engine can do that.
func (s *Store) Erase(ctx context.Context) error {
	if e, ok := s.engine.(engine.Eraser); ok {
		return e.Erase(ctx)
	}
	return nil
}

// Schema returns the version of the database's schema.
func (s *Store) Schema(ctx context.Context) (version int64, err error) {
	return engine.Count(s.engine.Reads(ctx), `SELECT max(version) FROM schema_version`)
}

// nodeName returns the name of this node in rows of the outbox, which is empty for an engine
// without nodes.
func (s *Store) nodeName() string {
	if s.node == nil {
		return ""
	}
	return s.node.Node()
}

var (
	// ErrSealKey is returned by SealCheck when the ring lacks a key that the store was sealed with.
	ErrSealKey = fault.Needs(fault.Correction, "the store was sealed with another key")
	// ErrUnfinished is returned by SealCheck for the target of a copy that was not completed.
	ErrUnfinished = fault.Needs(fault.Correction,
		"a copy into this database was started but not completed; run it again, and it continues "+
			"where it stopped")
)

// SealCheck returns a function that checks that ring has every key that a database was sealed with
// and opens its credentials, and records the new keys of ring. It fails with ErrSealKey, ErrUnbound
// and ErrUnfinished.
func SealCheck(ring *secret.Ring) func(engine.Tx) error {
	return func(tx engine.Tx) error { return checkSealKey(tx, ring) }
}

func checkSealKey(tx engine.Tx, ring *secret.Ring) error {
	n, err := engine.Count(tx, `SELECT count(*) FROM revision WHERE subject = 'copy'`)
	if err != nil {
		return err
	} else if n > 0 {
		return ErrUnfinished
	}
	known, err := engine.Count(tx, `SELECT count(*) FROM seal_key`)
	if err != nil {
		return err
	}
	has := make(map[string]bool)
	for _, id := range ring.IDs() {
		has[id.String()] = true
	}
	err = tx.Each(func(row engine.Scanner) error {
		var id string
		if err := row.Scan(&id); err != nil {
			return err
		}
		if !has[id] {
			return fmt.Errorf("%w (%s); restore the seal.key file of this store from a backup", ErrSealKey, id)
		}
		delete(has, id)
		return nil
	}, `SELECT id FROM seal_key`)
	if err != nil {
		return err
	}
	for id := range has {
		if _, err := tx.Exec(`INSERT INTO seal_key (id) VALUES ($1)`, id); err != nil {
			return err
		}
	}
	return checkBinding(tx, ring, known == 0)
}

// inChunks calls one for each element of list, in transactions of up to 256 elements. When a
// transaction fails, it returns the elements that are not committed.
func inChunks[T any](e engine.Engine, list []T, one func(engine.Tx, T) error) (left []T, err error) {
	const chunk = 256 // small enough that signups do not wait long for the writer
	for i := 0; i < len(list); i += chunk {
		err := e.Write(func(tx engine.Tx) error {
			for _, element := range list[i:min(i+chunk, len(list))] {
				if err := one(tx, element); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return list[i:], err
		}
	}
	return nil, nil
}
