package postgres

import (
	"context"

	"dialtone/internal/store/engine"
	"dialtone/internal/store/migrations"
)

var _ engine.SchemaChecker = (*Engine)(nil)

// The trigger and the function that the migrations make.
const (
	madeTrigger = `CREATE TRIGGER revision_tell AFTER UPDATE ON revision FOR EACH ROW ` +
		`WHEN ((new.subject = 'tenant'::text)) EXECUTE FUNCTION dialtone_tell()`
	madeFunction = `
BEGIN
	PERFORM pg_notify('dialtone_' || NEW.subject, '');
	RETURN NULL;
END `
)

// ours are the relations of the schema, without those of extensions.
const ours = `(SELECT oid, relname, relkind, relrowsecurity FROM pg_class c
	WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
	AND NOT EXISTS (SELECT 1 FROM pg_depend
		WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')) ours`

// CheckSchema implements engine.SchemaChecker. Besides triggers and rules, a policy can hide rows, and a function runs
// that a default, a constraint or an index calls. Those of the migrations call none but PostgreSQL's own, which have no
// row in pg_depend.
func (e *Engine) CheckSchema(ctx context.Context, report func(string)) error {
	q := e.Reads(ctx)
	err := q.Each(func(row engine.Scanner) error {
		var text string
		if err := row.Scan(&text); err != nil {
			return err
		}
		report(text)
		return nil
	}, `SELECT 'dialtone did not make the trigger ' || tgname || ': ' || pg_get_triggerdef(t.oid)
			FROM pg_trigger t JOIN `+ours+` ON ours.oid = tgrelid
			WHERE NOT tgisinternal AND (tgname, relname) <> ('revision_tell', 'revision')
		UNION ALL SELECT 'the trigger ' || tgname || ' of the table ' || relname || ' is disabled'
			FROM pg_trigger JOIN `+ours+` ON ours.oid = tgrelid
			WHERE tgenabled NOT IN ('O', 'A') AND (tgisinternal OR (tgname, relname) = ('revision_tell', 'revision'))
		UNION ALL SELECT 'the trigger revision_tell is missing in the database, or not as dialtone made it'
			WHERE NOT EXISTS (SELECT 1 FROM pg_trigger t JOIN `+ours+` ON ours.oid = tgrelid
				JOIN pg_proc p ON p.oid = tgfoid WHERE tgname = 'revision_tell' AND relname = 'revision'
				AND replace(pg_get_triggerdef(t.oid), quote_ident(current_schema()) || '.', '') = $1 AND prosrc = $2)
		UNION ALL SELECT 'dialtone did not make the rule ' || rulename || ': ' || pg_get_ruledef(r.oid)
			FROM pg_rewrite r JOIN `+ours+` ON ours.oid = ev_class WHERE rulename <> '_RETURN'
		UNION ALL SELECT 'dialtone did not make ' || pg_describe_object('pg_class'::regclass, oid, 0)
			FROM `+ours+` WHERE relkind IN ('v', 'm', 'f', 'p')
		UNION ALL SELECT 'dialtone did not make the policy ' || polname || ' of the table ' || relname
			FROM pg_policy JOIN `+ours+` ON ours.oid = polrelid
		UNION ALL SELECT 'row security of the table ' || relname || ' is enabled' FROM `+ours+` WHERE relrowsecurity
		UNION ALL SELECT 'dialtone did not make ' || pg_describe_object(d.classid, d.objid, 0) || ', which calls ' ||
				pg_describe_object(d.refclassid, d.refobjid, 0)
			FROM (SELECT 'pg_attrdef'::regclass AS classid, a.oid AS objid, adrelid AS relation FROM pg_attrdef a
				UNION ALL SELECT 'pg_constraint'::regclass, o.oid, conrelid FROM pg_constraint o
				UNION ALL SELECT 'pg_class'::regclass, indexrelid, indrelid FROM pg_index) part
			JOIN `+ours+` ON ours.oid = part.relation
			JOIN pg_depend d ON d.classid = part.classid AND d.objid = part.objid
				AND d.refclassid = 'pg_proc'::regclass`, madeTrigger, madeFunction)
	if err != nil {
		return err
	}
	return migrations.CheckNewest(q, Dialect, report)
}
