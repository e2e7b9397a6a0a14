package account_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/redact"
	"dialtone/internal/tenant"
	"dialtone/internal/test/world"
)

// row returns an entry with the HA1 of a password.
func row(user, password string) account.ImportEntry {
	h := digest.Compute(user, "phone.test", password)
	return account.ImportEntry{User: user, Realm: "phone.test", HA1: &h}
}

func plain(user, password string) account.ImportEntry {
	return account.ImportEntry{User: user, Password: redact.New(password)}
}

// runImport imports entries, with their numbers as lines.
func runImport(t *testing.T, w *world.World, o account.ImportOptions,
	entries ...account.ImportEntry) (account.ImportReport, error) {
	t.Helper()
	o.Format = "test"
	im, err := w.Accounts.NewImport(w.Tenant, o)
	w.Must(err)
	for i := range entries {
		entries[i].Line = int64(i + 1)
		im.Look(entries[i])
	}
	if err := im.Plan(); err != nil {
		return account.ImportReport{}, err
	}
	for _, e := range entries {
		w.Must(im.Add(t.Context(), e))
	}
	return im.End(t.Context())
}

// reasons returns the reasons with the lines of the first entries.
func reasons(list []account.ImportCount) (out []string) {
	for _, c := range list {
		text := fmt.Sprintf("%s %d:", c.Reason, c.Count)
		for _, e := range c.First {
			text += fmt.Sprintf(" %d", e.Line)
		}
		out = append(out, text)
	}
	return out
}

