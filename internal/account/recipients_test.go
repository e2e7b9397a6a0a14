package account

import (
	"testing"
	"time"

	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/throttle"
)

// TestRecipientsOfAllTenants checks that messages to one address are counted for all tenants
// together if there are several, and each kind separately.
func TestRecipientsOfAllTenants(t *testing.T) {
	one := false
	s := NewService(Deps{
		SealRing: secret.NewRing(time.Now()), Now: time.Now, OneTenant: func() bool { return one },
	})
	a := Account{Email: "ann+x@mail.test"}
	lists := func(id int64) [][]throttle.Allowance {
		t := &tenant.Tenant{ID: id}
		return [][]throttle.Allowance{
			s.recipient(t, a.Email), s.emailRecipient(t, "Ann@mail.test"), s.resetAllowances(t, a, "192.0.2.0/24"),
		}
	}
	first, second := lists(1), lists(2)
	seen := map[throttle.Bucket]bool{}
	for i, list := range first {
		last := list[len(list)-1]
		if last != second[i][len(list)-1] || last.Limit != throttle.LimitPerson || seen[last.Bucket] {
			t.Errorf("list %d ends with %+v", i, last)
		}
		seen[last.Bucket] = true
		for j, place := range list[:len(list)-1] {
			if place.Bucket == second[i][j].Bucket || place.Limit == throttle.LimitPerson {
				t.Errorf("place %d of list %d is %+v", j, i, place)
			}
		}
	}
	one = true
	for i, list := range lists(1) {
		if len(list) != len(first[i])-1 {
			t.Errorf("list %d of one tenant has %d places", i, len(list))
		}
	}
}
