package postgres

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
)

var _ engine.SchemaChecker = (*Engine)(nil)

// madeText is what the migrations make: a line for each object, its kind and name, a tab, and its definition.
// TestMadeSchema compares it with the migrations, and rewrites it with -update.
//
//go:embed schema.txt
var madeText string

// objects are the definitions of parts of a schema, by kind and name, such as "index audit_at".
type objects map[string]string

var madeSchema = sync.OnceValue(func() objects {
	list := make(objects)
	for line := range strings.Lines(madeText) {
		key, definition, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		list[key] = definition
	}
	return list
})

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

// Common table expressions for the queries below.
const (
	// home is the schema that has the tables of this program, as the search path finds them. $1 are their names. It is
	// not simply the first one of the path, where a stranger may put a table that hides one of these.
	home = `home AS (SELECT relnamespace AS oid FROM unnest($1::text[]) n
			JOIN pg_class c ON c.oid = to_regclass(quote_ident(n))
			GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1)`
	// ours are the tables of this program.
	ours = `ours AS (SELECT c.* FROM pg_class c JOIN home ON home.oid = relnamespace WHERE relname = ANY($1::text[]))`
	// around are the relations of the schema, without those of extensions that are not tables of this program.
	around = `around AS (SELECT c.* FROM pg_class c JOIN home ON home.oid = relnamespace
			WHERE relname = ANY($1::text[]) OR NOT EXISTS (SELECT 1 FROM pg_depend
				WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e'))`
	// special are the base types of extensions, which only a superuser can create. No statement of this program has a
	// value of one. So what takes one is not called in place of what PostgreSQL has.
	special = `special AS (SELECT t.oid FROM pg_type t JOIN pg_depend
			ON classid = 'pg_type'::regclass AND objid = t.oid AND deptype = 'e'
			WHERE typtype = 'b' AND typcategory <> 'A')`
	// path are the schemas that names without a schema are looked up in.
	path = `path AS (SELECT n.oid, nspname, place FROM unnest(current_schemas(true)) WITH ORDINALITY p (name, place)
			JOIN pg_namespace n ON nspname = name)`
)

// listObjects lists the parts of the tables of $1, the functions named in $2, and which of the indexes are harmless.
// What only changes where and how rows are stored is left out: tablespaces, and the parameters of WITH. So are the
// constraints for NOT NULL that PostgreSQL has from version 18 on.
//
// A harmless index makes no write fail. It is not unique, and calls nothing. Its values fit into a page: those of a
// fixed length, and those in the indexes of the migrations, whose names are $3. A hash index has no values.
const listObjects = `WITH ` + home + `, ` + ours + `, ` + path + `
	SELECT 'table ' || relname, concat_ws(' ', relkind, CASE relpersistence WHEN 'u' THEN 'unlogged' END), false
		FROM ours
	UNION ALL SELECT 'column ' || attname || ' of the table ' || relname,
			concat_ws(' ', 'of the schema ' || nullif(typnamespace, 'pg_catalog'::regnamespace)::regnamespace,
				format_type(atttypid, atttypmod),
				'collate ' || CASE WHEN collnamespace <> 'pg_catalog'::regnamespace
					THEN collnamespace::regnamespace || '.' ELSE '' END || collname,
				CASE WHEN attnotnull THEN 'not null' END,
				'default ' || replace(pg_get_expr(adbin, adrelid, true), '''\x''::bytea', '''''::bytea'),
				'identity ' || nullif(attidentity::text, ''), 'generated ' || nullif(attgenerated::text, '')), false
		FROM ours JOIN pg_attribute a ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
		JOIN pg_type y ON y.oid = atttypid
		LEFT JOIN pg_collation l ON l.oid = attcollation LEFT JOIN pg_attrdef d ON adrelid = ours.oid AND adnum = attnum
	UNION ALL SELECT 'constraint ' || conname || ' of the table ' || relname, pg_get_constraintdef(o.oid, true), false
		FROM ours JOIN pg_constraint o ON conrelid = ours.oid WHERE contype <> 'n'
	UNION ALL SELECT 'index ' || i.relname, concat_ws(' ',
				regexp_replace(pg_get_indexdef(i.oid, 0, true), ' WITH \([^()]*\)', ''),
				'with the collation ' || (
					SELECT string_agg(DISTINCT collnamespace::regnamespace || '.' || collname, ', ') FROM pg_collation l
					WHERE l.oid = ANY(indcollation) AND collnamespace <> 'pg_catalog'::regnamespace)),
			NOT indisunique AND NOT indisexclusion AND indpred IS NULL AND indexprs IS NULL
			AND NOT EXISTS (SELECT 1 FROM unnest(indclass) u JOIN pg_opclass k ON k.oid = u WHERE
				opcnamespace <> 'pg_catalog'::regnamespace)
			AND NOT EXISTS (SELECT 1 FROM unnest(indcollation) u JOIN pg_collation l ON l.oid = u
				WHERE collnamespace <> 'pg_catalog'::regnamespace)
			AND (amname NOT IN ('btree', 'brin') OR NOT EXISTS (SELECT 1 FROM unnest(indkey) u
				JOIN pg_attribute ON attrelid = ours.oid AND attnum = u AND attlen < 0
				WHERE NOT EXISTS (SELECT 1 FROM pg_index m JOIN pg_class mi ON mi.oid = m.indexrelid
					WHERE m.indrelid = ours.oid AND mi.relname = ANY($3::text[]) AND u = ANY(m.indkey))))
		FROM ours JOIN pg_index x ON indrelid = ours.oid JOIN pg_class i ON i.oid = indexrelid
		JOIN pg_am m ON m.oid = i.relam
	UNION ALL SELECT 'trigger ' || tgname || ' of the table ' || relname, pg_get_triggerdef(t.oid, true), false
		FROM ours JOIN pg_trigger t ON tgrelid = ours.oid WHERE NOT tgisinternal
	UNION ALL SELECT 'sequence ' || c.relname, concat_ws(' ', seqtypid::regtype, 'from', seqmin, 'to', seqmax,
			'by', seqincrement, CASE WHEN seqcycle THEN 'cycle' END), false
		FROM ours JOIN pg_depend d ON refclassid = 'pg_class'::regclass AND refobjid = ours.oid
			AND d.classid = 'pg_class'::regclass AND deptype IN ('a', 'i')
		JOIN pg_sequence s ON seqrelid = d.objid JOIN pg_class c ON c.oid = d.objid
	UNION ALL SELECT 'function ' || CASE WHEN path.oid = (SELECT oid FROM home) THEN '' ELSE nspname || '.' END ||
			proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
			replace(pg_get_functiondef(p.oid), quote_ident(nspname) || '.' || quote_ident(proname),
				quote_ident(proname)), false
		FROM path JOIN pg_proc p ON pronamespace = path.oid WHERE proname = ANY($2::text[]) AND prokind IN ('f', 'p')`

