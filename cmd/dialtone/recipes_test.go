package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"dialtone/internal/test/postgrestest"
)

// recipe is a code block of a document, without the indentation of a list.
type recipe struct{ document, text string }

// name identifies the recipe among those of its document.
func (r recipe) name() string {
	first, _, _ := strings.Cut(r.text, "\n")
	return r.document + ": " + strings.Join(strings.Fields(first), " ")
}

var anyBlock = regexp.MustCompile("(?ms)^( *)```[a-z]*\n(.*?)^ *```")

// recipes returns all code blocks of the documents for operators and developers.
func recipes(t *testing.T) (list []recipe) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "deploy/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, path)
			for _, m := range anyBlock.FindAllStringSubmatch(string(text), -1) {
				block := regexp.MustCompile(`(?m)^`+m[1]).ReplaceAllString(m[2], "")
				list = append(list, recipe{filepath.ToSlash(name), block})
			}
		}
	}
	return list
}

// elsewhere are the code blocks that TestRecipes does not run, each by the beginning of its name, with
// the test that runs it, or the reason why there is nothing to run.
var elsewhere = map[string]string{
	"CONTRIBUTING.md: make test every test":                        "a list of targets, with what each does",
	"README.md: $ go run ./cmd/dialtone serve --dev":               "TestReadmeSession",
	"deploy/prometheus/README.md: apt install prometheus":          "TestPrometheus uses the files where they are",
	"deploy/prometheus/README.md: promtool check rules":            "TestPrometheus",
	"README.md: $ curl -s http://localhost:8080/captcha.ashx":      "TestReadmeSession",
	"deploy/fail2ban/README.md: apt install fail2ban":              "TestFail2ban tests the files with fail2ban-client",
	"deploy/fail2ban/README.md: [log]":                             "TestFail2ban starts a server with it",
	"deploy/postgresql/README.md: people":                          "a drawing; TestThreeServers builds it",
	"docs/operating.md: dialtone init --host":                      "the script init, by TestScripts",
	"docs/operating.md: dialtone doctor --config":                  "the script doctor, by TestScripts",
	"docs/operating.md: CREATE SCHEMA extensions;":                 "TestCheckSchema moves an extension so",
	"docs/architecture.md: data/":                                  "a list of files",
	"docs/configuration.md: dialtone.toml:2:10: listen: expected":  "what TestFaults expects",
	`docs/directory.md: {"jsonrpc":"2.0","id":1,"method":"htable`:  "what TestSend of Kamailio's hook expects",
	"docs/directory.md: POST /dialtone HTTP/1.1":                   "an example of what is sent",
	`docs/integrating.md: {"username":"1795712400:alex@`:           "an example of an answer; TestPhones gets one",
	"docs/integrating.md: [{\"id\":":                               "an answer; TestSessionList",
	"docs/integrating.md: 403 {\"error\":\"second_factor\"":        "an answer; TestTwoStep",
	"docs/integrating.md: [{\"server\":":                           "an answer; TestPhones",
	"docs/integrating.md: curl --digest -u alex -H 'Dialtone-Cod":  "TestTwoStep has codes",
	"docs/integrating.md: curl --digest -u alex -d '' https://ph":  "TestLeave; it ends the account",
	"docs/integrating.md: curl -d token=THE_TOKEN_OF_THE_LINK":     "TestDecline and TestConfirmEmail have a token",
	"docs/integrating.md: curl 'https://phone.example.org/reset.":  "TestResetEndpoint has a link and the hashes",
	"docs/integrating.md: const { uris, username, password } =":    "TestPhones runs the same in a browser",
	"docs/integrating.md: host=phone.example.org user=alex":        "TestSignupScript",
	"docs/mail.md: cd /usr/share/doc/dialtone/examples/pickup":     "TestPickupUnits checks the files",
	"docs/migrating.md: dialtone account import subscriber.sql":    "TestImportFromPostgres and import.txtar",
	"docs/migrating.md: export DIALTONE_CONFIG=":                   "import.txtar has a dry run",
	"docs/migrating.md: dialtone tenant add phone.example.org --r": "a tenant like others; TestImportOfAnotherRealm",
	"docs/migrating.md: dialtone account export accounts.csv":      "TestExportAndImport",
	"docs/operating.md: look-up 2026":                              "a line of account show; account.txtar",
	"docs/backup.md: pg_dump --format=custom":                      "TestRestorePostgres",
	"docs/backup.md: pg_basebackup --dbname=postgres:":             "TestRestoreBaseBackup",
	"docs/backup.md: export DIALTONE_CONFIG=":                      "TestRestoreArchive and TestRestorePostgres",
	"deploy/docker/README.md: docker build":                        "make release-test builds it with buildah",
	"deploy/docker/README.md: docker run":                          "make release-test runs its files",
	"deploy/docker/README.md: tenant=phone.example.org":            "TestCompose",
	"deploy/systemd/README.md: install -D":                         "make release-test installs the same files",
	"docs/quickstart.md: ":                                         "make release-test runs the page",
	"deploy/kamailio/README.md: install -m 644 tls.cfg":            "make release-test installs what init writes",
	"docs/installing.md: sha256sum":                                "make release-test",
	"docs/installing.md: apt install":                              "make release-test",
	"docs/installing.md: tar -xzf":                                 "make release-test unpacks it",
	"docs/tls.md: listen = \":443\"":                               "TestTLS and TestACME set these keys",
	"docs/tls.md: chown root:dialtone":                             "TestConfigCheckAsRoot gives a key to the group",
	"docs/tls.md: #!/bin/sh":                                       "a hook of certbot, whose files only certbot makes",
	"docs/tls.md: install -m 644 ca.pem":                           "the recipe tls checks these files",
	"deploy/docker/README.md: services:":                           "TestTLS runs health with these flags",
	"docs/tls.md: [ops]":                                           "TestTLS and TestKamailioOverTLS set these keys",
}

