package account

import (
	"fmt"
	"slices"
	"strings"
)

// ImportReason is a short code that tells why an entry was not added, or a remark about one
// that was. It is part of the JSON form.
type ImportReason string

// Reasons why an entry adds no account.
const (
	ImportThere        ImportReason = "there"
	ImportRepeated     ImportReason = "repeated"
	ImportConflict     ImportReason = "conflict"
	ImportDeleted      ImportReason = "deleted"
	ImportRealm        ImportReason = "realm"
	ImportUnknownRealm ImportReason = "unknown_realm"
	ImportUser         ImportReason = "user"
	ImportCapitals     ImportReason = "capitals"
	ImportReserved     ImportReason = "reserved"
	ImportAmbiguous    ImportReason = "ambiguous"
	ImportNoPassword   ImportReason = "no_password"
	ImportBadHash      ImportReason = "bad_hash"
	ImportContradicts  ImportReason = "contradicts"
	ImportNoMD5        ImportReason = "no_md5"
	ImportNoSHA256     ImportReason = "no_sha256"
	ImportNoEmail      ImportReason = "no_email"
	ImportBadRole      ImportReason = "bad_role"
	ImportInactive     ImportReason = "inactive"
	ImportTrunk        ImportReason = "trunk"
	ImportUnreadable   ImportReason = "unreadable"
)

// Remarks about entries that are added.
const (
	NoteNoRealm   ImportReason = "no_realm"
	NoteHashed    ImportReason = "hashed"
	NoteFolded    ImportReason = "folded"
	NoteLink      ImportReason = "link"
	NoteNoEmail   ImportReason = "without_email"
	NoteBadEmail  ImportReason = "bad_email"
	NoteBadName   ImportReason = "bad_name"
	NoteNoHA1B    ImportReason = "without_ha1b"
	NoteNoSHA256  ImportReason = "without_sha256"
	NoteBadDigest ImportReason = "bad_digest"
	NoteWeak      ImportReason = "weak"
)

// importTexts explain the reasons and the remarks, in the order of a report.
var importTexts = []struct {
	reason ImportReason
	text   string
}{
	{ImportThere, "already exists, with the same password"},
	{ImportRepeated, "repeated in the file, with the same password"},
	{ImportConflict, "another account has the name, and was not changed"},
	{ImportDeleted, "the name of a deleted account; see: dialtone account free-name"},
	{ImportRealm, "a realm other than the tenant's"},
	{ImportUnknownRealm, "no realm, although other rows have one; HA1 contains the realm, so add it"},
	{ImportUser, "not a valid user name"},
	{ImportCapitals, "capitals in the user name; see --fold-case"},
	{ImportReserved, "a reserved user name; see --allow-reserved"},
	{ImportAmbiguous, "several entries of the file want this name; none of them is added"},
	{ImportNoPassword, "neither HA1 nor password"},
	{ImportBadHash, "not a hash"},
	{ImportContradicts, "password and HA1 do not belong together"},
	{ImportNoMD5, "no MD5 hash, which phones and sign-in need"},
	{ImportNoSHA256, "no SHA-256 hash, which sign-in at this tenant needs"},
	{ImportNoEmail, "no e-mail address for the message that the account needs"},
	{ImportBadRole, "not a role"},
	{ImportInactive, "not active on the other platform"},
	{ImportTrunk, "a trunk or a provider, not a person"},
	{ImportUnreadable, "cannot be read"},
	{NoteNoRealm, "no realm; the tenant's is assumed"},
	{NoteHashed, "plain passwords, hashed in memory; destroy the file afterwards"},
	{NoteFolded, "user name changed to lower case"},
	{NoteLink, "the person gets a link to choose a password, because HA1 depends on the name"},
	{NoteNoEmail, "no e-mail address; the person cannot get messages"},
	{NoteBadEmail, "added without an e-mail address, because the one in the file is invalid"},
	{NoteBadName, "the user name became the display name, because the one in the file is invalid"},
	{NoteNoHA1B, "no hash for phones that send user@domain, until the next change of the password"},
	{NoteNoSHA256, "no SHA-256 hash, until the next change of the password"},
	{NoteBadDigest, "a hash other than HA1 was left out, because it is invalid"},
	{NoteWeak, "a password that is easy to guess"},
}

// text returns the explanation of a reason.
func (why ImportReason) text() string {
	for _, t := range importTexts {
		if t.reason == why {
			return t.text
		}
	}
	return ""
}

// importRefusals is the number of reasons at the start of importTexts; the rest are remarks.
var importRefusals = slices.IndexFunc(importTexts, func(t struct {
	reason ImportReason
	text   string
}) bool {
	return t.reason == NoteNoRealm
})

// ImportReport is the result of an import.
type ImportReport struct {
	DryRun bool
	// Rows is how many entries there are, and Added how many accounts were added, or would be.
	Rows, Added int64
	// Refused counts entries that were not added, by reason. Notes counts remarks about those that were.
	Refused, Notes []ImportCount
	// Realms are realms of the file that are not the tenant's, the commonest first.
	Realms []ImportRealmCount
}

// ImportCount is how many entries have a reason.
type ImportCount struct {
	Reason ImportReason
	Text   string
	Count  int64
	// First are the first entries with this reason.
	First []ImportExample
}

// ImportExample is an entry in a report. The text of Detail is for people.
type ImportExample struct {
	File   string
	Line   int64
	User   string
	Detail string
}

// ImportRealmCount is how many entries have a realm.
type ImportRealmCount struct {
	Realm string
	Count int64
}

func rowCount(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return fmt.Sprintf("%d rows", n)
}

// summary returns the value for the audit trail.
func (im *Import) summary(err error) string {
	text := fmt.Sprintf("added %d", im.report.Added)
	for _, c := range im.report.Refused {
		text += fmt.Sprintf(", %s %d", c.Reason, c.Count)
	}
	if left := im.rows - im.report.Rows; im.stopped || err != nil || left > 0 {
		text += "; stopped before the end"
	}
	return text
}

// shown returns a text of the file as a report shows it: valid UTF-8, and not too long.
func shown(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > importShown {
		text = strings.ToValidUTF8(text[:importShown], "") + "…"
	}
	return text
}

func (im *Import) count(e ImportEntry, why ImportReason, detail string) {
	c := im.counts[why]
	if c == nil {
		c = &ImportCount{Reason: why, Text: why.text()}
		im.counts[why] = c
	}
	if c.Count++; len(c.First) < importExamples {
		c.First = append(c.First, ImportExample{File: e.File, Line: e.Line, User: shown(e.User), Detail: detail})
	}
}

func (im *Import) refuse(e ImportEntry, why ImportReason, detail string) { im.count(e, why, detail) }
