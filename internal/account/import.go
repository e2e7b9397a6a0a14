package account

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/maphash"
	"slices"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/mailmsg"
	"dialtone/internal/secret"
	"dialtone/internal/tenant"
)

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
// added in transactions of a few hundred.
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
