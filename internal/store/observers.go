package store

import (
	"sync"

	"dialtone/internal/account"
)

// observers are the functions of Store.OnChange.
type observers struct {
	mu   sync.RWMutex
	list []func(account.UID)
}

// OnChange implements phone.Store.
func (s *Store) OnChange(f func(uid account.UID)) { s.engine.observe(f) }

func (o *observers) observe(f func(account.UID)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = append(o.list, f)
}

func (o *observers) changed(list []subject) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	for _, s := range list {
		var uid account.UID // the zero UID for tenantsSubject
		copy(uid[:], s)
		for _, f := range o.list {
			f(uid)
		}
	}
}
