package config

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// RelayURL is the URL of an SMTP server, as Load has checked it; empty for none.
type RelayURL string

// Relay is what the URL of an SMTP server says.
type Relay struct {
	// Scheme is smtps, smtp+starttls or smtp.
	Scheme string
	// Address is host:port.
	Address string
	// User is who logs in, and Mechanism how: plain, login, cram-md5 or xoauth2, or empty for what the server offers.
	User, Mechanism string
	// Name is what the program greets with, or empty.
	Name string
}

// Parts are the parts of the URL.
func (u RelayURL) Parts() Relay {
	r, _, _ := parseRelay(string(u))
	return r
}

// relayPorts are the ports of a relay's URL without one, by scheme.
var relayPorts = map[string]string{"smtps": "465", "smtp+starttls": "587", "smtp": "25"}

var relayMechanisms = []string{"plain", "login", "cram-md5", "xoauth2"}

// relay takes the URL of an SMTP server, or nothing.
func relay(p *RelayURL) form {
	return form{
		kind: "URL", want: "smtps://user@host:465, smtp+starttls://user@host:587, smtp://127.0.0.1:25, or nothing", toml: unstable.String,
		hide: hideRelay,
		set: func(text string) (string, bool) {
			_, hint, ok := parseRelay(text)
			if ok {
				*p = RelayURL(text)
			}
			return hint, ok
		},
	}
}

// hideRelay hides the password of a URL, and of a text that is none all that may be one.
func hideRelay(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		start := opened.FindString(text)
		if start == text {
			return text
		}
		return start + notShown
	}
	if _, has := u.User.Password(); has {
		return u.Scheme + "://" + u.User.Username() + ":" + hiddenPassword + "@" + u.Host
	}
	return text
}

func parseRelay(text string) (r Relay, hint string, ok bool) {
	if text == "" {
		return Relay{}, "", true
	}
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
	if u.Hostname() == "" || !isHost(u.Hostname()) || !isPort(port) || strings.Trim(u.Path, "/") != "" || u.Fragment != "" {
		return r, "", false
	}
	r = Relay{Scheme: u.Scheme, Address: net.JoinHostPort(u.Hostname(), port), User: u.User.Username()}
	if r.Scheme == "smtp" && !loopback(r.Address) {
		return r, "without TLS it is for a server on this machine alone", false
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return r, "", false
	}
	for name, values := range query {
		switch {
		case len(values) != 1:
			return r, name + " is there twice", false
		case name == "auth" && slices.Contains(relayMechanisms, values[0]) && r.User != "":
			r.Mechanism = values[0]
		case name == "name" && values[0] != "" && isHost(values[0]):
			r.Name = values[0]
		default:
			return r, "behind the ? goes auth=plain, login, cram-md5 or xoauth2, for a URL with a user, and name=HOST", false
		}
	}
	return r, "", true
}

// checkRelay wants a password for a user, in one place.
func (l *loading) checkRelay() {
	m := l.config.Mail
	if !l.right("mail.relay", "mail.relay_password", "mail.relay_password_file") {
		return
	}
	switch has := m.RelayPassword != "" || m.RelayPasswordFile != ""; {
	case m.Relay.Parts().User != "" && !has:
		l.fault(l.set["mail.relay"], Fault{Key: "mail.relay", Problem: "has a user, and there is no password",
			Hint: "set DIALTONE_MAIL_RELAY_PASSWORD, or mail.relay_password_file"})
	case m.RelayPassword != "" && m.RelayPasswordFile != "":
		l.fault(l.set["mail.relay_password_file"], Fault{Key: "mail.relay_password_file", Problem: "is set, and so is DIALTONE_MAIL_RELAY_PASSWORD",
			Hint: "keep one of them"})
	}
}