// deployed lists the files in deploy/, each with the test that uses it.
var deployed = map[string]string{
	"apache/dbd.conf":                       "TestApacheOnPostgres",
	"apache/htdigest.conf":                  "TestApacheOnFile",
	"asterisk/extconfig.conf":               "TestDeployedAsterisk reads it: Debian 12 has no Asterisk",
	"asterisk/extensions.conf":              "TestDeployedAsterisk reads it: Debian 12 has no Asterisk",
	"asterisk/pjsip.conf":                   "TestDeployedAsterisk reads it: Debian 12 has no Asterisk",
	"asterisk/sorcery.conf":                 "TestDeployedAsterisk reads it: Debian 12 has no Asterisk",
	"coturn/rest.conf":                      "TestCoturnAcceptsCredentials",
	"coturn/turnserver.conf":                "TestCoturnOnPostgres, TestCoturnOnSQLite",
	"docker/Dockerfile":                     "TestDockerfiles; make release-test builds it",
	"docker/compose.yaml":                   "TestCompose",
	"docker/servers.Dockerfile":             "TestDockerfiles; make release-test builds it",
	"fail2ban/filter.conf":                  "TestFail2ban",
	"fail2ban/jail.conf":                    "TestFail2ban",
	"freeswitch/dialplan.xml":               "TestDeployedFreeSWITCH reads it: Debian has no FreeSWITCH",
	"freeswitch/profile.xml":                "TestDeployedFreeSWITCH reads it: Debian has no FreeSWITCH",
	"freeswitch/xml_curl.conf.xml":          "TestDeployedFreeSWITCH sends its requests: Debian has no FreeSWITCH",
	"grafana/dialtone.json":                 "TestPrometheus",
	"kamailio/http.cfg":                     "TestKamailioOverHTTP",
	"kamailio/kamailio.cfg":                 "TestKamailioOnPostgres, TestKamailioOnSQLite",
	"kamailio/rpc.cfg":                      "TestKamailioHook",
	"kamailio/tls.cfg":                      "TestKamailioSIPS",
	"kamailio/dialtone-certificate.service": "TestCertificateUnits; make release-test runs it",
	"kamailio/dialtone-certificate.timer":   "TestCertificateUnits; make release-test installs it",
	"nginx/dialtone.conf":                   "TestNginx",
	"caddy/Caddyfile":                       "TestCaddy",
	"pickup/dialtone-pickup":                "TestPickupScript, TestPickupThroughPostfix",
	"pickup/dialtone-pickup.path":           "TestPickupUnits",
	"pickup/dialtone-pickup.service":        "TestPickupUnits",
	"pickup/dialtone-pickup.timer":          "TestPickupUnits",
	"postgresql/dialtone.toml":              "TestThreeServers",
	"postgresql/haproxy.cfg":                "TestThreeServers",
	"postgresql/primary.conf":               "TestThreeServers",
	"prometheus/dialtone.rules.yml":         "TestPrometheus",
	"prometheus/dialtone.test.yml":          "TestPrometheus",
	"prometheus/prometheus.yml":             "TestPrometheus",
	"systemd/dialtone.service":              "TestUnit",
	"systemd/low-ports.conf":                "TestUnit",
	"systemd/sysusers.conf":                 "TestSysusers; make release-test installs it",
	"systemd/tmpfiles.conf":                 "TestSysusers; make release-test installs it",
}

// restored is a line of the recipes that the tests in restore_test.go run.
const restored = "systemctl stop dialtone\n"

// sandbox runs recipes in a directory that replaces the root of a machine.
type sandbox struct {
	*testing.T
	dir, data string
	env       []string
	replace   []string // what a document says, and what it is in the test
	ran       map[string]bool
	server    *serverProcess
}

