package store_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
)

// A new store keeps links in the order of their creation, and refuses programs that would not find
// them. A store of an older program keeps them as before.
func TestLinkOrder(t *testing.T) {
	onEngines(t, func(d *database) {
		ring := secret.NewRing(noon)
		s, e := d.store(ring, "")
		early, late := secret.NewTokenAt(noon), secret.NewTokenAt(noon.Add(time.Millisecond))
		one, two := s.LinkHash(early), s.LinkHash(late)
		if bytes.Compare(one[:], two[:]) >= 0 {
			d.Errorf("the hash %x of a token is not before %x of a later one", one, two)
		}
		if err := migrations.Allowed(e.Reads(d.Context()), 19); !errors.Is(err, migrations.ErrNewer) {
			d.Errorf("an older program in a new store: %v", err)
		}

		d.exec(e, `UPDATE revision SET n = 0 WHERE subject = 'links'`)
		d.exec(e, `UPDATE schema_floor SET floor = 1 WHERE version > 1`)
		s, e = d.store(ring, "")
		if got := s.LinkHash(early); got != early.Hash() {
			d.Errorf("in an older store, the hash is %x, want %x", got, early.Hash())
		}
		if err := migrations.Allowed(e.Reads(d.Context()), 19); err != nil {
			d.Errorf("an older program in an older store: %v", err)
		}
		if err := e.Write(func(tx engine.Tx) error { return store.SetLinkOrder(tx, 1) }); err != nil {
			d.Fatal(err)
		}
		if s, _ = d.store(ring, ""); s.LinkHash(early) != one {
			d.Error("the store does not keep links in order")
		}
	})
}