func wantReasons(t *testing.T, what string, list []account.ImportCount, want ...string) {
	t.Helper()
	if got := reasons(list); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func hashOf(w *world.World, user string) string {
	w.Helper()
	a, err := w.Accounts.Find(w.Context(), w.Tenant.ID, user)
	w.Must(err)
	c, err := w.Accounts.Credential(a)
	w.Must(err)
	return c.HA1.Hex()
}

func TestImport(t *testing.T) {
	w := world.New(t, world.Options{})
	full := row("ida", "p")
	b, sum := digest.ComputeB("ida", "phone.test", "p"), digest.ComputeSHA256("ida", "phone.test", "p")
	full.HA1B, full.SHA256 = &b, &sum
	full.Name, full.Email, full.Lang, full.Role = "Ida Ö", "ida@mail.test", "de", "admin"
	list := []account.ImportEntry{full, row("1001", "p"), plain("otto", "secret"), row("bad", "p"), row("nora", "p")}
	list[3].Email, list[4].Name = "no address", "\x01"

	for _, dry := range []bool{true, false} {
		r, err := runImport(t, w, account.ImportOptions{DryRun: dry}, list...)
		w.Must(err)
		if r.Rows != 5 || r.Added != 5 || r.DryRun != dry {
			t.Errorf("got %+v", r)
		}
		wantReasons(t, "refused", r.Refused)
		wantReasons(t, "notes", r.Notes, "hashed 1: 3", "without_email 3: 2 3 5", "bad_email 1: 4", "bad_name 1: 5",
			"without_ha1b 3: 2 4 5", "without_sha256 3: 2 4 5")
		_, err = w.Accounts.Find(t.Context(), w.Tenant.ID, "ida")
		if fault.Is(err, fault.NotFound) != dry {
			t.Errorf("dry run %t: %v", dry, err)
		}
	}
	ida, err := w.Accounts.Find(t.Context(), w.Tenant.ID, "ida")
	w.Must(err)
	if ida.State() != account.Active || !ida.Confirmed.IsZero() || ida.Role != account.Guest || ida.Name != "Ida Ö" ||
		ida.Email != "ida@mail.test" || ida.Lang != "de" || !ida.HasSHA256 || !ida.NotSignedIn {
		t.Errorf("got %+v", ida)
	}
	c, err := w.Accounts.Credential(ida)
	w.Must(err)
	if c.HA1 != *full.HA1 || *c.HA1B != b || *c.SHA256 != sum {
		t.Error("the credential is another one")
	}
	if hashOf(w, "otto") != digest.Compute("otto", "phone.test", "secret").Hex() {
		t.Error("the plain password was not hashed")
	}
	// A second run changes nothing, and a different password is a conflict.
	list[1] = row("1001", "other")
	r, err := runImport(t, w, account.ImportOptions{}, list...)
	w.Must(err)
	wantReasons(t, "again", r.Refused, "there 4: 1 3 4 5", "conflict 1: 2")
	if r.Added != 0 || hashOf(w, "1001") != digest.Compute("1001", "phone.test", "p").Hex() {
		t.Errorf("got %+v", r)
	}
	// The trail has one row when the first account is added, and one with the counts of each run.
	var trail []string
	w.Must(w.Store.Changes(t.Context(), audit.Filter{Action: "account."}, func(c audit.Change) error {
		trail = append(trail, fmt.Sprintf("%s %s %s>%s", c.Action, c.Tenant, c.Before, c.After))
		return nil
	}))
	want := []string{"account.import phone.test >5 rows", "account.import phone.test 5 rows>added 5",
		"account.import phone.test 5 rows>added 0, there 4, conflict 1"}
	if !slices.Equal(trail, want) {
		t.Errorf("got %q", trail)
	}
}

func TestImportRefusals(t *testing.T) {
	w := world.New(t, world.Options{})
	w.Member("gone", world.WithPassword("p"))
	w.Must(w.Accounts.Delete(t.Context(), w.Tenant, "gone"))
	long := strings.Repeat("a", 65)
	other := row("bob", "p")
	other.Realm = "other.test"
	wrong := plain("carl", "p")
	h := digest.Compute("carl", "phone.test", "q")
	wrong.HA1 = &h
	onlySHA := account.ImportEntry{User: "sha", Realm: "phone.test", SHA256: new(digest.HA1SHA256)}
	role := row("role", "p")
	role.Role = "root"
	for _, c := range []struct {
		name   string
		o      account.ImportOptions
		entry  account.ImportEntry
		reason string
	}{
		{"realm", account.ImportOptions{}, other, "realm"},
		{"number with a plus", account.ImportOptions{}, row("+49301234", "p"), "user"},
		{"long", account.ImportOptions{}, row(long, "p"), "user"},
		{"capitals", account.ImportOptions{}, row("Alice", "p"), "capitals"},
		{"capitals and just not too long", account.ImportOptions{}, row("A"+long[:63], "p"), "capitals"},
		{"capitals and too long", account.ImportOptions{}, row("A"+long[:64], "p"), "user"},
		{"reserved", account.ImportOptions{}, row("admin", "p"), "reserved"},
		{"look-alike", account.ImportOptions{}, row("adm1n", "p"), "reserved"},
		{"emergency number", account.ImportOptions{}, row("112", "p"), "reserved"},
		{"deleted", account.ImportOptions{}, row("gone", "p"), "deleted"},
		{"no password", account.ImportOptions{}, plain("dora", ""), "no_password"},
		{"contradiction", account.ImportOptions{}, wrong, "contradicts"},
		{"only SHA-256", account.ImportOptions{}, onlySHA, "no_md5"},
		{"waiting without an address", account.ImportOptions{Waiting: true}, row("emil", "p"), "no_email"},
		{"folded without an address", account.ImportOptions{FoldCase: true}, row("Alice", "p"), "no_email"},
		{"role", account.ImportOptions{FileRoles: true}, role, "bad_role"},
		{"problem of the file", account.ImportOptions{},
			account.ImportEntry{User: "x", Problem: account.ImportTrunk}, "trunk"},
		{"long s, which folds to s", account.ImportOptions{FoldCase: true}, plain("ſam", "p"), "user"},
	} {
		fine := row("fine", "p")
		fine.Email = "fine@mail.test"
		for _, dry := range []bool{true, false} {
			c.o.DryRun = dry
			r, err := runImport(t, w, c.o, c.entry, fine)
			w.Must(err)
			if len(r.Refused) == 0 || !strings.HasPrefix(reasons(r.Refused)[len(r.Refused)-1], c.reason+" 1: 1") {
				t.Errorf("%s: got %q", c.name, reasons(r.Refused))
			}
		}
	}
	r, err := runImport(t, w, account.ImportOptions{DryRun: true}, row("112", "p"))
	w.Must(err)
	if got := r.Refused[0].First[0].Detail; got != "is an emergency or service number" {
		t.Errorf("got %q", got)
	}
	// The report has the first ten of a reason, and the beginning of a long text.
	var many []account.ImportEntry
	for range 11 {
		many = append(many, row("A"+long[:63], "p"))
	}
	many[1].User = "A" + long[:64]
	r, err = runImport(t, w, account.ImportOptions{DryRun: true}, many...)
	w.Must(err)
	wantReasons(t, "refused", r.Refused, "user 1: 2", "capitals 10: 1 3 4 5 6 7 8 9 10 11")
	if got := r.Refused[1].First[0].User; got != many[0].User {
		t.Errorf("a name of 64 bytes is shown as %q", got)
	}
	if got := r.Refused[0].First[0].User; got != many[0].User+"…" {
		t.Errorf("a name of 65 bytes is shown as %q", got)
	}
	r, err = runImport(t, w, account.ImportOptions{DryRun: true}, append(many, many[0])...)
	w.Must(err)
	wantReasons(t, "refused", r.Refused, "user 1: 2", "capitals 11: 1 3 4 5 6 7 8 9 10 11")
	for _, user := range []string{"admin", "112"} {
		r, err := runImport(t, w, account.ImportOptions{Reserved: true}, row(user, "p"))
		w.Must(err)
		if r.Added != 1 {
			t.Errorf("%s: got %+v", user, r)
		}
	}
}

// If no entry has the tenant's realm, nothing is imported, and the error names the realm to set.
func TestImportOfAnotherRealm(t *testing.T) {
	w := world.New(t, world.Options{})
	var list []account.ImportEntry
	for _, user := range []string{"ann", "ben"} {
		e := row(user, "p")
		e.Realm = "sip.other.test"
		list = append(list, e)
	}
	_, err := runImport(t, w, account.ImportOptions{}, list...)
	if !fault.Is(err, fault.Conflict) ||
		!strings.Contains(err.Error(), "tenant set phone.test --realm 'sip.other.test'") {
		t.Errorf("got %v", err)
	}
	// People paste commands from errors.
	pasted := row("ann", "p")
	pasted.Realm = "'; touch x; '"
	_, err = runImport(t, w, account.ImportOptions{}, pasted)
	if !fault.Is(err, fault.Conflict) || strings.Contains(err.Error(), "touch") {
		t.Errorf("got %v", err)
	}
	// Case matters for HA1, but not for a plain password.
	list = append(list, row("carl", "p"), plain("dora", "p"), row("emil", "p"))
	list[3].Realm, list[4].Realm = "Phone.Test", "Phone.Test"
	r, err := runImport(t, w, account.ImportOptions{}, list...)
	w.Must(err)
	wantReasons(t, "refused", r.Refused, "realm 3: 1 2 5")
	first := account.ImportRealmCount{Realm: "sip.other.test", Count: 2}
	if r.Added != 2 || len(r.Realms) != 2 || r.Realms[0] != first {
		t.Errorf("got %+v", r)
	}
	for i := range 110 {
		e := row(fmt.Sprint("user", i), "p")
		e.Realm = fmt.Sprint(i, ".test")
		list = append(list, e)
	}
	r, err = runImport(t, w, account.ImportOptions{DryRun: true}, list...)
	w.Must(err)
	if len(r.Realms) != 100 || r.Realms[0] != first {
		t.Errorf("%d realms are told apart, and the commonest is %+v", len(r.Realms), r.Realms[0])
	}
}

// If no row can be read, nothing is imported, and the error asks whether the file has another format.
func TestImportOfAnotherFormat(t *testing.T) {
	w := world.New(t, world.Options{})
	unreadable := account.ImportEntry{Problem: account.ImportUnreadable, Detail: "not user:realm:HA1"}
	noHash := account.ImportEntry{User: "root", Realm: "x:0", Problem: account.ImportBadHash, Detail: "no hex"}
	trunk := account.ImportEntry{User: "x", Problem: account.ImportTrunk}
	inFile := unreadable
	inFile.File = "a.xml"
	for _, c := range []struct {
		entries []account.ImportEntry
		want    string
	}{
		{[]account.ImportEntry{unreadable, unreadable},
			"nothing was imported: none of 2 rows can be read (line 1: not user:realm:HA1); does the file have a " +
				"format other than test?"},
		{[]account.ImportEntry{noHash, unreadable}, "none of 2 rows can be read (line 1: no hex); "},
		{[]account.ImportEntry{inFile}, "the only row cannot be read (a.xml, line 1: not user:realm:HA1); "},
		{[]account.ImportEntry{unreadable, trunk}, ""},
		{[]account.ImportEntry{unreadable, row("ann", "p")}, ""},
		{nil, ""},
	} {
		for _, dry := range []bool{true, false} {
			_, err := runImport(t, w, account.ImportOptions{DryRun: dry}, c.entries...)
			if c.want == "" && err != nil ||
				c.want != "" && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("dry run %t: got %v, want an error with %q", dry, err, c.want)
			}
		}
	}
}

