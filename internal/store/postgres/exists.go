package postgres

import "context"

// HasStore reports whether the database at url has the tables of a store, of any version.
func HasStore(ctx context.Context, url string) (exists bool, err error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return false, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, `SELECT to_regclass('schema_version') IS NOT NULL`).Scan(&exists)
	return exists, err
}
