package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"time"

	"dialtone/internal/digest"
	"dialtone/internal/fault"
	"dialtone/internal/i18n"
	"dialtone/internal/mailmsg"
	"dialtone/internal/redact"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
	"dialtone/internal/weakpass"
)

// ImportEntry is one account of another platform.
type ImportEntry struct {
	// File and Line are where the entry is. File is empty if there is only one file. Line is
	// the line of a text, or the number of a row in a database.
	File string
	Line int64
	User string
	// Realm is the realm of the hashes, or empty if the file does not name one.
	Realm string
	// Name, Email, Role and Lang may be empty.
	Name, Email, Role, Lang string
	// Password is empty if the file has hashes only. It is never stored.
	Password redact.Of[string]
	// HA1, HA1B and SHA256 are nil if the file does not have them.
	HA1, HA1B *digest.HA1
	SHA256    *digest.HA1SHA256
	// Problem is why the reader of the file found that this cannot be an account, or empty. Detail explains it.
	Problem ImportReason
	Detail  string
}

func (e ImportEntry) hashed() bool { return e.HA1 != nil || e.SHA256 != nil || e.HA1B != nil }

// lacksRealm reports whether there are only hashes, of an unknown realm.
func (e ImportEntry) lacksRealm() bool {
	return e.Realm == "" && e.hashed() && e.Password.Reveal() == ""
}

// ImportOptions are the choices of an import.
type ImportOptions struct {
	// Format names the format of the file, for the audit trail.
	Format string
	// Waiting makes the accounts wait until the link in a message is opened. Otherwise they are
	// active and not confirmed.
	Waiting bool
	// Role is the role of all accounts, or empty for Guest. With FileRoles, the role in an entry takes precedence.
	Role      Role
	FileRoles bool
	// FoldCase adds accounts whose names have capitals under the name in lower case.
	FoldCase bool
	// Reserved permits reserved user names.
	Reserved bool
	// CheckPasswords counts passwords that are easy to guess.
	CheckPasswords bool
	// DryRun changes nothing.
	DryRun bool
}

const (
	importExamples = 10  // per reason
	importRealms   = 100 // that are counted
	importGroup    = 256 // accounts per transaction
	importShown    = 64  // bytes of a text that a report shows
)

// NameHolder is an account that has a user name, or had one before it was deleted.
type NameHolder struct {
	Account
	Closed bool
}

// ImportStore adds many accounts at once.
type ImportStore interface {
	// Holders returns the accounts that hold the user names, by name. Expired accounts no longer hold theirs.
	Holders(ctx context.Context, tenant int64, users []string, now time.Time) (map[string]NameHolder, error)

	// ImportAccounts adds accounts in one transaction, each as AddAccount does, but without
	// limits and without an own change in the audit trail. It skips those whose names are
	// taken, and returns the holders of these names. If begin is not nil and an account is
	// added, it adds that change to the audit trail.
	ImportAccounts(ctx context.Context, tenant int64, list []Addition, begin *ImportChange,
		now time.Time) (map[string]NameHolder, error)

	// EndImport adds a change to the audit trail.
	EndImport(ctx context.Context, tenant int64, c ImportChange, now time.Time) error
}

// ImportChange is a row of the audit trail about an import.
type ImportChange struct{ Subject, Before, After string }