// stubs are programs that would change the machine. They check their arguments instead.
var stubs = map[string]string{
	"apt":       `[ "$1" = install ] && shift && printf '%s\n' "$@" >>"$PACKAGES"`, // packagesExist checks them
	"a2enmod":   `cd /usr/lib/apache2/modules || exit 0; for m; do [ -e mod_$m.so ] || exit 1; done`,
	"systemctl": `[ "$1" = reload ]`,
	"nginx":     `[ "$1" = -t ]`,
	"caddy":     `[ "$1" = validate ] && [ -e "$3" ]`,
	// The program is built already, as part of all these tests.
	"make": `[ "$1" = build ] && PATH=${PATH#*:} && make -n -C "$ROOT" build && ln -s "$ROOT_BINARY" dialtone`,
}

func newSandbox(t *testing.T, ran map[string]bool, replace ...string) *sandbox {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, as the recipes do: they give files to other users")
	}
	s := &sandbox{T: t, dir: t.TempDir(), ran: ran}
	// Phone servers must be able to reach the exported tables.
	s.must(os.Chmod(filepath.Dir(s.dir), 0o711))
	s.data = filepath.Join(s.dir, "var")
	bin := filepath.Join(s.dir, "bin")
	for _, d := range []string{bin, "etc/kamailio", "etc/dialtone", "etc/apache2", "etc/caddy",
		"etc/nginx/sites-enabled"} {
		s.must(os.MkdirAll(filepath.Join(s.dir, strings.TrimPrefix(d, s.dir)), 0o755))
	}
	s.must(os.Symlink(binary(t), filepath.Join(bin, "dialtone")))
	for name, script := range stubs {
		s.write("bin/"+name, "#!/bin/sh\nset -e\n"+script+"\n", 0o755)
	}
	s.write("etc/dialtone.toml", fmt.Sprintf("data = %q\n", s.data), 0o600)
	for _, name := range []string{"kamailio/db.password", "turnserver.password", "apache2/db.password"} {
		s.write("etc/"+name, "correct horse\n", 0o600)
	}
	absolute, err := filepath.Abs(root)
	s.must(err)
	s.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "ROOT=" + absolute, "ROOT_BINARY=" + binary(t),
		"PACKAGES=" + filepath.Join(s.dir, "packages")}
	t.Cleanup(s.packagesExist)
	s.replace = append(replace, "/etc/", s.dir+"/etc/", "/var/lib/dialtone", s.data)
	return s
}

// packages are the names of all packages of Debian, if this is Debian and has its list of them.
var packages = sync.OnceValues(func() (map[string]bool, error) {
	if info, err := os.Stat("/var/lib/dpkg/status"); err != nil || info.Size() == 0 {
		return nil, nil
	}
	list, err := exec.Command("apt-cache", "pkgnames").Output()
	names := map[string]bool{}
	for name := range strings.Lines(string(list)) {
		names[strings.TrimSpace(name)] = true
	}
	return names, err
})

// packagesExist checks that the packages that the recipes installed exist.
func (s *sandbox) packagesExist() {
	text, err := os.ReadFile(filepath.Join(s.dir, "packages"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	s.must(err)
	names, err := packages()
	s.must(err)
	for _, name := range strings.Fields(string(text)) {
		if names != nil && !names[name] {
			s.Errorf("Debian has no package %s", name)
		}
	}
}

func (s *sandbox) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *sandbox) write(name, text string, mode fs.FileMode) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(s.dir, name), []byte(text), mode))
}

var (
	optional  = regexp.MustCompile(` \[(--[a-z]+)\]`)
	serveLine = regexp.MustCompile(`(?m)^(?:\./)?dialtone (?:--config \S+ )?serve\b[^#\n]*`)
)

