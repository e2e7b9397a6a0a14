package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rogpeppe/go-internal/testscript"

	"dialtone/internal/config"
	"dialtone/internal/secret"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// suite runs all tests, and ends the database server and the browsers that they share.
type suite struct{ *testing.M }

func (s suite) Run() int {
	// Most tests spend most of their time waiting for other programs, so more of them run at a time
	// than there are processors.
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "6")
	}
	status := postgrestest.Main(s.M)
	closeChromiums()
	return status
}

// TestMain runs the tests or, when the test binary is started under the name dialtone, the program.
// testscript.Main puts a copy with this name into PATH.
func TestMain(m *testing.M) {
	testscript.Main(suite{m}, map[string]func(){"dialtone": main})
}

// The scripts in testdata/script run the program as its users do. In addition to the commands of
// testscript, they can use:
//
//	serve NAME [flag…]         start a server and wait until it answers; its base URL is $NAME,
//	                           and that of the ops listener $NAME_OPS; $NAME_ADDR and
//	                           $NAME_OPS_ADDR are the addresses alone
//	terminate NAME             send SIGTERM; want exit status 0 within 10 s, and JSON lines in the
//	                           log, which is written to NAME.log
//	exits STATUS command…      run a command and want that exit status
//	eventually TEXT command…   repeat a command until its output contains the text
//	sent DIR TEXT              wait until a message in a pickup directory contains the text; with !
//	                           none must contain it now
//	signup URL USER            sign up from an unused address, with the password "the pass phrase of
//	                           USER"
//	activate URL DIR USER      open the link of the message to USER in a pickup directory; with !
//	                           the link must be refused
//	mode MODE file…            want the permissions of files
//	closed DIR                 want no file in a directory to be accessible to other users of the machine
//	members NAME…              want the output to be JSON objects, or a list of them, with exactly
//	                           these members
//
// $ME is the name of the user who runs the tests.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Values[serversKey{}] = servers{}
			me, err := user.Current()
			if err == nil {
				e.Setenv("ME", me.Username)
			}
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "terminate": cmdTerminate, "exits": cmdExits, "eventually": cmdEventually,
			"signup": cmdSignup, "activate": cmdActivate, "mode": cmdMode, "closed": cmdClosed, "members": cmdMembers,
			"message": cmdMessage, "sent": cmdSent,
		},
	})
}

// servers are the servers of one script by name.
type servers map[string]*serverProcess

type serversKey struct{}

func serversOf(ts *testscript.TestScript) servers { return ts.Value(serversKey{}).(servers) }

func wants(ts *testscript.TestScript, neg bool, ok bool, usage string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) >= 1, "serve NAME [flag…]")
	flags := args[1:]
	if !slices.ContainsFunc(flags,
		func(f string) bool { return strings.HasPrefix(f, "--listen") }) &&
		ts.Getenv("DIALTONE_LISTEN") == "" {
		flags = append(flags, "--listen=127.0.0.1:0")
	}
	if !slices.ContainsFunc(flags,
		func(f string) bool { return strings.HasPrefix(f, "--ops-listen") }) {
		flags = append(flags, "--ops-listen=127.0.0.1:0")
	}
	cmd := exec.Command("dialtone", append([]string{"serve"}, flags...)...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "DIALTONE_CONFIG", "DIALTONE_DATA", "DIALTONE_LISTEN",
		"DIALTONE_DEV", "DIALTONE_LOG_LEVEL"} {
		if value := ts.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	p, err := launched(cmd, nil)
	ts.Check(err)
	ts.Defer(p.Kill)
	serversOf(ts)[args[0]] = p
	ts.Setenv(args[0], p.base)
	ts.Setenv(args[0]+"_OPS", p.operators)
	for _, name := range []string{args[0], args[0] + "_OPS"} {
		_, address, _ := strings.Cut(ts.Getenv(name), "://")
		ts.Setenv(name+"_ADDR", address)
	}
	fmt.Fprint(ts.Stdout(), p.stdout)
}

func cmdTerminate(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) == 1 && serversOf(ts)[args[0]] != nil, "terminate NAME")
	p := serversOf(ts)[args[0]]
	status, err := p.stop()
	ts.Check(err)
	if status != 0 {
		ts.Fatalf("exit status %d after SIGTERM\n%s", status, p.stderr)
	}
	ts.Check(p.checkLog())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".log"), []byte(p.stderr.String()), 0o644))
}

