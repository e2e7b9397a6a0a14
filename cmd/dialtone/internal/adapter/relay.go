package adapter

import (
	"fmt"
	"os"
	"strings"

	"dialtone/cmd/dialtone/internal/runas"
	"dialtone/internal/config"
	"dialtone/internal/mail/relay"
)

// securities maps the scheme of mail.relay to the encryption.
var securities = map[string]relay.Security{
	"smtps":         relay.TLS,
	"smtp+starttls": relay.StartTLS,
	"smtp":          relay.None,
}

// NewRelay returns a client of the relay in mail.relay, which must be set. It does not connect.
func NewRelay(m config.Mail) (*relay.Relay, error) {
	parts := m.Relay.Parts()
	c := relay.Config{
		Address:     parts.Address,
		Security:    securities[parts.Scheme],
		User:        parts.User,
		Password:    RelayPassword(m),
		Mechanism:   strings.ToUpper(parts.Mechanism),
		Name:        parts.Name,
		Connections: m.RelayConnections,
	}
	if c.Name == "" {
		// Some relays refuse a name without a domain.
		if name, err := os.Hostname(); err == nil && strings.Contains(name, ".") {
			c.Name = name
		}
	}
	var err error
	if c.Roots, err = Authorities(m.RelayCAFile); err != nil {
		return nil, fmt.Errorf("mail.relay_ca_file: %w", err)
	}
	return relay.New(c)
}

// RelayPassword returns a function that reads the password for the relay. It is called for every
// login.
func RelayPassword(m config.Mail) func() (string, error) {
	return func() (string, error) {
		if m.RelayPassword != (config.Secret{}) {
			return m.RelayPassword.Reveal(), nil
		}
		text, err := runas.ReadNamed(m.RelayPasswordFile)
		if err != nil {
			return "", fmt.Errorf("mail.relay_password_file: %w", err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
}
