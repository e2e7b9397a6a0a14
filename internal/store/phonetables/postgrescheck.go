package phonetables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"dialtone/internal/store/engine"
)

// madeObject is an object that postgresTables creates, and how it is created in the schema for temporary objects.
type madeObject struct{ kind, schema, name, temporary string }

var (
	createRelation = regexp.MustCompile(
		`(?ms)^CREATE (OR REPLACE VIEW|(?:TABLE|SEQUENCE) IF NOT EXISTS) (dialtone_\w+)\.(\w+)(.*?;)$`)
	createIndex = regexp.MustCompile(`(?m)^CREATE INDEX IF NOT EXISTS (\w+) ON dialtone_directory\.(\w+ .*;)$`)
)

// madeObjects returns the tables and the sequence, their indexes, and the views. A temporary view
// reads the existing tables, so that it has the same definition as the existing view.
var madeObjects = func() (tables, indexes, views []madeObject) {
	for _, m := range createRelation.FindAllStringSubmatch(postgresTables, -1) {
		kind, _, _ := strings.Cut(strings.TrimPrefix(m[1], "OR REPLACE "), " ")
		o := madeObject{strings.ToLower(kind), m[2], m[3], "CREATE " + kind + " pg_temp." + m[3] + m[4]}
		if o.kind == "view" {
			views = append(views, o)
		} else {
			tables = append(tables, o)
		}
	}
	for _, m := range createIndex.FindAllStringSubmatch(postgresTables, -1) {
		indexes = append(indexes, madeObject{"index", "dialtone_directory", m[1],
			"CREATE INDEX " + m[1] + " ON pg_temp." + m[2]})
	}
	return tables, indexes, views
}

// errUndo rolls back a transaction that was only an inspection.
var errUndo = errors.New("the transaction is rolled back")

// check creates all objects again, as temporary ones, compares how PostgreSQL describes both, and
// rolls back. So it depends neither on the version of PostgreSQL nor on how PostgreSQL writes a
// definition. Names are looked up in pg_catalog only: the owner of the database can put functions
// and operators into other schemas.
func (s schemas) check(_ context.Context, report func(string)) error {
	var list []string
	err := s.engine.Write(func(tx engine.Tx) error {
		list = nil
		err := checkTables(tx, func(text string) { list = append(list, text) })
		if err == nil {
			err = errUndo
		}
		return err
	})
	if denied(err) {
		database, user := s.engine.Database()
		report(fmt.Sprintf("it is not possible to tell whether they were changed, because the database's user may not "+
			"create temporary tables; have an administrator run: GRANT TEMPORARY ON DATABASE %s TO %s", database, user))
		return nil
	}
	if !errors.Is(err, errUndo) {
		return err
	}
	for _, text := range list {
		report(text)
	}
	return nil
}

// damage has nothing to do: the owner of a database cannot change the content of an index.
func (s schemas) damage(func(string)) error { return nil }

func checkTables(tx engine.Tx, report func(string)) error {
	err := tx.Script(`SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off;
		SET LOCAL standard_conforming_strings = on; SET LOCAL client_min_messages = warning`)
	if err != nil {
		return err
	}
	names := append([]string{"dialtone_directory"}, schemas{}.locations()...)
	n, err := engine.Count(tx, `SELECT count(*) FROM pg_namespace WHERE nspname = ANY($1::text[])`, names)
	if err != nil || n == 0 {
		return err
	}
	tables, indexes, views := madeObjects()
	for _, o := range slices.Concat(tables, indexes) {
		if err := tx.Script(o.temporary); err != nil {
			return err
		}
	}
	var inSchemas, named []string
	for _, o := range slices.Concat(tables, views) {
		inSchemas, named = append(inSchemas, o.schema), append(named, o.name)
	}
	for _, o := range views {
		if err := tx.Script("SAVEPOINT made"); err != nil {
			return err
		}
		if err := tx.Script(o.temporary); err != nil {
			if undone := tx.Script("ROLLBACK TO SAVEPOINT made"); undone != nil {
				return errors.Join(err, undone)
			}
			report(fmt.Sprintf("the view %s.%s cannot be compared: %v", o.schema, o.name, err))
		}
	}
	found, err := readParts(tx, false, inSchemas, named)
	if err != nil {
		return err
	}
	made, err := readParts(tx, true, inSchemas, named)
	if err != nil {
		return err
	}
	compareParts(made, found, report)
	if sequence := (part{"dialtone_directory.change", "range"}); found[sequence] == made[sequence] {
		const highest = 1 << 62 // far above each value, and far below the last one
		last, err := engine.Count(tx, `SELECT last_value FROM dialtone_directory.change`)
		if err != nil {
			return err
		}
		if last > highest {
			report(fmt.Sprintf("the sequence dialtone_directory.change is at %d, and at its end accounts cannot be "+
				"changed; set it to a number that it has not had, with setval", last))
		}
	}
	return tx.Each(func(row engine.Scanner) error {
		var text string
		err := row.Scan(&text)
		report(text)
		return err
	}, listOthers, inSchemas, named, false, names)
}

