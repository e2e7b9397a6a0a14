package transfer

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"dialtone/internal/store/engine"
)

// table describes how a table is copied.
type table struct {
	name         string
	key, columns []string
}

// copied lists the tables that are copied, each after those that it refers to. Rows about the
// servers on a database are not copied.
var copied = []table{
	{"seal_key", []string{"id"}, []string{"id"}},
	{"tenant", []string{"id"}, []string{"id", "host", "realm", "public_url", "settings", "created",
		"logo_type", "logo"}},
	{"account", []string{"uid"}, []string{"uid", "tenant", "username", "name", "email", "role", "held", "created",
		"expires", "activated", "confirmed", "closed", "epoch", "credential", "has_sha256", "token", "lang",
		"password_n", "password_at", "leaving", "factors", "email_n", "set_state", "set_at", "set_by", "set_why",
		"first_signin", "signup_net"}},
	{"outbox", []string{"account", "message"}, []string{"account", "message", "token", "turn", "made",
		"kind", "address", "until", "net", "detail"}},
	{"replaced", []string{"token"}, []string{"token", "account", "message", "email", "until"}},
	{"link", []string{"token"}, []string{"token", "account", "kind", "email", "email_n", "made",
		"until"}},
	{"forgotten", []string{"id"}, []string{"id", "tenant", "who", "net", "at"}},
	{"session", []string{"account", "id"}, []string{"id", "account", "epoch", "began", "seen", "until", "net",
		"browser", "how"}},
	{"known_browser", []string{"account", "net", "browser"}, []string{"account", "net", "browser", "until"}},
	{"totp", []string{"account"}, []string{"account", "sealed", "made", "since", "step"}},
	{"recovery_code", []string{"account", "code"}, []string{"account", "code"}},
	{"passkey", []string{"id"}, []string{"id", "account", "rp", "name", "sealed", "made", "used"}},
	{"last_lookup", []string{"account", "server", "how"}, []string{"account", "server", "how", "at"}},
	{"phone_server", []string{"name"}, []string{"name", "token", "tenants", "created"}},
	{"delivery", []string{"message"}, []string{"message", "account", "state", "since", "expires", "due", "attempts",
		"answer", "email", "kind", "ended"}},
	{"dkim_key", []string{"tenant", "selector"}, []string{"tenant", "selector", "created", "sealed"}},
	{"certificate", []string{"tenant"}, []string{"tenant", "authority", "issued", "not_before", "not_after", "chain",
		"sealed", "due", "failures", "failure", "tried", "lease", "challenge"}},
	{"authority_key", []string{"authority"}, []string{"authority", "sealed", "made"}},
	{"audit", []string{"id"}, []string{"id", "event", "at", "action", "outcome", "tenant", "account",
		"username", "subject", "before", "after", "actor_kind", "actor", "actor_id", "sudo_user", "reason", "net",
		"request"}},
	{"audit_checkpoint", []string{"id"}, []string{"id", "at", "node", "first", "through", "changes", "tags",
		"seal", "mac"}},
	{"platform", []string{"name"}, []string{"name", "value"}},
	{"api_token", []string{"id"}, []string{"id", "name", "hash", "tenant", "scopes", "made", "made_by", "expires",
		"used"}},
	{"idempotency", []string{"token", "key"}, []string{"token", "key", "request", "status", "body", "until"}},
	{"bulk", []string{"id"}, []string{"id", "tenant", "action", "query", "through", "state", "position", "found",
		"done", "made", "changed", "lease", "actor_kind", "actor", "actor_id", "sudo_user", "reason", "net", "request",
		"failure"}},
	{"daily", []string{"tenant", "day", "kind"}, []string{"tenant", "day", "kind", "n"}},
	{"spent", []string{"expires", "nonce"}, []string{"expires", "nonce"}},
	{"taken", []string{"bucket", "at", "account"}, []string{"bucket", "at", "account", "until"}},
	{"hook", []string{"id"}, []string{"id", "name", "kind", "url", "plain", "everyone", "secret", "created",
		"given_up", "failed", "why", "events"}},
	{"hook_tenant", []string{"hook", "tenant"}, []string{"hook", "tenant"}},
	{"notice", []string{"hook", "event", "account"}, []string{"hook", "event", "account", "what", "tenant", "host",
		"realm", "username", "at", "due", "tries"}},
}

// boolColumns are the columns of type BOOLEAN, which SQLite stores as numbers.
var boolColumns = []string{"held", "has_sha256", "plain", "everyone"}

// page is how many rows a transaction copies.
const page = 2000

// insert adds a page of rows, unless an earlier run did.
func (t table) insert(e engine.Copier, tx engine.Tx, rows [][]any) error {
	if tx.Repeated() {
		last, err := t.last(tx)
		if err != nil || reflect.DeepEqual(last, t.keyOf(rows[len(rows)-1])) {
			return err
		}
	}
	return e.Insert(tx, t.name, t.columns, rows)
}

// last returns the last key of the table, or nil if it is empty.
func (t table) last(q engine.Querier) (key []any, err error) {
	descending := strings.Join(t.key, " DESC, ") + " DESC"
	err = q.Each(func(row engine.Scanner) error {
		key, err = scanAny(row, len(t.key))
		return err
	}, fmt.Sprintf(`SELECT %s FROM %s ORDER BY %s LIMIT 1`, strings.Join(t.key, ", "), t.name, descending))
	return key, err
}

// after returns up to a page of the rows that follow a key, or of the first rows for nil.
func (t table) after(q engine.Querier, key []any) (rows [][]any, err error) {
	keys, where := strings.Join(t.key, ", "), ""
	if key != nil {
		where = fmt.Sprintf("WHERE (%s) > (%s)", keys, engine.Placeholders(1, len(key)))
	}
	err = q.Each(func(row engine.Scanner) error {
		values, err := scanAny(row, len(t.columns))
		for i, name := range t.columns {
			if n, ok := values[i].(int64); ok && slices.Contains(boolColumns, name) {
				values[i] = n != 0
			}
		}
		rows = append(rows, values)
		return err
	}, fmt.Sprintf(`SELECT %s FROM %s %s ORDER BY %s LIMIT %d`,
		strings.Join(t.columns, ", "), t.name, where, keys, page), key...)
	return rows, err
}

// keyOf returns the key of a row.
func (t table) keyOf(row []any) []any {
	var key []any
	for _, name := range t.key {
		key = append(key, row[slices.Index(t.columns, name)])
	}
	return key
}

func scanAny(row engine.Scanner, n int) ([]any, error) {
	values, dst := make([]any, n), make([]any, n)
	for i := range values {
		dst[i] = &values[i]
	}
	err := row.Scan(dst...)
	for i, v := range values {
		if b, ok := v.([]byte); ok && len(b) == 0 {
			values[i] = []byte{} // empty, not NULL
		}
	}
	return values, err
}
