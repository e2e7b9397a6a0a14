package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// form is what the value of a key looks like, and where it goes.
type form struct {
	// kind names the form in the manual, want in a fault: "expected …".
	kind, want string
	// toml is how the file writes the value, or each element of a list.
	toml unstable.Kind
	list bool
	// split parts the elements of a list in one text, where commas do not.
	split func(text string) []string
	// clear empties a list before its elements are set.
	clear func()
	// secret is a value that nobody but the environment may hold.
	secret bool
	// hide takes out of a value what a fault may not show; nil where that is nothing.
	hide func(text string) string
	// set takes one value, or one element of a list. Where it refuses, it may know what to do about it.
	set func(text string) (hint string, ok bool)
}

// hidden is a text as a fault may show it.
func (f form) hidden(text string) string {
	switch {
	case f.secret:
		return hiddenPassword
	case f.hide != nil:
		return f.hide(text)
	}
	return text
}

// hasPassword tells whether a value has a password in it, or one of its elements has.
func (f form) hasPassword(text string) bool {
	return f.hide != nil && slices.ContainsFunc(f.texts(text), func(t string) bool { return strings.Contains(f.hide(t), hiddenPassword) })
}

// refusal is a text that is not of the form, and what to do about it, if known.
type refusal struct{ text, hint string }

// texts are the elements of a list in one text, in which commas separate them, or the text itself.
func (f form) texts(text string) []string {
	if !f.list {
		return []string{text}
	}
	if strings.TrimSpace(text) == "" {
		return nil
	}
	texts := strings.Split(text, ",")
	if f.split != nil {
		texts = f.split(text)
	}
	for i, t := range texts {
		texts[i] = strings.TrimSpace(t)
	}
	return texts
}

// apply sets the value from one text.
func (f form) apply(text string) []refusal {
	if f.list {
		f.clear()
	}
	var refused []refusal
	for _, t := range f.texts(text) {
		if hint, ok := f.set(t); !ok {
			refused = append(refused, refusal{t, hint})
		}
	}
	return refused
}

// directoryOrNone is a directory, or nothing.
func directoryOrNone(p *string) form {
	f := directory(p)
	set := f.set
	f.set = func(text string) (string, bool) {
		if text == "" {
			*p = ""
			return "", true
		}
		return set(text)
	}
	return f
}

func directory(p *string) form {
	return form{
		kind: "directory", want: "a directory", toml: unstable.String,
		set: func(text string) (string, bool) {
			// The system calls end a path at NUL, and would take a part of the name for the whole.
			if strings.TrimSpace(text) == "" || strings.ContainsRune(text, 0) {
				return "", false
			}
			*p = text
			return "", true
		},
	}
}

// file takes the path of a file, or nothing.
func file(p *string) form {
	return form{
		kind: "file", want: "the path of a file, or nothing", toml: unstable.String,
		set: func(text string) (string, bool) {
			if strings.ContainsRune(text, 0) {
				return "", false
			}
			*p = text
			return "", true
		},
	}
}

// hiddenPassword stands where a password stood, and notShown where a part of a text may be one.
const (
	hiddenPassword = "[password]"
	notShown       = "[not shown]"
)

// postgresURL has the parts of the URL of a PostgreSQL database: scheme, user, password, hosts with their ports, database,
// parameters. Where a password has a sign in it that parts them, nobody can tell where it ends, and the URL is not of this shape.
var postgresURL = func() *regexp.Regexp {
	const (
		host      = `(?:\[[0-9A-Fa-f:.]+(?:%25[^\]/?#@]+)?\]|[^][:/?#@,]+)(?::[0-9]{1,5})?`
		parameter = `[^=&#@]+=[^&#]*`
	)
	return regexp.MustCompile(`^(postgres(?:ql)?://)(?:([^:/?#@]*)(:[^/?#]*)?@)?((?:` + host + `(?:,` + host + `)*)?(?:/[^/?#:@,]*)?)(?:\?(` +
		parameter + `(?:&` + parameter + `)*)?)?$`)
}()

// splitPostgres is the parts of a text that is such a URL, or nil.
func splitPostgres(text string) []string {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil
	}
	if _, err := url.PathUnescape(text); err != nil {
		return nil
	}
	m := postgresURL.FindStringSubmatch(text)
	if m == nil || m[0] == m[1] {
		return nil
	}
	return m
}

// opened is the part of a text before anything that may be a password: a file of SQLite, or the scheme of a URL.
var opened = regexp.MustCompile(`^(?:[0-9]{1,9}=)?(?:sqlite:.*|[A-Za-z][A-Za-z0-9+.-]{0,20}://)`)

// withoutPassword hides the password of a URL, and of a text that is none all that may be one.
func withoutPassword(text string) string {
	m := splitPostgres(text)
	if m == nil {
		if start := opened.FindString(text); start != text || text == "" {
			return start + notShown
		}
		return text
	}
	scheme, user, password, place, parameters := m[1], m[2], m[3], m[4], m[5]
	if password != "" {
		user += ":" + hiddenPassword
	}
	if user != "" {
		user += "@"
	}
	if parameters != "" {
		list := strings.Split(parameters, "&")
		for i, p := range list {
			name, _, _ := strings.Cut(p, "=")
			// The library unescapes names too.
			if n, err := url.QueryUnescape(name); err != nil || strings.Contains(strings.ToLower(n), "pass") && n != "passfile" {
				list[i] = name + "=" + hiddenPassword
			}
		}
		parameters = "?" + strings.Join(list, "&")
	}
	return scheme + user + place + parameters
}

