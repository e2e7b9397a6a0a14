package store

import (
	"context"
	"encoding/base64"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store/engine"
)

// pageScan is how many accounts are looked at for one page.
const pageScan = 10_000

// Page implements account.PageStore.
func (s *Store) Page(ctx context.Context, tenant int64, q account.Query, next string, limit int,
	now time.Time) (p account.Page, err error) {
	last := account.UID{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if next != "" {
		b, err := base64.RawURLEncoding.DecodeString(next)
		if err != nil || len(b) != len(last) {
			return p, fault.Field("cursor", "this is not a cursor of this list; begin with the first page")
		}
		last = account.UID(b)
	}
	scanned := 0
	err = s.engine.Reads(ctx).Each(func(row engine.Scanner) error {
		a, err := scanAccount(row)
		if err != nil {
			return err
		}
		scanned++
		if len(p.Accounts) == limit {
			p.Next = base64.RawURLEncoding.EncodeToString(last[:])
			return nil
		}
		last = a.UID
		if q.Matches(a) {
			p.Accounts = append(p.Accounts, a)
		}
		return nil
	}, `SELECT `+accountColumns+` FROM account WHERE tenant = $2 AND uid < $3 AND `+live+` ORDER BY uid DESC LIMIT $4`,
		engine.Micros(now), tenant, last[:], pageScan)
	if scanned == pageScan {
		p.Next = base64.RawURLEncoding.EncodeToString(last[:])
	}
	return p, err
}