// part is a relation, if its name is empty, or a part of the relation, such as "column ha1".
type part struct{ relation, name string }

// definition is PostgreSQL's description of a part. It is harmless if it is an index that makes no
// write fail.
type definition struct {
	text     string
	harmless bool
}

// readParts returns the parts of the relations that exist, or of the temporary ones.
func readParts(tx engine.Tx, temporary bool, inSchemas, named []string) (map[part]definition, error) {
	list := make(map[part]definition)
	err := tx.Each(func(row engine.Scanner) error {
		var p part
		var d definition
		err := row.Scan(&p.relation, &p.name, &d.text, &d.harmless)
		list[p] = d
		return err
	}, listParts, inSchemas, named, temporary)
	return list, err
}

func compareParts(made, found map[part]definition, report func(string)) {
	sorted := func(parts map[part]definition) []part {
		return slices.SortedFunc(maps.Keys(parts), func(a, b part) int {
			return cmp.Or(cmp.Compare(a.relation, b.relation), cmp.Compare(a.name, b.name))
		})
	}
	describe := func(p part) string {
		if p.name == "" {
			return p.relation
		}
		return "the " + p.name + " of " + p.relation
	}
	_, whole := found[part{"dialtone_directory.state", ""}] // otherwise Compare reports that they are incomplete
	for _, p := range sorted(made) {
		_, exists := found[part{p.relation, ""}]
		d, ok := found[p]
		switch {
		case ok && d.text != made[p].text:
			report(describe(p) + " is not as dialtone created it: " + d.text)
		case !ok && (exists || p.name == "" && whole && p.relation != "dialtone_directory.missing"): // made when needed
			report(describe(p) + " is missing in the database")
		}
	}
	for _, p := range sorted(found) {
		_, compared := made[part{p.relation, ""}]
		if _, ok := made[p]; !ok && compared && !found[p].harmless {
			report("dialtone did not create " + describe(p) + ": " + found[p].text)
		}
	}
}

// relations lists the relations with the names $2 in the schemas $1.
const relations = `relations AS (SELECT c.*, s || '.' || n AS shown, c.oid AS relation
		FROM unnest($1::text[], $2::text[]) u (s, n) JOIN pg_class c ON relname = n
		JOIN pg_namespace p ON p.oid = relnamespace
		WHERE CASE WHEN $3 THEN p.oid = pg_my_temp_schema() ELSE nspname = s END)`

