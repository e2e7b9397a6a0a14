package account

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"dialtone/internal/fault"
)

// maxUser is the maximum length of a user name in bytes. User names are ASCII.
const maxUser = 64

// CheckUser returns an error unless user can be the name of a new account: 1 to 64 of the letters a to
// z, digits, dot, underscore and hyphen, at least one of them a letter or digit, and not a reserved
// name. It checks the bytes as they were received. Nothing is folded first, because HA1 contains the
// name: if the stored name differed from the typed one in the case of one letter, no password would
// match. Also, Unicode case folding turns a Kelvin sign into a k.
//
// Names that consist only of digits are extensions and are allowed, except for emergency
// numbers. CheckUser does not check whether the name is taken, and existing accounts need not
// satisfy it. It fails with fault.Field("user", …).
func CheckUser(user string, reserved Reserved) error {
	seen, err := checkForm(user)
	if err != nil {
		return err
	}
	return reserved.check(user, seen)
}

// checkForm is CheckUser without the reserved names. It returns which kinds of bytes the name has.
func checkForm(user string) (seen class, err error) {
	if user == "" || len(user) > maxUser {
		return seen, fault.Rule("user", "length", "must be 1 to 64 characters long")
	}
	for i := range len(user) {
		seen |= classes[user[i]]
	}
	switch {
	case seen&foreign != 0:
		return seen, fault.Rule("user", "shape",
			"may contain only the letters a to z, digits, dot, underscore and hyphen; leave out everything else")
	case seen&capital != 0:
		return seen, fault.Rule("user", "upper",
			"must be in lower case; type it again without capitals")
	case seen&(alpha|digit) == 0:
		return seen, fault.Rule("user", "marks", "needs at least one letter or digit; add one")
	}
	return seen, nil
}

// WellFormedUser reports whether a text has the form of a user name, reserved or not.
func WellFormedUser(user string) bool {
	var seen class
	for i := range len(user) {
		seen |= classes[user[i]]
	}
	return user != "" && len(user) <= maxUser && seen&(foreign|capital) == 0
}

// class is a set of kinds of bytes in a user name.
type class uint8

const (
	alpha class = 1 << iota
	digit
	mark
	capital
	foreign
)

var classes = func() (t [256]class) {
	for b := range t {
		switch {
		case 'a' <= b && b <= 'z':
			t[b] = alpha
		case '0' <= b && b <= '9':
			t[b] = digit
		case b == '_' || b == '.' || b == '-':
			t[b] = mark
		case 'A' <= b && b <= 'Z':
			t[b] = capital
		default:
			t[b] = foreign
		}
	}
	return t
}()

// Reserved are the names that nobody can have at one tenant: those built into the program, which
// all tenants share, and the tenant's own words. The zero value contains only the built-in
// names. A Reserved is immutable and can be shared.
//
// A name is compared with every reserved one. Names that sound authoritative (administration,
// the departments of a company, the tenant's own words) are also compared by skeleton, which is
// what a name looks like at a glance. Only whole names are compared: "adminson" and "modern"
// contain a reserved word and are allowed.
//
//   - Digits stand for the letters they resemble (adm1n, supp0rt), i and l are one letter, and so
//     are q and g; rn and nn read as m, vv as w, cl as d (adrnin). Dot, underscore and hyphen are
//     ignored (sup.port, admin_, -admin-).
//   - Names of up to three letters and digits have too many harmless neighbours for that. There,
//     only digits stand for letters, and separators are ignored at the ends and in a word that is
//     spelled out (m0d, ceo_, c.e.o). So "ls", "mls", "h.r" and "c.to" remain available.
//   - A name without a letter is an extension and resembles no word, whatever its digits resemble: 1001, 50, 1-3.
//   - Doubled and dropped letters are not folded. They are spelling mistakes and not
//     look-alikes, and folding them would refuse people called Tennant, Carre, Staf and Legall.
//
// A reserved number is compared without separators, since a telephone system drops them when it
// dials (RFC 3966 section 5.1.1): 9-1-1 is 911.
type Reserved struct {
	own *nameSet
}

// NewReserved returns the built-in names and a tenant's own words: its brand, its departments. Each
// is compared exactly and by skeleton. It fails for a word that could not be a user name; the error
// is for the operator and names the word. Since the person who signs up did not cause it, it has
// the kind fault.Internal.
func NewReserved(tenantWords []string) (Reserved, error) {
	if len(tenantWords) == 0 {
		return Reserved{}, nil
	}
	own := newNameSet(len(tenantWords))
	for _, w := range tenantWords {
		if err := own.add(w, true); err != nil {
			return Reserved{}, err
		}
	}
	return Reserved{own}, nil
}

// check refuses a user name that is reserved. seen are the kinds of its bytes.
func (r Reserved) check(user string, seen class) error {
	built := builtInNames()
	if seen&alpha == 0 {
		number := user
		if seen&mark != 0 {
			var buf [maxUser]byte
			number = string(bare(buf[:0], user))
		}
		switch {
		case built.has(number):
			return fault.Rule("user", "service",
				"is an emergency or service number; choose another name")
		case r.own.has(number):
			return errKept()
		}
		return nil
	}
	if built.has(user) || r.own.has(user) {
		return errKept()
	}
	var buf [2 * maxUser]byte
	if letters(user) > shortName {
		looks := longSkeleton(buf[:0], user)
		if built.looksLong(looks) || r.own.looksLong(looks) {
			return errAlike()
		}
		return nil
	}
	for _, one := range readingsOfOne {
		looks := shortSkeleton(buf[:0], user, one)
		if built.looksShort(looks) || r.own.looksShort(looks) {
			return errAlike()
		}
	}
	return nil
}

func errKept() error {
	return fault.Rule("user", "kept", "is reserved for the platform; choose another name")
}

