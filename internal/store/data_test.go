package store_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/test/teststore"
	"dialtone/internal/test/world"
)

// dataTables are the tables that refer to accounts and are in account.Data. in and out list their
// columns in Data and the others, so that somebody has to decide about each new column. row is a
// row of values for $1, the account. A value with "marker" is in Data unchanged.
var dataTables = map[string]struct{ in, out, row string }{
	"account": {
		in: "uid username name email role held created expires activated confirmed leaving lang set_state set_at " +
			"set_why password_at signup_net first_signin",
		// The tenant is in Data by its host. closed is set only when nothing else is left. set_by names an
		// operator. The others are counters of the program, hashes and keys; factors is a summary of other tables.
		out: "tenant closed set_by epoch password_n email_n credential has_sha256 token factors",
	},
	"outbox": {
		in: "account message made kind address until net detail", out: "token node turn",
		row: `(account, message, token, made, kind, address, until, net, detail)
			VALUES ($1, x'01', x'', 1, 'marker kind', 'ann@mail.test', 2, 'marker net', 'marker detail')`,
	},
	"delivery": {
		in: "message account state since expires attempts answer email kind ended", out: "node due",
		row: `(message, account, state, since, expires, attempts, answer, email, kind, ended)
			VALUES (x'02', $1, 'marker state', 1, 2, 3, 'marker answer', 'ann@mail.test', 'marker kind', 4)`,
	},
	"replaced": {
		in: "account email until", out: "token message",
		row: `VALUES (x'03', $1, x'04', 'marker older address', 5)`,
	},
	"link": {
		in: "account kind email made until", out: "token email_n",
		row: `(token, account, kind, email, made, until)
			VALUES (x'05', $1, 'marker link', 'marker link address', 1, 2)`,
	},
	"session": {
		in: "account began seen until net browser how", out: "id epoch",
		row: `VALUES (x'06', $1, 0, 1, 2, 3, 'marker session net', 'marker browser', 'marker how')`,
	},
	"totp": {in: "account made since", out: "sealed step", row: `VALUES ($1, x'', 1, 2, 3)`},
	"recovery_code": {
		in: "account", out: "code", // their number
		row: `VALUES ($1, x'07')`,
	},
	"passkey": {
		in: "account rp name made used", out: "id sealed",
		row: `VALUES (x'08', $1, 'marker rp', 'marker passkey', x'', 1, 2)`,
	},
	"known_browser": {
		in: "account net browser until", row: `VALUES ($1, 'marker known net', 'marker known browser', 1)`,
	},
	"last_lookup": {in: "account server how at", row: `VALUES ($1, 'marker server', 'marker format', 1)`},
	"audit": {
		in: "account username at action outcome before after reason actor_kind net",
		// These name operators, except for the subject, which is empty in a change of an account.
		out: "id event tenant subject actor actor_id sudo_user request",
		row: `(event, at, action, outcome, tenant, account, username, subject, before, after, actor_kind, actor,
				actor_id, sudo_user, reason, net)
			VALUES (x'09', 1, 'marker action', 'marker outcome', 'phone.test', lower(hex($1)), 'ann', '',
				'marker before', 'marker after', 'person', 'OPERATOR', 'OPERATOR', 'OPERATOR', 'marker reason',
				'marker audit net')`,
	},
}

// notInData are the tables with a column for an account that are not in account.Data, and why.
var notInData = map[string]string{
	"taken":  "uses under limits: keyed hashes, for at most a day or as long as the rule of the limit",
	"notice": "changes that a phone server has not been notified of yet, which the audit trail has",
}

