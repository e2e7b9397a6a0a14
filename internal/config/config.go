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
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

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

// loader is the state of one Load.
type loader struct {
	config Config
	keys   []Key
	// set says which source gave each key its value. A key with its default is not in it.
	set    map[string]place
	faults Faults
	// unread is set if the file could not be read, so that its keys are not known.
	unread bool
}

// Load reads the file at path, applies the environment (entries as os.Environ returns them) and the
// flags (from the name of the key to the text), and checks the result. If path is empty, it reads
// the file that DIALTONE_CONFIG names, if any. Relative paths stay relative to the working
// directory.
//
// The error is of type Faults and has every fault: those of the file by line and column, then those
// of the environment, then those of the flags. Config is empty then.
func Load(path string, environ []string, flags map[string]string) (Config, error) {
	return load(environ, flags, func(l *loader, named string) {
		if path != "" {
			l.readFile(path, "")
		} else if named != "" {
			l.readFile(named, configVariable+" names this file")
		}
	})
}

// Parse is Load for the text of a file that does not exist yet. name is its name in faults.
func Parse(name, text string, environ []string) (Config, error) {
	return load(environ, nil, func(l *loader, _ string) { l.readTOML(name, []byte(text)) })
}

// load is Load with a function that reads the file. The environment may name one.
func load(environ []string, flags map[string]string, read func(l *loader, named string)) (Config, error) {
	l := &loader{keys: Keys(), set: map[string]place{}}
	for _, k := range l.keys {
		if !strings.HasPrefix(k.Default, dataPrefix) {
			l.applyText(place{}, k, k.Default)
		}
	}
	variables := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, envPrefix) && !kubernetesVariable.MatchString(entry) {
			variables[name] = value
		}
	}
	named := variables[configVariable]
	delete(variables, configVariable)
	read(l, named)
	l.readVariables(variables)
	l.readFlags(flags)
	for _, k := range l.keys {
		if sub, ok := strings.CutPrefix(k.Default, dataPrefix); ok && l.value(k).IsZero() {
			l.value(k).SetString(filepath.Join(l.config.Data, sub))
		}
	}
	l.check()
	if len(l.faults) > 0 {
		slices.SortStableFunc(l.faults, compareFaults)
		return Config{}, l.faults
	}
	return l.config, nil
}

const configVariable = envPrefix + "CONFIG"

// kubernetesVariable matches the variables that Kubernetes adds to every pod of a namespace with a
// Service called dialtone or dialtone-something. No operator wrote them.
var kubernetesVariable = regexp.MustCompile(`^DIALTONE(_[A-Z0-9_]+)?_` +
	`(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?=|PORT=[a-z]+://)`)

// readVariables sets the keys whose variables are in the environment.
func (l *loader) readVariables(variables map[string]string) {
	for name, text := range variables {
		at := place{Source: quoteName(name), rank: rankEnvironment}
		if k, ok := l.find(name, Key.Variable); ok {
			l.applyText(at, k, text)
		} else {
			l.unknown(at, "", "unknown variable", strings.TrimPrefix(name, envPrefix), Key.Variable)
		}
	}
}

// readFlags sets the keys that flags names.
func (l *loader) readFlags(flags map[string]string) {
	for name, text := range flags {
		k, ok := l.find(name, Key.name)
		at := place{Source: quoteName(Key{Name: name}.Flag()), rank: rankFlag}
		switch {
		case !ok:
			l.unknown(at, "", "unknown flag", name, Key.Flag)
		case k.Secret:
			l.misplacedSecret(at, k)
		case k.Name == "database" && hasPassword(text):
			l.fault(at, name, "has a password in it, which every user of this machine could see",
				"use "+k.Variable()+", the file, or a PGPASSFILE")
		default:
			l.applyText(at, k, text)
		}
	}
}

func (l *loader) misplacedSecret(at place, k Key) {
	l.fault(at, k.Name, "is taken from "+k.Variable()+" alone, since other users may read this source", "")
}