// listParts lists the parts of the relations, or of the temporary ones if $3 is true. It leaves out
// properties that only change where and how rows are stored.
const listParts = `WITH ` + relations + `
	SELECT shown, '', concat_ws(' ',
			CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence'
				ELSE 'relation of the kind ' || relkind::text END,
			CASE WHEN relpersistence = 'u' THEN 'unlogged' END, CASE WHEN relispartition THEN 'partition' END,
			CASE WHEN relrowsecurity THEN 'with row security' END,
			CASE WHEN relforcerowsecurity THEN 'with forced row security' END,
			CASE WHEN reloftype <> 0 THEN 'of the type ' || reloftype::regtype END,
			CASE WHEN relkind <> 'r' THEN 'with ' || array_to_string(reloptions, ', ') END), false
		FROM relations
	UNION ALL SELECT shown, 'column ' || attname, concat_ws(' ', 'number',
			row_number() OVER (PARTITION BY attrelid ORDER BY attnum), format_type(atttypid, atttypmod),
			'collate ' || collnamespace::regnamespace || '.' || collname, CASE WHEN attnotnull THEN 'not null' END,
			'default ' || pg_get_expr(adbin, adrelid),
			'identity ' || nullif(attidentity::text, ''), 'generated ' || nullif(attgenerated::text, '')), false
		FROM relations JOIN pg_attribute ON attrelid = relation AND attnum > 0 AND NOT attisdropped
		LEFT JOIN pg_collation l ON l.oid = attcollation
		LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
		WHERE relkind <> 'S'
	UNION ALL SELECT shown, 'constraint ' || conname, pg_get_constraintdef(o.oid), false
		FROM relations JOIN pg_constraint o ON conrelid = relation WHERE contype <> 'n'
	UNION ALL SELECT shown, 'index ' || i.relname, concat_ws(' ', amname,
				CASE WHEN indisunique THEN 'unique' END, CASE WHEN indisprimary THEN 'primary' END,
				CASE WHEN indisexclusion THEN 'exclusion' END, CASE WHEN NOT indimmediate THEN 'deferrable' END,
				CASE WHEN NOT (indisvalid AND indisready AND indislive) THEN 'not valid' END,
				(SELECT string_agg(pg_get_indexdef(indexrelid, k, false), ', ' ORDER BY k)
					FROM generate_series(1, indnatts) k),
				'with', indnkeyatts, 'keys, operators', indclass, 'collations', indcollation, 'options', indoption,
				'where ' || pg_get_expr(indpred, indrelid)),
			NOT indisunique AND NOT indisexclusion AND indpred IS NULL AND indexprs IS NULL
			AND NOT EXISTS (SELECT 1 FROM unnest(indclass) u JOIN pg_opclass k ON k.oid = u
				WHERE opcnamespace <> 'pg_catalog'::regnamespace)
			AND NOT EXISTS (SELECT 1 FROM unnest(indcollation) u JOIN pg_collation l ON l.oid = u
				WHERE collnamespace <> 'pg_catalog'::regnamespace)
		FROM relations r JOIN pg_index ON indrelid = relation
		JOIN pg_class i ON i.oid = indexrelid JOIN pg_am m ON m.oid = i.relam
	UNION ALL SELECT shown, 'definition', pg_get_viewdef(relation), false FROM relations WHERE relkind = 'v'
	UNION ALL SELECT shown, 'range', concat_ws(' ', seqtypid::regtype, 'from', seqstart, 'by', seqincrement,
			'between', seqmin, 'and', seqmax, CASE WHEN seqcycle THEN 'cycle' END), false
		FROM relations JOIN pg_sequence ON seqrelid = relation`

// listOthers lists, with a sentence for each, the objects that affect the relations but are not
// part of them, and additional objects in the schemas $4. Privileges are not listed, and so are
// publications and statistics.
const listOthers = `WITH ` + relations + `
	SELECT 'dialtone did not create the trigger ' || tgname || ' of ' || shown || ': ' || pg_get_triggerdef(t.oid)
		FROM relations JOIN pg_trigger t ON tgrelid = relation WHERE NOT tgisinternal
	UNION ALL SELECT 'dialtone did not create the rule ' || rulename || ' of ' || shown || ': ' || pg_get_ruledef(r.oid)
		FROM relations JOIN pg_rewrite r ON ev_class = relation WHERE ev_type <> '1'
	UNION ALL SELECT 'the rule ' || rulename || ' of ' || shown || ' is disabled'
		FROM relations JOIN pg_rewrite ON ev_class = relation WHERE ev_type = '1' AND ev_enabled NOT IN ('O', 'A')
	UNION ALL SELECT 'dialtone did not create the policy ' || polname || ' of ' || shown
		FROM relations JOIN pg_policy ON polrelid = relation
	UNION ALL SELECT inhrelid::regclass || ' inherits from ' || inhparent::regclass ||
			', so rows of one are rows of the other'
		FROM pg_inherits WHERE (SELECT array_agg(relation) FROM relations) && ARRAY[inhparent, inhrelid]
	UNION ALL SELECT 'the table ' || conrelid::regclass || ' refers to ' || shown || ', so rows of ' || shown ||
			' cannot be removed freely: ' || pg_get_constraintdef(o.oid)
		FROM relations JOIN pg_constraint o ON confrelid = relation WHERE contype = 'f'
	UNION ALL SELECT 'dialtone did not create ' || pg_describe_object(classid, objid, objsubid) || ' of the schema ' ||
			nspname
		FROM pg_namespace n JOIN pg_depend ON refclassid = 'pg_namespace'::regclass AND refobjid = n.oid
		WHERE nspname = ANY($4::text[])
			AND NOT (classid = 'pg_class'::regclass AND objid IN (SELECT relation FROM relations))
			AND classid::regclass::text NOT IN ('pg_default_acl', 'pg_publication_namespace', 'pg_statistic_ext')`