func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) >= 2, "exits STATUS command…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	status := 0
	if exit, ok := err.(*exec.ExitError); ok {
		status = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if status != want {
		ts.Fatalf("exit status %d, want %d", status, want)
	}
}

func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) >= 2, "eventually TEXT command…")
	deadline := time.Now().Add(process.Timeout)
	for {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("timeout: %v", err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func cmdSent(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, false, len(args) == 2, "sent DIR TEXT")
	sent := func() bool {
		files, err := filepath.Glob(ts.MkAbs(args[0]) + "/*.eml")
		ts.Check(err)
		return slices.ContainsFunc(files, func(file string) bool {
			return strings.Contains(ts.ReadFile(file), args[1])
		})
	}
	if neg {
		if sent() {
			ts.Fatalf("a message contains %q", args[1])
		}
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), process.Timeout)
	defer cancel()
	ts.Check(process.Poll(ctx, process.Holds(sent)))
}

// visit returns a visitor of one of the script's servers.
func visit(ts *testscript.TestScript, base string) *visitor {
	for _, p := range serversOf(ts) {
		if p.base == base {
			return newVisitor(p.address, "")
		}
	}
	ts.Fatalf("no server has the base URL %s", base)
	return nil
}

func cmdSignup(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, false, len(args) == 2, "signup URL USER")
	v := visit(ts, args[0])
	defer v.leave()
	a, err := v.signup(args[1])
	ts.Check(err)
	if (a.Status != 200) != neg {
		ts.Fatalf("signup: %s", a)
	}
}

func cmdActivate(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, false, len(args) == 3, "activate URL DIR USER")
	v := visit(ts, args[0])
	defer v.leave()
	list, err := messagesIn(ts.MkAbs(args[1]))
	ts.Check(err)
	i := slices.IndexFunc(list, func(m message) bool { return m.to == email(args[2]) })
	if i < 0 {
		ts.Fatalf("there is no message to %s", email(args[2]))
	}
	status, page, err := v.open(list[i].link)
	ts.Check(err)
	if (status != 200) != neg {
		ts.Fatalf("activation: %d\n%s", status, page)
	}
}

func cmdMessage(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, false, len(args) == 2, "message DIR USER")
	list, err := messagesIn(ts.MkAbs(args[0]))
	ts.Check(err)
	found := slices.ContainsFunc(list, func(m message) bool { return m.to == email(args[1]) })
	if found == neg {
		ts.Fatalf("message to %s: %v", email(args[1]), found)
	}
}

func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) >= 2, "mode MODE file…")
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := info.Mode().Perm(); got != os.FileMode(want) {
			ts.Fatalf("%s has mode %#o, want %#o", name, got, want)
		}
	}
}

func cmdClosed(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) == 1, "closed DIR")
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o007 != 0 {
			err = fmt.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	}))
}

func cmdMembers(ts *testscript.TestScript, neg bool, args []string) {
	wants(ts, neg, len(args) >= 1, "members NAME…")
	text := ts.ReadFile("stdout")
	var list []map[string]any
	if json.Unmarshal([]byte(text), &list) != nil {
		list = make([]map[string]any, 1)
		ts.Check(json.Unmarshal([]byte(text), &list[0]))
	}
	slices.Sort(args)
	for _, o := range list {
		if got := slices.Sorted(maps.Keys(o)); !slices.Equal(got, args) {
			ts.Fatalf("members %q, want %q", got, args)
		}
	}
	if len(list) == 0 {
		ts.Fatalf("the list is empty")
	}
}

