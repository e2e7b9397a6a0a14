package userfile

import (
	"slices"
	"strings"

	"dialtone/internal/account"
)

// table is a table of a format.
type table struct {
	// name is its name in a database.
	name string
	// key are the columns by which a CSV header is recognized.
	key []string
	// defaults are the possible columns if a dump has neither a column list nor a CREATE TABLE. The
	// number of values selects one of them.
	defaults [][]string
	// read processes a row.
	read func(row, Yield) error
	// join, if it is not nil, replaces read for several tables that belong together. It returns
	// their readers for one pass, and a function to call at the end.
	join func() (map[string]func(row, Yield) error, func(Yield) error)
}

// row is a row of a table.
type row struct {
	line   int64
	values map[string]string
	// problem says why a value is missing or empty.
	problem string
}

// get returns the value of the first column that exists and is not empty.
func (r row) get(columns ...string) string {
	for _, c := range columns {
		if v := r.values[c]; v != "" {
			return v
		}
	}
	return ""
}

func (r row) entry() account.ImportEntry {
	e := account.ImportEntry{Line: r.line}
	if r.problem != "" {
		e = unreadable(e, r.problem)
	}
	return e
}

// tablesOf maps the formats that have tables to them.
var tablesOf = map[Format][]table{
	Kamailio: {subscriber},
	OpenSIPS: {subscriber},
	Flexisip: {{name: "accounts", join: joinFlexisip}, {name: "passwords"}},
	Asterisk: {{name: "ps_auths", key: []string{"id", "auth_type"}, read: readPSAuth}},
	Coturn: {{
		name: "turnusers_lt", key: []string{"name", "hmackey"}, defaults: [][]string{turnUserColumns},
		read: readTURNUser,
	}},
	CSV: {{name: "", key: nil, read: readPlain}},
}

// subscriber is the table of Kamailio and OpenSIPS.
var subscriber = table{name: "subscriber", key: []string{"username"}, defaults: subscriberColumns, read: readSubscriber}

var (
	turnUserColumns = []string{"realm", "name", "hmackey"}
	csvColumns      = []string{
		"user", "username", "realm", "domain", "name", "display_name", "email", "email_address", "role", "lang",
		"ha1", "ha1b", "ha1_sha256", "password",
	}
)

// subscriberColumns are the columns of the table subscriber of Kamailio (version 7 and 6) and of OpenSIPS (version 8).
var subscriberColumns = [][]string{
	{"id", "username", "domain", "password", "ha1", "ha1b"},
	{"id", "username", "domain", "password", "email_address", "ha1", "ha1b", "rpid"},
	{"id", "username", "domain", "password", "ha1", "ha1_sha256", "ha1_sha512t256"},
	{"id", "username", "domain", "password", "email_address", "ha1", "ha1_sha256", "ha1_sha512t256", "rpid"},
}

// readSubscriber reads a row of the table subscriber of Kamailio and OpenSIPS. The domain is the realm.
func readSubscriber(r row, yield Yield) error {
	e := r.entry()
	e.User, e.Realm, e.Email = r.get("username"), r.get("domain"), r.get("email_address", "email")
	e.Name = strings.TrimSpace(r.get("first_name") + " " + r.get("last_name"))
	setHash(&e, r.get("ha1"))
	setVariants(&e, r.get("ha1b"), r.get("ha1_sha256"))
	password := r.get("password")
	if e.HA1 == nil && e.Problem == "" && looksHashed(password) {
		// An older server keeps HA1 in this column. Hashing it again would match no password.
		e.Problem, e.Detail = account.ImportBadHash, "the password looks like HA1; put it into the column ha1"
		password = ""
	}
	setPassword(&e, password)
	return yield(e)
}

// looksHashed reports whether a password could be a hash.
func looksHashed(password string) bool {
	if len(password) != 32 {
		return false
	}
	var e account.ImportEntry
	setHash(&e, password)
	return e.HA1 != nil
}

// readTURNUser reads a row of the table turnusers_lt of coturn.
func readTURNUser(r row, yield Yield) error {
	e := r.entry()
	e.User, e.Realm = r.get("name"), r.get("realm")
	setHash(&e, r.get("hmackey"))
	return yield(e)
}

// readPSAuth reads a row of the table ps_auths of Asterisk.
func readPSAuth(r row, yield Yield) error {
	e := r.entry()
	a := authSection{
		name: r.get("id"), user: r.get("username"), kind: r.get("auth_type"), realm: r.get("realm"),
		password: r.get("password"), md5: r.get("md5_cred"), digests: strings.Split(r.get("password_digest"), ","),
	}
	a.fill(&e, "")
	return yield(e)
}

// PlainColumns are the columns of CSV, and the members of JSON lines, in exports.
var PlainColumns = []string{"user", "realm", "name", "email", "role", "lang", "ha1", "ha1b", "ha1_sha256"}

// readPlain reads a row of CSV.
func readPlain(r row, yield Yield) error {
	e := r.entry()
	e.User, e.Realm = r.get("user", "username"), r.get("realm", "domain")
	e.Name, e.Email = r.get("name", "display_name"), r.get("email", "email_address")
	e.Role, e.Lang = r.get("role"), r.get("lang")
	setHash(&e, r.get("ha1"))
	setVariants(&e, r.get("ha1b"), r.get("ha1_sha256"))
	setPassword(&e, r.get("password"))
	return yield(e)
}

// readerOf returns how to read the tables, and what is called at the end.
func readerOf(tables []table) (map[string]func(row, Yield) error, func(Yield) error) {
	if tables[0].join != nil {
		return tables[0].join()
	}
	readers := make(map[string]func(row, Yield) error)
	for _, t := range tables {
		readers[t.name] = t.read
	}
	return readers, func(Yield) error { return nil }
}

// isHeader reports whether the columns are those of a table in CSV.
func isHeader(columns []string, tables []table) bool {
	for _, t := range tables {
		if t.name == "" { // CSV as such
			return slices.Contains(columns, "user") || slices.Contains(columns, "username")
		}
		if len(t.key) > 0 && !slices.ContainsFunc(t.key, func(k string) bool { return !slices.Contains(columns, k) }) {
			return true
		}
	}
	return false
}
