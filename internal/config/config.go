// Package config reads the configuration: a TOML file, the environment and command-line flags.
//
// Guarantees:
//   - A flag overrides the environment, the environment overrides the file, and the file overrides
//     the default. An overridden value is checked too.
//   - Load reports all faults of all sources together, with line and column for the file, and
//     returns no configuration then. Only a file that is not TOML hides its other faults.
//   - Nothing is ignored: an unknown key, table, variable or flag is a fault, and so is a number in
//     quotes. If a known name is similar, the fault suggests it.
//   - A fault shows neither secrets nor URLs, which may contain a password, nor what is assigned to
//     an unknown name. It quotes every value, so that it cannot send control codes to a terminal.
//
// The struct Config is the only definition of the keys. Its tags give each key its name, type,
// default and placeholder; the names of the variable and of the flag follow from the key's name.
// The texts are in manual.md, with one section for each key: its first sentence is the help of the
// flag, and gen puts all of it into docs/configuration.md and docs/dialtone.example.toml.
package config

import (
	"log/slog"
	"net/netip"

	"dialtone/internal/redact"
)

// Config is the whole configuration. Its zero value is not valid; Load makes one.
//
// The tags of a field with a key are:
//
//	toml         the name of the key, or of the table for a struct
//	default      the default, as it would be written in a variable; "DATA/" stands for the value of data
//	unset        what an empty key means, where that is the default
//	is           the format of a string: directory, file, address or database
//	min, max     the range of a number
//	enum         the words that a key allows
//	placeholder  the name of the value in the help of the flag
type Config struct {
	// Data is the directory of everything that must survive a restart.
	Data string `toml:"data" is:"directory" default:"./data" placeholder:"DIR"`

	// Database is the URL of a PostgreSQL database, or empty for SQLite inside Data.
	Database string `toml:"database" is:"database" unset:"SQLite inside DATA" placeholder:"URL"`

	// Listen is the address of the public listener. An empty host means every address.
	Listen string `toml:"listen" is:"address" default:"127.0.0.1:8080" placeholder:"ADDR"`

	// Dev drops requirements that a developer's own machine cannot meet, such as HTTPS. Load
	// refuses it unless Listen is a loopback address.
	Dev bool `toml:"dev" default:"false"`

	Keys   KeyFiles `toml:"keys"`
	Mail   Mail     `toml:"mail"`
	HTTP   HTTP     `toml:"http"`
	TLS    TLS      `toml:"tls"`
	Ops    Ops      `toml:"ops"`
	Export Export   `toml:"directory"`
	Log    Log      `toml:"log"`
	Trace  Trace    `toml:"trace"`
	Limits Limits   `toml:"limits"`
}

// KeyFiles says where the cryptographic keys are.
type KeyFiles struct {
	// Dir is the directory of seal.key, sign.key and turn.key.
	Dir string `toml:"dir" is:"directory" default:"DATA/keys" placeholder:"DIR"`

	// Seal, Sign and Turn are the contents of those files if they come from the environment.
	Seal Secret `toml:"seal" unset:"the file"`
	Sign Secret `toml:"sign" unset:"the file"`
	Turn Secret `toml:"turn" unset:"the file"`
}

// Mail says how messages are sent.
type Mail struct {
	// PickupDir is the SMTP pickup directory. It is never Data itself.
	PickupDir string `toml:"pickup_dir" is:"directory" default:"DATA/pickup" placeholder:"DIR"`

	// TemplatesDir is the directory of an operator's templates, or empty.
	TemplatesDir string `toml:"templates_dir" is:"directory" unset:"none" placeholder:"DIR"`

	// Relay is the SMTP server that takes the messages if the program sends them itself.
	Relay RelayURL `toml:"relay" unset:"none" placeholder:"URL"`

	// RelayPassword is the password if it comes from the environment, RelayPasswordFile the file
	// that contains it otherwise. Both are empty if the relay needs no login.
	RelayPassword     Secret `toml:"relay_password" unset:"none"`
	RelayPasswordFile string `toml:"relay_password_file" is:"file" unset:"none" placeholder:"FILE"`

	// RelayCAFile contains the certificate authorities for the relay; empty for those of the
	// system.
	RelayCAFile string `toml:"relay_ca_file" is:"file" unset:"those of the system" placeholder:"FILE"`

	// RelayConnections is the number of connections to the relay at one time.
	RelayConnections int `toml:"relay_connections" min:"1" max:"32" default:"4" placeholder:"N"`
}

// HTTP says how the public listener treats its peers.
type HTTP struct {
	// TrustedProxies are the peers whose forwarded headers are used. The prefixes are masked, and
	// IPv4 is never mapped into IPv6: compare them with an unmapped address.
	TrustedProxies []netip.Prefix `toml:"trusted_proxies" unset:"none" placeholder:"LIST"`

	// SecurityTxt is the file that says how to report a weakness, or empty.
	SecurityTxt string `toml:"security_txt" is:"file" unset:"none" placeholder:"FILE"`

	// MaxConnections limits the open connections.
	MaxConnections int `toml:"max_connections" min:"1" max:"1000000" default:"8192" placeholder:"N"`

	// MaxPerAddress limits the open connections of one address.
	MaxPerAddress int `toml:"max_connections_per_address" min:"1" max:"1000000" default:"512" placeholder:"N"`
}