// applyText sets a key from one text. Commas separate the elements of a list.
func (l *loader) applyText(at place, k Key, text string) {
	switch {
	case !k.List:
		l.apply(at, k, text)
	case strings.TrimSpace(text) == "":
		l.apply(at, k)
	default:
		l.apply(at, k, strings.Split(text, ",")...)
	}
}

// apply sets a key from its text, or from the texts of its elements, and reports those that are
// wrong. It replaces the existing elements of a list.
func (l *loader) apply(at place, k Key, texts ...string) {
	if at.rank != rankDefault {
		l.set[k.Name] = at
	}
	field := l.value(k)
	field.SetZero()
	for _, text := range texts {
		v := field
		if k.List {
			v = reflect.New(field.Type().Elem()).Elem()
			text = strings.TrimSpace(text)
		}
		if hint, ok := k.format.parse(v, text); !ok {
			shown := k.show(text)
			if at.rank == rankFile && k.format.kind != reflect.String {
				shown = text
			}
			l.fault(at, k.Name, "expected "+k.format.want+", not "+shown, hint)
		} else if k.List {
			field.Set(reflect.Append(field, v))
		}
	}
}

// value is the field of a key.
func (l *loader) value(k Key) reflect.Value {
	return reflect.ValueOf(&l.config).Elem().FieldByIndex(k.index)
}

// find returns the key whose spelling, as spell writes it, is name.
func (l *loader) find(name string, spell func(Key) string) (k Key, ok bool) {
	i := slices.IndexFunc(l.keys, func(k Key) bool { return spell(k) == name })
	if i < 0 {
		return Key{}, false
	}
	return l.keys[i], true
}

// check applies the rules about more than one key. A rule is skipped if one of its keys has a
// fault.
func (l *loader) check() {
	c := &l.config
	if l.sound("dev", "listen") && c.Dev && !isLoopback(c.Listen) {
		l.fault(l.set["dev"], "dev", "expected false unless listen is a loopback address, not true",
			fmt.Sprintf("listen is %s, from %s", quote(c.Listen), l.set["listen"]))
	}
	if l.sound("ops.listen", "ops.allow_cleartext", "ops.tls_cert") && !c.Ops.AllowCleartext && c.Ops.Remote() &&
		c.Ops.TLSCert == "" {
		l.fault(l.set["ops.listen"], "ops.listen", "expected a loopback address, not "+quote(c.Ops.Listen)+
			", since look-ups return password hashes and the connection is not encrypted",
			"set ops.tls_cert and ops.tls_key, or ops.allow_cleartext = true if nobody else can listen")
	}
	l.checkTLS()
	if l.sound("data", "mail.pickup_dir") && filepath.Clean(c.Mail.PickupDir) == filepath.Clean(c.Data) {
		// A mail server that reads the pickup directory would send the database, or delete it.
		l.fault(l.set["mail.pickup_dir"], "mail.pickup_dir",
			"expected a directory other than data, not "+quote(c.Mail.PickupDir), "")
	}
	files := map[string]bool{}
	for _, h := range c.Export.Htdigest {
		if files[h.File] {
			l.fault(l.set["directory.htdigest"], "directory.htdigest",
				"the file "+quote(h.File)+" is listed twice", "give each tenant a file of its own")
		}
		files[h.File] = true
	}
	if l.sound("trace.endpoint", "trace.header_file") && c.Trace.HeaderFile != "" {
		if u, err := url.Parse(c.Trace.Endpoint); err == nil && u.Scheme == "http" && !isLoopbackHost(u.Hostname()) {
			l.fault(l.set["trace.header_file"], "trace.header_file",
				"expected nothing, since the connection to trace.endpoint is not encrypted", "use https://")
		}
	}
	if !l.sound("mail.relay", "mail.relay_password", "mail.relay_password_file") {
		return
	}
	m := c.Mail
	switch {
	case m.Relay.Parts().User != "" && m.RelayPassword == Secret{} && m.RelayPasswordFile == "":
		l.fault(l.set["mail.relay"], "mail.relay", "has a user, and there is no password",
			"set DIALTONE_MAIL_RELAY_PASSWORD or mail.relay_password_file")
	case m.RelayPassword != Secret{} && m.RelayPasswordFile != "":
		l.fault(l.set["mail.relay_password_file"], "mail.relay_password_file",
			"is set, and so is DIALTONE_MAIL_RELAY_PASSWORD", "keep one of them")
	}
}

