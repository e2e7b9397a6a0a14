package config

import (
	"log/slog"
	"strings"
)

// key is one row of the table.
type key struct {
	// name is the key in full: the table and the key inside it, joined by a dot.
	name string
	form
	// standard is the default, written as a variable or a flag would be; empty for a list without elements, and where
	// derived says how the default is made.
	standard string
	// derived is the default in words, where it depends on other keys; derive makes it. exampled is then what the
	// example file shows: the default when the other keys have theirs.
	derived, exampled string
	// doc says what the key means, as prose for the manual and the example file.
	doc string
}

// keys is the table of every key, in the order of the manual: keys of the top level first, then each table with its keys
// together. The rows write to c.
func keys(c *Config) []key {
	return []key{
		{
			name: "data", form: directory(&c.Data), standard: "./data",
			doc: "The directory of everything that must survive a restart, and by default also of the mail on its way out. " +
				"Back it up, and let nobody else read it.",
		},
		{
			name: "database", form: database(&c.Database), derived: "SQLite: dialtone.db inside data",
			doc: "The PostgreSQL database that the accounts are in, which any number of servers may share: " +
				"\"postgres://dialtone@db.example.org:5432/dialtone?sslmode=verify-full\". With several hosts and " +
				"target_session_attrs=read-write the servers follow the primary. On the command line it may not have the " +
				"password in it; leave it to PGPASSFILE or to the variable. There, signs in it such as / and # are percent-encoded.",
		},
		{
			name: "listen", form: address(&c.Listen), standard: "127.0.0.1:8080",
			doc: "The address on which people and programs are served. Without a host, as in \":8080\", it is every address " +
				"of the machine.",
		},
		{
			name: "dev", form: boolean(&c.Dev), standard: "false",
			doc: "For trying things out on your own machine, without HTTPS. It is refused unless listen is a loopback address.",
		},
		{
			name: "keys.dir", form: directory(&c.Keys.Dir),
			derived: "keys inside data", exampled: "./data/keys",
			doc: "The directory of seal.key, sign.key and turn.key. Servers that share a database share the keys, by a directory that all of " +
				"them have or by copies of the files.",
		},
		{
			name: "keys.seal", form: held(&c.Keys.Seal),
			doc: "The content of seal.key, for servers that get their secrets by the environment: its lines, or what stands in them " +
				"with commas in between. It is taken from the variable alone, and then there is no such file. The other key " +
				"may be a file all the same.",
		},
		{
			name: "keys.sign", form: held(&c.Keys.Sign),
			doc: "The content of sign.key, likewise.",
		},
		{
			name: "keys.turn", form: held(&c.Keys.Turn),
			doc: "The content of turn.key, likewise. That is the key that the secret of TURN servers comes from; without it, nobody " +
				"gets a credential for them.",
		},
		{
			name: "mail.pickup_dir", form: directory(&c.Mail.PickupDir),
			derived: "pickup inside data", exampled: "./data/pickup",
			doc: "The SMTP pickup directory: each message is put there as one complete file, for your mail server to send. " +
				"It may not be the data directory itself.",
		},
		{
			name: "mail.templates_dir", form: directoryOrNone(&c.Mail.TemplatesDir), derived: "none: messages have the program's own words",
			doc: "A directory of templates for messages: activation.LANGUAGE.txt and activation.LANGUAGE.html for each language whose " +
				"message you write yourself, where LANGUAGE is en, de, fr, es or ar. They are tried when the server starts, and it " +
				"does not start with a faulty one.",
		},
		{
			name: "mail.relay", form: relay(&c.Mail.Relay),
			doc: "The SMTP server that takes the messages, if this program is to send them itself: \"smtps://user@mail.example.org\" (TLS, port " +
				"465), \"smtp+starttls://user@mail.example.org\" (STARTTLS, port 587), or \"smtp://127.0.0.1\" (port 25, on this machine alone). " +
				"Another port goes behind a colon. The certificate is always checked. ?auth=plain, login, cram-md5 or xoauth2 chooses " +
				"how to log in, and &name=host.example.org what to greet with. Without it nothing touches the files in the pickup directory.",
		},
		{
			name: "mail.relay_password", form: held(&c.Mail.RelayPassword),
			doc: "The password of the relay's user; with ?auth=xoauth2, the access token. It is taken from the variable alone.",
		},
		{
			name: "mail.relay_password_file", form: file(&c.Mail.RelayPasswordFile),
			doc: "The file that the password is in, for those who have no variable for it. It is read at every login, so another program may " +
				"renew it.",
		},
		{
			name: "mail.relay_ca_file", form: file(&c.Mail.RelayCAFile),
			doc: "Certificates (PEM) by which the relay's is checked, for a server with a certificate of your own; the system's where it is not set.",
		},
		{
			name: "mail.relay_connections", form: number(&c.Mail.RelayConnections, 1, 32), standard: "4",
			doc: "How many messages are handed to the relay at a time. One domain's recipients get all of them but one.",
		},
		{
			name: "http.trusted_proxies", form: prefixes(&c.HTTP.TrustedProxies),
			doc: "The reverse proxies in front, as addresses or CIDR prefixes. Only what they say about a client's address " +
				"counts; from anybody else, forwarded headers are ignored. With none, every client is who its connection " +
				"says. Name the proxies alone: whoever is on this list can claim any address.",
		},
		{
			name: "http.max_connections", form: number(&c.HTTP.MaxConnections, 1, 1_000_000), standard: "8192",
			doc: "How many connections may be open at one time.",
		},
		{
			name: "http.max_connections_per_address", form: number(&c.HTTP.MaxConnectionsPerAddress, 1, 1_000_000), standard: "512",
			doc: "How many of them one address may hold.",
		},
		{
			name: "ops.listen", form: address(&c.Ops.Listen), standard: "127.0.0.1:8081",
			doc: "The address on which machines are answered that look after this one (/livez, /readyz and /metrics), and phone servers that " +
				"look accounts up (docs/directory.md). It is not for the public. Where another program has the default port, the " +
				"server goes without.",
		},
		{
			name: "directory.htdigest", form: htdigests(&c.Directory.Htdigest),
			doc: "Files in the format of Apache's htdigest, each with the active accounts of one tenant: " +
				"\"phone.example.org=/etc/apache2/phone.htdigest\". A file is replaced within a second after a change. It is written from the " +
				"directory of phone servers, which dialtone directory export enable begins; without that it is left as it is.",
		},
		{
			name: "log.level",
			form: oneOf(&c.Log.Level, []string{"debug", "info", "warn", "error"},
				[]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}),
			standard: "info",
			doc:      "The least severe messages that are logged.",
		},
		{
			name: "log.format",
			form: oneOf(&c.Log.Format, []string{"auto", "json", "text"}, []LogFormat{LogAuto, LogJSON, LogText}), standard: "auto",
			doc: "What a log line looks like: text for eyes, JSON for programs. With auto it is text on a terminal and JSON " +
				"otherwise.",
		},
		{
			name: "limits.signups_per_address_all_tenants", form: number(&c.Limits.SignupsPerAddressAllTenants, 0, 1_000_000),
			standard: "0",
			doc: "How many sign-ups one client address may make within an hour over all tenants together; 0 sets no such " +
				"limit. The limit within each tenant is fixed.",
		},
	}
}

