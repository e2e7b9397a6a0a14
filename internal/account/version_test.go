package account_test

import (
	"context"
	"errors"
	"testing"

	"dialtone/internal/account"
)

func TestCheckVersion(t *testing.T) {
	a := account.Account{User: "ann", Email: "ann@mail.test"}
	changed := a
	changed.Email = "other@mail.test"
	for _, c := range []struct {
		name string
		ctx  context.Context
		want error
	}{
		{"no condition", t.Context(), nil},
		{"the version of the account", account.OnlyIf(t.Context(), a.Version()), nil},
		{"the version before a change", account.OnlyIf(t.Context(), changed.Version()), account.ErrChanged},
	} {
		if err := account.CheckVersion(c.ctx, a); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}
