package hook

import (
	"context"
	"fmt"

	"dialtone/internal/secret"
)

// VerifyReport is what Verify found.
type VerifyReport struct {
	Hooks         int   `json:"hooks"`
	Notifications int64 `json:"notices"` // that wait
}

// Verify counts hooks and what waits for them, and calls fault for each whose secret does not open. It changes nothing.
func Verify(ctx context.Context, store HookStore, ring *secret.Ring, fault func(string)) (r VerifyReport, err error) {
	list, err := store.Hooks(ctx)
	locker := NewSealer(ring)
	for _, h := range list {
		r.Hooks++
		r.Notifications += h.Waiting
		if _, err := locker.Open(h.Hook); err != nil {
			fault(fmt.Sprintf("hook %s: %v", h.Name, err))
		}
	}
	return r, err
}
