package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/fault"
)

// The phases of a list. A list without a text has only phaseUID, and a list with a text ends with
// it.
const (
	phaseUser  = 'u' // the user name begins with the text
	phaseEmail = 'e' // the address begins with the text
	phaseUID   = 'i'
)

// pageKey is a position in a list: that of an account, which may no longer exist.
type pageKey struct {
	phase byte
	uid   account.UID
	text  string // the user name in phaseUser, or the address in lower case in phaseEmail
}

// startOf returns the position before all accounts of a phase.
func startOf(phase byte) pageKey {
	k := pageKey{phase: phase}
	if phase == phaseUID {
		k.uid = account.UID(bytes.Repeat([]byte{0xff}, len(k.uid)))
	}
	return k
}

var errCursor = fault.Field("cursor", "this is not a cursor of this list; begin with the first page")

// queryMark returns the prefix of a list's cursors. It depends on the parts of the query that
// determine what a cursor means.
func queryMark(tenant int64, q account.Query) []byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d %q", tenant, strings.ToLower(q.Text)))
	return sum[:6]
}

// encode returns a cursor.
func (k pageKey) encode(mark []byte) string {
	b := append(bytes.Clone(mark), k.phase)
	b = append(b, k.uid[:]...)
	return base64.RawURLEncoding.EncodeToString(append(b, k.text...))
}

// parseKey parses what encode returned.
func parseKey(text string, mark []byte) (k pageKey, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < len(mark)+1+len(k.uid) || !bytes.HasPrefix(b, mark) {
		return k, errCursor
	}
	b = b[len(mark):]
	k.phase, k.uid, k.text = b[0], account.UID(b[1:1+len(k.uid)]), string(b[1+len(k.uid):])
	if k.phase == phaseUID && k.text != "" || !utf8.ValidString(k.text) || strings.Contains(k.text, "\x00") {
		return k, errCursor
	}
	return k, nil
}
