package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"

	"dialtone/internal/fault"
)

// Bounds of an address, in bytes: RFC 5321 section 4.5.3.1.1 for the part before the @, and for
// the whole address a path of 256 without its angle brackets (section 4.5.3.1.3). A label of a
// domain has at most 63 (RFC 1035 section 2.3.4).
const (
	maxEmail = 254
	maxLocal = 64
	maxLabel = 63
)

// CleanEmail returns the address in raw in the form to which messages are sent: at most 254 bytes of
// ASCII, a dot-atom (RFC 5322 section 3.2.3) of at most 64 bytes, an @, and a domain of at least two
// labels in lower case. Labels of other scripts become A-labels (IDNA2008, RFC 5890 section
// 2.3.2.1). The dot-atom does not begin with a hyphen and has none of |`/%!. It keeps its case,
// since only its own mail server knows whether that matters. CleanEmail is idempotent.
//
// It accepts one address and nothing else: no display name, comment, quotes, route, list, group,
// address literal or white space, because this text goes into a message's header and perhaps into
// the arguments of the program that sends it. It does not check whether anybody reads mail there.
// It fails with fault.Field("email", …).
func CleanEmail(raw string) (string, error) {
	// A code point takes at least one byte in an A-label, and at most four in UTF-8. So a
	// longer text cannot become an address short enough, and is not passed to IDNA.
	if len(raw) > utf8.UTFMax*maxEmail {
		return "", longEmail()
	}
	if err := checkOne(raw); err != nil {
		return "", err
	}
	local, domain, _ := strings.Cut(raw, "@")
	if err := checkLocal(local); err != nil {
		return "", err
	}
	domain, err := cleanDomain(domain)
	if err != nil {
		return "", err
	}
	email := local + "@" + domain
	if len(email) > maxEmail {
		return "", longEmail()
	}
	return email, nil
}

func longEmail() error {
	return fault.Rule("email", "long", "must be at most %d characters long; use a shorter address",
		maxEmail)
}

// checkOne refuses raw unless it has exactly one @, no white space, and no separator of a list.
func checkOne(raw string) error {
	if raw == "" {
		return fault.Rule("email", "empty",
			"is empty; enter an address such as name@example.org")
	}
	found := false
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == ' ':
			return fault.Rule("email", "space", "must have no spaces; take them out")
		case c < ' ' || c == 0x7F:
			return fault.Rule("email", "control",
				"has a line break, tab or other control character; type it again as one line")
		case c == ',' || c == ';' || c == '<' || c == '>' || c == '@' && found:
			return fault.Rule("email", "several",
				"must be one address and nothing else, such as name@example.org")
		case c == '@':
			found = true
		}
	}
	if !found {
		return fault.Rule("email", "at", "has no @; write it as name@example.org")
	}
	return nil
}

// checkLocal refuses the part before the @ unless it is a dot-atom that every mail server accepts.
func checkLocal(local string) error {
	switch {
	case local == "":
		return fault.Rule("email", "local",
			"has nothing before the @; write it as name@example.org")
	case len(local) > maxLocal:
		return fault.Rule("email", "long",
			"must have at most %d characters before the @; use a shorter address", maxLocal)
	case local[0] == '-':
		// Programs that get the address as an argument would parse it as an option.
		return fault.Rule("email", "hyphen", "must not begin with a hyphen; use another address")
	}
	last := byte('.')
	for i := range len(local) {
		c := local[i]
		switch {
		case c >= utf8.RuneSelf:
			return fault.Rule("email", "script",
				"has letters other than a to z before the @, which are not supported; use another address")
		case c == '.' && last == '.':
			return fault.Rule("email", "dots",
				"has a dot that does not stand between two characters; check the part before the @")
		case c != '.' && !atext[c]:
			return fault.Rule("email", "sign",
				"has a character before the @ that is not supported; check it, or use another address")
		}
		last = c
	}
	if last == '.' {
		return fault.Rule("email", "dots",
			"has a dot that does not stand between two characters; check the part before the @")
	}
	return nil
}

// atext are the bytes of an atom (RFC 5322 section 3.2.3), except those that have made mail
// servers run programs, write files or relay messages: | and ` for a shell, / for a file, % and
// ! for a route. Many mail servers refuse them by default, and no mailbox provider gives them
// out.
var atext = func() (t [256]bool) {
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#$&'*+-=?^_{}~") {
		t[c] = true
	}
	return t
}()