// A remark says what happened to the entry.
func TestImportOfABadName(t *testing.T) {
	w := world.New(t, world.Options{})
	e := row("ann", "p")
	e.Name = "\x01"
	r, err := runImport(t, w, account.ImportOptions{}, e)
	w.Must(err)
	const want = "the user name became the display name, because the one in the file is invalid"
	if name := mustFind(w, "ann").Name; name != "ann" || r.Notes[1].Text != want {
		t.Errorf("the name is %q, and the notes are %+v", name, r.Notes)
	}
}

// HA1 contains the realm. If other entries name a realm, the realm of an HA1 without one is unknown.
func TestImportWithoutRealm(t *testing.T) {
	w := world.New(t, world.Options{})
	hash := func(user string) account.ImportEntry {
		e := row(user, "p")
		e.Realm = ""
		return e
	}
	foreign := func(e account.ImportEntry) account.ImportEntry {
		e.Realm = "other.test"
		return e
	}
	both := hash("both")
	both.Password = redact.New("p")
	other := hash("a")
	other.HA1 = row("a", "q").HA1
	inactive := account.ImportEntry{User: "x", Realm: "other.test", Problem: account.ImportInactive}
	for _, c := range []struct {
		name           string
		entries        []account.ImportEntry
		refused, notes []string
	}{
		{"no entry names a realm", []account.ImportEntry{hash("a"), plain("b", "p"), hash("c")}, nil,
			[]string{"no_realm 2: 1 3", "hashed 1: 2"}},
		{"the tenant's realm is named later", []account.ImportEntry{hash("a"), plain("b", "p"), row("c", "p"), both},
			[]string{"unknown_realm 1: 1"}, []string{"hashed 2: 2 4"}},
		{"the same name in the realm and without one",
			[]account.ImportEntry{hash("a"), row("a", "q"), hash("a")}, []string{"unknown_realm 2: 1 3"}, nil},
		{"two hashes of one name without a realm", []account.ImportEntry{hash("a"), other, hash("b")},
			[]string{"ambiguous 2: 1 2"}, []string{"no_realm 1: 3"}},
		{"the realm of an entry with a problem", []account.ImportEntry{inactive, hash("a"), plain("b", "p")},
			[]string{"unknown_realm 1: 2", "inactive 1: 1"}, []string{"hashed 1: 3"}},
		{"plain passwords next to other realms", []account.ImportEntry{foreign(row("a", "p")), plain("b", "p")},
			[]string{"realm 1: 1"}, []string{"hashed 1: 2"}},
	} {
		r, err := runImport(t, w, account.ImportOptions{DryRun: true}, c.entries...)
		w.Must(err)
		wantReasons(t, c.name+": refused", r.Refused, c.refused...)
		notes := slices.DeleteFunc(r.Notes, func(n account.ImportCount) bool {
			return strings.HasPrefix(string(n.Reason), "without_")
		})
		wantReasons(t, c.name+": notes", notes, c.notes...)
	}
	// Hashes without a realm do not count as hashes with the tenant's realm.
	_, err := runImport(t, w, account.ImportOptions{}, foreign(row("a", "p")), hash("b"))
	if !fault.Is(err, fault.Conflict) || !strings.Contains(err.Error(), "--realm 'other.test'") {
		t.Errorf("got %v", err)
	}
}