// find returns the recipe of a document that contains a text, with the replacements made.
func (s *sandbox) find(document, containing string) string {
	s.Helper()
	var found []recipe
	for _, r := range recipes(s.T) {
		if r.document == document && strings.Contains(r.text, containing) {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		s.Fatalf("%d code blocks of %s contain %q", len(found), document, containing)
	}
	s.ran[found[0].name()] = true
	return strings.NewReplacer(s.replace...).Replace(found[0].text)
}

// run runs the commands of the recipe that contains a text, and returns their output. Lines with
// [--option] run without and with the option. A started server keeps running until the test ends.
func (s *sandbox) run(document, containing string) string {
	s.Helper()
	script := s.find(document, containing)
	for optional.MatchString(script) {
		var lines []string
		for line := range strings.Lines(script) {
			if m := optional.FindStringSubmatchIndex(line); m != nil {
				lines = append(lines, line[:m[0]]+line[m[1]:])
				line = line[:m[0]] + " " + line[m[2]:m[3]] + line[m[1]:]
			}
			lines = append(lines, line)
		}
		script = strings.Join(lines, "")
	}
	before, after := script, ""
	if at := serveLine.FindStringIndex(script); at != nil {
		before, after = script[:at[0]], script[at[1]:]
		s.shell(before)
		flags := " --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0"
		if strings.Contains(script, "--ops-listen") {
			flags = ""
		}
		cmd := s.command("exec " + script[at[0]:at[1]] + flags)
		p, err := launched(cmd, nil)
		s.must(err)
		s.Cleanup(p.Kill)
		s.server = p
		return s.shell(after)
	}
	return s.shell(before)
}

func (s *sandbox) command(script string) *exec.Cmd {
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // so that a program that asks reads standard input
	return cmd
}

func (s *sandbox) shell(script string) string {
	s.Helper()
	cmd := s.command(script)
	cmd.Stdin = strings.NewReader("correct horse\ncorrect horse\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

// dialtone runs a command with the configuration that the recipes use.
func (s *sandbox) dialtone(arguments string) string {
	s.Helper()
	return s.shell("dialtone " + arguments + " --config etc/dialtone.toml")
}

// configure sets DIALTONE_CONFIG for the following recipes, as the documents say to do once.
func (s *sandbox) configure() { s.env = append(s.env, "DIALTONE_CONFIG="+s.dir+"/etc/dialtone.toml") }

// serve starts a server on the store of the recipes.
func (s *sandbox) serve(flags ...string) {
	s.Helper()
	s.server = start(s.T, launch{data: s.data, flags: flags})
}

// signup creates an active account at the tenant localhost, and returns its visitor.
func (s *sandbox) signup(user string) (v *visitor, token string) {
	s.Helper()
	v = newVisitor(s.server.address, "")
	s.Cleanup(v.leave)
	if a, err := v.signup(user); err != nil || !a.OK {
		s.Fatalf("%v, %v", a, err)
	}
	list, err := messagesIn(filepath.Join(s.data, "pickup"))
	s.must(err)
	at := slices.IndexFunc(list, func(m message) bool { return m.to == email(user) })
	return v, list[at].token
}

func (s *sandbox) activate(v *visitor, token string) {
	s.Helper()
	if status, _, err := v.open("http://localhost/activate.ashx?token=" + token); err != nil || status != 200 {
		s.Fatalf("%d, %v", status, err)
	}
}

// owned checks the mode, the user and the group of a file.
func (s *sandbox) owned(name, want string) {
	s.Helper()
	if got := strings.TrimSpace(s.shell("stat -c '%a %U %G' " + name)); got != want {
		s.Errorf("%s: %s, want %s", name, got, want)
	}
}

// TestRecipes runs the commands of the documents unchanged, and checks that each code block is run
// here, or listed in elsewhere.
func TestRecipes(t *testing.T) {
	t.Parallel()
	ran := map[string]bool{}
	run := func(name string, do func(*sandbox), replace ...string) {
		t.Run(name, func(t *testing.T) { do(newSandbox(t, ran, replace...)) })
	}
	run("installation", func(s *sandbox) {
		s.run("README.md", "make build")
		if out := s.dialtone("tenant list"); !strings.Contains(out, "phone.example.org") {
			s.Errorf("the tenants are %s", out)
		}
	})
	run("operation", func(s *sandbox) {
		s.run("docs/operating.md", "dialtone serve --data")
		s.run("docs/operating.md", "dialtone tenant list")
		if out := s.dialtone("tenant list --json"); !strings.Contains(out, "Example Phones") {
			s.Errorf("the tenants are %s", out)
		}
		s.configure()
		s.run("docs/operating.md", "--turn-uri")
		turn, err := os.ReadFile(filepath.Join(s.dir, "etc", "turnserver.conf"))
		if err != nil || !regexp.MustCompile(`^static-auth-secret=\S{20,}\n$`).Match(turn) {
			s.Errorf("turnserver.conf: %q, %v", turn, err)
		}
		s.run("docs/operating.md", "dialtone stats --tenant")
		s.run("docs/operating.md", "dialtone tenant reserved")
		if out := s.dialtone("tenant reserved phone.example.org"); !strings.Contains(out, "canteen ") ||
			strings.Contains(out, "workshop ") {
			s.Errorf("the reserved names are %s", out)
		}
		s.run("docs/operating.md", "--mail-footer")
		s.write("logo.svg", `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">`+
			`<path d="M0 0h1v1z"/></svg>`, 0o600)
		s.run("docs/operating.md", "--logo logo.svg")
		if out := s.dialtone("tenant list --json"); !strings.Contains(out, `"image/svg+xml"`) {
			s.Errorf("the tenants are %s", out)
		}
	})
	run("accounts", func(s *sandbox) {
		s.serve()
		s.activate(s.signup("alex"))
		s.configure()
		s.run("docs/operating.md", "--public-url http")
		s.run("docs/operating.md", "mailbox closed")
		s.run("docs/operating.md", "dialtone account list --tenant phone.example.org --state waiting --net")
		s.run("docs/operating.md", "dialtone account second-factor alex --tenant phone.example.org --remove")
		s.run("docs/operating.md", "dialtone account disable alex --tenant phone.example.org --reason \"taken over")
		s.run("docs/operating.md", "--require-second-factor")
		if out := s.run("docs/operating.md", "dialtone account delete    alex"); !strings.Contains(out, `"alex"`) {
			s.Errorf("the commands print %s", out)
		}
		if list := shownAccounts(s.T, s.data); len(list) != 0 {
			s.Errorf("the accounts are %v", list)
		}
		out := s.run("docs/operating.md", "dialtone audit list [--json]")
		if !strings.Contains(out, "asked for by phone") {
			s.Errorf("the audit trail is %s", out)
		}
	}, "phone.example.org", "localhost")
	run("accounts that operators add", func(s *sandbox) {
		s.serve()
		s.configure()
		s.write("carl.ha1", digestOf("carl", "localhost", "nine foxes behind the lighthouse")+"\n", 0o600)
		s.run("docs/operating.md", "dialtone account add berta")
		s.run("docs/operating.md", "account resend berta --email berta.b@example.org --tenant")
		s.run("docs/operating.md", "dialtone signups close --tenant")
		list := shownAccounts(s.T, s.data)
		if len(list) != 2 || list[0].Email != "berta.b@example.org" || list[1].State != "active" {
			s.Errorf("the accounts are %v", list)
		}
	}, "phone.example.org", "localhost")
	run("questions", func(s *sandbox) {
		s.serve()
		s.configure()
		s.shell(`for name in berta bot-1 bot-2; do
			dialtone account add $name --name Somebody --email $name@example.org
		done
		dialtone account add carl --name "Bad Words" --email carl@example.org --active`)
		s.run("docs/operating.md", "# The message did not arrive")
		list := shownAccounts(s.T, s.data)
		if len(list) != 1 || list[0].User != "carl" || list[0].Name != "Carl C" {
			s.Errorf("the accounts are %v", list)
		}
		if out := s.shell("cat carl.json; dialtone signups show; dialtone tenant reserved"); !strings.Contains(out,
			`"carl@example.org"`) || !strings.Contains(out, "offensive") {
			s.Errorf("the answers are %s", out)
		}
	}, "phone.example.org", "localhost")
	run("message template", func(s *sandbox) {
		s.must(os.Mkdir(filepath.Join(s.dir, "templates"), 0o700))
		text := s.find("docs/operating.md", `{{define "subject"}}`)
		s.write("templates/activation.de.txt", text, 0o600)
		s.write("templates/activation.de.html", `<a href="{{.Link}}">{{.Link}}</a>`, 0o600)
		s.write("etc/dialtone.toml", fmt.Sprintf("data = %q\n[mail]\ntemplates_dir = %q\n",
			s.data, filepath.Join(s.dir, "templates")), 0o600)
		s.dialtone("config check")
		s.write("templates/activation.de.txt", strings.Replace(text, ".Link", ".Lnik", 1), 0o600)
		if out := s.shell("! dialtone config check --config etc/dialtone.toml"); !strings.Contains(out, "Lnik") {
			s.Errorf("a mistake in the template is not reported: %s", out)
		}
	})
	run("keys of the environment", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		s.run("docs/operating.md", "sign.key.new")
		s.shell("test $(wc -l < sign.key.new) -gt $(wc -l < var/keys/sign.key)")
	}, "keys/sign.key", "var/keys/sign.key")
	run("move to PostgreSQL", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		s.env = append(s.env, "TARGET="+postgrestest.Shared(s.T).Database(s.T))
		s.run("docs/operating.md", "dialtone store copy")
	}, "--to postgres://dialtone@db.example.org/dialtone", "--to env:TARGET")
	run("tokens and hooks", testTokensAndHooks)
	run("API for operators", testAdminRecipes)
	run("mail", testMailRecipes)
	run("HTTP API", testIntegratingRecipes, "-u alex ", "-u 'alex:"+password("alex")+"' ",
		"a***@example.org", "a***@example.test", "Alex Example", "Someone of alex")
	for _, c := range []struct{ document, containing string }{
		{"docs/export.md", "chgrp kamailio"}, {"deploy/kamailio/README.md", "kamailio-sqlite-modules"},
	} {
		run("export on SQLite, "+c.document, func(s *sandbox) {
			s.dialtone("tenant add phone.example.org")
			s.dialtone("directory export enable")
			s.run(c.document, c.containing)
			s.owned("var/directory", "2750 root kamailio")
			s.owned("var/directory/directory.db", "640 root kamailio")
		})
	}
	run("export on PostgreSQL", testExportRecipes)
	run("Apache with a file", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		s.run("deploy/apache/README.md", "authn_file")
	})
	run("Kamailio over HTTP", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		s.run("deploy/kamailio/README.md", "kamailio-utils-modules")
		s.owned("etc/kamailio/directory.cfg", "600 kamailio root")
		s.shell(`grep -qE '^#!define DIRECTORY "dialtone=>http://kamailio:\S{20,}@127.0.0.1:8081"$' \
			etc/kamailio/directory.cfg`)
	})
	run("nginx", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		site, err := os.ReadFile(filepath.Join(root, "deploy", "nginx", "dialtone.conf"))
		s.must(err)
		s.write("dialtone.conf", string(site), 0o600)
		s.run("deploy/nginx/README.md", "apt install nginx")
		s.write("etc/dialtone.toml", s.find("deploy/nginx/README.md", "trusted_proxies"), 0o600)
		s.shell("dialtone config check --config etc/dialtone.toml --data var")
	})
	run("caddy", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		site, err := os.ReadFile(filepath.Join(root, "deploy", "caddy", "Caddyfile"))
		s.must(err)
		s.write("Caddyfile", string(site), 0o600)
		s.run("deploy/caddy/README.md", "apt install caddy")
		s.write("etc/dialtone.toml", s.find("deploy/caddy/README.md", "trusted_proxies"), 0o600)
		s.shell("dialtone config check --config etc/dialtone.toml --data var")
	})
	run("tls", func(s *sandbox) {
		s.dialtone("tenant add phone.example.org")
		s.run("docs/tls.md", "openssl req -x509")
		s.shell("openssl verify -CAfile ca.pem -purpose sslclient kamailio.pem")
		s.shell("chmod 600 ops.key && DIALTONE_OPS_TLS_CERT=ops.pem DIALTONE_OPS_TLS_KEY=ops.key " +
			"DIALTONE_OPS_TLS_CLIENT_CA=ca.pem dialtone config check --data var")
	})
	run("three servers", testPostgresRecipes, "127.0.0.11:18080", "127.0.0.1:0", "127.0.0.11:18081", "127.0.0.1:0")
	if t.Failed() || os.Geteuid() != 0 {
		return
	}
	list, used := recipes(t), map[string]bool{}
	for _, r := range list {
		name := r.name()
		run := ran[name] || strings.Contains(r.text, restored)
		for beginning := range elsewhere {
			if strings.HasPrefix(name, beginning) {
				run, used[beginning] = true, true
			}
		}
		if !run {
			t.Errorf("no test runs this code block; run it in TestRecipes, or give the reason in elsewhere: %q", name)
		}
	}
	if len(list) < 40 {
		t.Errorf("only %d code blocks were found", len(list))
	}
	for beginning := range elsewhere {
		if !used[beginning] {
			t.Errorf("elsewhere has a code block that no document has: %q", beginning)
		}
	}
}

