package hook

import (
	"context"
	"fmt"

	"dialtone/internal/secret"
)

// VerifyReport is the result of Verify.
type VerifyReport struct {
	Hooks         int   `json:"hooks"`
	Notifications int64 `json:"notices"` // not delivered yet
}

// Verify counts hooks and waiting notifications, and calls report for each hook whose secret
// does not open. It changes nothing.
func Verify(
	ctx context.Context, store Store, ring *secret.Ring, report func(string),
) (r VerifyReport, err error) {
	list, err := store.Hooks(ctx)
	sealer := NewSealer(ring)
	for _, h := range list {
		r.Hooks++
		r.Notifications += h.Waiting
		if _, err := sealer.Open(h.Hook); err != nil {
			report(fmt.Sprintf("hook %s: %v", h.Name, err))
		}
	}
	return r, err
}
