package finding_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"dialtone/cmd/dialtone/internal/finding"
)

// A check that hangs does not prevent Run from ending, and is reported as a finding in the order of
// the checks.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 10 * time.Second
		never := make(chan struct{})
		defer close(never)
		found := finding.New(finding.Note, "a", finding.AboutHealth, "cause", "next")
		start := time.Now()
		one := []finding.Finding{found}
		list := finding.Run(t.Context(), limit, []finding.Check{
			{Name: "a", Do: func(context.Context) []finding.Finding { return one }},
			{Name: "b", Do: func(context.Context) []finding.Finding { <-never; return nil }},
			{Name: "c", Do: func(context.Context) []finding.Finding { <-never; return nil }},
			{Name: "d", Do: func(ctx context.Context) []finding.Finding { <-ctx.Done(); return one }},
		})
		if took := time.Since(start); took < limit || took > limit+limit/5 {
			t.Errorf("it took %v", took)
		}
		if len(list) != 4 || list[0] != found || list[1].Check != "b" || list[1].Level != finding.Fault ||
			list[2].Check != "c" || list[3] != found {
			t.Errorf("got %+v", list)
		}
	})
}
