package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// HasStore reports whether the database at url has the tables of a store, of any version.
func HasStore(ctx context.Context, url string) (exists bool, err error) {
	conf, err := pgx.ParseConfig(url)
	if err != nil {
		return false, withoutPassword(err)
	}
	if !strings.Contains(url, "connect_timeout") {
		conf.ConnectTimeout = 2 * time.Second
	}
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return false, withoutPassword(err)
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `SELECT to_regclass('schema_version') IS NOT NULL`).Scan(&exists)
	return exists, err
}
