package phone

import (
	"context"
	"fmt"

	"dialtone/internal/secret"
)

// HookReport is what VerifyHooks found.
type HookReport struct {
	Hooks   int   `json:"hooks"`
	Notices int64 `json:"notices"` // that wait
}

// VerifyHooks counts hooks and what waits for them, and calls fault for each whose secret does not open. It changes nothing.
func VerifyHooks(ctx context.Context, store HookStore, ring *secret.Ring, fault func(string)) (r HookReport, err error) {
	list, err := store.Hooks(ctx)
	locker := NewLocker(ring)
	for _, h := range list {
		r.Hooks++
		r.Notices += h.Waiting
		if _, err := locker.Open(h.Hook); err != nil {
			fault(fmt.Sprintf("hook %s: %v", h.Name, err))
		}
	}
	return r, err
}