// builtIn are the functions of PostgreSQL that the statements of this program call.
var builtIn = []string{
	"clock_timestamp", "count", "current_database", "current_schema", "current_setting", "decode", "encode",
	"generate_series", "length", "lower", "lpad", "max", "md5", "min", "nextval", "pg_advisory_xact_lock",
	"pg_advisory_xact_lock_shared", "pg_backend_pid", "pg_cancel_backend", "pg_database_size", "pg_is_in_recovery",
	"pg_notify", "pg_terminate_backend", "pg_try_advisory_lock", "pg_try_advisory_lock_shared",
	"pg_try_advisory_xact_lock_shared", "quote_ident", "random", "replace", "set_config", "string_agg", "substr", "sum",
	"to_regclass", "unnest",
}

// listOthers lists what has effect on the tables of $1 and is not a part of them: a sentence for each. $2 are the
// triggers that the migrations make, with their tables, $3 is builtIn, and $4 are the functions that they make.
const listOthers = `WITH ` + home + `, ` + ours + `, ` + around + `, ` + path + `, ` + special + `
	SELECT 'dialtone did not make the trigger ' || tgname || ': ' || pg_get_triggerdef(t.oid, true)
		FROM around JOIN pg_trigger t ON tgrelid = around.oid WHERE NOT tgisinternal AND relname <> ALL($1::text[])
	UNION ALL SELECT 'the trigger ' || tgname || ' of the table ' || relname || ' is disabled'
		FROM around JOIN pg_trigger ON tgrelid = around.oid
		WHERE tgenabled NOT IN ('O', 'A') AND (tgisinternal OR tgname || ' of the table ' || relname = ANY($2::text[]))
	UNION ALL SELECT 'dialtone did not make the rule ' || rulename || ': ' || pg_get_ruledef(r.oid)
		FROM around JOIN pg_rewrite r ON ev_class = around.oid WHERE rulename <> '_RETURN'
	UNION ALL SELECT 'dialtone did not make ' || pg_describe_object('pg_class'::regclass, oid, 0)
		FROM around WHERE relkind IN ('v', 'm', 'f', 'p')
	UNION ALL SELECT 'dialtone did not make the policy ' || polname || ' of the table ' || relname
		FROM around JOIN pg_policy ON polrelid = around.oid
	UNION ALL SELECT 'row security of the table ' || relname || ' is enabled' FROM around WHERE relrowsecurity
	UNION ALL SELECT inhrelid::regclass || ' inherits from ' || inhparent::regclass ||
			', so rows of one are rows of the other'
		FROM pg_inherits WHERE inhparent IN (SELECT oid FROM ours) OR inhrelid IN (SELECT oid FROM ours)
	UNION ALL SELECT 'the table ' || conrelid::regclass || ' refers to the table ' || confrelid::regclass ||
			', so rows of ' || confrelid::regclass || ' cannot be removed freely: ' || pg_get_constraintdef(oid, true)
		FROM pg_constraint WHERE contype = 'f' AND confrelid IN (SELECT oid FROM ours)
			AND conrelid NOT IN (SELECT oid FROM ours)
	UNION ALL SELECT pg_describe_object('pg_class'::regclass, to_regclass(quote_ident(n)), 0) || ' of the schema ' ||
			nspname || ' hides the table of dialtone that has this name'
		FROM unnest($1::text[]) n JOIN pg_class c ON c.oid = to_regclass(quote_ident(n))
		JOIN pg_namespace s ON s.oid = relnamespace WHERE s.oid NOT IN (SELECT oid FROM home)
			AND n IN (SELECT relname FROM ours)
	UNION ALL SELECT 'the search path has the schema ' || nspname ||
			' before pg_catalog, so it can hide what PostgreSQL has'
		FROM path WHERE place < (SELECT place FROM path WHERE nspname = 'pg_catalog') AND nspname !~ '^pg_temp'
	UNION ALL SELECT 'dialtone did not make ' || pg_describe_object('pg_proc'::regclass, p.oid, 0) ||
			' of the schema ' || nspname || ', which its statements may call in place of PostgreSQL''s'
		FROM path JOIN pg_proc p ON pronamespace = path.oid
		WHERE nspname <> 'pg_catalog' AND proname = ANY($3::text[])
			AND NOT (proargtypes::oid[])[0:pronargs - pronargdefaults - 1] && ARRAY(SELECT oid FROM special)
	UNION ALL SELECT 'dialtone did not make ' || pg_describe_object('pg_operator'::regclass, o.oid, 0) ||
			' of the schema ' || nspname || ', which its statements may call in place of PostgreSQL''s'
		FROM path JOIN pg_operator o ON oprnamespace = path.oid
		WHERE nspname <> 'pg_catalog' AND EXISTS (SELECT 1 FROM pg_operator
				WHERE oprname = o.oprname AND oprnamespace = 'pg_catalog'::regnamespace)
			AND NOT ARRAY[oprleft, oprright] && ARRAY(SELECT oid FROM special)
	UNION ALL SELECT pg_describe_object(classid, objid, 0) || ' belongs to the extension ' || extname ||
			', which can remove it; take it out with ALTER EXTENSION ' || quote_ident(extname) || ' DROP'
		FROM pg_depend JOIN pg_extension x ON x.oid = refobjid
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND (
			classid = 'pg_class'::regclass AND objid IN (SELECT oid FROM ours
				UNION SELECT d.objid FROM pg_depend d JOIN ours ON d.refobjid = ours.oid
					WHERE d.refclassid = 'pg_class'::regclass AND d.classid = 'pg_class'::regclass)
			OR classid = 'pg_proc'::regclass AND objid IN (SELECT p.oid FROM pg_proc p
				JOIN path ON pronamespace = path.oid WHERE proname = ANY($4::text[])))`

