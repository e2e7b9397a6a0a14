package account_test

import (
	"slices"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/test/world"
)

func TestUIDOrder(t *testing.T) {
	var list []string
	for i := range 100 {
		u := account.NewUID(world.Noon.Add(time.Duration(i) * time.Millisecond))
		if u[6]>>4 != 7 || u[8]>>6 != 2 {
			t.Errorf("%s is not a version 7 UUID", u)
		}
		list = append(list, u.String())
	}
	if !slices.IsSorted(list) {
		t.Error("a later UID sorts before an earlier one")
	}
	first, last := account.FirstUID(world.Noon).String(), account.LastUID(world.Noon).String()
	if list[0] < first || list[0] > last || list[1] < last {
		t.Errorf("the UIDs of a millisecond are from %s to %s, and that of the next is %s", first, last, list[1])
	}
	// Operators filter by any time.
	first, last = account.FirstUID(time.UnixMilli(-1)).String(), account.LastUID(time.UnixMilli(1<<50)).String()
	if first > list[0] || last < list[0] {
		t.Errorf("the UIDs of all times are from %s to %s", first, last)
	}
}