func errAlike() error {
	return fault.Rule("user", "alike",
		"looks like a name that is reserved for the platform; choose another name")
}

// nameSet is a set of reserved names, prepared for comparison. A nil nameSet is empty.
type nameSet struct {
	exact map[string]struct{}
	// short and long hold the skeletons of the names that are also compared by skeleton.
	short, long map[string]struct{}
}

func newNameSet(size int) *nameSet {
	return &nameSet{
		exact: make(map[string]struct{}, size),
		short: make(map[string]struct{}),
		long:  make(map[string]struct{}),
	}
}

// add adds a name to the set. If lookAlikes is true, its look-alikes are refused too.
func (s *nameSet) add(name string, lookAlikes bool) error {
	var seen class
	for i := range len(name) {
		seen |= classes[name[i]]
	}
	if len(name) > maxUser || seen&(capital|foreign) != 0 || seen&(alpha|digit) == 0 {
		return fmt.Errorf("reserved name %q must be 1 to 64 of the letters a to z, digits, dot, "+
			"underscore and hyphen, with at least one letter or digit", name)
	}
	s.exact[name] = struct{}{}
	if !lookAlikes {
		return nil
	}
	if seen&alpha == 0 {
		// Numbers are compared without separators.
		s.exact[string(bare(nil, name))] = struct{}{}
		return nil
	}
	if letters(name) <= shortName {
		for _, one := range readingsOfOne {
			s.short[string(shortSkeleton(nil, name, one))] = struct{}{}
		}
	}
	s.long[string(longSkeleton(nil, name))] = struct{}{}
	return nil
}

func (s *nameSet) has(name string) bool {
	if s == nil {
		return false
	}
	_, ok := s.exact[name]
	return ok
}

func (s *nameSet) looksShort(skeleton []byte) bool {
	if s == nil {
		return false
	}
	_, ok := s.short[string(skeleton)]
	return ok
}

func (s *nameSet) looksLong(skeleton []byte) bool {
	if s == nil {
		return false
	}
	_, ok := s.long[string(skeleton)]
	return ok
}

// shortName is the number of letters and digits up to which a name is compared by its short
// skeleton.
const shortName = 3

// readingsOfOne are the letters that the digit 1 resembles.
var readingsOfOne = [...]byte{'i', 'l'}

// shortSkeleton appends the skeleton of a name of up to three letters and digits: digits are
// replaced by the letters that they resemble, the digit 1 by one. Separators at the ends are
// removed, and so are those in a word of three letters that is spelled out.
func shortSkeleton(b []byte, name string, one byte) []byte {
	name = strings.Trim(name, "._-")
	spelled := len(name) == 5 && classes[name[1]] == mark && classes[name[3]] == mark
	for i := range len(name) {
		c := name[i]
		switch {
		case c == '1':
			b = append(b, one)
		case spelled && classes[c] == mark:
		default:
			b = append(b, resembled[c])
		}
	}
	return b
}

// longSkeleton appends the skeleton of a longer name. A letter that two others imitate is
// written as those two (m as nn, w as vv, d as cl), so that each byte can be translated on its
// own, wherever the imitation begins.
func longSkeleton(b []byte, name string) []byte {
	for i := range len(name) {
		c := resembled[name[i]]
		switch c {
		case '.', '_', '-':
		case 'i':
			b = append(b, 'l')
		case 'q':
			b = append(b, 'g')
		case 'm':
			b = append(b, 'n', 'n')
		case 'w':
			b = append(b, 'v', 'v')
		case 'd':
			b = append(b, 'c', 'l')
		case 'n':
			if last := len(b) - 1; last >= 0 && b[last] == 'r' {
				b[last] = 'n'
			}
			b = append(b, 'n')
		default:
			b = append(b, c)
		}
	}
	return b
}

// resembled maps each byte of a user name to the letter that it resembles. It maps 1 to i; callers
// that distinguish i from l handle 1 themselves.
var resembled = func() (t [256]byte) {
	for b := range t {
		t[b] = byte(b)
	}
	for i, c := range []byte("oizeasbtbg") {
		t['0'+i] = c
	}
	return t
}()

// letters returns the number of letters and digits in name.
func letters(name string) (n int) {
	for i := range len(name) {
		if classes[name[i]] != mark {
			n++
		}
	}
	return n
}

// bare appends name without its separators.
func bare(b []byte, name string) []byte {
	for i := range len(name) {
		if classes[name[i]] != mark {
			b = append(b, name[i])
		}
	}
	return b
}

//go:embed data/reserved.txt
var reservedText string

// builtInNames returns the names that are part of the program, parsed on first use. A mistake
// in the embedded file is a bug, so it panics; a test parses the file.
var builtInNames = sync.OnceValue(func() *nameSet {
	s, err := parseNames(reservedText)
	if err != nil {
		panic("account: data/reserved.txt: " + err.Error())
	}
	return s
})

// BuiltInReserved returns the reserved names that are part of the program, in order.
func BuiltInReserved() []string { return slices.Sorted(maps.Keys(builtInNames().exact)) }

// parseNames reads a list in the form that data/reserved.txt describes.
func parseNames(text string) (*nameSet, error) {
	s := newNameSet(strings.Count(text, "\n"))
	section := ""
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "" || line[0] == '#':
		case line == "[exact]" || line == "[skeleton]":
			section = line
		case section == "":
			return nil, fmt.Errorf("line %d: a name before the first section", number)
		case s.has(line):
			return nil, fmt.Errorf("line %d: %s is listed twice", number, line)
		default:
			if err := s.add(line, section == "[skeleton]"); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
		}
	}
	if len(s.long) == 0 {
		return nil, errors.New("no section of names whose look-alikes are refused")
	}
	return s, nil
}