// correctURL says what to do about a text that is not the URL of a PostgreSQL database.
func correctURL(text string) string {
	switch {
	case strings.HasPrefix(text, "sqlite:"):
		return "SQLite's file is dialtone.db inside data; leave database out, and set data"
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		return "a sign such as / # ? or a space in a password is written %2F %23 %3F %20"
	}
	return ""
}

// database takes the URL of a PostgreSQL database, or nothing for SQLite.
func database(p *string) form {
	return form{
		kind: "URL", want: "postgres://user@host:5432/database, or nothing for SQLite", toml: unstable.String, hide: withoutPassword,
		set: func(text string) (string, bool) {
			if text != "" && splitPostgres(text) == nil {
				return correctURL(text), false
			}
			*p = text
			return "", true
		},
	}
}

func htdigests(p *[]Htdigest) form {
	return form{
		kind: "list of HOST=FILE", want: "a tenant's host name and a file, as in phone.example.org=/etc/apache2/phone.htdigest",
		toml: unstable.String, list: true,
		clear: func() { *p = nil },
		set: func(text string) (string, bool) {
			host, file, ok := strings.Cut(text, "=")
			if !ok || host == "" || strings.ContainsAny(host, "/ ") || !filepath.IsAbs(file) || strings.ContainsRune(file, 0) {
				return "", false
			}
			if slices.ContainsFunc(*p, func(h Htdigest) bool { return h.File == file }) {
				return "the file is there twice, and each tenant has one of its own", false
			}
			*p = append(*p, Htdigest{host, file})
			return "", true
		},
	}
}

// held takes a secret out of the environment.
func held(p *Held) form {
	return form{
		kind: "text", want: "the content of a key file", toml: unstable.String, secret: true,
		set: func(text string) (string, bool) {
			*p = Held(text)
			return "", true
		},
	}
}

func boolean(p *bool) form {
	return form{
		kind: "true or false", want: "true or false", toml: unstable.Bool,
		set: func(text string) (string, bool) {
			*p = text == "true"
			return "", text == "true" || text == "false"
		},
	}
}

func number(p *int, least, most int) form {
	return form{
		kind: fmt.Sprintf("number, %d to %d", least, most),
		want: fmt.Sprintf("a whole number from %d to %d", least, most), toml: unstable.Integer,
		set: func(text string) (string, bool) {
			n, err := strconv.Atoi(text)
			if err != nil || n < least || n > most {
				return "", false
			}
			*p = n
			return "", true
		},
	}
}

// oneOf takes one of words, and sets the value that stands at the same place.
func oneOf[T any](p *T, words []string, values []T) form {
	last := len(words) - 1
	choice := strings.Join(words[:last], ", ") + " or " + words[last]
	return form{
		kind: choice, want: choice, toml: unstable.String,
		set: func(text string) (string, bool) {
			i := slices.Index(words, text)
			if i < 0 {
				return didYouMean(nearest(text, words)), false
			}
			*p = values[i]
			return "", true
		},
	}
}

func address(p *string) form {
	return form{
		kind: "host:port", want: "host:port, such as 127.0.0.1:8080", toml: unstable.String,
		set: func(text string) (string, bool) {
			host, port, err := net.SplitHostPort(text)
			if err != nil {
				return correctAddress(text), false
			}
			if !isPort(port) || !isHost(host) {
				return "", false
			}
			*p = text
			return "", true
		},
	}
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == text
}

// isHost takes what a listener can be bound to: nothing, an address, or the shape of a host name.
func isHost(text string) bool {
	if text == "" {
		return true
	}
	if _, err := netip.ParseAddr(text); err == nil {
		return true
	}
	// What consists of digits and dots is a mistyped address, and never a name.
	if strings.Trim(text, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") || shownName(label) != label {
			return false
		}
	}
	return true
}

// correctAddress says what to do about an address that net.SplitHostPort cannot split.
func correctAddress(text string) string {
	switch scheme, _, ok := strings.Cut(text, "://"); {
	case ok:
		return "leave out " + shownName(scheme) + "://"
	case isPort(text):
		return "did you mean 127.0.0.1:" + text + "?"
	case strings.Count(text, ":") > 1 && strings.Trim(text, "0123456789abcdefABCDEF:.") == "":
		return "an IPv6 address goes in brackets, as in [::1]:8080"
	case text != "" && isHost(text):
		return "the port is missing"
	}
	return ""
}

func prefixes(p *[]netip.Prefix) form {
	return form{
		kind: "list of addresses and CIDR prefixes",
		want: "an address or CIDR prefix, such as 10.0.0.0/8", toml: unstable.String, list: true,
		clear: func() { *p = nil },
		set: func(text string) (string, bool) {
			prefix, hint, ok := parsePrefix(text)
			if ok {
				*p = append(*p, prefix)
			}
			return hint, ok
		},
	}
}

func parsePrefix(text string) (_ netip.Prefix, hint string, ok bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, "leave out the zone, %" + shownName(addr.Zone()), false
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), "", true
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, "", false
	}
	if prefix.Bits() == 0 {
		return netip.Prefix{}, "that is everybody, and everybody could claim any address", false
	}
	if prefix != prefix.Masked() {
		// Either the address or the length is not what was meant, and the two readings trust different peers.
		return netip.Prefix{}, fmt.Sprintf("did you mean %s or %s?", prefix.Masked(), prefix.Addr()), false
	}
	if prefix.Addr().Is4In6() {
		if prefix.Bits() <= 96 {
			return netip.Prefix{}, "that is every IPv4 address, and everybody could claim any address", false
		}
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix, "", true
}