// Import adds the accounts of another platform to a tenant, with the passwords that they have there.
//
// The entries are read twice: Look gets each of them, then Plan decides whether to continue,
// then Add gets each of them again, and End writes the rest. Nothing is added before all
// entries were seen, so an unreadable entry at the end of the file leaves nothing behind, and
// entries that compete for one name are known. An import keeps 16 bytes of memory per entry.
//
// An import adds accounts and never changes one. So it can be run again, even after an
// interruption: accounts that exist with the same HA1 are counted as existing. Accounts are
// added in transactions of some hundred.
//
// The row of an account records who added it, when and why. The audit trail gets a row when the
// first account is added, and one with the counts at the end.
type Import struct {
	s        *Service
	tenant   *tenant.Tenant
	options  ImportOptions
	reserved Reserved
	subject  string
	seed     maphash.Seed

	rows     int64 // that Look saw
	bad      int64 // of these, those that cannot be read, or whose hashes are malformed
	firstBad ImportEntry
	inRealm  int64 // of rows, those with the tenant's realm, or with a plain password and no realm
	// realmNamed means that an entry has a realm. Then the realm of hashes without one is unknown.
	realmNamed bool
	names      []seenName
	// withoutRealm are the names of entries with hashes and no realm. They are used if no entry has a realm.
	withoutRealm []seenName
	// ambiguous and repeated contain the hashes of names that several entries have. The value
	// in repeated tells whether Add has seen the first of them.
	ambiguous map[uint64]struct{}
	repeated  map[uint64]bool
	realms    map[string]int64

	group   []importItem
	begun   bool
	stopped bool
	report  ImportReport
	counts  map[ImportReason]*ImportCount
}

// seenName is what an import remembers of an entry: a hash of the name, and a hash of its spelling with the
// password.
type seenName struct{ name, whole uint64 }

// importItem is an entry that can become an account.
type importItem struct {
	entry      ImportEntry
	account    Account
	credential digest.Credential
	// own means that the credential is the person's. Otherwise it is random.
	own bool
	// onlySHA256 means that HA1 is random.
	onlySHA256 bool
	notes      []ImportReason
}

// NewImport begins an import to a tenant.
func (s *Service) NewImport(t *tenant.Tenant, o ImportOptions) (*Import, error) {
	o.Role = cmp.Or(o.Role, Guest)
	if !slices.Contains(Roles, o.Role) {
		return nil, fault.Field("role", "%q is not a role; use guest, user, siponly or admin", string(o.Role))
	}
	reserved, err := s.reservedFor(t)
	if err != nil {
		return nil, err
	}
	var id [8]byte
	rand.Read(id[:])
	return &Import{
		s: s, tenant: t, options: o, reserved: reserved, subject: o.Format + " " + hex.EncodeToString(id[:]),
		seed: maphash.MakeSeed(), ambiguous: make(map[uint64]struct{}), repeated: make(map[uint64]bool),
		realms: make(map[string]int64), counts: make(map[ImportReason]*ImportCount),
		report: ImportReport{DryRun: o.DryRun},
	}, nil
}

// Look records an entry for Plan.
func (im *Import) Look(e ImportEntry) {
	im.rows++
	if e.Problem == ImportUnreadable || e.Problem == ImportBadHash {
		if im.bad++; im.bad == 1 {
			im.firstBad = ImportEntry{File: e.File, Line: e.Line, Problem: e.Problem, Detail: e.Detail}
		}
	}
	im.realmNamed = im.realmNamed || e.Realm != ""
	item, why, _ := im.check(e)
	if why == ImportRealm {
		if _, known := im.realms[e.Realm]; known || len(im.realms) < importRealms {
			im.realms[e.Realm]++
		}
	} else if e.Problem == "" && !e.lacksRealm() {
		im.inRealm++
	}
	switch {
	case why != "":
	case e.lacksRealm():
		im.withoutRealm = append(im.withoutRealm, im.hash(item))
	default:
		im.names = append(im.names, im.hash(item))
	}
}

func (im *Import) hash(item importItem) seenName {
	whole := []byte(item.entry.User + "\x00")
	switch c := item.credential; {
	case !item.own:
	case item.onlySHA256:
		whole = append(whole, c.SHA256[:]...)
	default:
		whole = append(whole, c.HA1[:]...)
	}
	return seenName{maphash.String(im.seed, item.account.User), maphash.Bytes(im.seed, whole)}
}

// Rows returns how many entries Look saw.
func (im *Import) Rows() int64 { return im.rows }