// example contains a non-default value for each key.
var example = map[string]string{
	"data":                                   "elsewhere",
	"listen":                                 "127.0.0.1:4711",
	"dev":                                    "true",
	"mail.pickup_dir":                        "mail",
	"mail.templates_dir":                     "templates",
	"http.trusted_proxies":                   "192.0.2.1,2001:db8::/32",
	"http.security_txt":                      "/etc/dialtone/security.txt",
	"http.max_connections":                   "17",
	"http.max_connections_per_address":       "7",
	"ops.listen":                             "127.0.0.1:4712",
	"ops.allow_cleartext":                    "true",
	"ops.hosts":                              "ops.example.org,dialtone",
	"ops.tls_cert":                           "/etc/dialtone/ops.pem",
	"ops.tls_key":                            "/etc/dialtone/ops.key",
	"ops.tls_client_ca":                      "/etc/dialtone/clients.pem",
	"tls.cert":                               "/etc/dialtone/a.pem,/etc/dialtone/b.pem",
	"tls.key":                                "/etc/dialtone/a.key,/etc/dialtone/b.key",
	"tls.acme":                               "true",
	"tls.acme_email":                         "operator@example.org",
	"tls.acme_directory":                     "https://ca.example.org/directory",
	"tls.acme_ca_file":                       "/etc/dialtone/ca.pem",
	"tls.redirect_listen":                    "127.0.0.1:4713",
	"directory.htdigest":                     "phone.example.org=/etc/apache2/phone.htdigest",
	"log.level":                              "debug",
	"log.format":                             "text",
	"log.addresses":                          "full",
	"log.audit_days":                         "30",
	"trace.endpoint":                         "http://127.0.0.1:4318",
	"trace.sample":                           "0.5",
	"trace.header_file":                      "/etc/dialtone/trace.header",
	"limits.signups_per_address_all_tenants": "5",
	"database":                               "postgres://dialtone@db.example.org/dialtone",
	"keys.dir":                               "/etc/dialtone/keys",
	"mail.relay":                             "smtp://127.0.0.1:2525",
	"mail.relay_password_file":               "/etc/dialtone/relay.password",
	"mail.relay_ca_file":                     "/etc/dialtone/relay.pem",
	"mail.relay_connections":                 "2",
}

// needs maps keys to the other key without which their example is refused.
var needs = map[string]string{
	"tls.cert": "tls.key", "tls.key": "tls.cert", "tls.redirect_listen": "tls.acme",
	"ops.tls_cert": "ops.tls_key", "ops.tls_key": "ops.tls_cert", "ops.tls_client_ca": "ops.tls_cert",
}

// Every key that is not a secret has a flag that sets it and shows the key's help. The default
// in the help is the one that Load uses.
func TestServeFlags(t *testing.T) {
	defaults, err := config.Load("", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	help := map[string]string{}
	root := grammar(t, newCommandLine()).Model
	for _, n := range append(root.Children, root.Node) {
		if n.Name != "serve" && n != root.Node {
			continue
		}
		for _, f := range n.Flags {
			if !f.Hidden {
				help[f.Name] = f.Help
			}
		}
	}
	delete(help, "help")
	delete(help, "config")
	delete(help, "version")
	for _, k := range config.Keys() {
		if k.Secret {
			continue
		}
		t.Run(k.Name, func(t *testing.T) {
			name := strings.TrimPrefix(k.Flag(), "--")
			if help[name] != k.Help() || k.Help() == "" {
				t.Errorf("the help of the flag is %q, that of the key %q", help[name], k.Help())
			}
			delete(help, name)
			if k.Default != "" {
				if !strings.HasSuffix(k.Help(), "("+k.Default+").") {
					t.Errorf("the help does not end with the default: %s", k.Help())
				}
				same, err := config.Load("", nil,
					map[string]string{k.Name: strings.Replace(k.Default, "DATA/", "data/", 1)})
				if err != nil || fmt.Sprint(same) != fmt.Sprint(defaults) {
					t.Errorf("%s is not the default: %v", k.Default, err)
				}
			}
			value, ok := example[k.Name]
			if !ok {
				t.Fatalf("%s is a new key: give it an example in this test", k.Name)
			}
			settings := map[string]string{k.Name: value}
			for other := needs[k.Name]; other != "" && settings[other] == ""; other = needs[other] {
				settings[other] = example[other]
			}
			want, err := config.Load("", nil, settings)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(want) == fmt.Sprint(defaults) {
				t.Fatalf("the example %q is the default", value)
			}
			args := []string{"serve"}
			for name, text := range settings {
				args = append(args, config.Key{Name: name}.Flag()+"="+text)
			}
			got, err := parse(t, args...).settings()
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
				t.Errorf("%s=%s gives\n%+v, want\n%+v", k.Flag(), value, got, want)
			}
		})
	}
	for name := range help {
		t.Errorf("--%s is the flag of no key", name)
	}
}

// grammar returns the parser of the command line that run uses.
func grammar(t *testing.T, line *commandLine, options ...kong.Option) *kong.Kong {
	t.Helper()
	parser, err := kong.New(line, append(options, kong.Name("dialtone"),
		kong.Exit(func(int) { t.Error("the parser ends the program") }))...)
	if err != nil {
		t.Fatal(err)
	}
	return parser
}

func parse(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{line: newCommandLine()}
	if _, err := grammar(t, p.line).Parse(args); err != nil {
		t.Fatal(err)
	}
	return p
}