// Names that fold to the same name are not imported, regardless of their order. Repeated entries count once.
func TestImportOfEquivalentNames(t *testing.T) {
	w := world.New(t, world.Options{})
	list := []account.ImportEntry{
		plain("Anna", "p"), row("ben", "p"), row("ben", "p"), plain("carl", "p"), plain("anna", "p"), row("dora", "p"),
		row("dora", "q"), plain("EmilZ", "p"), row("Fred", "p"),
	}
	list[8].Email = "fred@mail.test"
	for _, dry := range []bool{true, false} {
		r, err := runImport(t, w, account.ImportOptions{FoldCase: true, DryRun: dry}, list...)
		w.Must(err)
		wantReasons(t, "refused", r.Refused, "repeated 1: 3", "ambiguous 4: 1 5 6 7")
		wantReasons(t, "notes", r.Notes[:3], "hashed 2: 4 8", "folded 2: 8 9", "link 1: 9")
		if r.Added != 4 {
			t.Errorf("got %+v", r)
		}
	}
	if hashOf(w, "emilz") != digest.Compute("emilz", "phone.test", "p").Hex() {
		t.Error("the password of emilz is not for the new name")
	}
	if hashOf(w, "fred") == list[8].HA1.Hex() {
		t.Error("fred has a hash of another name")
	}
	left, err := w.Store.TakeOver(t.Context())
	w.Must(err)
	if len(left) != 1 || left[0].Email != "fred@mail.test" || account.KindName(left[0].Kind) != "set_password" {
		t.Errorf("got %+v", left)
	}
	// In a second run Fred exists already, and the other person with the name is still refused.
	list[8].Email = "Fred@mail.test"
	r, err := runImport(t, w, account.ImportOptions{FoldCase: true}, list[8])
	w.Must(err)
	wantReasons(t, "again", r.Refused, "there 1: 1")
	list[8].Email = "other@mail.test"
	r, err = runImport(t, w, account.ImportOptions{FoldCase: true}, list[8])
	w.Must(err)
	wantReasons(t, "again", r.Refused, "conflict 1: 1")
}

