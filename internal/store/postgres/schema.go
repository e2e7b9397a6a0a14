package postgres

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
)

var _ engine.SchemaChecker = (*Engine)(nil)

// madeText lists the objects that the migrations create. Each line has an object's kind and name, a
// tab, and its definition, in which schemaMark stands for the schema of the tables. TestMadeSchema
// compares it with the migrations, and rewrites it with -update.
//
//go:embed schema.txt
var madeText string

// schemaMark stands for the name of a schema in madeText.
const schemaMark = "{schema}"

// objects maps the kinds and names of objects, such as "index audit_at", to their definitions.
type objects map[string]string

var madeSchema = sync.OnceValue(func() objects {
	list := make(objects)
	for line := range strings.Lines(madeText) {
		key, definition, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		list[key] = definition
	}
	return list
})

// in returns the definitions as PostgreSQL prints them for a schema. The name of the schema must be
// quoted if necessary, so that PostgreSQL's output can be compared unchanged.
func (o objects) in(schema string) objects {
	list := make(objects, len(o))
	for key, definition := range o {
		list[key] = strings.ReplaceAll(definition, schemaMark, oneLine.Replace(schema))
	}
	return list
}

// names returns the names of the objects of a kind.
func (o objects) names(kind string) (list []string) {
	for key := range o {
		if name, ok := strings.CutPrefix(key, kind+" "); ok {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// functions returns the names of the functions, without their arguments.
func (o objects) functions() (list []string) {
	for _, name := range o.names("function") {
		name, _, _ = strings.Cut(name, "(")
		list = append(list, name)
	}
	return list
}

// oneLine writes a definition in a line. Different definitions stay different.
var oneLine = strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\t", `\t`)

// pin applies the settings of the transaction that inspects the schema: it finds and calls only
// PostgreSQL's own objects, and prints everything in the same way. Temporary tables would come
// first if the path did not name their schema.
const pin = `SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off;
	SET LOCAL standard_conforming_strings = on; SET LOCAL bytea_output = hex; SET LOCAL transform_null_equals = off;
	SET LOCAL array_nulls = on; SET LOCAL extra_float_digits = 1; SET LOCAL DateStyle = ISO;
	SET LOCAL IntervalStyle = postgres; SET LOCAL TimeZone = 'UTC'; SET LOCAL transaction_read_only = on`

// Common table expressions for the queries below. $1 is the search path of the program's statements, $2 are the names
// of its tables.
const (
	// path lists the schemas that names without a schema are looked up in.
	path = `path AS (SELECT n.oid, nspname, place FROM unnest($1::text[]) WITH ORDINALITY p (name, place)
			JOIN pg_namespace n ON nspname = name)`
	// seen lists the relations that statements find by the names of the tables.
	seen = `seen AS (SELECT DISTINCT ON (relname) c.oid, relname, relnamespace FROM pg_class c
			JOIN path ON path.oid = relnamespace WHERE relname = ANY($2::text[]) ORDER BY relname, place)`
	// home is the schema that contains the tables of this program, as the search path finds them.
	// It is not simply the first one of the path, where someone else may create a table that hides
	// one of these.
	home = path + `, ` + seen + `, home AS (SELECT relnamespace AS oid FROM seen
			GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)`
	// ours are the tables of this program.
	ours = home + `, ours AS (SELECT c.* FROM pg_class c JOIN home ON home.oid = relnamespace
			WHERE relname = ANY($2::text[]))`
	// around are the relations of the schema, without those of extensions that are not tables of this program.
	around = `around AS (SELECT c.* FROM pg_class c JOIN home ON home.oid = relnamespace
			WHERE relname = ANY($2::text[]) OR NOT EXISTS (SELECT 1 FROM pg_depend
				WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'))`
	// strangers lists the functions and operators of the path that PostgreSQL may call instead of
	// its own: those with the name of a function in $4, or of an operator of PostgreSQL. It prefers
	// those whose types fit better. Any type may fit better, because a parameter or literal of a
	// statement can be untyped until the candidates are compared.
	strangers = `strangers AS (SELECT 'pg_proc'::regclass AS class, p.oid
				FROM path JOIN pg_proc p ON pronamespace = path.oid
				WHERE nspname <> 'pg_catalog' AND proname = ANY($4::text[])
			UNION ALL SELECT 'pg_operator'::regclass, o.oid FROM path JOIN pg_operator o ON oprnamespace = path.oid
				WHERE nspname <> 'pg_catalog' AND EXISTS (SELECT 1 FROM pg_operator
					WHERE oprname = o.oprname AND oprnamespace = 'pg_catalog'::regnamespace))`
	// parts are the objects that Dialtone's tables consist of, with the functions in $5.
	parts = `parts AS (SELECT 'pg_class'::regclass AS class, oid FROM ours
			UNION SELECT 'pg_class'::regclass, indexrelid FROM pg_index JOIN ours ON ours.oid = indrelid
			UNION SELECT 'pg_type'::regclass, reltype FROM ours
			UNION SELECT 'pg_namespace'::regclass, oid FROM home
			UNION SELECT classid, objid FROM pg_depend JOIN ours ON ours.oid = refobjid
				WHERE refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
			UNION SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger t JOIN ours ON ours.oid = tgrelid
			UNION SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p JOIN path ON pronamespace = path.oid
				WHERE proname = ANY($5::text[]))`
)

// listObjects lists the parts of the tables of $2, the functions of their schema that are named in
// $3, and which of the indexes are harmless. Properties that only change where and how rows are
// stored are left out: tablespaces, and the parameters of WITH. So are the constraints for NOT
// NULL, which PostgreSQL has since version 18.
//
// PostgreSQL prints the parameters of WITH last, just before the condition of an index. They
// contain no parentheses.
//
// A harmless index makes no write fail. It is not unique, and calls nothing. Its values fit into a page: those of a
// fixed length, and those in the indexes of the migrations, whose names are $4. A hash index has no values.
const listObjects = `WITH ` + ours + `
	SELECT 'table ' || relname, concat_ws(' ', relkind, CASE relpersistence WHEN 'u' THEN 'unlogged' END), false
		FROM ours
	UNION ALL SELECT 'column ' || attname || ' of the table ' || relname,
			concat_ws(' ', format_type(atttypid, atttypmod),
				'collate ' || CASE WHEN collnamespace <> 'pg_catalog'::regnamespace
					THEN collnamespace::regnamespace || '.' ELSE '' END || collname,
				CASE WHEN attnotnull THEN 'not null' END,
				'default ' || pg_get_expr(adbin, adrelid, true),
				'identity ' || nullif(attidentity::text, ''), 'generated ' || nullif(attgenerated::text, ''),
				'storage ' || CASE WHEN attstorage <> typstorage THEN attstorage::text END,
				'compression ' || nullif(to_jsonb(a) ->> 'attcompression', '')), false -- from version 14 on
		FROM ours JOIN pg_attribute a ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
		JOIN pg_type y ON y.oid = atttypid
		LEFT JOIN pg_collation l ON l.oid = attcollation LEFT JOIN pg_attrdef d ON adrelid = ours.oid AND adnum = attnum
	UNION ALL SELECT 'constraint ' || conname || ' of the table ' || relname, pg_get_constraintdef(o.oid, true), false
		FROM ours JOIN pg_constraint o ON conrelid = ours.oid WHERE contype <> 'n'
	UNION ALL SELECT 'index ' || i.relname,
			CASE WHEN i.reloptions IS NULL OR right(whole, length(condition)) <> condition THEN whole
				ELSE regexp_replace(left(whole, length(whole) - length(condition)), ' WITH \([^()]*\)$', '') ||
					condition
			END,
			NOT indisunique AND NOT indisexclusion AND indpred IS NULL AND indexprs IS NULL
			AND NOT EXISTS (SELECT 1 FROM unnest(indclass) u JOIN pg_opclass k ON k.oid = u WHERE
				opcnamespace <> 'pg_catalog'::regnamespace)
			AND NOT EXISTS (SELECT 1 FROM unnest(indcollation) u JOIN pg_collation l ON l.oid = u
				WHERE collnamespace <> 'pg_catalog'::regnamespace)
			AND (amname NOT IN ('btree', 'brin') OR NOT EXISTS (SELECT 1 FROM unnest(indkey) u
				JOIN pg_attribute ON attrelid = ours.oid AND attnum = u AND attlen < 0
				WHERE NOT EXISTS (SELECT 1 FROM pg_index m JOIN pg_class mi ON mi.oid = m.indexrelid
					WHERE m.indrelid = ours.oid AND mi.relname = ANY($4::text[]) AND u = ANY(m.indkey))))
		FROM ours JOIN pg_index x ON indrelid = ours.oid JOIN pg_class i ON i.oid = indexrelid
		JOIN pg_am m ON m.oid = i.relam,
		LATERAL (SELECT pg_get_indexdef(i.oid, 0, true) AS whole,
			coalesce(' WHERE ' || pg_get_expr(indpred, indrelid, true), '') AS condition) text
	UNION ALL SELECT 'trigger ' || tgname || ' of the table ' || relname, pg_get_triggerdef(t.oid, true), false
		FROM ours JOIN pg_trigger t ON tgrelid = ours.oid WHERE NOT tgisinternal
	UNION ALL SELECT 'sequence ' || c.relname, concat_ws(' ', seqtypid::regtype, 'from', seqmin, 'to', seqmax,
			'by', seqincrement, CASE WHEN seqcycle THEN 'cycle' END, 'cache ' || nullif(seqcache, 1)), false
		FROM ours JOIN pg_depend d ON refclassid = 'pg_class'::regclass AND refobjid = ours.oid
			AND d.classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
		JOIN pg_sequence s ON seqrelid = d.objid JOIN pg_class c ON c.oid = d.objid
	UNION ALL SELECT 'function ' || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', ` +
	definition + `, false
		FROM home JOIN pg_proc p ON pronamespace = home.oid WHERE proname = ANY($3::text[])`

// definition is that of a function p.
const definition = `CASE WHEN prokind IN ('f', 'p') THEN pg_get_functiondef(p.oid)
			ELSE 'of the kind ' || prokind::text END`

// listElsewhere lists the functions of the search path that are named in $3 and are not in the schema of the tables:
// the schema, quoted where it must be, the name with the arguments, and the definition.
const listElsewhere = `WITH ` + home + `
	SELECT quote_ident(nspname), proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', ` +
	definition + `
		FROM path JOIN pg_proc p ON pronamespace = path.oid
		WHERE proname = ANY($3::text[]) AND path.oid NOT IN (SELECT oid FROM home)`

// builtIn lists the functions of PostgreSQL that the statements of this program call.
var builtIn = []string{
	"clock_timestamp", "count", "current_database", "current_schema", "current_schemas", "current_setting",
	"decode", "encode", "extract", "generate_series", "has_schema_privilege", "length", "lower", "lpad", "max",
	"md5", "min", "nextval", "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_backend_pid",
	"pg_cancel_backend", "pg_database_size", "pg_is_in_recovery", "pg_logical_emit_message", "pg_notify",
	"pg_terminate_backend", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
	"pg_try_advisory_xact_lock_shared", "quote_ident", "random", "replace", "set_config", "string_agg", "substr",
	"sum", "to_regclass", "unnest",
}

// listOthers lists, with a sentence for each, the objects that affect the tables of $2 but are not
// part of them. $3 lists the triggers that the migrations create, with their tables, $4 is builtIn,
// and $5 lists the functions that the migrations create.
const listOthers = `WITH ` + ours + `, ` + around + `, ` + strangers + `, ` + parts + `
	SELECT 'dialtone did not create the trigger ' || tgname || ': ' || pg_get_triggerdef(t.oid, true)
		FROM around JOIN pg_trigger t ON tgrelid = around.oid WHERE NOT tgisinternal AND relname <> ALL($2::text[])
	UNION ALL SELECT 'the trigger ' || tgname || ' of the table ' || relname || ' is disabled'
		FROM around JOIN pg_trigger ON tgrelid = around.oid
		WHERE tgenabled NOT IN ('O', 'A') AND (tgisinternal OR tgname || ' of the table ' || relname = ANY($3::text[]))
	UNION ALL SELECT 'dialtone did not create the rule ' || rulename || ': ' || pg_get_ruledef(r.oid)
		FROM around JOIN pg_rewrite r ON ev_class = around.oid
		WHERE NOT (relkind IN ('v', 'm') AND ev_type = '1') -- the SELECT of a view, which is reported below
	UNION ALL SELECT 'dialtone did not create ' || pg_describe_object('pg_class'::regclass, oid, 0)
		FROM around WHERE relkind IN ('v', 'm', 'f', 'p')
	UNION ALL SELECT 'dialtone did not create the policy ' || polname || ' of the table ' || relname
		FROM around JOIN pg_policy ON polrelid = around.oid
	UNION ALL SELECT 'row security of the table ' || relname || ' is enabled' FROM around WHERE relrowsecurity
	UNION ALL SELECT inhrelid::regclass || ' inherits from ' || inhparent::regclass ||
			', so rows of one are rows of the other'
		FROM pg_inherits WHERE inhparent IN (SELECT oid FROM ours) OR inhrelid IN (SELECT oid FROM ours)
	UNION ALL SELECT 'the table ' || conrelid::regclass || ' refers to the table ' || confrelid::regclass ||
			', so rows of ' || confrelid::regclass || ' cannot be removed freely: ' || pg_get_constraintdef(oid, true)
		FROM pg_constraint WHERE contype = 'f' AND confrelid IN (SELECT oid FROM ours)
			AND conrelid NOT IN (SELECT oid FROM ours)
	UNION ALL SELECT pg_describe_object('pg_class'::regclass, oid, 0) ||
			' hides the table of dialtone that has this name'
		FROM seen WHERE relnamespace NOT IN (SELECT oid FROM home) AND relname IN (SELECT relname FROM ours)
	UNION ALL SELECT 'the search path has the schema ' || nspname ||
			' before pg_catalog, so it can hide what PostgreSQL has'
		FROM path WHERE place < (SELECT place FROM path WHERE nspname = 'pg_catalog') AND nspname !~ '^pg_temp'
	UNION ALL SELECT CASE WHEN extname IS NULL THEN 'dialtone did not create ' || min(name) || ', which its ' ||
				'statements may call in place of PostgreSQL''s; drop it, or move it to a schema that is not in the ' ||
				'search_path'
			ELSE 'the extension ' || extname || ' has functions and operators (' || count(*) || ', such as ' ||
				min(name) || ') that statements of dialtone may call in place of PostgreSQL''s; ' ||
				CASE WHEN extrelocatable THEN 'make a schema that is not in the search_path, and run ' ||
					'ALTER EXTENSION ' || quote_ident(extname) || ' SET SCHEMA with its name'
				ELSE 'create the extension again in a schema that is not in the search_path' END
			END
		FROM (SELECT s.oid, class, extname, extrelocatable, pg_describe_object(class, s.oid, 0) AS name FROM strangers s
			LEFT JOIN pg_depend ON classid = class AND objid = s.oid AND deptype = 'e'
				AND refclassid = 'pg_extension'::regclass
			LEFT JOIN pg_extension x ON x.oid = refobjid) named
		GROUP BY extname, extrelocatable, CASE WHEN extname IS NULL THEN (class, oid) END
	UNION ALL SELECT pg_describe_object(classid, objid, 0) || CASE deptype
				WHEN 'e' THEN ' belongs to the extension ' || extname || ', which can remove it; take it out with ' ||
					'ALTER EXTENSION ' || quote_ident(extname) || ' DROP'
				ELSE ' depends on the extension ' || extname || ', which removes it when it is dropped; undo that ' ||
					'with ALTER and NO DEPENDS ON EXTENSION ' || quote_ident(extname) END
		FROM pg_depend d JOIN pg_extension x ON x.oid = refobjid JOIN parts ON classid = class AND objid = parts.oid
		WHERE refclassid = 'pg_extension'::regclass AND deptype IN ('e', 'x')
	UNION ALL SELECT 'the publication ' || pubname || ' has a row filter or a list of columns for the table ' ||
			relname || ', which can make updates fail; drop it, or let it publish only inserts'
		FROM pg_publication_rel r JOIN pg_publication p ON p.oid = prpubid JOIN ours ON ours.oid = prrelid
		WHERE (pubupdate OR pubdelete)
			AND (to_jsonb(r) ->> 'prqual' IS NOT NULL OR to_jsonb(r) ->> 'prattrs' IS NOT NULL) -- from version 15 on
	UNION ALL SELECT 'the table ' || relname || ' has no replica identity, so updates fail if a publication has it; ' ||
			'run ALTER TABLE ' || oid::regclass || ' REPLICA IDENTITY DEFAULT'
		FROM ours WHERE relreplident = 'n' OR relreplident = 'i'
			AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = ours.oid AND indisreplident)`

// CheckSchema implements engine.SchemaChecker. It compares the parts of the tables, and looks for
// objects that make PostgreSQL run or find something else instead. It also reports settings with
// which PostgreSQL can lose commits.
//
// The owner of the database can create functions and operators that PostgreSQL would prefer to its
// own in the statements of this check. So the statements run with the settings of pin.
func (e *Engine) CheckSchema(ctx context.Context, report func(string)) error {
	var c check
	err := e.pinned(ctx, func(q engine.Querier, path []string) (err error) {
		c, err = readCheck(q, path, e.accepted)
		return err
	})
	if err != nil {
		return err
	}
	c.compare(report)
	for _, text := range c.others {
		report(text)
	}
	return migrations.CheckNewest(e.Reads(ctx), Dialect, report)
}

// pinned runs read in a transaction with the settings of pin, and passes it the search path of the
// program's other statements. It may run read twice.
func (e *Engine) pinned(ctx context.Context, read func(q engine.Querier, path []string) error) error {
	return reader{ctx, e}.retry(func(ctx context.Context) (again bool, err error) {
		conn, err := e.pool.Acquire(ctx)
		if err != nil {
			return true, err
		}
		defer release(conn)
		if err := e.begin(ctx, conn.Conn()); err != nil {
			return true, err
		}
		defer rollback(conn.Conn())
		q := unnamed{&Tx{ctx: ctx, conn: conn.Conn()}}
		var path []string
		if err := q.Row(`SELECT pg_catalog.current_schemas(true)::pg_catalog.text[]`).Scan(&path); err != nil {
			return true, err
		}
		if err := q.Script(pin); err != nil {
			return true, err
		}
		return true, read(q, path)
	})
}

// unnamed runs queries without prepared statements, whose names a function could have given to other statements.
type unnamed struct{ *Tx }

func (u unnamed) Row(query string, args ...any) engine.Scanner {
	return u.Tx.Row(query, append([]any{pgx.QueryExecModeExec}, args...)...)
}

func (u unnamed) Each(f func(engine.Scanner) error, query string, args ...any) error {
	return u.Tx.Each(f, query, append([]any{pgx.QueryExecModeExec}, args...)...)
}

// check is what CheckSchema has found.
type check struct {
	made, found objects
	harmless    map[string]bool // indexes that the migrations do not create, but that need no report
	others      []string        // sentences to report
}

// readCheck reads what CheckSchema needs, in a transaction with the settings of pin.
func readCheck(q engine.Querier, path, accepted []string) (c check, err error) {
	made := madeSchema()
	tables := made.names("table")
	add := func(row engine.Scanner) error {
		var text string
		err := row.Scan(&text)
		c.others = append(c.others, text)
		return err
	}
	var name, schema string
	err = q.Row(`WITH `+home+` SELECT nspname, quote_ident(nspname) FROM home JOIN pg_namespace n ON n.oid = home.oid`,
		path, tables).Scan(&name, &schema)
	if err != nil && !errors.Is(err, sql.ErrNoRows) { // there is no table
		return c, err
	}
	c.made = made.in(schema)
	var twice []string
	if c.found, c.harmless, twice, err = readSchema(q, path, c.made); err != nil {
		return c, err
	}
	for _, key := range twice {
		c.others = append(c.others, fmt.Sprintf("the database has the %s twice", key))
	}
	err = q.Each(func(row engine.Scanner) error {
		var schema, signature, definition string
		if err := row.Scan(&schema, &signature, &definition); err != nil {
			return err
		}
		definition = oneLine.Replace(definition)
		// A store in another schema has the same function, and it makes no difference which one is
		// called.
		if made.in(schema)["function "+signature] != definition {
			c.others = append(c.others,
				fmt.Sprintf("dialtone did not create the function %s.%s: %s", schema, signature, definition))
		}
		return nil
	}, listElsewhere, path, tables, made.functions())
	if err != nil {
		return c, err
	}
	err = q.Each(add, listOthers, path, tables, made.names("trigger"), builtIn, made.functions())
	if err != nil {
		return c, err
	}
	if err := checkSettings(q, accepted, add); err != nil {
		return c, err
	}
	// This comes last, because it reads tables: the condition of an index or policy, which is found
	// by now, can call a function that changes the settings of the transaction.
	for _, sequence := range made.names("sequence") {
		table := strings.TrimSuffix(sequence, "_id_seq")
		if !c.isMade("sequence "+sequence) || !c.isMade("table "+table) || !c.isMade("column id of the table "+table) {
			continue // which is reported
		}
		if err := checkSequence(q, name, sequence, table, add); err != nil {
			return c, err
		}
	}
	return c, nil
}

// isMade reports whether an object is as the migrations create it.
func (c *check) isMade(key string) bool {
	definition, ok := c.found[key]
	return ok && definition == c.made[key]
}

// compare reports differences from what the migrations create.
func (c *check) compare(report func(string)) {
	for _, key := range slices.Sorted(maps.Keys(c.made)) {
		if definition, ok := c.found[key]; !ok {
			if !strings.Contains(key, " of the table ") || hasTable(c.found, key) { // otherwise the table is missing
				report(fmt.Sprintf("the %s is missing in the database", key))
			}
		} else if definition != c.made[key] {
			report(fmt.Sprintf("the %s is not as dialtone created it: %s", key, definition))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.found)) {
		if _, ok := c.made[key]; ok || c.harmless[key] {
			continue
		}
		if name, ok := strings.CutPrefix(key, "index "); ok && isConstraint(c.found, name) {
			continue // it belongs to a constraint, which is reported
		}
		report(fmt.Sprintf("dialtone did not create the %s: %s", key, c.found[key]))
	}
}

// checkSequence passes a sentence to add if the sequence of a table will return an id that exists
// already, or is so close to its end that it will soon return none. The rows are read from a
// snapshot, but a sequence is always read in its current state, so it is never behind them.
func checkSequence(q engine.Querier, schema, sequence, table string, add func(engine.Scanner) error) error {
	const highest = 1 << 62 // far above each id, and far below the last one
	return q.Each(add, fmt.Sprintf(`SELECT 'the sequence ' || $1::text || ' gives ' || next ||
			' as the next id, and the table ' || $2::text || ' has ' || newest ||
			', so rows cannot be added; stop the servers, and run ' ||
			'ALTER TABLE ' || $2::text || ' ALTER id RESTART WITH the id after the greatest one that was ever given'
		FROM (SELECT last_value::numeric + is_called::int AS next,
			(SELECT coalesce(max(id), 0) FROM %[1]s) AS newest FROM %[2]s) s
		WHERE next <= newest OR next > %[3]d`,
		pgx.Identifier{schema, table}.Sanitize(), pgx.Identifier{schema, sequence}.Sanitize(), int64(highest)),
		sequence, table)
}

// hasTable reports whether the table exists that a part belongs to.
func hasTable(found objects, part string) bool {
	_, table, _ := strings.Cut(part, " of the table ")
	_, ok := found["table "+table]
	return ok
}

// isConstraint reports whether there is a constraint of this name.
func isConstraint(found objects, name string) bool {
	for key := range found {
		if strings.HasPrefix(key, "constraint "+name+" of the table ") {
			return true
		}
	}
	return false
}

// readSchema returns the parts of the tables that the migrations create, which of the indexes are
// harmless, and the keys that more than one part has.
func readSchema(q engine.Querier, path []string, made objects) (
	found objects, harmless map[string]bool, twice []string, err error,
) {
	found, harmless = make(objects), make(map[string]bool)
	err = q.Each(func(row engine.Scanner) error {
		var key, definition string
		var isHarmless bool
		if err := row.Scan(&key, &definition, &isHarmless); err != nil {
			return err
		}
		if _, ok := found[key]; ok {
			twice = append(twice, key)
		}
		found[key] = oneLine.Replace(definition)
		harmless[key] = isHarmless
		return nil
	}, listObjects, path, made.names("table"), made.functions(), made.names("index"))
	return found, harmless, twice, err
}