// TLS says whether the public listener speaks TLS, and where its certificates come from.
type TLS struct {
	// Cert are files with certificate chains, and Key those with their private keys, in the same order.
	Cert []File `toml:"cert" unset:"none" placeholder:"LIST"`
	Key  []File `toml:"key" unset:"none" placeholder:"LIST"`

	// ACME makes the server get a certificate for each tenant.
	ACME bool `toml:"acme" default:"false"`

	// Email is the address at which the certificate authority can reach the operator, or empty.
	Email string `toml:"acme_email" is:"email" unset:"none" placeholder:"ADDRESS"`

	// Directory is the URL of the certificate authority.
	Directory string `toml:"acme_directory" is:"acme" default:"https://acme-v02.api.letsencrypt.org/directory"`

	// CAFile contains the certificate authorities for the server of Directory; empty for those of
	// the system.
	CAFile string `toml:"acme_ca_file" is:"file" unset:"those of the system" placeholder:"FILE"`

	// RedirectListen is the address of a listener without TLS, which redirects, or empty.
	RedirectListen string `toml:"redirect_listen" is:"address" unset:"none" placeholder:"ADDR"`
}

// On reports whether the public listener speaks TLS.
func (t TLS) On() bool { return t.ACME || len(t.Cert) > 0 }

// File is the path of a file.
type File string

// Ops says where monitoring and phone servers connect.
type Ops struct {
	// Listen is the address of that listener. It is not for the public. Load refuses an address
	// that other machines can reach unless AllowCleartext is set.
	Listen string `toml:"listen" is:"address" default:"127.0.0.1:8081" placeholder:"ADDR"`

	// AllowCleartext allows connections from other machines although they are not encrypted.
	AllowCleartext bool `toml:"allow_cleartext" default:"false"`

	// Hosts are the names besides localhost and the host of Listen by which clients may call the
	// listener. They may always use an IP address.
	Hosts []string `toml:"hosts" unset:"none" placeholder:"LIST"`

	// TLSCert and TLSKey are files with the listener's certificate chain and private key; empty for no TLS.
	TLSCert string `toml:"tls_cert" is:"file" unset:"no TLS" placeholder:"FILE"`
	TLSKey  string `toml:"tls_key" is:"file" unset:"no TLS" placeholder:"FILE"`

	// TLSClientCA contains the certificate authorities of the clients; empty if clients need no
	// certificate.
	TLSClientCA string `toml:"tls_client_ca" is:"file" unset:"no client certificates" placeholder:"FILE"`
}

// Export says what is exported for phone servers besides the tables of the database.
type Export struct {
	// Htdigest are files in the format of Apache's htdigest, each for one tenant.
	Htdigest []Htdigest `toml:"htdigest" unset:"none" placeholder:"LIST"`
}

// Htdigest is a file with the accounts of a tenant.
type Htdigest struct {
	Host string // as the operator wrote it
	File string // an absolute path
}

// Log says what is logged and how.
type Log struct {
	Level  slog.Level `toml:"level" enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL"`
	Format LogFormat  `toml:"format" enum:"auto,json,text" default:"auto" placeholder:"FORMAT"`

	// Addresses says how much of a client's address the log and the audit trail contain.
	Addresses LogAddresses `toml:"addresses" enum:"network,full" default:"network" placeholder:"WHICH"`

	// AuditDays is how many days the store keeps a change in the audit trail.
	AuditDays int `toml:"audit_days" min:"1" max:"36500" default:"400" placeholder:"DAYS"`
}

// LogAddresses says how much of an address is logged.
type LogAddresses string

// The values of LogAddresses.
const (
	LogNetworks      LogAddresses = "network" // IPv4 /24, IPv6 /48
	LogFullAddresses LogAddresses = "full"
)

// LogFormat is the format of a log line.
type LogFormat string

// The formats of a log line.
const (
	LogAuto LogFormat = "auto" // LogText if the log goes to a terminal, else LogJSON
	LogJSON LogFormat = "json"
	LogText LogFormat = "text"
)

// Trace says where traces are sent.
type Trace struct {
	// Endpoint is the URL of a collector of OpenTelemetry, or empty for no traces.
	Endpoint string `toml:"endpoint" is:"collector" unset:"no traces" placeholder:"URL"`

	// Sample is the fraction of requests and background work that is recorded.
	Sample float64 `toml:"sample" min:"0" max:"1" default:"0.01" placeholder:"PART"`

	// HeaderFile is a file with a header for the collector, or empty.
	HeaderFile string `toml:"header_file" is:"file" unset:"none" placeholder:"FILE"`
}

// Limits are the limits that an operator may choose. Those fixed by the published API are not here.
type Limits struct {
	// SignupsPerAddressAllTenants limits the signups of one address within an hour over all
	// tenants; 0 means no limit.
	SignupsPerAddressAllTenants int `toml:"signups_per_address_all_tenants" max:"1000000" default:"0" placeholder:"N"`
}

// Secret is a secret from the environment.
type Secret = redact.Of[string]

// Remote reports whether other machines can reach the listener.
func (o Ops) Remote() bool { return !isLoopback(o.Listen) }
