package sipserver_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/sipserver"
	"dialtone/internal/test/world"
)

// lastLookups flushes the registry and returns the look-ups of an account, as text.
func (f *fixture) lastLookups(a account.Account) (list []string, asked bool) {
	f.Helper()
	f.Must(f.registry.Flush(f.Context()))
	got, asked, err := f.registry.LastLookups(f.Context(), a)
	f.Must(err)
	for _, l := range got {
		list = append(list, fmt.Sprintf("%s %s %v", l.Server, l.How, l.At.Sub(world.Noon)))
	}
	return list, asked
}

func TestLastLookups(t *testing.T) {
	f := newFixture(t)
	ann, bob := f.At("a.test").Join("ann"), f.At("b.test").Join("bob")
	f.Activate(ann)
	f.Activate(bob)
	if list, asked := f.lastLookups(ann.Account); len(list) > 0 || asked {
		t.Errorf("without servers: %v, %t", list, asked)
	}
	start := f.Now().Sub(world.Noon)
	sbc, pbx := f.caller(f.addServer("sbc", "a.test")), f.caller(f.addServer("pbx", "a.test", "c.test"))
	find := func(c *sipserver.Caller, how sipserver.How) {
		t.Helper()
		e, err := f.registry.Find(t.Context(), c, "a.test", "ann")
		f.Must(err)
		f.registry.Found(t.Context(), c, e, how)
	}
	want := func(list ...string) {
		t.Helper()
		if got, asked := f.lastLookups(ann.Account); !slices.Equal(got, list) || !asked {
			t.Errorf("got %v, %t, want %v", got, asked, list)
		}
	}
	at := func(d time.Duration) string { return (start + d).String() }
	want()
	find(sbc, sipserver.HowCredential)
	want("sbc credential " + at(0))
	f.Advance(30 * time.Minute)
	find(sbc, sipserver.HowCredential) // within the hour
	find(sbc, sipserver.HowFreeSWITCH)
	find(pbx, sipserver.HowCredential)
	want("pbx credential "+at(30*time.Minute), "sbc credential "+at(0), "sbc freeswitch "+at(30*time.Minute))
	f.Advance(sipserver.LookupInterval - 30*time.Minute)
	find(sbc, sipserver.HowCredential)
	want("pbx credential "+at(30*time.Minute), "sbc credential "+at(time.Hour), "sbc freeswitch "+at(30*time.Minute))
	if list, asked := f.lastLookups(bob.Account); len(list) > 0 || asked {
		t.Errorf("at a tenant without servers: %v, %t", list, asked)
	}
	f.Advance(sipserver.LookupLife)
	want()
}

// TestFoundAgain checks that a look-up that was recorded within the hour costs nothing.
func TestFoundAgain(t *testing.T) {
	f := newFixture(t)
	f.Activate(f.At("a.test").Join("ann"))
	c := f.caller(f.addServer("sbc", "a.test"))
	e, err := f.registry.Find(t.Context(), c, "a.test", "ann")
	f.Must(err)
	f.registry.Found(t.Context(), c, e, sipserver.HowCredential)
	f.Must(f.registry.Flush(t.Context()))
	f.Close() // writing would fail
	if n := testing.AllocsPerRun(100, func() {
		f.registry.Found(t.Context(), c, e, sipserver.HowCredential)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if err := f.registry.Flush(t.Context()); err != nil {
		t.Errorf("a look-up is recorded twice within an hour: %v", err)
	}
	f.Advance(sipserver.LookupInterval)
	f.registry.Found(t.Context(), c, e, sipserver.HowCredential)
	if err := f.registry.Flush(t.Context()); err == nil {
		t.Error("a look-up is not recorded again after an hour")
	}
}

// BenchmarkFound measures the additional cost of a look-up that was recorded before, on all processors.
func BenchmarkFound(b *testing.B) {
	f := newFixture(b)
	c := f.caller(f.addServer("sbc", "a.test"))
	f.Activate(f.At("a.test").Join("ann"))
	e, err := f.registry.Find(b.Context(), c, "a.test", "ann")
	f.Must(err)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			f.registry.Found(b.Context(), c, e, sipserver.HowCredential)
		}
	})
}
