package config

import (
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// postgresURL matches the URL of a PostgreSQL database. net/url cannot parse it, since it may have
// several hosts. Its groups are the password with its colon, the rest, and the parameters. A URL
// with an unescaped / # ? or @ in its password is ambiguous, and does not match.
var postgresURL = func() *regexp.Regexp {
	const (
		host      = `(?:\[[0-9A-Fa-f:.]+(?:%25[^\]/?#@]+)?\]|[^][:/?#@,]+)(?::[0-9]{1,5})?`
		parameter = `[^=&#@]+=[^&#]*`
	)
	return regexp.MustCompile(`^postgres(?:ql)?://(?:[^:/?#@]*(:[^/?#]*)?@)?` +
		`((?:` + host + `(?:,` + host + `)*)?(?:/[^/?#:@,]*)?)` +
		`(?:\?(` + parameter + `(?:&` + parameter + `)*))?$`)
}()

// splitDatabaseURL returns the groups of postgresURL, or nil if text is not such a URL.
func splitDatabaseURL(text string) []string {
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil
	}
	if _, err := url.PathUnescape(text); err != nil || strings.HasSuffix(text, "://") {
		return nil
	}
	return postgresURL.FindStringSubmatch(text)
}

func parseDatabaseURL(v reflect.Value, text string) (hint string, ok bool) {
	v.SetString(text)
	switch {
	case splitDatabaseURL(text) != nil:
		return "", true
	case strings.HasPrefix(text, "sqlite:"):
		return "SQLite's file is dialtone.db inside data; leave database out, and set data", false
	case strings.HasPrefix(text, "postgres://"), strings.HasPrefix(text, "postgresql://"):
		return "a sign such as / # ? or a space in a password is written %2F %23 %3F %20", false
	}
	return "", false
}

// DatabaseHasPassword reports whether the value of the key database contains a password.
func (c Config) DatabaseHasPassword() bool { return hasPassword(c.Database) }

// hasPassword reports whether the URL of a database contains a password.
func hasPassword(text string) bool {
	m := splitDatabaseURL(text)
	if m == nil {
		return false
	}
	return m[1] != "" || slices.ContainsFunc(strings.Split(m[3], "&"), func(parameter string) bool {
		name, _, _ := strings.Cut(parameter, "=")
		// PostgreSQL's libraries unescape names too.
		name, err := url.QueryUnescape(name)
		return err != nil || strings.Contains(strings.ToLower(name), "pass") && name != "passfile"
	})
}

// parseCollectorURL refuses a URL with a user, whose password belongs in a file.
func parseCollectorURL(v reflect.Value, text string) (hint string, ok bool) {
	v.SetString(text)
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", false
	case u.User != nil:
		return "leave the user out; a header with credentials goes into the file of trace.header_file", false
	}
	return "", (u.Scheme == "http" || u.Scheme == "https") && isHost(u.Hostname()) &&
		(u.Port() == "" || isPort(u.Port())) && u.Fragment == ""
}

// RelayURL is the URL of an SMTP server, checked by Load; empty for none.
type RelayURL string

// Relay is the URL of an SMTP server, split into its parts.
type Relay struct {
	// Scheme is smtps, smtp+starttls or smtp.
	Scheme string
	// Address is host:port.
	Address string
	// User logs in with Mechanism: plain, login, cram-md5 or xoauth2, or empty for one that the
	// server offers.
	User, Mechanism string
	// Name is the name in the greeting, or empty.
	Name string
}

// Parts returns the parts of the URL.
func (u RelayURL) Parts() Relay {
	r, _, _ := splitRelayURL(string(u))
	return r
}

// relayPorts are the default ports by scheme.
var relayPorts = map[string]string{"smtps": "465", "smtp+starttls": "587", "smtp": "25"}

var relayMechanisms = []string{"plain", "login", "cram-md5", "xoauth2"}

func parseRelayURL(v reflect.Value, text string) (hint string, ok bool) {
	v.SetString(text)
	_, hint, ok = splitRelayURL(text)
	return hint, ok
}

func splitRelayURL(text string) (r Relay, hint string, ok bool) {
	u, err := url.Parse(text)
	if err != nil {
		return r, "", false
	}
	port, known := relayPorts[u.Scheme]
	if !known {
		return r, "it begins with smtps://, smtp+starttls:// or smtp://", false
	}
	if _, has := u.User.Password(); has {
		return r, "leave the password out; it goes into DIALTONE_MAIL_RELAY_PASSWORD or a file", false
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if !isHost(u.Hostname()) || !isPort(port) || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return r, "", false
	}
	r = Relay{Scheme: u.Scheme, Address: net.JoinHostPort(u.Hostname(), port), User: u.User.Username()}
	if r.Scheme == "smtp" && !isLoopback(r.Address) {
		return r, "without TLS, the server must be on this machine", false
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return r, "", false
	}
	for name, values := range query {
		switch {
		case len(values) != 1:
			return r, "a parameter is there twice", false
		case name == "auth" && slices.Contains(relayMechanisms, values[0]) && r.User != "":
			r.Mechanism = values[0]
		case name == "name" && isHost(values[0]):
			r.Name = values[0]
		default:
			return r, "after the ? come auth=plain, login, cram-md5 or xoauth2, if there is a user, " +
				"and name=HOST", false
		}
	}
	return r, "", true
}

// parseACMEURL refuses a directory without TLS, as RFC 8555 section 6.1 requires.
func parseACMEURL(v reflect.Value, text string) (hint string, ok bool) {
	v.SetString(text)
	u, err := url.Parse(text)
	return "", err == nil && u.Scheme == "https" && u.User == nil && isHost(u.Hostname()) &&
		(u.Port() == "" || isPort(u.Port())) && u.Fragment == ""
}
