package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"dialtone/cmd/dialtone/internal/installation"
	"dialtone/internal/account"
	"dialtone/internal/audit"
	"dialtone/internal/config"
	"dialtone/internal/delivery"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/outbox"
	"dialtone/internal/secret/keyfile"
	"dialtone/internal/test/postgrestest"
	"dialtone/internal/test/teststore"
)

// readers are the commands that change neither the store nor a file of the installation.
var readers = []string{
	"account list", "account names", "audit list", "completion", "config check", "directory export status",
	"directory hook list", "directory token list", "doctor", "health", "help", "man", "mail dkim list",
	"mail doctor", "mail list", "mail show",
	"provision", "signups show", "stats", "tenant certificate", "tenant list",
	"tenant reserved", "token list", "verify", "version",
	// These write another database or file, which has its own trail.
	"backup", "store copy",
	// The schema has its own table of applied migrations.
	"store migrate",
	// Changes that a server makes itself have their own events in the log.
	"serve",
}

// auditedCommand is a command that changes something, and the action that it must add to the trail.
type auditedCommand struct {
	args   string
	action audit.Action
}

// Every command either changes nothing or adds its change to the audit trail, with the user who ran
// it, and does not print the entry.
func TestCommandsAreAudited(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url := postgrestest.Shared(t).Database(t)
	environ := []string{"DIALTONE_DATABASE=" + url, "SUDO_USER=olga", "DIALTONE_DATA=" + filepath.Join(dir, "data")}
	execute := func(line string) (stdout, stderr string) {
		t.Helper()
		var out, err strings.Builder
		if status := run(t.Context(), strings.Fields(line), environ, &out, &err); status != 0 {
			t.Errorf("dialtone %s: status %d, %s%s", line, status, &out, &err)
		}
		return out.String(), err.String()
	}
	var in *installation.Installation
	trail := func() (list []audit.Change) {
		t.Helper()
		if in == nil {
			c, err := config.Load("", environ, nil)
			if err == nil {
				in, err = installation.Open(t.Context(), c, installation.Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { in.Store.Close() })
		}
		if err := in.Store.Changes(t.Context(), audit.Filter{}, func(c audit.Change) error {
			list = append(list, c)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	commands := []auditedCommand{
		{"tenant add phone.test", audit.TenantAdd},
		{"tenant set phone.test --product Phones", audit.TenantSet},
		{"account disable ann", audit.AccountDisable},
		{"account enable ann --activate --reason asked", audit.AccountEnable},
		{"account reset-link ann --reason asked", audit.PasswordLink},
		{"account data ann --reason asked", audit.AccountData},
		{"account second-factor ann --remove --reason asked", audit.AccountFactors},
		{"account email ann ann@other.test --reason asked", audit.EmailChange},
		{"account role ann user --reason asked", audit.AccountRole},
		{"account show ann", audit.AccountView},
		{"account rename ann Ann --reason asked", audit.ProfileChange},
		{"account sign-out ann --reason asked", audit.SessionsEnd},
		{"account add ida --name Ida --email ida@other.test --reason asked", audit.AccountAdd},
		{"account resend ida --reason asked", audit.AccountResend},
		{"signups close --reason asked", audit.TenantSet},
		{"signups close --freeze --reason asked", audit.SignupsFreeze},
		{"signups open --freeze --reason asked", audit.SignupsUnfreeze},
		{"signups open --reason asked", audit.TenantSet},
		{"account import IMPORT --format csv --tenant phone.test --reason asked", audit.AccountImport},
		{"account export FILE.csv --format csv --tenant phone.test --reason asked", audit.AccountExport},
		{"account bulk disable --text ann --yes --reason asked", audit.AccountBulk},
		{"token add crm --scope accounts:read", audit.TokenAdd},
		{"token remove crm", audit.TokenRemove},
		{"account delete ann", audit.AccountDelete},
		{"account free-name ann", audit.AccountFreeName},
		{"directory token add sbc --tenant phone.test", audit.DirectoryTokenAdd},
		{"directory token remove sbc", audit.DirectoryTokenRemove},
		{"directory export enable", audit.ExportEnable},
		{"directory export rebuild", audit.ExportRebuild},
		{"directory export role kamailio --name audited_" + filepath.Base(url), audit.ExportRole},
		{"directory export disable", audit.ExportDisable},
		{"directory htdigest FILE --tenant phone.test", audit.ExportFile},
		{"directory hook add web --webhook https://web.test/", audit.HookAdd},
		{"directory hook test web", audit.HookTest},
		{"directory hook remove web", audit.HookRemove},
		{"mail retry MESSAGE", audit.MessageRetry},
		{"mail discard MESSAGE", audit.MessageDiscard},
		{"mail dkim add phone.test --selector s1 --algorithm ed25519", audit.DKIMAdd},
		{"mail dkim remove phone.test --selector s1", audit.DKIMRemove},
		{"keys rotate", audit.KeysRotate},
		{"keys bind", audit.KeysBind},
		{"turn secret", audit.TURNSecret},
		{"turn secret --rotate", audit.TURNRotate},
		{"tenant remove phone.test --with-accounts", audit.TenantRemove},
		{"audit export --reason asked", audit.AuditExport},
		{"audit restart --reason asked", audit.TrailRestart},
		{"init --yes --host new.test --admin olga --email olga@new.test --config CONFIG", audit.TenantAdd},
		{"restore --after-database --reason asked", audit.Restore},
	}
	accounts := filepath.Join(dir, "accounts.csv")
	if err := os.WriteFile(accounts, []byte("user,password\nota,the pass phrase of ota\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	replace := strings.NewReplacer("FILE", filepath.Join(dir, "htdigest"), "IMPORT", accounts)
	covered := slices.Clone(readers)
	before := 0
	for i, c := range commands {
		line := replace.Replace(c.args)
		if c.action == audit.KeysBind { // it changes only the key of an earlier version
			path := filepath.Join(dir, "data", "keys", "seal.key")
			ring, err := keyfile.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := keyfile.Replace(path, ring.Lenient()); err != nil {
				t.Fatal(err)
			}
		}
		if c.action == audit.AccountFactors {
			addApp(t, environ, "ann")
			before = len(trail())
		}
		var stderr string
		if c.action == audit.HookTest { // which fails without a phone server, and is in the trail all the same
			var out strings.Builder
			run(t.Context(), strings.Fields(line), environ, &out, &out)
		} else {
			_, stderr = execute(line)
		}
		if strings.Contains(stderr, `"audit"`) || strings.Contains(stderr, string(c.action)) {
			t.Errorf("dialtone %s prints its audit event: %s", line, stderr)
		}
		list := trail()
		if len(list) <= before {
			t.Errorf("dialtone %s adds nothing to the audit trail", line)
			continue
		}
		// Entries about what the command reads may precede the entry about its change.
		added := slices.IndexFunc(list[before:], func(e audit.Change) bool { return e.Action == c.action })
		got := list[before+max(added, 0)]
		if got.Action != c.action || got.Actor.Kind != audit.Command || got.Actor.ID == "" || got.Actor.Name == "" ||
			got.Actor.Sudo != "olga" {
			t.Errorf("dialtone %s adds %+v, want %s", line, got, c.action)
		}
		if strings.Contains(line, "--reason asked") != (got.Reason == "asked") {
			t.Errorf("dialtone %s has the reason %q", line, got.Reason)
		}
		if c.action == audit.HookTest && (len(list) != before+2 || list[before+1].Outcome != audit.Failed) {
			t.Errorf("the trail of a failed test is %+v", list[before:])
		}
		before = len(list)
		covered = append(covered, commandOf(t, line))
		if i == 0 {
			message := addAuditedAccounts(t, environ)
			replace = strings.NewReplacer("FILE", filepath.Join(dir, "htdigest"), "MESSAGE", message,
				"IMPORT", accounts, "CONFIG", filepath.Join(dir, "etc", "dialtone.toml"))
		}
	}
	var listed []opjson.Change
	out, _ := execute("audit list --json")
	if err := json.Unmarshal([]byte(out), &listed); err != nil || len(listed) != len(trail()) ||
		listed[before-1].SudoUser != "olga" {
		t.Errorf("audit list prints %d of %d changes, %v", len(listed), len(trail()), err)
	}
	var walk func(n *kong.Node)
	walk = func(n *kong.Node) {
		for _, c := range n.Children {
			walk(c)
		}
		if name := strings.TrimPrefix(n.FullPath(), "dialtone "); len(n.Children) == 0 &&
			!slices.Contains(covered, name) {
			t.Errorf("dialtone %s is a new command: say in this test what it adds to the audit trail, "+
				"or that it only reads", name)
		}
	}
	walk(grammar(t, newCommandLine()).Model.Node)
}

// commandOf returns the name of the command in a command line.
func commandOf(t *testing.T, line string) string {
	t.Helper()
	c, err := grammar(t, newCommandLine()).Parse(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(c.Selected().FullPath(), "dialtone ")
}

// addAuditedAccounts adds the accounts ann and bob, and returns the ID of the message to bob, which
// has failed.
func addAuditedAccounts(t *testing.T, environ []string) string {
	t.Helper()
	c, err := config.Load("", environ, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := installation.Open(t.Context(), c, installation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Store.Close()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tn, err := in.TenantOf(t.Context(), "phone.test")
	must(err)
	var message string
	for _, user := range []string{"ann", "bob"} {
		now := time.Now().UTC().Truncate(time.Microsecond)
		a := teststore.Signup(tn.ID, user)
		a.Account.UID = account.NewUID(now)
		a.Account.Created, a.Account.Expires = now, now.Add(account.PendingLife)
		a.Captcha.Expires = now.Add(time.Hour)
		must(in.Store.Create(t.Context(), a, now))
		ref := outbox.Ref{Tenant: tn.ID, Account: a.Account.UID, Message: a.Message}
		_, err := in.Store.Enqueue(t.Context(), []outbox.Ref{ref}, now)
		must(err)
		d, err := in.Store.Delivery(t.Context(), a.Message)
		must(err)
		d.State, d.Due = delivery.Failed, time.Time{}
		must(in.Store.Record(t.Context(), []delivery.Delivery{d}))
		message = a.Message.String()
	}
	return message
}

// addApp gives an account of phone.test an authenticator app.
func addApp(t *testing.T, environ []string, user string) {
	t.Helper()
	c, err := config.Load("", environ, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := installation.Open(t.Context(), c, installation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Store.Close()
	tn, err := in.TenantOf(t.Context(), "phone.test")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	a, err := in.Store.Find(t.Context(), tn.ID, user, now)
	if err != nil {
		t.Fatal(err)
	}
	change := account.AppChange{Account: a, Sealed: []byte("sealed"), Step: 1}
	if err := in.Store.StartApp(t.Context(), a, change.Sealed, now); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Store.FinishApp(t.Context(), change, now); err != nil {
		t.Fatal(err)
	}
}

func TestReasons(t *testing.T) {
	olga := audit.Cause{Actor: audit.Actor{Kind: audit.Command, Name: "olga"}}
	p := &program{ctx: audit.With(t.Context(), olga)}
	for _, reason := range []string{"", "spam", strings.Repeat("é", 250)} {
		ctx, err := p.withReason(reason)
		if err != nil || audit.CauseOf(ctx).Reason != reason || audit.CauseOf(ctx).Actor.Name != "olga" {
			t.Errorf("%q: %v", reason, err)
		}
	}
	for _, reason := range []string{"two\nlines", "\x1b[2J", "\xff", strings.Repeat("x", 501)} {
		if _, err := p.withReason(reason); err == nil {
			t.Errorf("%q is accepted", reason)
		}
	}
}

// SUDO_USER comes from the environment, so it may be anything.
func TestCommandActor(t *testing.T) {
	a := commandActor([]string{"SUDO_USER=\x1b[2J\xff" + strings.Repeat("x", 100)})
	if strings.Contains(a.Sudo, "\x1b") || !utf8.ValidString(a.Sudo) || len(a.Sudo) > 70 ||
		a.Kind != audit.Command || a.Name == "" {
		t.Errorf("got %+v", a)
	}
	if a := commandActor(nil); a.Sudo != "" || a.String() != a.Name {
		t.Errorf("got %+v", a)
	}
}

// On a terminal, a person has to confirm a deletion.
func TestConfirmDeletion(t *testing.T) {
	for answer, want := range map[string]bool{"yes\n": true, "no\n": false, "\n": false, "y\n": false} {
		p := &program{ctx: t.Context(), stderr: new(strings.Builder), stdin: newTerminal(t, answer)}
		if err := p.confirm("delete it"); (err == nil) != want {
			t.Errorf("the answer %q: %v", answer, err)
		}
	}
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := (&program{stdin: file}).confirm("delete it"); err != nil {
		t.Errorf("without a terminal: %v", err)
	}
}

// On a terminal, commands that remove what cannot be restored ask first. --yes skips the question.
func TestRemovalAsks(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, launch{data: data})
	v := newVisitor(p.address, "")
	for _, user := range []string{"ann", "ben"} {
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
	}
	v.leave()
	p.mustStop(t)
	for _, args := range []string{
		"tenant add empty.test", "mail dkim add localhost --selector s1 --algorithm ed25519",
		"directory hook add web --webhook http://127.0.0.1:1/", "tenant set localhost --product Phones",
	} {
		mustOutput(t, append(strings.Fields(args), "--data", data)...)
	}
	on := func(terminal *os.File, args string) (string, error) {
		cmd := exec.Command(binary(t), append(strings.Fields(args), "--data", data)...)
		cmd.Env, cmd.Stdin = []string{}, terminal
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, c := range []struct{ args, what string }{
		{"mail dkim remove localhost --selector s1", "the DKIM key s1 of localhost"},
		{"directory hook remove web", "the hook web and its 1 notification not delivered yet"},
		{"tenant remove empty.test", "the tenant empty.test"},
		{"tenant remove localhost --with-accounts", "the tenant localhost and its 2 accounts"},
	} {
		out, err := on(newTerminal(t, "no\n"), c.args)
		if err == nil || !strings.Contains(out, "This cannot be undone. Type yes to remove "+c.what+": ") ||
			!strings.Contains(out, "nothing was changed") {
			t.Errorf("%s, no: %v\n%s", c.args, err, out)
		}
		if out, err = on(newTerminal(t, ""), c.args+" --yes"); err != nil || strings.Contains(out, "Type yes") ||
			!strings.Contains(out, "removed "+c.what) {
			t.Errorf("%s --yes: %v\n%s", c.args, err, out)
		}
	}
	// If a request would be refused anyway, the command does not ask.
	for _, args := range []string{
		"mail dkim remove empty.test --selector none", "directory hook remove none", "tenant remove none.test",
	} {
		if out, err := on(newTerminal(t, ""), args); err == nil || strings.Contains(out, "Type yes") {
			t.Errorf("%s: %v\n%s", args, err, out)
		}
	}
}

// A command on any host is logged by each server, and each removes the messages of deleted accounts
// from its own directory.
func TestServersFollowTheTrail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	environ := []string{
		"DIALTONE_DATABASE=" + postgrestest.Shared(t).Database(t), "DIALTONE_KEYS_DIR=" + filepath.Join(dir, "keys"),
	}
	f := &hookFixture{T: t, dir: filepath.Join(dir, "command"), environ: environ}
	var servers []*serverProcess
	pickups := []string{filepath.Join(dir, "a", "pickup"), filepath.Join(dir, "b", "pickup")}
	for i, pickup := range pickups {
		p := start(t, launch{data: filepath.Dir(pickup), env: environ})
		v := newVisitor(p.address, "")
		for _, user := range []string{"gone", "kept"} {
			if a, err := v.signup(fmt.Sprint(user, i)); err != nil || !a.OK {
				t.Fatalf("%v, %v", a, err)
			}
		}
		v.leave()
		servers = append(servers, p)
	}
	recipients := func(pickup string) (list []string) {
		messages, err := messagesIn(pickup)
		if errors.Is(err, fs.ErrNotExist) { // the server has just removed one
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			list = append(list, m.to)
		}
		slices.Sort(list)
		return list
	}
	logs := func(p *serverProcess, change string) {
		t.Helper()
		f.within(10*time.Second, "the server logs "+change, func() bool {
			return strings.Count(p.stderr.String(), change) == 1
		})
	}
	// After this, the servers have looked for messages of accounts that were deleted before.
	f.command("tenant", "set", "localhost", "--product", "Phones")
	for _, p := range servers {
		logs(p, `"msg":"tenant.set","outcome":"ok","tenant":"localhost"`)
	}
	f.command("account", "role", "kept0", "user")
	for _, p := range servers {
		logs(p, `"msg":"account.role","outcome":"ok","tenant":"localhost","user":"kept0"`)
	}
	for i := range servers {
		if got := recipients(pickups[i]); len(got) != 2 {
			t.Fatalf("server %d has messages to %q", i, got)
		}
		f.command("account", "delete", fmt.Sprint("gone", i), "--reason", "asked")
	}
	for i, p := range servers {
		f.within(10*time.Second, "the message of the deleted account is removed", func() bool {
			return slices.Equal(recipients(pickups[i]), []string{email(fmt.Sprint("kept", i))})
		})
		for j := range servers {
			logs(p, fmt.Sprintf(`"msg":"account.delete","outcome":"ok","tenant":"localhost","user":"gone%d"`, j))
		}
	}
	if _, err := os.Stat(filepath.Join(f.dir, "pickup")); err == nil {
		t.Error("the command has created a pickup directory")
	}
}