// fixed are the names that people look for among the keys, and why there is no such key.
var fixed = map[string]string{
	"limits.signups_per_address": "the limit within each tenant is fixed, since clients rely on it",
}

// variable is the environment variable of a key.
func (k key) variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// flag is the command-line flag of a key.
func (k key) flag() string {
	return "--" + strings.NewReplacer(".", "-", "_", "-").Replace(k.name)
}

// flagShown is the flag, if there is one, in the manual's words.
func (k key) flagShown() string {
	if k.secret {
		return "none"
	}
	return "`" + k.flag() + "`"
}

// split is the table of a key, empty for the top level, and its name inside it.
func (k key) split() (table, name string) {
	if i := strings.LastIndexByte(k.name, '.'); i >= 0 {
		return k.name[:i], k.name[i+1:]
	}
	return "", k.name
}

// Key describes one key to the programs that offer it as a flag.
type Key struct {
	// Name is the key in full, such as mail.pickup_dir, as the flags of Load name it.
	Name string
	// Flag is the flag with its dashes, Variable the environment variable.
	Flag, Variable string
	// Type says what the value looks like, in a word or two.
	Type string
	// Default is the default, in words where it depends on another key.
	Default string
	// Doc says what the key means.
	Doc string
}

// Keys are all keys, in the order of the manual, but for secrets, which are no flags.
func Keys() []Key {
	var all []Key
	for _, k := range keys(new(Config)) {
		if k.secret {
			continue
		}
		d := k.standard
		if k.derived != "" {
			d = k.derived
		}
		all = append(all, Key{Name: k.name, Flag: k.flag(), Variable: k.variable(), Type: k.kind, Default: d, Doc: k.doc})
	}
	return all
}