// TestDeployedFiles checks that each file in deploy/ is used by a test, and that the tests named
// here exist.
func TestDeployedFiles(t *testing.T) {
	read := func(pattern string) map[string]string {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		texts := map[string]string{}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(root, path)
			texts[filepath.ToSlash(name)] = string(text)
		}
		return texts
	}
	files := read("deploy/*/*")
	for file := range files {
		name := strings.TrimPrefix(file, "deploy/")
		if !strings.HasSuffix(name, "/README.md") && deployed[name] == "" {
			t.Errorf("%s: name the test that uses it", file)
		}
	}
	var tests strings.Builder
	for _, pattern := range []string{"cmd/*/*_test.go", "internal/*/*_test.go", "internal/*/*/*_test.go"} {
		for _, text := range read(pattern) {
			tests.WriteString(text)
		}
	}
	named := regexp.MustCompile(`\bTest\w+`)
	for name, how := range deployed {
		if _, ok := files["deploy/"+name]; !ok || !named.MatchString(how) {
			t.Errorf("deploy/%s does not exist, or no test is named: %s", name, how)
		}
	}
	for _, list := range []map[string]string{deployed, elsewhere} {
		for name, how := range list {
			for _, test := range named.FindAllString(how, -1) {
				if !strings.Contains(tests.String(), "\nfunc "+test+"(t *testing.T)") {
					t.Errorf("%s: there is no %s", name, test)
				}
			}
		}
	}
}