// Pending accounts get the activation message.
func TestImportWaiting(t *testing.T) {
	w := world.New(t, world.Options{})
	var list []account.ImportEntry
	for i := range 600 { // more than a group
		e := row(fmt.Sprint("user", i), "p")
		e.Email = fmt.Sprintf("user%d@mail.test", i)
		list = append(list, e)
	}
	r, err := runImport(t, w, account.ImportOptions{Waiting: true, Role: account.User}, list...)
	w.Must(err)
	if r.Added != 600 {
		t.Errorf("got %+v", r)
	}
	left, err := w.Store.TakeOver(t.Context())
	w.Must(err)
	if len(left) != 600 || account.KindName(left[0].Kind) != "activation" {
		t.Errorf("%d messages", len(left))
	}
	a, err := w.Accounts.Find(t.Context(), w.Tenant.ID, "user599")
	w.Must(err)
	if a.State() != account.Waiting || a.Role != account.User {
		t.Errorf("got %+v", a)
	}
}

// A tenant with SHA-256 accepts accounts that have that hash, even without MD5.
func TestImportToSHA256(t *testing.T) {
	w := world.New(t, world.Options{Tenants: []tenant.Tenant{{Host: "phone.test", Settings: tenant.Settings{
		Algorithm: "SHA-256",
	}}}})
	sum := digest.ComputeSHA256("ida", "phone.test", "p")
	ida := account.ImportEntry{User: "ida", Realm: "phone.test", SHA256: &sum}
	list := []account.ImportEntry{ida, row("otto", "p"), ida}
	for _, want := range [][]string{
		{"repeated 1: 3", "no_sha256 1: 2"}, {"there 1: 1", "repeated 1: 3", "no_sha256 1: 2"},
	} {
		r, err := runImport(t, w, account.ImportOptions{}, list...)
		w.Must(err)
		wantReasons(t, "refused", r.Refused, want...)
	}
}