// CheckSchema implements engine.SchemaChecker. It compares the parts of the tables, and looks for what makes
// PostgreSQL run or find something else in their place.
func (e *Engine) CheckSchema(ctx context.Context, report func(string)) error {
	made := madeSchema()
	tables := made.names("table")
	q := e.Reads(ctx)
	found, harmless, err := readSchema(q, made)
	if err != nil {
		return err
	}
	where, err := readPlace(q)
	if err != nil && !errors.Is(err, ErrMisplaced) { // which CheckSchema does not look for
		return err
	}
	// ofHidden reports whether a function is one that Dialtone made for a store in a later schema. Nothing calls it.
	ofHidden := func(key, definition string) bool {
		for _, schema := range where.stores {
			name, ok := strings.CutPrefix(key, "function "+schema+".")
			if ok && schema != where.first && made["function "+name] == definition {
				return true
			}
		}
		return false
	}
	for _, key := range slices.Sorted(maps.Keys(made)) {
		if definition, ok := found[key]; !ok {
			if !strings.Contains(key, " of the table ") || hasTable(found, key) { // otherwise the table is missing
				report(fmt.Sprintf("the %s is missing in the database", key))
			}
		} else if definition != made[key] {
			report(fmt.Sprintf("the %s is not as dialtone made it: %s", key, definition))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if _, ok := made[key]; ok || harmless[key] {
			continue
		}
		if name, ok := strings.CutPrefix(key, "index "); ok && isConstraint(found, name) {
			continue // it is that of a constraint, which is reported
		}
		if ofHidden(key, found[key]) {
			continue
		}
		report(fmt.Sprintf("dialtone did not make the %s: %s", key, found[key]))
	}
	err = q.Each(func(row engine.Scanner) error {
		var text string
		if err := row.Scan(&text); err != nil {
			return err
		}
		report(text)
		return nil
	}, listOthers, tables, made.names("trigger"), builtIn, made.functions())
	if err != nil {
		return err
	}
	return migrations.CheckNewest(q, Dialect, report)
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

// readSchema returns the parts of the tables that the migrations make, and which of the indexes are harmless.
func readSchema(q engine.Querier, made objects) (found objects, harmless map[string]bool, err error) {
	found, harmless = make(objects), make(map[string]bool)
	err = q.Each(func(row engine.Scanner) error {
		var key, definition string
		var is bool
		if err := row.Scan(&key, &definition, &is); err != nil {
			return err
		}
		found[key] = oneLine.Replace(definition)
		harmless[key] = is
		return nil
	}, listObjects, made.names("table"), made.functions(), made.names("index"))
	return found, harmless, err
}
