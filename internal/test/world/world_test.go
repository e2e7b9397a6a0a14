package world_test

import (
	"errors"
	"testing"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

func TestWorld(t *testing.T) {
	w := world.New(t, world.Options{Tenants: []tenant.Tenant{{Host: "a.test"}, {Host: "b.test", Realm: "B"}}})
	w.Join("pia")
	w.Member("ann")
	b := w.At("b.test")
	b.Member("ann", world.WithPassword("another one"), world.MD5Only)
	w.Advance(time.Hour)
	for _, c := range []struct {
		w                     *world.World
		user, realm, password string
		disabled, sha256      bool
	}{
		{w, "pia", "a.test", world.Password("pia", "a.test"), true, true},
		{w, "ann", "a.test", world.Password("ann", "a.test"), false, true},
		{b, "ann", "B", "another one", false, false},
	} {
		a, err := w.Store.Find(t.Context(), c.w.Tenant.ID, c.user, b.Now())
		w.Must(err)
		credential, err := w.Accounts.Credential(a)
		w.Must(err)
		if credential.HA1 != digest.Compute(c.user, c.realm, c.password) ||
			(credential.SHA256 != nil) != c.sha256 || a.Disabled != c.disabled {
			t.Errorf("%s at %s: got %+v", c.user, c.realm, a)
		}
	}
}

func TestRealTime(t *testing.T) {
	w := world.New(t, world.Options{RealTime: true})
	w.Advance(time.Hour)
	if d := time.Until(w.Now()); d < 59*time.Minute || d > time.Hour {
		t.Errorf("the clock is %v ahead, want an hour", d)
	}
}

func TestRestart(t *testing.T) {
	w := world.New(t, world.Options{})
	w.Member("ann")
	w.Pickup.SyncErr = errors.New("broken by the test")
	before := w.Store
	w.Restart()
	if w.Store == before || w.Pickup.SyncErr != nil || w.Tenant.Host != "phone.test" {
		t.Error("the World has parts of before the restart")
	}
	if _, err := w.Accounts.Find(t.Context(), w.Tenant.ID, "ann"); err != nil {
		t.Errorf("the account is lost: %v", err)
	}
}