// Passwords that are easy to guess are counted on request.
func TestImportCountsWeakPasswords(t *testing.T) {
	w := world.New(t, world.Options{})
	for _, check := range []bool{false, true} {
		o := account.ImportOptions{DryRun: true, CheckPasswords: check}
		r, err := runImport(t, w, o, row("ida", "password1"), row("otto", "pahf6Ohb9aeyahx"))
		w.Must(err)
		got := reasons(r.Notes)
		if slices.Contains(got, "weak 1: 1") != check || r.Added != 2 {
			t.Errorf("check %t: got %q", check, got)
		}
	}
	// SHA-256 takes longer, and is searched in full where people sign in with it.
	for _, algorithm := range []digest.Algorithm{digest.MD5, digest.SHA256} {
		w := world.New(t, world.Options{Tenants: []tenant.Tenant{{Host: "phone.test", Settings: tenant.Settings{
			Algorithm: algorithm,
		}}}})
		alex := row("alex", "pahf6Ohb9aeyahx")
		alex.SHA256 = new(digest.ComputeSHA256("alex", "phone.test", "alexalexalex"))
		r, err := runImport(t, w, account.ImportOptions{DryRun: true, CheckPasswords: true}, alex)
		w.Must(err)
		if got := reasons(r.Notes); slices.Contains(got, "weak 1: 1") != (algorithm == digest.SHA256) {
			t.Errorf("%s: got %q", algorithm, got)
		}
	}
}

// The audit trail uses the singular for one row.
func TestImportOfOneRow(t *testing.T) {
	w := world.New(t, world.Options{})
	_, err := runImport(t, w, account.ImportOptions{}, row("ida", "p"))
	w.Must(err)
	var trail []string
	w.Must(w.Store.Changes(t.Context(), audit.Filter{Action: "account.import"}, func(c audit.Change) error {
		trail = append(trail, c.Before+">"+c.After)
		return nil
	}))
	if want := []string{">1 row", "1 row>added 1"}; !slices.Equal(trail, want) {
		t.Errorf("got %q, want %q", trail, want)
	}
}

// An interrupted import is completed by the next one.
func TestImportIsContinued(t *testing.T) {
	w := world.New(t, world.Options{})
	var list []account.ImportEntry
	for i := range 700 {
		list = append(list, row(fmt.Sprint("user", i), "p"))
	}
	im, err := w.Accounts.NewImport(w.Tenant, account.ImportOptions{Format: "test"})
	w.Must(err)
	for _, e := range list {
		im.Look(e)
	}
	w.Must(im.Plan())
	for _, e := range list[:300] {
		w.Must(im.Add(t.Context(), e))
	}
	im.Stop()
	r, err := im.End(t.Context())
	w.Must(err)
	if r.Added != 256 {
		t.Errorf("got %+v", r)
	}
	r, err = runImport(t, w, account.ImportOptions{}, list...)
	w.Must(err)
	if r.Added != 700-256 || r.Refused[0].Reason != account.ImportThere || r.Refused[0].Count != 256 {
		t.Errorf("got %+v", r)
	}
	// The trail has when each of them added its first account, and how it ended.
	var trail []string
	w.Must(w.Store.Changes(t.Context(), audit.Filter{Action: "account.import"}, func(c audit.Change) error {
		trail = append(trail, c.Before+">"+c.After)
		return nil
	}))
	want := []string{">700 rows", "700 rows>added 256; stopped before the end",
		">700 rows", "700 rows>added 444, there 256"}
	if !slices.Equal(trail, want) {
		t.Errorf("the trail has %q, want %q", trail, want)
	}
}