func testAdminRecipes(s *sandbox) {
	const document = "docs/admin-api.md"
	s.serve()
	s.activate(s.signup("alice"))
	s.configure()
	s.replace = append(
		[]string{"http://127.0.0.1:8081", s.server.operators, "phone.example.org", "localhost"}, s.replace...)
	if out := s.run(document, "token add crm"); !strings.Contains(out, "crm") || strings.Contains(out, "dta_") {
		s.Errorf("the commands print %s", out)
	}
	var answers []map[string]any
	for line := range strings.Lines(s.run(document, "order-4711")) {
		var v map[string]any
		s.must(json.Unmarshal([]byte(line), &v))
		answers = append(answers, v)
	}
	if len(answers) != 3 || len(answers[0]["items"].([]any)) != 1 || answers[1]["state"] != "disabled" ||
		answers[2]["user"] != "bob" {
		s.Errorf("%v", answers)
	}
	for _, user := range []string{"ann", "ben"} { // from a loopback address
		s.signup(user)
	}
	s.replace = append([]string{"198.51.100.7", "127.0.0.0/8"}, s.replace...)
	done := func() bool { return len(shownAccounts(s.T, s.data)) == 2 } // alice and bob
	if out := s.run(document, `"action":"delete"`); !strings.Contains(out, `"found":2,`) ||
		!strings.Contains(out, `"items":[{`) {
		s.Fatalf("the commands print %s", out)
	}
	waitUntil(s.T, done)
	out := s.run(document, `"signups":"closed"`)
	for _, want := range []string{
		`"signups":"closed","signups_note":"We are back on Monday.","frozen":false,"open":false`,
		`{"frozen":true,"note":""}`, `{"frozen":false,"note":""}`, `"name":"billing","tenant":"localhost"`,
	} {
		if !strings.Contains(out, want) {
			s.Errorf("there is no %s in %s", want, out)
		}
	}
	if out := s.dialtone("token list"); strings.Contains(out, "billing") || !strings.Contains(out, "ops") {
		s.Errorf("the tokens are %s", out)
	}
}

