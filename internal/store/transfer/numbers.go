package transfer

import (
	"context"

	"dialtone/internal/account"
	"dialtone/internal/fault"
	"dialtone/internal/store"
	"dialtone/internal/store/engine"
)

const (
	tenantsVersion = `SELECT n FROM revision WHERE subject = 'tenant'`
	bindingState   = `SELECT n FROM revision WHERE subject = 'binding'`
	linksState     = `SELECT n FROM revision WHERE subject = 'links'`
)

// numbered lists the tables whose ids are never reused.
var numbered = []string{"tenant", "audit"}

// copyNumbers copies the last ids, the version of the tenants, how far credentials are bound, and
// how links are stored. So the target does not reuse the id of a removed row, and no server sees
// the version decrease.
func (c *copier) copyNumbers() error {
	last := make(map[string]int64)
	for _, table := range numbered {
		id, err := c.source.LastID(c.from, table)
		if err != nil {
			return err
		}
		last[table] = id
	}
	version, err := engine.Count(c.from, tenantsVersion)
	if err != nil {
		return err
	}
	binding, err := engine.Count(c.from, bindingState)
	if err != nil {
		return err
	}
	links, err := engine.Count(c.from, linksState)
	if err != nil {
		return err
	}
	gaps := last["audit"]
	if _, gapless := c.source.(engine.Counter); gapless {
		if gaps, err = store.AuditGaps(c.from); err != nil {
			return err
		}
	}
	return c.to.Write(func(tx engine.Tx) error {
		if err := store.SetAuditGaps(tx, gaps); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE revision SET n = $1 WHERE subject = 'tenant' AND n < $1`, version)
		if err != nil {
			return err
		}
		if err := store.RaiseBinding(tx, account.Binding(binding)); err != nil {
			return err
		}
		if err := store.SetLinkOrder(tx, links); err != nil {
			return err
		}
		for _, table := range numbered {
			if err := c.to.SetLastID(tx, table, last[table]); err != nil {
				return err
			}
		}
		return nil
	})
}

// compareNumbers fails if one of these numbers is lower in the target than in the source.
func (c *copier) compareNumbers(ctx context.Context) error {
	for what, number := range map[string]func(engine.Copier, engine.Querier) (int64, error){
		"last id of a tenant": func(e engine.Copier, q engine.Querier) (int64, error) {
			return e.LastID(q, "tenant")
		},
		"last id of the audit trail": func(e engine.Copier, q engine.Querier) (int64, error) {
			return e.LastID(q, "audit")
		},
		"number of the tenants": func(_ engine.Copier, q engine.Querier) (int64, error) {
			return engine.Count(q, tenantsVersion)
		},
		"state of the binding": func(_ engine.Copier, q engine.Querier) (int64, error) {
			return engine.Count(q, bindingState)
		},
	} {
		ours, err := number(c.source, c.from)
		if err != nil {
			return err
		}
		theirs, err := number(c.to, c.to.Reads(ctx))
		if err != nil {
			return err
		}
		if theirs < ours {
			return fault.New(fault.Conflict,
				"the %s is %d in the source and %d in the target; do not use the copy", what, ours, theirs)
		}
	}
	return nil
}
