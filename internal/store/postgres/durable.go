package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/store/engine"
)

// acceptParameter is the parameter of the database's URL that names settings, separated by commas,
// that need not have the values that docs/durability.md requires. It is for services that make
// commits durable in a way of their own. It is not a setting of PostgreSQL, because the owner of
// the database could change that.
const acceptParameter = "dialtone.accept"

// durable lists the settings whose wrong value can lose an acknowledged commit, or keep the
// triggers of the migrations from running.
var durable = []string{"fsync", "full_page_writes", "session_replication_role", "synchronous_commit"}

// takeAccepted removes acceptParameter from the parameters of a connection, and returns the settings that it names.
func takeAccepted(conf *pgx.ConnConfig) ([]string, error) {
	value, ok := conf.RuntimeParams[acceptParameter]
	if !ok {
		return nil, nil
	}
	delete(conf.RuntimeParams, acceptParameter)
	names := strings.Split(value, ",")
	for _, name := range names {
		if !slices.Contains(durable, name) {
			return nil, fmt.Errorf("%s in the database's URL has %q; it takes %s, separated by commas",
				acceptParameter, name, strings.Join(durable, ", "))
		}
	}
	return names, nil
}

// listSettings returns a sentence for each of the settings $1 that has a wrong value: in this
// session, or in later sessions of this user and database. For the latter, PostgreSQL stores the
// words for "on" as they were written.
const listSettings = `WITH advice AS (SELECT name, '; set it to ' || CASE name
				WHEN 'session_replication_role' THEN 'origin' ELSE 'on' END ||
				', or accept it with ` + acceptParameter +
	`=' || name || ' in the URL of the database' AS advice,
			CASE name WHEN 'session_replication_role' THEN ', so triggers and foreign keys have no effect'
				ELSE ', so a crash can lose what was answered as saved' END AS effect
			FROM unnest($1::text[]) name),
		good (value) AS (VALUES ('on'), ('true'), ('tru'), ('tr'), ('t'), ('yes'), ('ye'), ('y'), ('1'),
			('remote_apply'), ('origin'))
	SELECT 'the setting ' || name || ' is ' || current_setting(name) || effect || advice FROM advice
		WHERE current_setting(name) NOT IN (SELECT value FROM good)
	UNION ALL SELECT CASE WHEN setrole = 0 THEN 'the database' ELSE 'the role ' || session_user END ||
			' sets ' || name || ' to ' || value || effect || advice
		FROM pg_db_role_setting, unnest(setconfig) config,
			LATERAL (SELECT split_part(config, '=', 1) AS setting,
				substr(config, strpos(config, '=') + 1) AS value) parts
		JOIN advice ON name = lower(setting)
		WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
			AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
			AND lower(value) NOT IN (SELECT value FROM good)`

// checkSettings passes sentences about settings to add, without those that are accepted.
func checkSettings(q engine.Querier, accepted []string, add func(engine.Scanner) error) error {
	names := slices.DeleteFunc(slices.Clone(durable), func(name string) bool { return slices.Contains(accepted, name) })
	return q.Each(add, listSettings, names)
}