// Every user of a machine can read command lines, so no flag and no argument may take a secret. A
// new flag must be added here after a review.
func TestCommandLineHasNoSecrets(t *testing.T) {
	secret := regexp.MustCompile(`(?i)pass|secret|ha1|token|key|credential|hash|captcha|cookie|session|seal`)
	harmless := []string{
		"account/user", "account/role", "account/tenant", "account/json", "account/state", "account/reason",
		"account/activate", "account/valid", "account/remove", "account/yes", "account/address",
		"account/text", "account/net", "account/since", "account/before", "account/confirmed",
		"account/unconfirmed", "account/limit", "account/action", "account/count",
		"account/name", "account/email", "account/lang", "account/active", "account/reserved", "account/mail",
		"account/file", "account/format", "account/dry-run", "account/fold-case", "account/allow-reserved",
		"account/check-passwords", "account/with-credentials", "account/force", // switches
		"account/ha1-stdin", // a switch: HA1 is read from standard input
		"signups/tenant", "signups/json", "signups/freeze", "signups/note", "signups/reason",
		"stats/tenant", "stats/days", "stats/json",
		"token/name", "token/tenant", "token/scope", "token/expires", "token/json", "token/reason",
		"audit/since", "audit/before", "audit/tenant", "audit/account", "audit/action", "audit/actor", "audit/net",
		"audit/newest", "audit/fold", "audit/bulk", "audit/limit", "audit/after", "audit/reason", "audit/json",
		"tenant/host", "tenant/json", "tenant/realm", "tenant/public-url", "tenant/product",
		"tenant/about", "tenant/welcome", "tenant/terms-url", "tenant/privacy-url", "tenant/imprint-url",
		"tenant/support", "tenant/logo", "tenant/accent",
		"tenant/mail-from", "tenant/reply-to", "tenant/mail-footer", "tenant/sip-server",
		"tenant/sip-transport", "tenant/sip-websocket", "tenant/turn-uri", "tenant/turn-life",
		"tenant/acrobits-cloud-id", "tenant/origin", "tenant/reserve", "tenant/reserve-add", "tenant/reserve-remove",
		"tenant/algorithm",
		"tenant/signups-per-hour",
		"tenant/signups", "tenant/signups-note", "tenant/activation", "tenant/require-second-factor",
		"tenant/to", "tenant/group", "tenant/wait", "tenant/with-accounts", "tenant/yes", "tenant/reason", "/data",
		"/config", "/help", "/version",
		"help/command", "completion/shell", "health/client-cert", "health/client-key", // files
		"init/host", "init/realm", "init/product", "init/tls", "init/listen", "init/tls-cert", "init/tls-key", // files
		"init/mail-relay", "init/mail-relay-password-file", "init/admin", "init/email", "init/link", "init/user",
		"init/phone-server", "init/yes",
		"doctor/resolver", "doctor/ca-file", "doctor/json",
		"verify/json", "backup/to", "backup/file", "backup/archive", "backup/recipient", "backup/recipients-file",
		"backup/with-keys", "backup/plain-keys", "backup/force", // switches, and public keys
		"restore/file", "restore/after-database", "restore/identity", "restore/keys-dir", // files
		"restore/trail", "restore/accept-faults", "restore/reason",
		"/database", "keys/revoke",
		"store/from", "store/to", "store/compare",
		"directory/name", "directory/tenant", "directory/json", "directory/file", "directory/server",
		"directory/login", // a file with the password
		// The secret of a hook is in a file.
		"directory/kamailio", "directory/webhook", "directory/bearer", "directory/basic", "directory/plain-http",
		"directory/yes", "directory/events",
		"turn/rotate", "account/id", "provision/tenant", "provision/user", "provision/format", "turn/revoke",
		"mail/algorithm", "mail/all", "mail/host", "mail/id", "mail/json", "mail/resolver",
		"mail/selector", "mail/tenant", "mail/yes", "mail/reason",
	}
	harmless = append(harmless, "serve/clusters") // removed, and refused with any value
	for _, k := range config.Keys() {
		if !k.Secret {
			harmless = append(harmless, "serve/"+strings.TrimPrefix(k.Flag(), "--"))
		}
	}
	check := func(where, name, help string) {
		if !slices.Contains(harmless, where+"/"+name) {
			t.Errorf("dialtone %s takes %s (%s), which is not in the list above", where, name, help)
		}
		// These name directories and files that contain secrets, and switches.
		named := []string{
			"keys-dir", "with-keys", "plain-keys", "mail-relay-password-file", "tls-key", "ops-tls-key", "ha1-stdin",
			"check-passwords", "with-credentials", "client-key",
		}
		if secret.MatchString(name) && !slices.Contains(named, name) {
			t.Errorf("dialtone %s takes %s (%s), which sounds like a secret", where, name, help)
		}
	}
	var walk func(n *kong.Node, where string)
	walk = func(n *kong.Node, where string) {
		for _, f := range n.Flags {
			check(where, f.Name, f.Help)
		}
		for _, a := range n.Positional {
			check(where, a.Name, a.Help)
		}
		for _, c := range n.Children {
			below := where
			if below == "" {
				below = c.Name
			}
			walk(c, below)
		}
	}
	walk(grammar(t, newCommandLine()).Model.Node, "")
}