// An account without an address signs in, changes its password without a message, and gets no reset link.
func TestAccountWithoutAddress(t *testing.T) {
	w := world.New(t, world.Options{})
	_, err := runImport(t, w, account.ImportOptions{}, row("ida", "p"), row("otto", "p"))
	w.Must(err)
	before, err := w.Accounts.Find(t.Context(), w.Tenant.ID, "ida")
	w.Must(err)
	form := account.PasswordForm{HA1: digest.Compute("ida", "phone.test", "quite another one").Hex()}
	b, sum := digest.ComputeB("ida", "phone.test", "quite another one").Hex(),
		digest.ComputeSHA256("ida", "phone.test", "quite another one").Hex()
	form.HA1B, form.HA1SHA256 = b, sum
	_, err = w.Accounts.ChangePassword(t.Context(), w.Tenant, before, form, account.Origin{})
	w.Must(err)
	if c, err := w.Accounts.Credential(mustFind(w, "ida")); err != nil || c.HA1B == nil || c.SHA256 == nil {
		t.Errorf("the other hashes are still missing: %v", err)
	}
	_, _, err = w.Accounts.MailResetLink(t.Context(), w.Tenant, "ida")
	if !fault.Is(err, fault.Conflict) {
		t.Errorf("got %v", err)
	}
	w.Must(w.Accounts.Forgot(t.Context(), w.Tenant, "ida", account.Origin{Addr: netip.MustParseAddr("192.0.2.1")}))
	w.Must(w.Accounts.ServeForgotten(t.Context(), w.Tenants.ByID))
	w.Must(w.Outbox.Flush(t.Context()))
	if !strings.Contains(w.Log.String(), "password.link outcome=not_found") {
		t.Errorf("the log does not say that the account has no address:\n%s", w.Log)
	}
	if pending, files := w.Pending(), w.Messages(); len(pending)+len(files) != 0 {
		t.Errorf("%d messages are pending, %d files", len(pending), len(files))
	}
	// The person adds an address. Nothing is sent to the missing old address.
	from := account.Origin{Addr: netip.MustParseAddr("192.0.2.1")}
	_, err = w.Accounts.RequestEmail(t.Context(), w.Tenant, mustFind(w, "otto"), "otto@mail.test", from)
	w.Must(err)
	w.Must(w.Outbox.Flush(t.Context()))
	token := ""
	for _, text := range w.Messages() {
		if m := regexp.MustCompile(`token=3?D?([A-Za-z0-9_-]{20,})`).FindStringSubmatch(text); m != nil {
			token = m[1]
		}
	}
	_, err = w.Accounts.ConfirmEmail(t.Context(), w.Tenant, token, from)
	w.Must(err)
	w.Must(w.Outbox.Flush(t.Context()))
	if a := mustFind(w, "otto"); a.Email != "otto@mail.test" || a.Confirmed.IsZero() {
		t.Errorf("got %+v", a)
	}
	if pending, files := w.Pending(), w.Messages(); len(pending) != 0 || len(files) != 1 {
		t.Errorf("%d messages are pending, %d files", len(pending), len(files))
	}
	w.Advance(time.Minute)
	if _, err := w.Accounts.ReplaceEmail(t.Context(), w.Tenant, "ida", "ida"); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v", err)
	}
	if _, err := w.Accounts.ReplaceEmail(t.Context(), w.Tenant, "ida", "ida@mail.test"); err != nil {
		t.Error(err)
	}
	if got := mustFind(w, "ida").Email; got != "ida@mail.test" {
		t.Errorf("the address is %q", got)
	}
}

func mustFind(w *world.World, user string) account.Account {
	w.Helper()
	a, err := w.Accounts.Find(w.Context(), w.Tenant.ID, user)
	w.Must(err)
	return a
}