// Plan is called between Look and Add. It fails with fault.Invalid if there are entries and
// none can be read, since the file probably has another format. It fails with fault.Conflict if
// entries have realms and none has the tenant's, unless there are plain passwords without a
// realm.
func (im *Import) Plan() error {
	if im.rows > 0 && im.bad == im.rows {
		return im.noneReadable()
	}
	if !im.realmNamed {
		im.names = append(im.names, im.withoutRealm...)
	}
	slices.SortFunc(im.names, func(a, b seenName) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(im.names); i++ {
		a, b := im.names[i-1], im.names[i]
		if a.name == b.name {
			if a.whole != b.whole {
				im.ambiguous[a.name] = struct{}{}
			}
			im.repeated[a.name] = false
		}
	}
	im.names, im.withoutRealm = nil, nil
	var others int64
	for realm, n := range im.realms {
		im.report.Realms = append(im.report.Realms, ImportRealmCount{shown(realm), n})
		others += n
	}
	slices.SortFunc(im.report.Realms, func(a, b ImportRealmCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Realm, b.Realm))
	})
	if others == 0 || im.inRealm > 0 {
		return nil
	}
	first := im.report.Realms[0].Realm
	flag := "--realm '" + first + "'"
	if strings.ContainsAny(first, "'\\") { // the file is not trusted, and people paste commands
		flag = "--realm, with that of the file"
	}
	return fault.New(fault.Conflict, "nothing was imported: no entry has the realm %s of the tenant; "+
		"HA1 contains the realm, so set the one of the file while the tenant has no accounts: "+
		"dialtone tenant set %s %s", im.tenant.Realm, im.tenant.Host, flag)
}

// noneReadable returns the error for a file in which no entry can be read.
func (im *Import) noneReadable() error {
	which := "the only row cannot"
	if im.rows > 1 {
		which = fmt.Sprintf("none of %d rows can", im.rows)
	}
	first := im.firstBad
	where := fmt.Sprintf("line %d", first.Line)
	if first.File != "" {
		where = shown(first.File) + ", " + where
	}
	return fault.New(fault.Invalid,
		"nothing was imported: %s be read (%s: %s); does the file have a format other than %s?", which,
		where, cmp.Or(first.Detail, first.Problem.text()), im.options.Format)
}

// Add gets an entry again. It adds accounts in groups, so the entry's account may be added by a later call.
func (im *Import) Add(ctx context.Context, e ImportEntry) error {
	im.report.Rows++
	item, why, detail := im.check(e)
	if why != "" {
		im.refuse(e, why, detail)
		return nil
	}
	h := im.hash(item)
	if _, ok := im.ambiguous[h.name]; ok {
		im.refuse(e, ImportAmbiguous, "")
		return nil
	}
	if again, ok := im.repeated[h.name]; ok {
		if again {
			im.refuse(e, ImportRepeated, "")
			return nil
		}
		im.repeated[h.name] = true
	}
	im.group = append(im.group, item)
	if len(im.group) < importGroup {
		return nil
	}
	return im.flush(ctx)
}

// Stop discards the entries that Add has not added yet. End must still be called.
func (im *Import) Stop() { im.group, im.stopped = nil, true }

// End adds the last accounts, and returns the report, even with an error.
func (im *Import) End(ctx context.Context) (ImportReport, error) {
	err := im.flush(ctx)
	for i, t := range importTexts {
		if c := im.counts[t.reason]; c != nil && i < importRefusals {
			im.report.Refused = append(im.report.Refused, *c)
		} else if c != nil {
			im.report.Notes = append(im.report.Notes, *c)
		}
	}
	if im.options.DryRun {
		return im.report, err
	}
	c := ImportChange{Subject: im.subject, Before: rowCount(im.rows), After: im.summary(err)}
	return im.report, errors.Join(err, im.s.deps.Store.EndImport(context.WithoutCancel(ctx), im.tenant.ID, c,
		im.s.deps.Now()))
}

