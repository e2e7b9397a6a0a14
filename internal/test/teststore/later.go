package teststore

import (
	"fmt"
	"io/fs"
	"testing/fstest"

	"dialtone/internal/store/migrations"
)

// LaterMigrations returns the migrations of two later versions of this program. The first adds a
// column, and this program can still use the database. The second also removes a column that this
// program needs.
func LaterMigrations(dialect string) (first, second []migrations.Migration, err error) {
	files := fstest.MapFS{}
	names, err := fs.Glob(migrations.Files, "*."+dialect+".sql")
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		text, err := migrations.Files.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		files[name] = &fstest.MapFile{Data: text}
	}
	version := migrations.Newest(dialect) + 1
	add := func(version int, name string, oldest int, statement string) {
		text := fmt.Appendf(nil, "-- for programs from version %d on\n%s", oldest, statement)
		files[fmt.Sprintf("%04d_%s.%s.sql", version, name, dialect)] = &fstest.MapFile{Data: text}
	}
	add(version, "add", version-1, "ALTER TABLE account ADD COLUMN locale TEXT;")
	if first, err = migrations.Parse(files, dialect); err != nil {
		return nil, nil, err
	}
	add(version+1, "remove", version, "ALTER TABLE account DROP COLUMN name;")
	second, err = migrations.Parse(files, dialect)
	return first, second, err
}
