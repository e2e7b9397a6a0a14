package ops

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A hanging check counts as failed, and hides neither the other checks nor their metrics.
func TestChecksAsMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		hangs := false
		s := New([]Check{
			{Name: "disk", Probe: func(context.Context) error {
				if hangs {
					<-release
				}
				return nil
			}},
			{Name: "keys", Probe: func(context.Context) error { return errors.New("no key") }},
			{Name: "export", Probe: func(context.Context) error { return Warning("an account is missing") }},
		}, nil, time.Now)
		r := NewRegistry()
		r.MustRegister(s.Checks())
		want := func(lines ...string) {
			t.Helper()
			var text strings.Builder
			families, err := r.Gather()
			if err != nil {
				t.Error(err)
			}
			for _, f := range families {
				for _, m := range f.GetMetric() {
					if strings.HasPrefix(f.GetName(), "dialtone_") {
						text.WriteString(f.GetName() + " " + m.GetLabel()[0].GetValue())
						text.WriteString(map[float64]string{0: " 0\n", 1: " 1\n"}[m.GetGauge().GetValue()])
					}
				}
			}
			for _, line := range lines {
				if !strings.Contains(text.String(), "dialtone_check_"+line+"\n") {
					t.Errorf("%s is missing in\n%s", line, &text)
				}
			}
		}
		want("ok disk 1", "ok keys 0", "ok export 1", "warning export 1", "warning disk 0")
		hangs = true
		time.Sleep(cacheTime)
		want("ok disk 0", "ok keys 0", "ok export 1")
		close(release)
		synctest.Wait()
		time.Sleep(cacheTime)
		want("ok disk 1", "ok keys 0")
	})
}
