//go:build long

package main

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"dialtone/internal/store/migrations"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/process"
)

// rolling is an upgrade of three servers on one PostgreSQL database behind HAProxy, from the program of the
// commit before the newest migration.
type rolling struct {
	*fleet
	tree     string // the source of the old program
	old      string // the old program
	proxied  string // HAProxy's address
	config   string // the old configuration file
	versions [3]string
}

// previousSource writes the source of the last commit before the newest migration to a directory.
func previousSource(t *testing.T, dir string) (commit string) {
	t.Helper()
	git := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("git", append([]string{"-C", root}, args...)...).CombinedOutput()
		if err != nil {
			t.Skipf("the program of an earlier commit cannot be built, because git has no history here: %v\n%s",
				err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if git("rev-parse", "--is-shallow-repository") != "false" {
		t.Skip("the program of an earlier commit cannot be built, because this clone is shallow: git fetch --unshallow")
	}
	names, err := fs.Glob(migrations.Files, "*.postgres.sql")
	if err != nil {
		t.Fatal(err)
	}
	const dirOfMigrations = "internal/store/migrations"
	newest := path.Join(dirOfMigrations, names[len(names)-1])
	// A commit that changed the directory, and the last one before the next change.
	before := "HEAD"
	for _, changed := range strings.Fields(git("log", "--first-parent", "-m", "--format=%H", "--", dirOfMigrations)) {
		otherwise := git("diff", "--name-only", "--no-renames", "--diff-filter=DM", before, "--",
			":/"+dirOfMigrations+"/*.sql")
		if git("ls-tree", "--name-only", before, ":/"+newest) == "" && otherwise == "" {
			commit = git("rev-parse", before)
			break
		}
		before = changed + "^1"
	}
	if commit == "" {
		t.Fatalf("no commit is older than %s", newest)
	}
	archive := exec.Command("sh", "-c", `git -C "$1" archive "$2" | tar -x -C "$3"`, "sh",
		strings.TrimSpace(git("rev-parse", "--show-toplevel")), commit, dir)
	if out, err := archive.CombinedOutput(); err != nil {
		t.Fatalf("git archive: %v\n%s", err, out)
	}
	t.Logf("the old program is of %s, before %s", git("log", "-1", "--format=%h of %cs (%s)", commit),
		path.Base(newest))
	return commit
}

func newRolling(t *testing.T) *rolling {
	t.Helper()
	dir := t.TempDir()
	u := &rolling{fleet: &fleet{T: t, dir: dir}, tree: filepath.Join(dir, "source"), old: filepath.Join(dir, "old"),
		proxied: "127.0.0.30:18080", config: filepath.Join(dir, "dialtone.toml")}
	u.must(os.Mkdir(u.tree, 0o700))
	previousSource(t, u.tree)
	build := exec.Command("go", "build", "-o", u.old, "./cmd/dialtone")
	build.Dir, build.Env = u.tree, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the old program: %v\n%s", err, out)
	}
	// The files of the old program, at addresses that no other test uses.
	for _, name := range []string{"dialtone.toml", "haproxy.cfg"} {
		text, err := os.ReadFile(filepath.Join(u.tree, "deploy", "postgresql", name))
		u.must(err)
		config := strings.ReplaceAll(string(text), "127.0.0.1", "127.0.0.3")
		config = strings.Replace(config, "\nglobal\n", "\nglobal\n\tstats socket "+u.socket()+" level admin\n", 1)
		u.must(os.WriteFile(filepath.Join(dir, name), []byte(config), 0o600))
	}
	u.primary = postgrestest.Start(t)
	u.url = u.primary.Database(t)
	for i := range u.nodes {
		u.node(i, u.old)
	}
	cmd := exec.Command(process.Find(t, "haproxy"), "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	process.Run(t, cmd, new(process.Log), func() error {
		v := newVisitor(u.proxied, "")
		defer v.leave()
		_, err := v.captcha()
		return err
	})
	return u
}

func (u *rolling) must(err error) {
	u.Helper()
	if err != nil {
		u.Fatal(err)
	}
}

// socket is the path of HAProxy's socket for commands.
func (u *rolling) socket() string { return filepath.Join(u.dir, "haproxy.sock") }

// haproxy runs a command of HAProxy.
func (u *rolling) haproxy(command string) (answer string) {
	u.Helper()
	conn, err := net.Dial("unix", u.socket())
	u.must(err)
	defer conn.Close()
	_, err = fmt.Fprintln(conn, command)
	u.must(err)
	text, err := io.ReadAll(conn)
	u.must(err)
	return string(text)
}

