package store

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"dialtone/internal/account"
	"dialtone/internal/store/engine"
)

// where builds the condition of a statement.
type where struct {
	terms []string
	args  []any
}

// arg adds an argument and returns its placeholder.
func (w *where) arg(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

// and adds a term, in which each %s stands for the placeholder of a value.
func (w *where) and(term string, values ...any) {
	names := make([]any, len(values))
	for i, v := range values {
		names[i] = w.arg(v)
	}
	w.terms = append(w.terms, fmt.Sprintf(term, names...))
}

func (w *where) String() string { return strings.Join(w.terms, " AND ") }

// prefixed adds the condition that a text in lower case begins with a prefix.
func (w *where) prefixed(expr, prefix string) {
	w.and(expr+` >= %s AND `+expr+` < %s`, prefix, afterPrefix(prefix))
}

// afterPrefix returns a text that sorts after all texts with a prefix.
func afterPrefix(prefix string) string { return prefix + "\U0010FFFF" }

// matching adds the condition for the live accounts that a query selects, except for the query's
// text. It may select more accounts, where SQL cannot easily tell.
func (w *where) matching(q account.Query, now time.Time) {
	w.and(`closed IS NULL AND (activated IS NOT NULL OR expires > %s)`, engine.Micros(now))
	if len(q.States) > 0 {
		states := make([]string, len(q.States))
		for i, state := range q.States {
			states[i] = inState[state]
		}
		w.and(`(` + strings.Join(states, ` OR `) + `)`)
	}
	if len(q.Roles) > 0 {
		roles := make([]string, len(q.Roles))
		for i, role := range q.Roles {
			roles[i] = w.arg(string(role))
		}
		w.and(`role IN (` + strings.Join(roles, `, `) + `)`)
	}
	if q.Net.IsValid() {
		switch prefix, whole := netPrefix(q.Net); {
		case whole:
			w.and(`signup_net = %s`, prefix)
		case prefix != "":
			w.prefixed(`signup_net`, prefix)
		default:
			w.and(`signup_net <> ''`)
		}
	}
	if !q.Since.IsZero() {
		w.and(`created >= %s`, engine.Micros(q.Since))
	}
	if !q.Before.IsZero() {
		w.and(`created < %s`, engine.Micros(q.Before))
	}
	if q.Confirmed != nil {
		w.and(`(confirmed IS NOT NULL) = %s`, *q.Confirmed)
	}
}

// named adds the condition for accounts whose name, or a later word of it, begins with a text. It
// may select more accounts: the database folds the case of ASCII letters only, and i and k are also
// the lower case of non-ASCII letters.
func (w *where) named(text string) {
	var pattern strings.Builder
	for _, r := range text {
		switch {
		case r >= utf8.RuneSelf || r == 'i' || r == 'k':
			pattern.WriteByte('_')
		case r == '%' || r == '_' || r == '\\':
			pattern.WriteByte('\\')
			fallthrough
		default:
			pattern.WriteRune(r)
		}
	}
	p := pattern.String() + "%"
	w.and(`(lower(name) LIKE %s ESCAPE '\' OR lower(name) LIKE %s ESCAPE '\' OR lower(name) LIKE %s ESCAPE '\')`,
		p, "% "+p, "%-"+p)
}

// netPrefix returns the common prefix of the networks within n, as audit.Network writes them. If
// whole is true, it is the only such network.
func netPrefix(n netip.Prefix) (prefix string, whole bool) {
	a := n.Addr()
	if a.Is4() {
		if n.Bits() == 24 {
			return n.String(), true
		}
		for _, octet := range a.AsSlice()[:n.Bits()/8] {
			prefix += strconv.Itoa(int(octet)) + "."
		}
		return prefix, false
	}
	if n.Bits() == 48 {
		return n.String(), true
	}
	for i, groups := 0, a.As16(); i < n.Bits()/16; i++ {
		group := binary.BigEndian.Uint16(groups[2*i:])
		if group == 0 { // it may be written as ::
			break
		}
		prefix += strconv.FormatUint(uint64(group), 16) + ":"
	}
	return prefix, false
}

// uidRange returns the UIDs of accounts that signed up at the times of a query, both inclusive.
func uidRange(q account.Query) (least, greatest account.UID) {
	greatest = startOf(phaseUID).uid
	if !q.Since.IsZero() {
		least = account.FirstUID(q.Since)
	}
	if !q.Before.IsZero() {
		greatest = account.LastUID(q.Before)
	}
	return least, greatest
}