// check applies the rules that need only the entry. why is the reason why it cannot be an account, or "".
func (im *Import) check(e ImportEntry) (item importItem, why ImportReason, detail string) {
	item.entry = e
	if e.Problem != "" {
		return item, e.Problem, e.Detail
	}
	t, password := im.tenant, e.Password.Reveal()
	hashed := e.hashed()
	if e.Realm != "" && e.Realm != t.Realm && (hashed || !strings.EqualFold(e.Realm, t.Realm)) {
		return item, ImportRealm, shown(e.Realm)
	}
	if im.realmNamed && e.lacksRealm() {
		return item, ImportUnknownRealm, ""
	}
	a := Account{Tenant: t.ID, User: e.User, Role: im.options.Role, NotSignedIn: true, Lang: i18n.English}
	if im.options.FileRoles && e.Role != "" {
		if a.Role = Role(e.Role); !slices.Contains(Roles, a.Role) {
			return item, ImportBadRole, shown(e.Role)
		}
	}
	folded := false
	if im.options.FoldCase {
		if lower := foldASCII(a.User); lower != a.User {
			a.User, folded = lower, true
		}
	}
	if why, detail := im.checkUser(a.User); why != "" {
		return item, why, detail
	}
	item.own = true
	switch {
	case password != "":
		item.credential = credentialOf(a.User, t.Realm, password)
		if e.HA1 != nil && *e.HA1 != digest.Compute(e.User, t.Realm, password) {
			return item, ImportContradicts, ""
		}
		item.notes = append(item.notes, NoteHashed)
	case !hashed:
		return item, ImportNoPassword, ""
	case folded:
		item.own, item.credential = false, randomCredential()
		item.notes = append(item.notes, NoteLink)
	default:
		if e.lacksRealm() {
			item.notes = append(item.notes, NoteNoRealm)
		}
		item.credential = digest.Credential{HA1B: e.HA1B, SHA256: e.SHA256}
		switch {
		case e.HA1 != nil:
			item.credential.HA1 = *e.HA1
		case t.Challenge() == digest.SHA256 && e.SHA256 != nil:
			item.onlySHA256 = true
			rand.Read(item.credential.HA1[:])
		default:
			return item, ImportNoMD5, ""
		}
		if t.Challenge() == digest.SHA256 && e.SHA256 == nil {
			return item, ImportNoSHA256, ""
		}
		if e.HA1B == nil {
			item.notes = append(item.notes, NoteNoHA1B)
		}
		if e.SHA256 == nil {
			item.notes = append(item.notes, NoteNoSHA256)
		}
		if e.Detail != "" {
			item.notes = append(item.notes, NoteBadDigest)
		}
	}
	if folded {
		item.notes = append(item.notes, NoteFolded)
	}
	var err error
	if a.Name, err = CleanName(e.Name); err != nil {
		if a.Name = a.User; e.Name != "" {
			item.notes = append(item.notes, NoteBadName)
		}
	}
	if a.Email, err = CleanEmail(e.Email); err != nil {
		if im.options.Waiting || !item.own {
			return item, ImportNoEmail, shown(e.Email)
		}
		note := NoteBadEmail
		if a.Email = ""; e.Email == "" {
			note = NoteNoEmail
		}
		item.notes = append(item.notes, note)
	}
	if lang, ok := i18n.Parse(e.Lang); ok && e.Lang != "" {
		a.Lang = lang
	}
	item.account = a
	return item, "", ""
}

// checkUser returns why a name cannot be a user name, or "".
func (im *Import) checkUser(user string) (ImportReason, string) {
	seen, err := checkForm(user)
	if err != nil {
		if seen&capital != 0 && seen&foreign == 0 && len(user) <= maxUser {
			return ImportCapitals, ""
		}
		return ImportUser, err.Error()
	}
	if !im.options.Reserved {
		if err := im.reserved.check(user, seen); err != nil {
			// The advice is for people who sign up.
			return ImportReserved, strings.TrimSuffix(err.Error(), "; choose another name")
		}
	}
	return "", ""
}

// foldASCII returns a text with A to Z in lower case. Unicode has other characters that fold to
// a to z, which are not valid in user names.
func foldASCII(text string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, text)
}

// credentialOf returns all hashes of a password.
func credentialOf(user, realm, password string) digest.Credential {
	b, sum := digest.ComputeB(user, realm, password), digest.ComputeSHA256(user, realm, password)
	return digest.Credential{HA1: digest.Compute(user, realm, password), HA1B: &b, SHA256: &sum}
}

