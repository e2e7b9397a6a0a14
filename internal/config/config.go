// Package config turns a file, the environment and command-line flags into one checked Config.
//
// Every key is one field of Config and one row of the table in keys.go. The row says how the key is called, what it looks
// like, what it is by default and what it means; the file, the environment variable, the flag, the manual page and the
// example file all come from that row, so that none of them can disagree with another.
//
// A flag beats the environment, the environment beats the file, the file beats the default. A value that is beaten is
// checked all the same: a fault does not hide until the day on which the variable above it goes away.
//
// The promises:
//   - Nothing is guessed or passed over. An unknown key, an unknown DIALTONE_ variable, a number in quotes, a key given
//     twice: each is a fault, and Load then returns no configuration at all.
//   - All faults come at once, each with its place, and with the correction where one is likely. Not even broken TOML
//     hides the faults after it: reading goes on at the next line that looks like a key or a table.
//   - A fault shows the value of a known key only, quoted and cut short, so that it can neither drive a terminal nor show
//     what somebody typed under a misspelt name. A password in a URL it leaves out, and so it does with all of a broken one that
//     may be a password.
//
// The file is read with the parser of go-toml rather than decoded into the struct, since a decoder stops at its first
// fault and forgets where each value stood. The decoder then has the last word on what is TOML.
package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

//go:generate go run ./gen

// Config is the whole configuration, checked. Its zero value is not valid; Load makes one.
type Config struct {
	// Data is the directory of everything that must survive a restart.
	Data string
	// Database is the URL of a PostgreSQL database, or empty for SQLite inside Data.
	Database string
	// Listen is the address of the public listener, as host:port. An empty host means every address of the machine.
	Listen string
	// Dev relaxes what a developer's own machine cannot offer, such as HTTPS. Load refuses it off loopback.
	Dev bool

	Keys      KeyFiles
	Mail      Mail
	HTTP      HTTP
	Ops       Ops
	Directory Directory
	Log       Log
	Limits    Limits
}

// KeyFiles says where the keys come from.
type KeyFiles struct {
	// Dir is the directory of seal.key, sign.key and turn.key.
	Dir string
	// Seal, Sign and Turn are the content of those files, where the environment has it, and else empty.
	Seal, Sign, Turn Held
}

// Held is a secret that the environment holds. It does not print.
type Held string

const redacted = "[secret]"

// String and its kin keep it out of logs.
func (Held) String() string               { return redacted }
func (Held) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Held) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Format keeps it out of the verbs that would print its bytes.
func (Held) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// Mail says how messages leave.
type Mail struct {
	// PickupDir is the SMTP pickup directory. It is never Data itself.
	PickupDir string
	// TemplatesDir is the directory of an operator's templates, or empty.
	TemplatesDir string
	// Relay is the SMTP server that takes the messages, if the program is to send them itself.
	Relay RelayURL
	// RelayPassword is what the environment holds, RelayPasswordFile the file that has it otherwise; both are empty where nobody logs in.
	RelayPassword     Held
	RelayPasswordFile string
	// RelayCAFile has the certificates by which the server's is checked; the system's where empty.
	RelayCAFile string
	// RelayConnections is how many messages are handed over at a time.
	RelayConnections int
}

// HTTP says how the public listener treats its peers.
type HTTP struct {
	// TrustedProxies are the peers whose forwarded headers count, masked, and IPv4 as IPv4: compare with an unmapped
	// address.
	TrustedProxies []netip.Prefix
	// MaxConnections bounds the connections that are open at one time.
	MaxConnections int
	// MaxConnectionsPerAddress bounds those of one address.
	MaxConnectionsPerAddress int
}

// Ops says where machines that look after this one are answered.
type Ops struct {
	// Listen is the address of that listener, as host:port. It is not for the public.
	Listen string
}

// Directory says what is kept for phone servers besides their tables.
type Directory struct {
	// Htdigest are files of HA1s, each of one tenant.
	Htdigest []Htdigest
}

// Htdigest is a file that has the accounts of a tenant.
type Htdigest struct {
	Host string // as an operator types it
	File string // an absolute path
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level
	Format LogFormat
}

// LogFormat is the shape of a log line.
type LogFormat string

