package config

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"dialtone/internal/redact"
)

var update = flag.Bool("update", false, "write the golden files")

// write creates the file in a new directory and changes to it, so that faults begin with its bare
// name.
func write(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("dialtone.toml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "dialtone.toml"
}

// standard is the configuration without any settings.
func standard() Config {
	return Config{
		Data:   "./data",
		Listen: "127.0.0.1:8080",
		Keys:   KeyFiles{Dir: "data/keys"},
		Mail:   Mail{PickupDir: "data/pickup", RelayConnections: 4},
		TLS:    TLS{Directory: "https://acme-v02.api.letsencrypt.org/directory"},
		HTTP:   HTTP{MaxConnections: 8192, MaxPerAddress: 512},
		Ops:    Ops{Listen: "127.0.0.1:8081"},
		Log:    Log{Level: slog.LevelInfo, Format: LogAuto, Addresses: LogNetworks, AuditDays: 400},
		Trace:  Trace{Sample: 0.01},
	}
}

// faultCase is one case of testdata/faults.txt.
type faultCase struct {
	name, file, environment, flags, faults string
}

func (c faultCase) String() string {
	s := "=== " + c.name + "\n" + c.file
	for _, part := range [...]struct{ name, text string }{
		{"environment", c.environment}, {"flags", c.flags}, {"faults", c.faults},
	} {
		if part.text != "" {
			s += "--- " + part.name + "\n" + part.text
		}
	}
	return s
}

func faultCases(t *testing.T, text string) (preface string, cases []faultCase) {
	t.Helper()
	parts := strings.Split("\n"+text, "\n=== ")
	for _, part := range parts[1:] {
		var c faultCase
		c.name, part, _ = strings.Cut(part, "\n")
		into := &c.file
		for line := range strings.Lines(strings.TrimRight(part, "\n") + "\n") {
			section, ok := strings.CutPrefix(line, "--- ")
			if !ok {
				*into += line
				continue
			}
			switch section {
			case "environment\n":
				into = &c.environment
			case "flags\n":
				into = &c.flags
			case "faults\n":
				into = &c.faults
			default:
				t.Fatalf("%s: unknown section %s", c.name, section)
			}
		}
		c.file = strings.TrimLeft(c.file, "\n")
		cases = append(cases, c)
	}
	return strings.Trim(parts[0], "\n"), cases
}

func TestFaults(t *testing.T) {
	const golden = "testdata/faults.txt"
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	preface, cases := faultCases(t, string(text))
	written := preface + "\n"
	for _, c := range cases {
		want := c.faults
		t.Run(c.name, func(t *testing.T) {
			flags := map[string]string{}
			for line := range strings.Lines(c.flags) {
				name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				flags[name] = value
			}
			got, err := Load(write(t, c.file), strings.Split(c.environment, "\n"), flags)
			if err == nil {
				t.Fatal("no fault")
			}
			if _, ok := errors.AsType[Faults](err); !ok {
				t.Errorf("the error is a %T", err)
			}
			if !reflect.DeepEqual(got, Config{}) {
				t.Errorf("a configuration came with the faults: %+v", got)
			}
			c.faults = err.Error() + "\n"
			if c.faults != want && !*update {
				t.Errorf("got\n%swant\n%s", c.faults, want)
			}
		})
		written += "\n" + c.String()
	}
	if *update {
		if err := os.WriteFile(golden, []byte(written), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPrecedence(t *testing.T) {
	const file = `
data = "/file"
listen = "127.0.0.1:1"
[http]
trusted_proxies = ["192.0.2.1", "192.0.2.2"]
`
	for _, c := range []struct {
		name        string
		file        string
		environment []string
		flags       map[string]string
		change      func(*Config)
	}{
		{
			name:   "with nothing set, everything has its default",
			change: func(c *Config) {},
		},
		{
			name: "the file overrides the default",
			file: file,
			change: func(c *Config) {
				setData(c, "/file")
				c.Listen = "127.0.0.1:1"
				c.HTTP.TrustedProxies = prefixes("192.0.2.1/32", "192.0.2.2/32")
			},
		},
		{
			name: "the environment overrides the file, and replaces its lists",
			file: file,
			environment: []string{
				"DIALTONE_DATA=/environment", "DIALTONE_HTTP_TRUSTED_PROXIES=192.0.2.3", "HOME=/root",
			},
			change: func(c *Config) {
				setData(c, "/environment")
				c.Listen = "127.0.0.1:1"
				c.HTTP.TrustedProxies = prefixes("192.0.2.3/32")
			},
		},
		{
			name:        "a flag overrides the environment, and replaces its lists",
			file:        file,
			environment: []string{"DIALTONE_DATA=/environment", "DIALTONE_HTTP_TRUSTED_PROXIES=192.0.2.3"},
			flags:       map[string]string{"data": "/flag", "http.trusted_proxies": "192.0.2.4, 192.0.2.5"},
			change: func(c *Config) {
				setData(c, "/flag")
				c.Listen = "127.0.0.1:1"
				c.HTTP.TrustedProxies = prefixes("192.0.2.4/32", "192.0.2.5/32")
			},
		},
		{
			name:        "an empty variable empties a list",
			file:        file,
			environment: []string{"DIALTONE_HTTP_TRUSTED_PROXIES="},
			change: func(c *Config) {
				setData(c, "/file")
				c.Listen = "127.0.0.1:1"
			},
		},
		{
			name:        "a pickup directory of its own stays where it is",
			environment: []string{"DIALTONE_MAIL_PICKUP_DIR=/var/spool/pickup"},
			flags:       map[string]string{"data": "/flag"},
			change: func(c *Config) {
				setData(c, "/flag")
				c.Mail.PickupDir = "/var/spool/pickup"
			},
		},
		{
			name: "the environment may have keys and a password",
			environment: []string{
				"DIALTONE_KEYS_SEAL=v1 1 a", "DIALTONE_KEYS_SIGN=v1 2 b", "DIALTONE_KEYS_TURN=v1 3 c",
				"DIALTONE_DATABASE=postgres://u:hunter2@h/d",
			},
			change: func(c *Config) {
				c.Keys.Seal, c.Keys.Sign = redact.New("v1 1 a"), redact.New("v1 2 b")
				c.Keys.Turn = redact.New("v1 3 c")
				c.Database = "postgres://u:hunter2@h/d"
			},
		},
		{
			name:        "a rule about two keys uses the final values",
			file:        "dev = true\nlisten = ':8080'",
			environment: []string{"DIALTONE_LISTEN=[::1]:8080"},
			change:      func(c *Config) { c.Dev, c.Listen = true, "[::1]:8080" },
		},
		{
			name: "what Kubernetes makes for a Service is ignored",
			environment: []string{
				"DIALTONE_SERVICE_HOST=10.0.0.1", "DIALTONE_SERVICE_PORT=80",
				"DIALTONE_SERVICE_PORT_HTTP=80", "DIALTONE_PORT=tcp://10.0.0.1:80",
				"DIALTONE_PORT_80_TCP=tcp://10.0.0.1:80", "DIALTONE_PORT_80_TCP_PROTO=tcp",
				"DIALTONE_PORT_80_TCP_PORT=80", "DIALTONE_PORT_80_TCP_ADDR=10.0.0.1",
				"DIALTONE_WEB_SERVICE_HOST=10.0.0.2", "DIALTONE_WEB_PORT=tcp://10.0.0.2:80",
				"DIALTONE_WEB_PORT_80_TCP=tcp://10.0.0.2:80",
			},
			change: func(c *Config) {},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Load(write(t, c.file), c.environment, c.flags)
			if err != nil {
				t.Fatal(err)
			}
			want := standard()
			c.change(&want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	connections := func(c Config) any { return c.HTTP.MaxConnections }
	data := func(c Config) any { return c.Data }
	dev := func(c Config) any { return c.Dev }
	level := func(c Config) any { return c.Log.Level }
	listen := func(c Config) any { return c.Listen }
	log := func(c Config) any { return c.Log }
	hosts := func(c Config) any { return strings.Join(c.Ops.Hosts, " ") }
	operators := func(c Config) any { return c.Ops.Listen }
	signups := func(c Config) any { return c.Limits.SignupsPerAddressAllTenants }
	for _, c := range []struct {
		name, file string
		get        func(Config) any
		want       any
	}{
		{
			"an address is a prefix of full length",
			`http.trusted_proxies = ["192.0.2.1", "2001:db8::1"]`, proxies, "192.0.2.1/32 2001:db8::1/128",
		},
		{
			"a prefix is taken as it is",
			`http.trusted_proxies = ["10.0.0.0/8", "fd00::/8"]`, proxies, "10.0.0.0/8 fd00::/8",
		},
		{
			"IPv4 in IPv6 is unmapped",
			`http.trusted_proxies = ["::ffff:192.0.2.1", "::ffff:10.0.0.0/104"]`, proxies, "192.0.2.1/32 10.0.0.0/8",
		},
		{"a list may be empty", `http.trusted_proxies = []`, proxies, ""},
		{
			"a list may have several lines and comments",
			"http.trusted_proxies = [\n  '192.0.2.1', # east\n  '192.0.2.2',\n]", proxies, "192.0.2.1/32 192.0.2.2/32",
		},
		{"a number may be hexadecimal", `http.max_connections = 0x400`, connections, 1024},
		{"a number may have underscores", `http.max_connections = 16_384`, connections, 16384},
		{
			"a table may be inline", `log = { level = "error", format = "json" }`,
			log, Log{slog.LevelError, LogJSON, LogNetworks, 400},
		},
		{"a key may be quoted", `"log" . 'level' = 'debug'`, level, slog.LevelDebug},
		{"a listener may have port 0", `listen = "localhost:0"`, listen, "localhost:0"},
		{"a listener may have no host", `listen = ":443"`, listen, ":443"},
		{"a listener may have a zone", `listen = "[fe80::1%eth0]:443"`, listen, "[fe80::1%eth0]:443"},
		{"a listener may have a name", `listen = "phone-1.example.com:443"`, listen, "phone-1.example.com:443"},
		{"dev works with localhost", "dev = true\nlisten = 'localhost:8080'", dev, true},
		{"dev works with all of 127.0.0.0/8", "dev = true\nlisten = '127.8.8.8:8080'", dev, true},
		{"the operators' listener may have any loopback address", "ops.listen = '[::1]:1'", operators, "[::1]:1"},
		{
			"the operators' listener may be remote where that is allowed",
			"[ops]\nlisten = ':8081'\nallow_cleartext = true", operators, ":8081",
		},
		{
			"the operators' listener may be remote with TLS",
			"[ops]\nlisten = ':8081'\ntls_cert = 'a.pem'\ntls_key = 'a.key'", operators, ":8081",
		},
		{"names are in lower case", "ops.hosts = ['Ops.example.org', 'o']", hosts, "ops.example.org o"},
		{"0 is no limit", `limits.signups_per_address_all_tenants = 0`, signups, 0},
		{"a byte order mark is not part of the first key", "\xef\xbb\xbfdata = '/d'", data, "/d"},
		{"lines may end as on Windows", "data = '/d'\r\n[log]\r\nlevel = 'warn'\r\n", level, slog.LevelWarn},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Load(write(t, c.file), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.get(got); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// setData sets data and the keys whose defaults depend on it.
func setData(c *Config, dir string) {
	c.Data, c.Keys.Dir, c.Mail.PickupDir = dir, dir+"/keys", dir+"/pickup"
}

func proxies(c Config) any {
	var all []string
	for _, p := range c.HTTP.TrustedProxies {
		all = append(all, p.String())
	}
	return strings.Join(all, " ")
}

func TestFile(t *testing.T) {
	write(t, "data = '/d'\n")
	for name, text := range map[string]string{
		"utf16.toml":  "\xff\xfed\x00a\x00t\x00a\x00",
		"latin1.toml": "data = '/d'\n# M\xfcnchen\n",
		"long.toml":   strings.Repeat("# more\n", MaxFileSize/7+1),
		"many.toml":   manyKeys(maxFileKeys + 1),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, path  string
		environment []string
		data, fault string
	}{
		{"is not needed", "", nil, "./data", ""},
		{"is read", "dialtone.toml", nil, "/d", ""},
		{"is what DIALTONE_CONFIG names", "", []string{"DIALTONE_CONFIG=dialtone.toml"}, "/d", ""},
		{
			"is what the caller names before DIALTONE_CONFIG", "dialtone.toml",
			[]string{"DIALTONE_CONFIG=missing.toml"}, "/d", "",
		},
		{"is not needed with an empty DIALTONE_CONFIG", "", []string{"DIALTONE_CONFIG="}, "./data", ""},
		{"must exist", "missing.toml", nil, "", "missing.toml: cannot be read: no such file or directory"},
		{
			"must exist where DIALTONE_CONFIG names it", "", []string{"DIALTONE_CONFIG=missing.toml"}, "",
			"missing.toml: cannot be read: no such file or directory; DIALTONE_CONFIG names this file",
		},
		{
			"does not hide other faults when it is missing", "missing.toml",
			[]string{"DIALTONE_LISTEN=8080", "DIALTONE_DEV=true"}, "",
			"missing.toml: cannot be read: no such file or directory\n" +
				`DIALTONE_LISTEN: listen: expected host:port, such as 127.0.0.1:8080, not "8080"; ` +
				"did you mean 127.0.0.1:8080?",
		},
		{"is no directory", ".", nil, "", ".: cannot be read: it is a directory, not a regular file"},
		{"has an end", "long.toml", nil, "", "long.toml: cannot be read: longer than 262144 bytes"},
		{
			"has few keys", "many.toml", nil, "",
			"many.toml: more than 200 keys; is this the configuration of Dialtone?",
		},
		{
			"is not UTF-16", "utf16.toml", nil, "",
			"utf16.toml:1:1: not TOML: invalid character at start of key: U+00FF 'ÿ'",
		},
		{
			"is not Latin-1", "latin1.toml", nil, "",
			"latin1.toml:2:4: not TOML: invalid UTF-8 character in comment",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Load(c.path, c.environment, nil)
			if fault := fmt.Sprint(err); c.fault != "" && fault != c.fault {
				t.Errorf("got\n%s\nwant\n%s", fault, c.fault)
			}
			if c.fault == "" && err != nil {
				t.Error(err)
			}
			if got.Data != c.data {
				t.Errorf("data is %q, want %q", got.Data, c.data)
			}
		})
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "key%d = 1\n", i)
	}
	return b.String()
}

// The value of an unknown name may be a password.
func TestFaultsDoNotShowValuesOfUnknownKeys(t *testing.T) {
	const secret = "hunter2"
	for _, file := range []string{
		`
password = "hunter2"
mail = "hunter2"
[relay]
password = "hunter2"
[[secrets]]
password = "hunter2"
`, `
[mail]
password = ["hunter2"]
relay.password = { hunter2 = "hunter2" }
ops = { password = "hunter2" }
`,
		"password = hunter2", "password = \"hunter2\n", "password = 'hunter2' hunter2", "password = 5hunter2",
	} {
		_, err := Load(write(t, file), []string{"DIALTONE_PASSWORD=" + secret},
			map[string]string{"password": secret})
		if err == nil {
			t.Fatal("no fault")
		}
		if strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
	}
}

// No fault shows a password or a key, however malformed the URL around it is.
func TestFaultsDoNotShowSecrets(t *testing.T) {
	const secret = "hunter2"
	for _, url := range []string{
		"http://u:hunter2@h/d", "postgres:/u:hunter2@h/d", "u:hunter2@h", "postgres://u:hun:ter2hunter2@h @",
		"postgres://h/d e?password=hunter2", "postgres:// h/d?sslmode=x&PASSWORD=hunter2&password=hunter2",
		":hunter2@", "postgres://u:p@hunter2@ h", "hunter2", "postgre://h:5432/d?password=hun@hunter2",
		"host=h user=u password = hunter2", "postgres://u:hunter2#h/d", "postgres:/u:x://hunter2@h",
		"postgres://u:hunter2%40h/d", "postgres://h/d ?pass%77ord=hunter2", "u:hunter2@h://x",
		"postgres://u:x/hunter2@h/d", "postgres://u:1/hunter2@h/d", "postgres://u:1?hunter2@h/d",
		"sqlit:u:hunter2@h", "postgres ://u:hunter2/d", "smtps:u:hunter2@h", "smtps://u:1?hunter2=1&hunter2=2",
	} {
		for name, load := range map[string]func() (Config, error){
			"file": func() (Config, error) {
				file := "database = '" + url + "'\nmail.relay = '" + url + "'\nclusters = ['2=" + url + "']"
				return Load(write(t, file), nil, nil)
			},
			"environment": func() (Config, error) {
				return Load("", []string{
					"DIALTONE_DATABASE=" + url, "DIALTONE_MAIL_RELAY=" + url, "DIALTONE_CLUSTERS=2=" + url,
				}, nil)
			},
			"flag": func() (Config, error) {
				return Load("", nil, map[string]string{"database": url, "mail.relay": url, "clusters": "2=" + url})
			},
		} {
			_, err := load()
			if faults, _ := errors.AsType[Faults](err); len(faults) != 3 {
				t.Errorf("%s: %q: %v", name, url, err)
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, load := range map[string]func() (Config, error){
		"a key in the file": func() (Config, error) {
			return Load(write(t, "[keys]\nseal = 'hunter2'\nsign = ['hunter2']"), nil, nil)
		},
		"a key as a flag": func() (Config, error) {
			return Load("", nil, map[string]string{"keys.seal": secret, "keys.turn": secret})
		},
		"a password in a flag": func() (Config, error) {
			return Load("", nil, map[string]string{
				"database": "postgres://u:hunter2@h/d", "mail.relay": "smtps://u:hunter2@h",
			})
		},
	} {
		_, err := load()
		if faults, _ := errors.AsType[Faults](err); len(faults) != 2 {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A URL that PostgreSQL's libraries accept may come from a variable, and from a flag if it has no
// password.
func TestDatabaseURLs(t *testing.T) {
	for url, secret := range map[string]bool{
		"postgres://h": false,
		"postgres:///": false,
		"postgres:///d?host=/run/postgresql,/run/other&port=5433":            false,
		"postgres://%2Frun%2Fpostgresql/d":                                   false,
		"postgresql://u@[::1]:5432/d?sslmode=verify-full":                    false,
		"postgres://u@[fe80::1%25eth0]/d":                                    false,
		"postgres://u@h:5432,[::1],i:5432/d?target_session_attrs=read-write": false,
		"postgres://u@h/d?passfile=/etc/pass&require_auth=password":          false,
		"postgres://h:5432/d?application_name=a%40b":                         false,
		"postgres://u%3Ax@h/d":                                               false,
		"postgres://u:pw@h/d":                                                true,
		"postgres://:pw@h/d":                                                 true,
		"postgres://u:p@w@h/d":                                               true,
		"postgres://h/d?password=pw":                                         true,
		"postgres://h/d?a=b&pass%77ord=pw":                                   true,
		"postgres://h/d?SSLPassword=pw":                                      true,
	} {
		c, err := Load("", []string{"DIALTONE_DATABASE=" + url}, nil)
		if err != nil || c.Database != url {
			t.Errorf("%s: %v", url, err)
		}
		if _, err := Load("", nil, map[string]string{"database": url}); (err != nil) != secret {
			t.Errorf("%s as a flag: %v", url, err)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	c, err := Load("", []string{"DIALTONE_KEYS_SEAL=hunter2", "DIALTONE_KEYS_SIGN=hunter2"}, nil)
	if want := redact.New("hunter2"); err != nil || c.Keys.Seal != want || c.Keys.Sign != want {
		t.Fatal(err)
	}
	var b bytes.Buffer
	log := slog.New(slog.NewTextHandler(&b, nil))
	log.Info("keys", "seal", c.Keys.Seal, "all", c.Keys)
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(asJSON)
	fmt.Fprintf(&b, "%v %+v %#v %s %q %x %d", c, c, c, c.Keys.Seal, c.Keys.Seal, c.Keys.Seal, c.Keys.Seal)

	if strings.Contains(b.String(), "hunter2") ||
		strings.Contains(b.String(), hex.EncodeToString([]byte("hunter2"))) {
		t.Error(b.String())
	}
}

func TestNamesAreDistinct(t *testing.T) {
	seen := map[string]string{}
	var tables []string
	for _, k := range Keys() {
		for _, name := range []string{k.Name, k.Variable(), k.Flag()} {
			if other, ok := seen[name]; ok {
				t.Errorf("%s and %s are both called %s", other, k.Name, name)
			}
			seen[name] = k.Name
		}
		if k.Variable() == configVariable || kubernetesVariable.MatchString(k.Variable()+"=") {
			t.Errorf("the variable of %s is taken", k.Name)
		}
		// The example file contains each table once, so its keys must be together.
		switch t2, _ := k.Split(); {
		case len(tables) > 0 && tables[len(tables)-1] == t2:
		case slices.Contains(tables, t2):
			t.Errorf("%s is apart from the other keys of its table", k.Name)
		default:
			tables = append(tables, t2)
		}
	}
}

func FuzzReadTOML(f *testing.F) {
	text, err := os.ReadFile("testdata/faults.txt")
	if err != nil {
		f.Fatal(err)
	}
	for part := range strings.SplitSeq(string(text), "\n=== ") {
		_, part, _ = strings.Cut(part, "\n")
		f.Add([]byte(part))
	}
	example, err := os.ReadFile("../../docs/dialtone.example.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Fuzz(func(t *testing.T, data []byte) {
		l := &loader{keys: Keys(), set: map[string]place{}}
		l.readTOML("dialtone.toml", bytes.Clone(data))
		if len(l.faults) == 0 {
			checkComplete(t, l, data)
		}
		lines := strings.Split(strings.TrimPrefix(string(data), "\xef\xbb\xbf"), "\n")
		for _, fault := range l.faults {
			if l.unread && fault.Line == 0 {
				continue
			}
			if fault.Line < 1 || fault.Line > len(lines) ||
				fault.Column < 1 || fault.Column > len(lines[fault.Line-1])+1 {
				t.Errorf("no such place: %s", fault)
			}
			if strings.ContainsFunc(fault.String(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("a control character: %q", fault.String())
			}
		}
	})
}

// checkComplete fails unless every key of the document was set. An empty table has no keys.
func checkComplete(t *testing.T, l *loader, data []byte) {
	t.Helper()
	var values map[string]any
	if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), &values); err != nil {
		t.Fatalf("accepted, but %v", err)
	}
	for name, value := range values {
		keys := map[string]any{name: value}
		if table, ok := value.(map[string]any); ok {
			keys = map[string]any{}
			for inner, v := range table {
				keys[name+"."+inner] = v
			}
		}
		for key := range keys {
			if _, ok := l.set[key]; !ok {
				t.Errorf("%q is ignored", key)
			}
		}
	}
}
