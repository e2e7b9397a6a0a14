package serve

import (
	"testing"
	"time"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/fault"
	"dialtone/internal/test/world"
)

// A server erases an account eight days after its owner left, and not before.
func TestPeopleWhoLeftAreErased(t *testing.T) {
	w := world.New(t, world.Options{})
	w.Member("ann")
	a, err := w.Store.Find(w.Context(), w.Tenant.ID, "ann", w.Now())
	w.Must(err)
	_, err = w.Accounts.Leave(w.Context(), w.Tenant, a, world.NewOrigin())
	w.Must(err)
	s := &server{
		Installation: &installation.Installation{Store: w.Store}, log: w.Logger, tenants: w.Tenants,
		accounts: w.Accounts,
	}
	const days = 24 * time.Hour
	for _, c := range []struct {
		after  time.Duration
		erased bool
	}{{8*days - time.Hour, false}, {8 * days, true}} {
		w.Set(world.Noon.Add(c.after))
		w.Must(s.eraseOverdue(w.Context()))
		_, err := w.Store.Find(w.Context(), w.Tenant.ID, "ann", w.Now())
		if erased := fault.KindOf(err) == fault.NotFound; erased != c.erased || !erased && err != nil {
			t.Errorf("after %v: %v", c.after, err)
		}
	}
}