// The shapes of a log line.
const (
	// LogAuto is LogText when the log goes to a terminal, LogJSON otherwise.
	LogAuto LogFormat = "auto"
	// LogJSON is one JSON object a line.
	LogJSON LogFormat = "json"
	// LogText is for eyes.
	LogText LogFormat = "text"
)

// Limits are the limits that an operator may choose. Those that the published API fixes are not among them.
type Limits struct {
	// SignupsPerAddressAllTenants bounds the sign-ups from one address within an hour, over all tenants; 0 is no bound.
	SignupsPerAddressAllTenants int
}

// maxFile bounds what is read as a configuration file; a longer one is a mistake, such as a device or a log.
const maxFile = 256 << 10

// Load reads the file at path, applies the environment (entries as os.Environ gives them) and then flags (key to text, for
// the flags that were set), and checks the result. With an empty path it reads the file that DIALTONE_CONFIG names, or
// no file where that is empty too. Directories are left as written: a relative one is relative to the working directory.
//
// The error is a Faults and holds every fault: those of the file by line and column, then those of the environment, then
// those of the flags. With an error, the Config is empty.
func Load(path string, environ []string, flags map[string]string) (Config, error) {
	var from string
	if path == "" {
		if path = lookup(environ, configVariable); path != "" {
			from = configVariable + " names this file"
		}
	}
	l := newLoading()
	if path != "" {
		if file, err := read(path); err != nil {
			l.fault(place{source: path, order: orderFile}, Fault{Problem: "cannot be read: " + err.Error(), Hint: from})
		} else {
			l.file(path, file)
		}
	}
	return l.finish(environ, flags)
}

// finish is the rest of Load, once the file has been read.
func (l *loading) finish(environ []string, flags map[string]string) (Config, error) {
	l.environment(environ)
	l.flags(flags)
	l.derive()
	l.check()
	if len(l.faults) > 0 {
		return Config{}, l.sorted()
	}
	return *l.config, nil
}

// read is os.ReadFile with a bound, and an error that leaves out the name, which every fault begins with.
func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes", maxFile)
	}
	return b, nil
}

func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// The order in which sources are named, which is also the order in which each beats the one before.
const (
	orderDefault = iota
	orderFile
	orderEnvironment
	orderFlag
)

// place is where a value or a fault stands. Line and column are 0 outside a file.
type place struct {
	source       string
	order        int
	line, column int
}

func (p place) String() string {
	switch {
	case p.order == orderDefault:
		return "the default"
	case p.line == 0:
		return p.source
	}
	return fmt.Sprintf("%s:%d", p.source, p.line)
}

// loading is one run of Load.
type loading struct {
	config *Config
	keys   []key
	// set says where each key got the value that it has.
	set    map[string]place
	faults []placedFault
}

type placedFault struct {
	place
	fault Fault
}

// newLoading begins with the defaults.
func newLoading() *loading {
	c := new(Config)
	l := &loading{config: c, keys: keys(c), set: map[string]place{}}
	for _, k := range l.keys {
		if k.standard != "" {
			k.apply(k.standard)
		}
	}
	return l
}

func (l *loading) fault(at place, f Fault) {
	f.Source, f.Line, f.Column = at.source, at.line, at.column
	if utf8.RuneCountInString(f.Key) > longestShown {
		f.Key = shown(f.Key)
	}
	l.faults = append(l.faults, placedFault{at, f})
}

func (l *loading) sorted() Faults {
	slices.SortStableFunc(l.faults, func(a, b placedFault) int {
		if a.order != b.order {
			return a.order - b.order
		}
		if a.line != b.line {
			return a.line - b.line
		}
		return a.column - b.column
	})
	faults := make(Faults, len(l.faults))
	for i, f := range l.faults {
		faults[i] = f.fault
	}
	return faults
}

// key is the row of that name, or nil.
func (l *loading) key(name string) *key {
	i := slices.IndexFunc(l.keys, func(k key) bool { return k.name == name })
	if i < 0 {
		return nil
	}
	return &l.keys[i]
}

const (
	prefix         = "DIALTONE_"
	configVariable = prefix + "CONFIG"
)

