package account_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/audit"
)

// TestDataFile checks the JSON of a file with no, some and too many changes. It must equal the
// result of one call of MarshalIndent.
func TestDataFile(t *testing.T) {
	o := newFixture(t)
	o.Member("ann")
	o.exec(`DELETE FROM audit`)
	read := func() (d account.Data) {
		t.Helper()
		f, err := o.Accounts.DataByLetter(o.Context(), o.Tenant, noTrail{o.Store}, "ann")
		o.Must(err)
		var b bytes.Buffer
		o.Must(f.Write(o.Context(), &b))
		o.Must(json.Unmarshal(b.Bytes(), &d))
		want, err := json.MarshalIndent(d, "", "  ")
		o.Must(err)
		if got := b.String(); got != string(want)+"\n" {
			t.Errorf("got %d bytes, want %d", len(got), len(want)+1)
		}
		return d
	}
	if d := read(); len(d.Changes) != 0 || d.Changes == nil || d.ChangesLeftOut {
		t.Errorf("got %d changes", len(d.Changes))
	}
	add := func(first, n int) {
		o.exec(fmt.Sprintf(`WITH RECURSIVE c (n) AS (VALUES (%d) UNION ALL SELECT n + 1 FROM c WHERE n < %d)
			INSERT INTO audit (event, at, action, outcome, tenant, account, username, subject, before, after,
				actor_kind, actor, actor_id, sudo_user, reason)
			SELECT randomblob(16), n, 'sessions.end', 'ok', '%s', '%s', 'ann', '', '', '', 'person', '', '', '',
				'<'||n||'>'
			FROM c`, first, first+n-1, o.Tenant.Host, o.find("ann").UID))
	}
	add(1, 501) // more than a page
	if d := read(); len(d.Changes) != 501 || d.Changes[0].Reason != "<1>" || d.ChangesLeftOut {
		t.Errorf("got %d changes", len(d.Changes))
	}
	add(502, account.MaxDataChanges-501)
	if d := read(); len(d.Changes) != account.MaxDataChanges || d.ChangesLeftOut {
		t.Errorf("got %d changes", len(d.Changes))
	}
	add(account.MaxDataChanges+1, 1)
	d := read()
	if len(d.Changes) != account.MaxDataChanges || d.Changes[0].Reason != "<2>" || !d.ChangesLeftOut {
		t.Errorf("got %d changes, left out: %t", len(d.Changes), d.ChangesLeftOut)
	}
	f, err := o.Accounts.DataByLetter(o.Context(), o.Tenant, noTrail{o.Store}, "ann")
	o.Must(err)
	if err := f.Write(o.Context(), failing{}); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

// noTrail is a trail that discards the changes that are added to it.
type noTrail struct{ audit.Trail }

func (noTrail) AddChange(context.Context, audit.Change) error { return nil }

var errFull = errors.New("full")

// failing is a writer that fails.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