// checkTLS applies the rules about the keys of TLS.
func (l *loader) checkTLS() {
	c := &l.config
	if l.sound("tls.cert", "tls.key") && len(c.TLS.Cert) != len(c.TLS.Key) {
		key := "tls.cert"
		if len(c.TLS.Key) > len(c.TLS.Cert) {
			key = "tls.key"
		}
		l.fault(l.set[key], key, fmt.Sprintf("expected as many files in tls.cert as in tls.key, not %d and %d",
			len(c.TLS.Cert), len(c.TLS.Key)), "each certificate needs its key, in the same order")
	}
	if l.sound("tls.cert", "tls.acme") && c.TLS.ACME && len(c.TLS.Cert) > 0 {
		l.fault(l.set["tls.acme"], "tls.acme", "expected false, since tls.cert names certificates", "keep one of them")
	}
	if l.sound("tls.redirect_listen", "tls.cert", "tls.acme") && c.TLS.RedirectListen != "" && !c.TLS.On() {
		l.fault(l.set["tls.redirect_listen"], "tls.redirect_listen",
			"expected nothing, since the public listener does not speak TLS", "set tls.cert and tls.key, or tls.acme")
	}
	for _, other := range []struct{ key, at string }{{"listen", c.Listen}, {"ops.listen", c.Ops.Listen}} {
		if l.sound("tls.redirect_listen", other.key) && sameAddress(c.TLS.RedirectListen, other.at) {
			l.fault(l.set["tls.redirect_listen"], "tls.redirect_listen", "expected another address than "+
				quote(other.at)+", which "+other.key+" has", "choose another port, usually 80")
		}
	}
	if l.sound("dev", "tls.cert", "tls.acme") && c.Dev && c.TLS.On() {
		l.fault(l.set["dev"], "dev", "expected false, since the public listener speaks TLS",
			"leave out the keys of [tls]")
	}
	if l.sound("ops.tls_cert", "ops.tls_key") && (c.Ops.TLSCert == "") != (c.Ops.TLSKey == "") {
		key, other := "ops.tls_cert", "ops.tls_key"
		if c.Ops.TLSCert == "" {
			key, other = other, key
		}
		l.fault(l.set[key], key, "is set, and "+other+" is not", "a certificate needs its key")
	}
	if l.sound("ops.tls_cert", "ops.tls_client_ca") && c.Ops.TLSClientCA != "" && c.Ops.TLSCert == "" {
		l.fault(l.set["ops.tls_client_ca"], "ops.tls_client_ca",
			"expected nothing, since the listener does not speak TLS", "set ops.tls_cert and ops.tls_key")
	}
}

// sound reports whether the keys are known and have no fault of their own.
func (l *loader) sound(names ...string) bool {
	return !l.unread &&
		!slices.ContainsFunc(l.faults, func(f Fault) bool { return slices.Contains(names, f.Key) })
}

// Remote reports whether other machines can reach the listener.
func (o Ops) Remote() bool { return !isLoopback(o.Listen) }

// sameAddress reports whether two listeners could not both listen on their addresses.
func sameAddress(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" &&
		(hostA == hostB || isUnspecified(hostA) || isUnspecified(hostB))
}

func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// isLoopback reports whether only this machine can reach the address.
func isLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && isLoopbackHost(host)
}

func isLoopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