// cleanDomain returns domain in lower case and with A-labels.
func cleanDomain(domain string) (string, error) {
	if domain == "" {
		return "", fault.Rule("email", "domain", "has nothing after the @; write it as name@example.org")
	}
	// Only some names need IDNA: those with other scripts, A-labels, and labels that resemble
	// these because their third and fourth characters are hyphens.
	domain = lowerASCII(domain)
	foreign := len(domain) != utf8.RuneCountInString(domain)
	if foreign || strings.Contains(domain, "--") {
		var err error
		if domain, err = toALabels(domain); err != nil {
			return "", err
		}
	}
	return domain, checkHost(domain)
}

func badDomain() error {
	return fault.Rule("email", "domain", "has a domain that no mail can be sent to; check the part after the @")
}

// checkHost refuses a domain, in lower-case ASCII, that is not a host name of two or more labels
// (RFC 1123 section 2.1).
func checkHost(domain string) error {
	labels, start, numeric := 0, 0, true
	for i := 0; i <= len(domain); i++ {
		if i < len(domain) && domain[i] != '.' {
			kind := classes[domain[i]]
			if kind&(alpha|digit) == 0 && domain[i] != '-' {
				return badDomain()
			}
			numeric = numeric && kind == digit
			continue
		}
		if i == start || i-start > maxLabel || domain[start] == '-' || domain[i-1] == '-' {
			return badDomain()
		}
		labels++
		if i == len(domain) {
			break
		}
		start, numeric = i+1, true
	}
	switch {
	case labels < 2:
		return fault.Rule("email", "domain", "needs a full domain after the @, such as example.org")
	case numeric:
		// The last label distinguishes a name from an IPv4 address.
		return fault.Rule("email", "number",
			"has a number where its domain should be; write a name such as example.org after the @")
	}
	return nil
}

// toALabels turns a domain with labels of other scripts into A-labels. The rules are those for
// registering a name, which map nothing: full-width letters, ligatures and invisible characters
// are refused and not mapped to others. Capitals are the exception (RFC 5895 section 2), since
// phones put one at the start of every field. A capital whose lower case is an ASCII letter is
// not mapped: the Kelvin sign is not a k.
func toALabels(domain string) (string, error) {
	if !utf8.ValidString(domain) {
		return "", badDomain()
	}
	domain = norm.NFC.String(strings.Map(func(r rune) rune {
		if small := unicode.ToLower(r); small >= utf8.RuneSelf {
			return small
		}
		return r
	}, domain))
	ascii, err := idna.Registration.ToASCII(domain)
	var shown string
	if err == nil {
		shown, err = idna.Registration.ToUnicode(ascii)
	}
	if err != nil {
		return "", badDomain()
	}
	// The package follows UTS #46, which allows symbols. IDNA2008 does not (RFC 5892 section 2).
	for _, r := range shown {
		if r >= utf8.RuneSelf && !unicode.In(r, unicode.L, unicode.M, unicode.Nd) && !inContext(r) {
			return "", badDomain()
		}
	}
	return ascii, nil
}

// inContext reports whether r is one of the signs that IDNA2008 allows in certain places (RFC 5892
// sections 2.6 and 2.7). The context of the joiners was checked; that of the others is left to the
// registrant (RFC 5891 section 5.4).
func inContext(r rune) bool {
	switch r {
	case zwnj, zwj, '\u00B7', '\u0375', '\u05F3', '\u05F4', '\u30FB':
		return true
	}
	return false
}

// RecipientKey returns a key that is equal for addresses that probably belong to one person:
// without a +tag, in lower case, and without the characters that the provider ignores. It is used to
// count messages, never to send one. email is a result of CleanEmail.
func RecipientKey(email string) string {
	local, domain, _ := strings.Cut(lowerASCII(email), "@")
	name, _, _ := strings.Cut(local, "+")
	if name == "" {
		name = local // it begins with the +
	}
	if p, ok := providers[domain]; ok {
		domain = p.domain
		if bare := p.ignored.Replace(name); bare != "" {
			name = bare
		}
	}
	return name + "@" + domain
}

// providers are mail services that ignore some characters of a local part, by their domains.
var providers = func() map[string]provider {
	gmail := provider{"gmail.com", strings.NewReplacer(".", "")}
	proton := provider{"proton.me", strings.NewReplacer(".", "", "-", "", "_", "")}
	return map[string]provider{
		"gmail.com": gmail, "googlemail.com": gmail,
		"proton.me": proton, "protonmail.com": proton, "pm.me": proton,
	}
}()

// provider is a mail service: the domain that all its domains are aliases of, and a Replacer
// that removes the characters that it ignores.
type provider struct {
	domain  string
	ignored *strings.Replacer
}

// lowerASCII returns s with the letters A to Z in lower case, and nothing else changed.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if c := b[j]; 'A' <= c && c <= 'Z' {
					b[j] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