// drain makes HAProxy send no more requests to a server, and waits until those that it sent are answered.
func (u *rolling) drain(i int) {
	u.Helper()
	name := []string{"one", "two", "three"}[i]
	u.haproxy("set server dialtone/" + name + " state drain")
	process.Eventually(u, "a drained server has no requests", func() error {
		for line := range strings.Lines(u.haproxy("show stat")) {
			fields := strings.Split(line, ",")
			if fields[0] == "dialtone" && fields[1] == name && fields[4] != "0" {
				return fmt.Errorf("%s requests", fields[4])
			}
		}
		return nil
	})
}

// resume makes HAProxy use a server again, and waits until it does.
func (u *rolling) resume(i int) {
	u.Helper()
	name := []string{"one", "two", "three"}[i]
	u.haproxy("set server dialtone/" + name + " state ready")
	process.Eventually(u, "HAProxy uses the server", func() error {
		for line := range strings.Lines(u.haproxy("show stat")) {
			if fields := strings.Split(line, ","); fields[0] == "dialtone" && fields[1] == name && fields[17] != "UP" {
				return fmt.Errorf("it is %s", fields[17])
			}
		}
		return nil
	})
}

// node starts a server with the old configuration file.
func (u *rolling) node(i int, program string) {
	u.Helper()
	host := fmt.Sprintf("127.0.0.3%d", i+1)
	cmd := exec.Command(program, "--config", u.config, "serve", "--data", u.data(i), "--listen", host+":18080",
		"--ops-listen", host+":18081")
	cmd.Env = u.environ()
	p, err := launched(cmd, nil)
	u.must(err)
	u.Cleanup(p.Kill)
	u.nodes[i], u.versions[i] = p, "new"
	if program == u.old {
		u.versions[i] = "old"
	}
}

// stop stops a server and checks its log. A server of the old program that starts on a newer schema
// cannot tell whether somebody has modified it, and logs that.
func (u *rolling) stop(i int) {
	u.Helper()
	u.nodes[i].mustStop(u.T)
	for _, line := range u.nodes[i].stderr.Lines() {
		if strings.Contains(line, `"level":"ERROR"`) && !(u.versions[i] == "old" &&
			strings.Contains(line, `"msg":"database schema is not as made"`) &&
			strings.Contains(line, "this program knows those up to")) {
			u.Errorf("the log of the %s server %d has an error:\n%s", u.versions[i], i+1, line)
		}
	}
}

