package account

import (
	"crypto/rand"
	"slices"
	"strings"

	"dialtone/internal/digest"
	"dialtone/internal/i18n"
	"dialtone/internal/redact"
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