// injected are the variables that Kubernetes makes in every pod of a namespace with a Service called dialtone or
// dialtone-something. Nobody wrote them, so they are no fault of the operator's.
var injected = regexp.MustCompile(
	`^DIALTONE(_[A-Z0-9_]+)?_(SERVICE_HOST=|SERVICE_PORT(_[A-Z0-9_]+)?=|PORT_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?=|PORT=[a-z]+://)`)

func (l *loading) environment(environ []string) {
	values := map[string]string{}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if ok && strings.HasPrefix(name, prefix) && name != configVariable && !injected.MatchString(entry) {
			values[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		i := slices.IndexFunc(l.keys, func(k key) bool { return k.variable() == name })
		if i >= 0 {
			l.text(place{source: name, order: orderEnvironment}, &l.keys[i], values[name])
			continue
		}
		if f, ok := removed[strings.ToLower(strings.TrimPrefix(name, prefix))]; ok {
			l.fault(place{source: name, order: orderEnvironment}, f)
			continue
		}
		f := Fault{Problem: "unknown variable"}
		l.correct(&f, strings.TrimPrefix(name, prefix), key.variable)
		l.fault(place{source: shownName(name), order: orderEnvironment}, f)
	}
}

func (l *loading) flags(flags map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		if k := l.key(name); k != nil {
			l.text(place{source: k.flag(), order: orderFlag}, k, flags[name])
			continue
		}
		if f, ok := removed[name]; ok {
			l.fault(place{source: key{name: name}.flag(), order: orderFlag}, f)
			continue
		}
		f := Fault{Problem: "unknown flag"}
		l.correct(&f, name, key.flag)
		l.fault(place{source: shownName(key{name: name}.flag()), order: orderFlag}, f)
	}
}

// text sets a key from a variable or a flag.
func (l *loading) text(at place, k *key, text string) {
	switch {
	case k.secret && at.order != orderEnvironment:
		l.fault(at, k.notHere())
	case at.order == orderFlag && k.hasPassword(text):
		l.fault(at, Fault{Key: k.name, Problem: "has a password in it, and everybody on this machine can see the flags of a program",
			Hint: "use " + k.variable() + ", the file, or a PGPASSFILE"})
	default:
		for _, r := range k.apply(text) {
			l.fault(at, Fault{Key: k.name, Value: shown(k.hidden(r.text)), Want: k.want, Hint: r.hint})
		}
	}
	l.set[k.name] = at
}

// notHere is the fault of a secret that stands elsewhere than in the environment.
func (k *key) notHere() Fault {
	return Fault{Key: k.name, Problem: "is taken from " + k.variable() + " alone, since others may read what stands here"}
}

// lookup is the value of a variable in environ, or empty.
func lookup(environ []string, name string) string {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// derive fills the defaults that depend on other keys.
func (l *loading) derive() {
	c := l.config
	if c.Mail.PickupDir == "" {
		c.Mail.PickupDir = filepath.Join(c.Data, "pickup")
	}
	if c.Keys.Dir == "" {
		c.Keys.Dir = filepath.Join(c.Data, "keys")
	}
}

// check holds the rules that look at more than one key. A rule waits until each of its keys is right by itself.
func (l *loading) check() {
	c := l.config
	if l.right("dev", "listen") && c.Dev && !loopback(c.Listen) {
		l.fault(l.set["dev"], Fault{
			Key: "dev", Value: "true", Want: "false unless listen is a loopback address",
			Hint: fmt.Sprintf("listen is %s, from %s", shown(c.Listen), l.set["listen"]),
		})
	}
	l.checkRelay()
	if l.right("data", "mail.pickup_dir") && filepath.Clean(c.Mail.PickupDir) == filepath.Clean(c.Data) {
		// A mail server that reads the pickup directory would send the database away, or delete it.
		l.fault(l.set["mail.pickup_dir"], Fault{
			Key: "mail.pickup_dir", Value: shown(c.Mail.PickupDir), Want: "a directory other than data",
		})
	}
}

// right tells whether the keys are known and free of faults. After a file that could not be read, none is known.
func (l *loading) right(names ...string) bool {
	return !slices.ContainsFunc(l.faults, func(f placedFault) bool {
		return f.order == orderFile && f.line == 0 || slices.Contains(names, f.fault.Key)
	})
}

// loopback tells whether only this machine can reach the address.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
