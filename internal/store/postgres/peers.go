package postgres

import (
	"cmp"
	"context"
	"runtime/debug"
	"strings"

	"dialtone/internal/store/engine"
)

var _ engine.Peers = (*Engine)(nil)

// applicationPrefix begins the application_name of a connection. The version follows.
const applicationPrefix = "dialtone "

// application returns the application_name of this program. PostgreSQL keeps 63 bytes of it.
func application() string {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		version = strings.TrimPrefix(info.Main.Version, "(devel)")
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && version == "" {
				version = s.Value[:min(12, len(s.Value))]
			}
		}
	}
	name := applicationPrefix + cmp.Or(version, "unknown")
	return name[:min(63, len(name))]
}

// Programs implements engine.Peers. It does not list programs whose application_name comes from the
// database's URL.
func (e *Engine) Programs(ctx context.Context) (list []string, err error) {
	err = e.Reads(ctx).Each(func(row engine.Scanner) error {
		var name string
		err := row.Scan(&name)
		list = append(list, strings.TrimPrefix(name, applicationPrefix))
		return err
	}, `SELECT DISTINCT application_name FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'dialtone %' ORDER BY 1`)
	return list, err
}