// flush adds the accounts of the group.
func (im *Import) flush(ctx context.Context) error {
	list := im.group
	im.group = nil
	if len(list) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		im.stopped = true
		return err
	}
	users := make([]string, len(list))
	for i, item := range list {
		users[i] = item.account.User
	}
	// The store's precision is microseconds. A message that is written again must have the same times.
	now := im.s.deps.Now().UTC().Truncate(time.Microsecond)
	var held map[string]NameHolder
	var err error
	if im.options.DryRun {
		held, err = im.s.deps.Store.Holders(ctx, im.tenant.ID, users, now)
	} else {
		var begin *ImportChange
		if !im.begun {
			begin = &ImportChange{Subject: im.subject, After: rowCount(im.rows)}
		}
		additions := make([]Addition, len(list))
		for i := range list {
			additions[i] = im.addition(&list[i], now)
		}
		// From here on, a cancelled context no longer stops the group.
		held, err = im.s.deps.Store.ImportAccounts(context.WithoutCancel(ctx), im.tenant.ID, additions, begin, now)
		im.begun = im.begun || err == nil && len(held) < len(list)
	}
	if err != nil {
		return err
	}
	for _, item := range list {
		h, taken := held[item.account.User]
		if taken {
			im.refuse(item.entry, im.heldBy(item, h), "")
			continue
		}
		im.report.Added++
		for _, note := range item.notes {
			im.count(item.entry, note, "")
		}
		if im.options.CheckPasswords && item.own && im.weak(item) {
			im.count(item.entry, NoteWeak, "")
		}
	}
	return nil
}

// weak reports whether the password of an account is easy to guess.
func (im *Import) weak(item importItem) bool {
	t, a, c := im.tenant, item.account, item.credential
	form := weakpass.Signup{
		User: a.User, Realm: t.Realm, Host: t.Host, Email: a.Email, Names: []string{a.Name, t.Product},
		HA1: c.HA1, HA1B: (*[16]byte)(c.HA1B), SHA256: (*[32]byte)(c.SHA256),
		SignInSHA256: t.Challenge() == digest.SHA256,
	}
	return form.Weak() != ""
}

// heldBy returns why an entry is not added if its name has a holder.
func (im *Import) heldBy(item importItem, h NameHolder) ImportReason {
	if h.Closed {
		return ImportDeleted
	}
	if !item.own {
		// There is no password to compare. A person with the address chooses one by the link.
		if h.Email != "" && RecipientKey(h.Email) == RecipientKey(item.account.Email) {
			return ImportThere
		}
		return ImportConflict
	}
	c, err := im.s.Credential(h.Account)
	switch {
	case err != nil:
		return ImportConflict
	case c.HA1 == item.credential.HA1:
		return ImportThere
	case item.onlySHA256 && c.SHA256 != nil && *c.SHA256 == *item.credential.SHA256:
		return ImportThere
	}
	return ImportConflict
}

// addition completes the account of an item, and returns it in the form that the store needs.
func (im *Import) addition(item *importItem, now time.Time) Addition {
	a := &item.account
	a.UID, a.Created, a.Expires, a.Set.State = NewUID(now), now, now.Add(PendingLife), Waiting
	if !im.options.Waiting {
		a.Activated, a.Set.State = now, Active
	}
	im.s.seal(a, item.credential)
	add := Addition{Account: *a}
	switch {
	case !item.own:
		add.Notice = im.s.newNotice(*a, mailmsg.SetPassword, PendingLife, "")
		add.Token = im.s.deps.Store.LinkHash(secret.NewTokenAt(now)) // nobody has the token
	case im.options.Waiting:
		add.Notice = im.s.newNotice(*a, mailmsg.Activation, PendingLife, "")
		add.Token = add.Notice.Token
	default:
		add.Token = im.s.deps.Store.LinkHash(secret.NewTokenAt(now))
	}
	return add
}