// A server that joins a database with accounts needs its keys; new ones are not created.
func TestKeysWithSharedDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	place := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	url := postgrestest.Shared(t).Database(t)
	execute := func(args, environ []string) (string, int) {
		var out strings.Builder
		status := run(t.Context(), args, append([]string{"DIALTONE_DATABASE=" + url}, environ...), &out, &out)
		return out.String(), status
	}
	run := func(data string, env ...string) (string, int) {
		return execute([]string{"--data", place(data), "tenant", "list"}, env)
	}
	create := func(data string, env ...string) (string, int) {
		return execute([]string{"--data", place(data), "tenant", "add", "phone.test"}, env)
	}
	shared := "DIALTONE_KEYS_DIR=" + place("keys")

	if out, status := run("away", shared,
		"DIALTONE_DATABASE=postgres://127.0.0.1:1/none?connect_timeout=1"); status != exitFailed {
		t.Errorf("without the database: %d, %s", status, out)
	}
	if _, err := os.Stat(place("keys")); err == nil {
		t.Error("a key was created before the database could be asked")
	}
	if out, status := run("first", shared); status != exitConfig ||
		!strings.Contains(out, "there is no store in the database") {
		t.Errorf("without a store: %d, %s", status, out)
	}
	for _, name := range []string{"keys", "first"} {
		if _, err := os.Stat(place(name)); err == nil {
			t.Errorf("%s was created by a command that only reads", name)
		}
	}
	if out, status := create("first",
		"DIALTONE_KEYS_DIR="+place("not", "mounted")); status != exitConfig ||
		!strings.Contains(out, "mount or create its parent") {
		t.Errorf("without the parent directory: %d, %s", status, out)
	}
	if out, status := create("first", shared); status != 0 {
		t.Fatalf("the first command: %d, %s", status, out)
	}
	for _, data := range []string{"first", "second"} {
		if out, status := run(data, shared); status != 0 {
			t.Fatalf("%s: %d, %s", data, status, out)
		}
		if _, err := os.Stat(place(data, "dialtone.db")); err == nil {
			t.Errorf("%s has an SQLite database", data)
		}
	}
	var inEnv []string
	for _, name := range []string{"seal", "sign"} {
		text, err := os.ReadFile(place("keys", name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		inEnv = append(inEnv, "DIALTONE_KEYS_"+strings.ToUpper(name)+"="+string(text))
	}
	if out, status := run("third"); status != exitConfig ||
		!strings.Contains(out, "seal.key is missing") {
		t.Errorf("without keys: %d, %s", status, out)
	}
	if out, status := run("third", inEnv[0]); status != exitConfig ||
		!strings.Contains(out, "sign.key is missing, and other servers") {
		t.Errorf("with seal.key only: %d, %s", status, out)
	}
	if out, status := run("third", inEnv[1]); status != exitConfig ||
		!strings.Contains(out, "seal.key is missing") {
		t.Errorf("with sign.key only: %d, %s", status, out)
	}
	if _, err := os.Stat(place("third", "keys")); err == nil {
		t.Error("keys were created for a database that has keys")
	}
	if out, status := run("third", inEnv...); status != 0 {
		t.Errorf("with both: %d, %s", status, out)
	}
	for i, name := range []string{"sign.key", "seal.key"} {
		if out, status := run("third", inEnv[i], shared); status != 0 {
			t.Errorf("with a variable and %s: %d, %s", name, status, out)
		}
	}
	other := "DIALTONE_KEYS_SEAL=" + secret.NewRing(time.Now()).Text()
	if out, status := run("third", other, inEnv[1]); status != exitConfig ||
		!strings.Contains(out, "sealed with another key") {
		t.Errorf("with another seal.key: %d, %s", status, out)
	}
}