// TestDataIsComplete checks that everything that the store contains about a person is in the file
// that the person gets, or is left out on purpose.
func TestDataIsComplete(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "dialtone.db")
	s := world.OpenStore(t, path, secret.NewRing(noon))
	a := teststore.Signup(addTenant(t, s, "phone.test"), "ann")
	if err := s.Create(ctx, a, noon); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	columns := make(map[string][]string)
	rows, err := db.Query(`SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		columns[table] = append(columns[table], column)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(columns) < 20 {
		t.Fatalf("only the tables %v are known", columns)
	}
	var markers []string
	for table, have := range columns {
		known, in := dataTables[table]
		_, left := notInData[table]
		refers := table == "account" || slices.Contains(have, "account") || slices.Contains(have, "username")
		if refers != (in || left) {
			t.Errorf("%s refers to accounts: %t, and is in the lists of this test: %t", table, refers, in || left)
		}
		if !in {
			continue
		}
		want := strings.Fields(known.in + " " + known.out)
		slices.Sort(have)
		slices.Sort(want)
		if !slices.Equal(have, want) {
			t.Errorf("the table %s has the columns %q, and in this test %q", table, have, want)
		}
		if known.row == "" {
			continue
		}
		if _, err := db.Exec(`INSERT INTO `+table+` `+known.row, a.Account.UID[:]); err != nil {
			t.Errorf("%s: %v", table, err)
		}
		for i, part := range strings.Split(known.row, `'`) {
			if i%2 == 1 && strings.HasPrefix(part, "marker") {
				markers = append(markers, part)
			}
		}
	}
	d, err := s.HeldAbout(ctx, a.Account, "phone.test")
	if err != nil {
		t.Fatal(err)
	}
	if d.Changes, err = s.DataChanges(ctx, a.Account, "phone.test", 0, 10); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, marker := range markers {
		if !strings.Contains(string(b), fmt.Sprintf("%q", marker)) {
			t.Errorf("%q is not in the data", marker)
		}
	}
	if strings.Contains(string(b), "OPERATOR") {
		t.Error("the data name an operator")
	}
	if d.SecondFactors.App == nil || d.SecondFactors.RecoveryCodes != 1 || d.SecondFactors.App.Since == nil ||
		len(d.Links) != 3 || len(d.Messages) != 3 || len(markers) < 20 {
		t.Errorf("the data are %s", b)
	}
}

// TestDataOfOtherAddresses checks that the data contain no message to another address, and no link
// that sets one: nobody may learn from them whether a request to use an address sent a message.
func TestDataOfOtherAddresses(t *testing.T) {
	ctx, path := t.Context(), filepath.Join(t.TempDir(), "dialtone.db")
	s := world.OpenStore(t, path, secret.NewRing(noon))
	a := teststore.Signup(addTenant(t, s, "phone.test"), "ann")
	if err := s.Create(ctx, a, noon); err != nil {
		t.Fatal(err)
	}
	data := func() string {
		t.Helper()
		d, err := s.HeldAbout(ctx, a.Account, "phone.test")
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := data()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, row := range []string{
		`link (token, account, kind, email, made, until) VALUES (x'01', $1, 'confirm_email', 'other@mail.test', 1, 2)`,
		`outbox (account, message, token, made, kind, address, until, net)
			VALUES ($1, x'01', x'', 1, 'confirm_email', 'other@mail.test', 2, '')`,
		`delivery (message, account, state, since, expires, attempts, answer, email)
			VALUES (x'02', $1, 'sent', 1, 2, 3, '', 'other@mail.test')`,
	} {
		if _, err := db.Exec(`INSERT INTO `+row, a.Account.UID[:]); err != nil {
			t.Fatal(err)
		}
		if got := data(); got != before {
			t.Errorf("after %s:\n%s\nbefore:\n%s", row, got, before)
		}
	}
	for _, row := range []string{
		`outbox (account, message, token, made, kind, address, until, net)
			VALUES ($1, x'03', x'', 1, 'reset', 'ann@mail.test', 2, '')`,
		`delivery (message, account, state, since, expires, attempts, answer, email)
			VALUES (x'04', $1, 'sent', 1, 2, 3, '', '')`,
	} {
		last := data()
		if _, err := db.Exec(`INSERT INTO `+row, a.Account.UID[:]); err != nil {
			t.Fatal(err)
		}
		if data() == last {
			t.Errorf("the data lack %s", row)
		}
	}
}
