package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"

	"dialtone/internal/store/engine"
	"dialtone/internal/tenant"
)

// freezeName is the name of the row of the table platform that has a tenant.Freeze as JSON. Without it there is none.
const freezeName = "signups.freeze"

// Freeze implements operator.SignupsStore.
func (s *Store) Freeze(ctx context.Context) (*tenant.Freeze, error) {
	return readFreeze(s.engine.Reads(ctx))
}

func readFreeze(q engine.Querier) (*tenant.Freeze, error) {
	var text string
	err := q.Row(`SELECT value FROM platform WHERE name = $1`, freezeName).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	f := &tenant.Freeze{}
	return f, json.Unmarshal([]byte(text), f)
}