func testTokensAndHooks(s *sandbox) {
	const document = "docs/directory.md"
	s.serve()
	s.activate(s.signup("alice"))
	for _, host := range []string{"phone.example.org", "sip.example.net"} {
		s.dialtone("tenant add " + host)
	}
	s.run(document, "token add kamailio-1")
	s.configure()
	if out := s.run(document, "token list"); !strings.Contains(out, "kamailio-1") {
		s.Errorf("the commands print %s", out)
	}
	token := s.shell("dialtone directory token add other --tenant localhost 2>/dev/null")
	s.env = append(s.env, "TOKEN="+strings.TrimSpace(token))
	lookUp, shown, _ := strings.Cut(strings.NewReplacer("http://127.0.0.1:8081", s.server.operators,
		"phone.example.org", "localhost").Replace(s.find(document, "/v1/sip/credential")), "\n")
	var out string
	waitUntil(s.T, func() bool { // a new token takes effect within a second
		out = s.shell(strings.Replace(lookUp, "curl", "curl -sS", 1))
		return !strings.Contains(out, "unknown token")
	})
	var got, want map[string]string
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		s.Fatalf("the look-up prints %s", out)
	}
	s.must(json.Unmarshal([]byte(shown), &want))
	if got["ha1"] != ha1("alice") || !strings.HasPrefix(want["ha1"], "9cd1f1b2") {
		s.Errorf("the look-up prints %s", out)
	}
	want["ha1"] = got["ha1"]
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("the look-up prints %s, the document says %s", out, shown)
	}

	// A server that supports Kamailio's methods.
	var authorized int
	kamailio := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") {
			authorized++
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":["htable.delete","ul.rm","domain.reload"]}`)
	}))
	s.Cleanup(kamailio.Close)
	s.replace = append([]string{"http://127.0.0.1:5065", kamailio.URL}, s.replace...)
	s.run("deploy/kamailio/README.md", "openssl rand")
	s.owned("etc/kamailio/rpc-token.cfg", "600 kamailio root")
	s.shell(`grep -qF "\"Bearer $(cat etc/dialtone/sip1.token)\"" etc/kamailio/rpc-token.cfg`)
	s.run(document, "dialtone directory hook add crm")
	s.run("deploy/kamailio/README.md", "dialtone directory hook test sip1")
	if authorized == 0 {
		s.Error("the hook was not tested with its token")
	}
}

func testMailRecipes(s *sandbox) {
	const document = "docs/mail.md"
	line := strings.Fields(s.find(document, "* * * * *"))
	if len(line) != 9 || line[5] != "dialtone" || line[6] != "/usr/local/sbin/dialtone-pickup" ||
		line[7] != filepath.Join(s.data, "pickup") {
		s.Errorf("the line for cron is %q: want five times, a user and a command", line)
	}
	settings := s.find(document, "[mail]")
	s.write("etc/dialtone/relay.password", "correct horse\n", 0o600)
	s.write("etc/dialtone.toml", fmt.Sprintf("data = %q\n%s", s.data, settings), 0o600)
	s.dialtone("config check")
	s.dialtone("tenant add phone.example.org")
	s.dialtone("tenant add localhost")
	s.configure()
	if out := s.run(document, "dialtone mail dkim add"); strings.Count(out, "v=DKIM1") != 2 {
		s.Errorf("the commands print %s", out)
	}

	s.serve("--mail-relay=smtp://127.0.0.1:1") // nothing listens there, so messages wait
	s.signup("alex")
	var id string
	waitUntil(s.T, func() bool {
		var list []struct{ ID string }
		s.must(json.Unmarshal([]byte(s.shell("dialtone mail list --json")), &list))
		if len(list) > 0 {
			id = list[0].ID
		}
		return id != ""
	})
	s.replace = append([]string{" ID ", " " + id + " "}, s.replace...)
	if out := s.run(document, "dialtone mail retry"); !strings.Contains(out, id) {
		s.Errorf("the commands print %s", out)
	}
}