// by runs a command with one of the programs, and returns its output.
func (u *rolling) by(program string, args ...string) (string, error) {
	cmd := exec.Command(program,
		append([]string{"--config", u.config, "--data", filepath.Join(u.dir, "command")}, args...)...)
	cmd.Env = u.environ()
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (u *rolling) mustBy(program string, args ...string) string {
	u.Helper()
	out, err := u.by(program, args...)
	if err != nil {
		u.Fatalf("%s %s: %v\n%s", filepath.Base(program), strings.Join(args, " "), err, out)
	}
	return out
}

// signup signs up at a server, and returns the link of the message.
func (u *rolling) signup(i int, user string) (link string) {
	u.Helper()
	v := newVisitor(u.nodes[i].address, "")
	defer v.leave()
	if a, err := v.signup(user); err != nil || !a.OK {
		u.Errorf("sign-up at the %s server %d: %s, %v", u.versions[i], i+1, a, err)
	}
	names, err := filepath.Glob(filepath.Join(u.data(i), "pickup", "*.eml"))
	u.must(err)
	for _, name := range names {
		raw, err := os.ReadFile(name)
		u.must(err)
		if strings.Contains(string(raw), "\r\nTo: "+email(user)+"\r\n") {
			m, err := parseMessage(string(raw))
			u.must(err)
			return m.link
		}
	}
	u.Fatalf("there is no message to %s", user)
	return ""
}

// activates opens a link at a server, and signs in there.
func (u *rolling) activates(i int, user, link, madeBy string) (v *visitor) {
	u.Helper()
	v = newVisitor(u.nodes[i].address, "")
	u.Cleanup(v.leave)
	if status, _, err := v.open(link); err != nil || status != http.StatusOK {
		u.Errorf("a link of the %s server at the %s server %d: %d, %v", madeBy, u.versions[i], i+1, status, err)
	}
	if a, err := v.signIn(user, password(user)); err != nil || !a.OK {
		u.Errorf("sign-in of %s at the %s server %d: %s, %v", user, u.versions[i], i+1, a, err)
	}
	return v
}

// session checks that all servers accept the session of a visitor.
func (u *rolling) session(v *visitor, madeBy string) {
	u.Helper()
	for i, p := range u.nodes {
		w := newVisitor(p.address, "")
		w.session = v.session
		resp, _, err := w.send("GET", "/sessions.ashx", nil, "")
		u.must(err)
		if resp.StatusCode != http.StatusOK {
			u.Errorf("a session of the %s server at the %s server %d: %s", madeBy, u.versions[i], i+1, resp.Status)
		}
		w.leave()
	}
}

// known waits until all servers know a new token of a phone server.
func (u *rolling) known(token string) {
	u.Helper()
	for _, p := range u.nodes {
		process.Eventually(u, "the server knows the token", func() error {
			status := u.status(p, "/v1/sip/credential?username=ann&realm=localhost&algorithm=MD5", token)
			if status == http.StatusUnauthorized {
				return fmt.Errorf("status %d", status)
			}
			return nil
		})
	}
}

// status returns the status of a request with a token to the ops listener of a server.
func (u *rolling) status(p *serverProcess, path, token string) int {
	u.Helper()
	r, err := http.NewRequest("GET", p.operators+path, nil)
	u.must(err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	u.must(err)
	resp.Body.Close()
	return resp.StatusCode
}

// tokens checks that all servers accept the tokens of a phone server and of the API for operators.
func (u *rolling) tokens(directory, api, madeBy string) {
	u.Helper()
	for i, p := range u.nodes {
		for path, token := range map[string]string{
			"/v1/sip/credential?username=ann&realm=localhost&algorithm=MD5": directory,
			"/v1/admin/tenants/localhost/accounts/ann":                      api,
		} {
			if status := u.status(p, path, token); status != http.StatusOK {
				u.Errorf("the %s program's token for %s at the %s server %d: %d", madeBy, path, u.versions[i], i+1,
					status)
			}
		}
	}
}

var provisionLink = regexp.MustCompile(`/provision/[^"<>\s]+`)

// settings creates a link to the settings of a phone at one server, and opens it at another.
func (u *rolling) settings(v *visitor, from, at int) {
	u.Helper()
	w := newVisitor(u.nodes[from].address, "")
	defer w.leave()
	w.session = v.session
	_, page, err := w.send("GET", "/provision?format=linphone", nil, "")
	u.must(err)
	u.openSettings(string(provisionLink.Find(page)), u.versions[from], at)
}

func (u *rolling) openSettings(link, madeBy string, at int) {
	u.Helper()
	w := newVisitor(u.nodes[at].address, "")
	defer w.leave()
	if status, text, err := w.open(strings.ReplaceAll(link, "&amp;", "&")); err != nil || status != http.StatusOK ||
		!strings.Contains(text, "reg_proxy") {
		u.Errorf("settings by a link %q of the %s server at the %s server %d: %d, %v", link, madeBy, u.versions[at],
			at+1, status, err)
	}
}

// openForm posts the form of one server at another.
func (u *rolling) openForm(from, at int, user string) {
	u.Helper()
	v, w := newVisitor(u.nodes[from].address, ""), newVisitor(u.nodes[at].address, "")
	defer v.leave()
	defer w.leave()
	form, err := v.form(user)
	u.must(err)
	if a, err := w.post(form); err != nil || !a.OK {
		u.Errorf("a form of the %s server at the %s server: %s, %v", u.versions[from], u.versions[at], a, err)
	}
}

// TestLongUpgrade replaces three servers of the previous version one by one, as docs/operating.md says,
// while people sign up and sign in. Then it goes back to the previous version.
func TestLongUpgrade(t *testing.T) {
	u := newRolling(t)
	current := binary(t)

	// The objects that the old servers and commands created.
	ann := u.activates(0, "ann", u.signup(0, "ann"), "old")
	directory := u.mustBy(u.old, "directory", "token", "add", "kamailio")
	api := u.mustBy(u.old, "token", "add", "crm", "--scope", "accounts:read")
	var links [3]string
	for i := range links {
		links[i] = u.signup(i, fmt.Sprintf("before%d", i))
	}
	_, page, err := ann.send("GET", "/provision?format=linphone", nil, "")
	u.must(err)
	provision := string(provisionLink.Find(page))
	u.known(directory)
	u.tokens(directory, api, "old")
	u.session(ann, "old")

	l := &fleetLoad{fleet: u.fleet, address: u.proxied, stop: make(chan struct{}),
		answers: make(map[string]answer), unanswered: make(map[string]bool)}
	l.begin()
	var signIns sync.WaitGroup
	var signedIn, failed atomic.Int64
	for range 2 {
		signIns.Go(func() { // the challenge and the response go to different servers
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				v := newVisitor(u.proxied, "").useNewConnections()
				a, err := v.signIn("ann", password("ann"))
				if err == nil && a.OK {
					signedIn.Add(1)
				} else if failed.Add(1); a.Status != http.StatusBadGateway {
					t.Errorf("sign-in: %s, %v", a, err)
				}
			}
		})
	}
	l.until(100)

	u.mustBy(current, "store", "migrate")
	l.until(100)
	for i := range u.nodes { // the old servers on the new schema
		u.activates(i, fmt.Sprintf("on-new-schema%d", i), u.signup(i, fmt.Sprintf("on-new-schema%d", i)), "old")
	}
	u.tokens(directory, api, "old")
	for i := range u.nodes {
		u.drain(i)
		u.stop(i)
		u.node(i, current)
		u.resume(i)
		l.until(100)
		before, new := fmt.Sprintf("before%d", i), fmt.Sprintf("during%d", i)
		u.session(u.activates(i, before, links[i], "old"), "new")
		u.session(ann, "old")
		u.tokens(directory, api, "old")
		if i == 0 {
			u.openSettings(provision, "old", i)
		}
		other := (i + 1) % len(u.nodes) // an old server, until the last one is replaced
		u.session(u.activates(other, new, u.signup(i, new), "new"), u.versions[other])
		u.settings(ann, i, other)
		u.settings(ann, other, i)
		u.openForm(i, other, new+"-form")
		u.openForm(other, i, new+"-back")
	}
	l.until(100)
	l.mu.Lock()
	if l.refused > 0 || failed.Load() > 0 {
		t.Errorf("during the upgrade, %d sign-ups and %d sign-ins failed", l.refused, failed.Load())
	}
	t.Logf("the upgrade: %d sign-ups and %d sign-ins, all of them answered", l.accepted, signedIn.Load())
	l.mu.Unlock()

	// One version back, on the new schema.
	newDirectory := u.mustBy(current, "directory", "token", "add", "asterisk")
	newAPI := u.mustBy(current, "token", "add", "shop", "--scope", "accounts:read")
	u.known(newDirectory)
	u.stop(2) // not drained
	u.node(2, u.old)
	u.nodes[2].readiness(t, http.StatusOK, "this program knows those up to")
	l.until(100)
	bob := u.activates(2, "bob", u.signup(0, "bob"), "new")
	u.session(bob, "old")
	u.tokens(newDirectory, newAPI, "new")
	u.openForm(0, 2, "back-form")
	u.settings(bob, 0, 2)
	if out, err := u.by(u.old, "account", "show", "bob", "--tenant", "localhost"); err != nil {
		t.Errorf("a command of the old program: %v\n%s", err, out)
	}
	l.end()
	signIns.Wait()
	t.Logf("with the way back: %d sign-ins; %d had no answer of a server", signedIn.Load(), failed.Load())
	for i := range u.nodes {
		u.stop(i)
	}
	l.check()
	for user, a := range l.answers {
		if !a.OK {
			t.Errorf("the sign-up of %s was refused: %s", user, a)
		}
	}
	if out, err := u.by(current, "verify"); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}

	// A later version declares that older programs can no longer use the schema.
	u.primary.Exec(t, u.url, `
		INSERT INTO schema_version (version, checksum, applied) SELECT max(version) + 1, 'later', 0 FROM schema_version;
		INSERT INTO schema_floor (version, floor) SELECT max(version), max(version) FROM schema_version`)
	for name, program := range map[string]string{"old": u.old, "current": current} {
		for _, args := range [][]string{
			{"serve", "--listen", "127.0.0.1:0"}, {"account", "list"}, {"store", "migrate"},
		} {
			out, err := u.by(program, args...)
			exit, _ := err.(*exec.ExitError)
			if exit == nil || exit.ExitCode() != exitConfig || !strings.Contains(out, "newer version of dialtone") {
				t.Errorf("%s of the %s program with the schema of a later version: %v\n%s", args[0], name, err, out)
			}
		}
	}
}

// TestLongUpgradeConfiguration reads the configuration of the previous version, with all keys.
func TestLongUpgradeConfiguration(t *testing.T) {
	dir := t.TempDir()
	previousSource(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, "docs", "dialtone.example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(text), "$1")
	if strings.Count(all, "\n") == 0 || all == string(text) {
		t.Fatal("the file has no keys")
	}
	files, err := filepath.Glob(filepath.Join(dir, "deploy", "*", "dialtone.toml"))
	if err != nil {
		t.Fatal(err)
	}
	example := filepath.Join(dir, "all.toml")
	if err := os.WriteFile(example, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range slices.Concat(files, []string{example}) {
		cmd := exec.Command(binary(t), "--config", file, "config", "check")
		cmd.Env, cmd.Dir = []string{}, dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", filepath.Base(file), err, out)
		}
	}
}