func testIntegratingRecipes(s *sandbox) {
	const document = "docs/integrating.md"
	s.serve("--dev")
	s.signup("alex")
	s.replace = append(s.replace, "https://phone.example.org", s.server.base)
	// expect runs the commands of a block and checks the output that follows each.
	expect := func(containing string) {
		s.Helper()
		text := strings.ReplaceAll(s.find(document, containing), "curl --digest", "curl -sS --digest")
		var command string
		for line := range strings.Lines(text + "curl -V\n") {
			if !strings.HasPrefix(line, "curl") { // what the command prints
				if got := strings.TrimSpace(s.shell(command)); got != strings.TrimSpace(line) {
					s.Errorf("%s prints %s, the document says %s", command, got, line)
				}
				command = ""
				continue
			}
			if command != "" {
				if got := s.shell(command); !strings.HasPrefix(got, `{"ok":true`) {
					s.Errorf("%s prints %s", command, got)
				}
			}
			command = line
		}
	}
	expect("/resend.ashx")
	link, err := url.Parse(linkTo(s.T, "right@example.org", filepath.Join(s.data, "pickup")))
	s.must(err)
	s.replace = append(s.replace, "THE_TOKEN_OF_THE_LINK", link.Query().Get("token"))
	expect("/activate.ashx")
	expect("/signin.ashx")
	expect("/email.ashx")
	expect("/profile.ashx")
	s.run(document, "/data.ashx")
	s.shell(`grep -q '"email": "right@example.org"' alex@*.json`)
	s.write("new-password", "ha1="+strings.Repeat("5e", 16)+"&ha1b="+strings.Repeat("5e", 16)+
		"&ha1_sha256="+strings.Repeat("5e", 32), 0o600)
	expect("/password.ashx")
}

func testExportRecipes(s *sandbox) {
	dump, err := postgrestest.Program("pg_dump")
	s.must(err)
	cluster := postgrestest.Shared(s.T)
	database, empty := cluster.Database(s.T), cluster.Database(s.T)
	s.env[0] += ":" + filepath.Dir(dump)
	s.env = append(s.env, "DIALTONE_DATABASE="+database)
	s.dialtone("tenant add phone.example.org")
	s.configure()
	for _, kind := range []struct{ document, containing, role string }{
		{"docs/export.md", "dialtone directory export role kamailio", "dialtone_kamailio"},
		{"deploy/kamailio/README.md", "kamailio-postgres-modules", "dialtone_kamailio"},
		{"deploy/coturn/README.md", "apt install coturn", "dialtone_coturn"},
		{"deploy/apache/README.md", "libaprutil1-dbd-pgsql", "dialtone_digest"},
	} {
		s.dialtone("directory export enable")
		if kind.role == "dialtone_coturn" {
			conf, err := os.ReadFile(filepath.Join(root, "deploy", "coturn", "turnserver.conf"))
			s.must(err)
			s.write("turnserver.conf", string(conf), 0o600)
		}
		s.run(kind.document, kind.containing)
		u, err := url.Parse(database)
		s.must(err)
		u.User = url.UserPassword(kind.role, "correct horse")
		cluster.Exec(s.T, u.String(), "SELECT 1") // the role can log in
	}
	s.owned("etc/turnserver.conf", "640 root turnserver")
	s.replace = append([]string{
		"dialtone.dump dialtone\n", "dialtone.dump '" + database + "'\n",
		"--dbname=restored", "--dbname='" + empty + "'",
		"dialtone directory export rebuild\n", "DIALTONE_DATABASE='" + empty + "' dialtone directory export rebuild\n",
	}, s.replace...)
	s.run("docs/export.md", "pg_restore")
	s.replace = s.replace[6:]
	s.run("docs/export.md", "dialtone directory export disable")
}

// testPostgresRecipes runs the steps of the example with three servers, for one of them.
func testPostgresRecipes(s *sandbox) {
	const document = "deploy/postgresql/README.md"
	program, err := postgrestest.Program("psql")
	s.must(err)
	cluster := postgrestest.Start(s.T)
	u, err := url.Parse(cluster.URL("postgres"))
	s.must(err)
	secret, _ := u.User.Password()
	s.env[0] += ":" + filepath.Dir(program)
	s.env = append(s.env, "PGHOST="+u.Hostname(), "PGPORT="+u.Port(),
		"PGUSER="+u.User.Username(), "PGPASSWORD="+secret)
	for _, name := range []string{"primary.conf", "dialtone.toml"} {
		text, err := os.ReadFile(deployFile(name))
		s.must(err)
		s.write(name, strings.ReplaceAll(string(text), "/etc/", s.dir+"/etc/"), 0o600)
	}
	s.run(document, "createuser --pwprompt")
	u.User, u.Path = url.UserPassword("dialtone", "correct horse"), "/dialtone"
	s.env = append(s.env, "DIALTONE_DATABASE="+u.String())
	s.run(document, "install -d -m 0700")
	s.owned("etc/dialtone/keys", "700 root root")
	s.shell("test -s etc/dialtone/keys/seal.key")
}
