package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	agelib "filippo.io/age"

	"dialtone/internal/archive"
	"dialtone/internal/operator/opjson"
	"dialtone/internal/test/process"
)

// executed runs a command with its own environment, and returns its output and status.
func executed(t testing.TB, args ...string) (out string, status int) {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = []string{}
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		status = exit.ExitCode()
	}
	return string(text), status
}

// wantFailure runs a command that must fail with a status, and whose output must contain a text.
func wantFailure(t testing.TB, status int, says string, args ...string) {
	t.Helper()
	if out, got := executed(t, args...); got != status || !strings.Contains(out, says) {
		t.Errorf("dialtone %s: status %d, want %d and %q:\n%s", strings.Join(args, " "), got, status, says, out)
	}
}

// identity is a key pair of age.
type identity struct{ file, recipient string }

func newIdentity(t testing.TB) identity {
	t.Helper()
	key, err := agelib.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	if err := os.WriteFile(file, []byte(key.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return identity{file, key.Recipient().String()}
}

// made returns a data directory with a tenant, an active and a waiting account.
func made(t testing.TB) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	command(t, "tenant", "add", "localhost", "--data", data)
	command(t, "account", "add", "ann", "--name", "Ann", "--email", "ann@example.test", "--active",
		"--data", data)
	command(t, "account", "add", "bob", "--name", "Bob", "--email", "bob@example.test", "--data", data)
	return data
}

// A restore invalidates everything issued before: sessions, the captcha of an open form, the links
// of messages, links for phones, and TURN credentials. Passwords, and the credentials for phone
// servers, stay.
func TestRestoreEndsWhatWasHandedOut(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newIdentity(t)
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "backup.tar.age")
	config := filepath.Join(dir, "dialtone.toml")
	if err := os.WriteFile(config, []byte("data = \""+data+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, launch{data: data})
	v := newVisitor(p.address, "")
	t.Cleanup(v.leave)
	for _, user := range []string{"alex", "waits"} {
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatal(a, err)
		}
	}
	command(t, "account", "enable", "--activate", "alex", "--data", data)
	command(t, "tenant", "set", "localhost", "--sip-server", "127.0.0.1", "--turn-uri", "turn:127.0.0.1",
		"--data", data)
	turnSecret := secrets(t, data, "turn", "secret")[0]
	token := secrets(t, data, "directory", "token", "add", "registrar", "--tenant", "localhost")[0]
	if a, err := v.signIn("alex", password("alex")); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	messages, err := messagesIn(filepath.Join(data, "pickup"))
	if err != nil || len(messages) != 2 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	var waiting message
	for _, m := range messages {
		if strings.Contains(m.to, "waits") {
			waiting = m
		}
	}
	// The issued items. Each has a probe that tells whether it is still valid. The probe uses up a
	// link or a captcha, so the probes of this server use others of the same kind.
	form, err := v.form("new")
	if err != nil {
		t.Fatal(err)
	}
	phoneLink := func() string {
		t.Helper()
		_, page, err := v.send("GET", "/provision?format=linphone", nil, "")
		link := regexp.MustCompile(`/provision/[^"<>\s]+`).Find(page)
		if err != nil || link == nil {
			t.Fatalf("there is no link for a phone: %v\n%s", err, page)
		}
		return string(link)
	}
	resetLink := func() string {
		t.Helper()
		out := string(mustOutput(t, "account", "reset-link", "alex", "--data", data))
		m := regexp.MustCompile(`(?:token|link)=([A-Za-z0-9_-]{43})`).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("there is no link: %s", out)
		}
		return m[1]
	}
	status := func(method, path string, form url.Values) int {
		t.Helper()
		resp, _, err := v.send(method, path, form, "")
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	credentialOf := func(p *serverProcess) {
		t.Helper()
		// A server notices a new token within seconds.
		process.Eventually(t, "the look-up of alex", func() error {
			r, err := http.NewRequest("GET", p.operators+
				"/v1/sip/credential?username=alex&realm=localhost&algorithm=MD5", nil)
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 200 || !bytes.Contains(text, []byte(ha1("alex"))) {
				return fmt.Errorf("%d, %v", resp.StatusCode, err)
			}
			return nil
		})
	}
	resetForm := func(link string) string { return "/reset.ashx?token=" + link }
	before, reset := phoneLink(), resetLink()
	waitUntil(t, func() bool { return status("GET", "/turn", nil) == 200 })
	minted := turnOf(t, v)
	for claim, got := range map[string]int{
		"a session": status("GET", "/turn", nil), "a link for a phone": status("GET", phoneLink(), nil),
		"a reset link": status("GET", resetForm(reset), nil),
	} {
		if got != 200 {
			t.Errorf("before the restore, %s answers %d", claim, got)
		}
	}
	credentialOf(p)

	out := command(t, "backup", "--archive", file, "--with-keys", "--recipient", key.recipient, "--config", config)
	for _, says := range []string{"1 tenant, 2 accounts, 2 messages", "encrypted to 1 recipient", "dialtone.toml",
		"anyone who can read it"} {
		if !strings.Contains(out, says) {
			t.Errorf("backup does not say %q:\n%s", says, out)
		}
	}
	p.Kill()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	out = command(t, "restore", file, "--identity", key.file, "--data", data)
	for _, says := range []string{"1 account waits", "TURN servers need the new secret"} {
		if !strings.Contains(out, says) {
			t.Errorf("restore does not say %q:\n%s", says, out)
		}
	}
	if out := command(t, "verify", "--data", data); !strings.Contains(out, "restored the backup of") ||
		!strings.Contains(out, "no faults found") {
		t.Errorf("verify says\n%s", out)
	}
	p = start(t, launch{data: data, listen: p.address})
	if got := status("GET", "/turn", nil); got != 401 && got != 403 {
		t.Errorf("the session answers %d", got)
	}
	if a, err := v.post(form); err != nil || a.OK || a.Error == "" {
		t.Errorf("a form with a captcha from before is answered with %s, %v", a, err)
	}
	if got := status("GET", before, nil); got != 404 {
		t.Errorf("the link for a phone answers %d", got)
	}
	if got := status("GET", resetForm(reset), nil); got == 200 {
		t.Errorf("the reset link answers %d", got)
	}
	if got, page, err := v.open(waiting.link); err != nil || got == 200 {
		t.Errorf("the activation link answers %d, %v\n%s", got, err, page)
	}
	if got := secrets(t, data, "turn", "secret"); len(got) != 1 || got[0] == turnSecret {
		t.Errorf("there are %d TURN secrets, or the old one", len(got))
	} else {
		mac := hmac.New(sha1.New, []byte(got[0]))
		mac.Write([]byte(minted.Username))
		if base64.StdEncoding.EncodeToString(mac.Sum(nil)) == minted.Password {
			t.Error("the TURN credential from before is valid under the new secret")
		}
	}
	v.session = ""
	if a, err := v.signIn("alex", password("alex")); err != nil || !a.OK {
		t.Errorf("with the password: %s, %v", a, err)
	}
	credentialOf(p)
	// The waiting person requests a new message, and its link works.
	left, err := os.ReadDir(filepath.Join(data, "pickup"))
	if err != nil || len(left) != 0 {
		t.Errorf("the pickup directory has %v, %v", left, err)
	}
	if kept, err := os.ReadDir(filepath.Join(data, "restored", "pickup")); err != nil || len(kept) != 2 {
		t.Errorf("the messages that are not sent are %v, %v", kept, err)
	}
	if a, _, err := v.prove("waits", password("waits"), "POST", "/resend.ashx", url.Values{}); err != nil || !a.OK {
		t.Fatalf("a new message: %s, %v", a, err)
	}
	messages, err = messagesIn(filepath.Join(data, "pickup"))
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	if got, _, err := v.open(messages[0].link); err != nil || got != 200 {
		t.Errorf("the new link answers %d, %v", got, err)
	}
	p.mustStop(t)
}

func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	data, dir := made(t), t.TempDir()
	file := filepath.Join(dir, "backup.tar")
	key := newIdentity(t)
	wantFailure(t, exitConfig, "there is no store", "backup", "--archive", file, "--data", filepath.Join(dir, "none"))
	wantFailure(t, exitUsage, "encrypt the archive", "backup", "--archive", file, "--with-keys", "--data", data)
	wantFailure(t, exitUsage, "add --archive", "backup", file, "--with-keys", "--data", data)
	wantFailure(t, exitUsage, "not a recipient", "backup", "--archive", file, "--recipient", "age1x", "--data", data)
	wantFailure(t, exitFailed, "cannot be written", "backup", "--archive", filepath.Join(dir, "no/x"), "--data", data)
	wantFailure(t, exitUsage, "standard output", "backup", "--archive", "-", "--data", data)
	for _, force := range [][]string{nil, {"--force"}} {
		args := append([]string{"backup", "--archive", dir, "--data", data}, force...)
		wantFailure(t, exitFailed, "is a directory", args...)
	}
	private, err := os.ReadFile(key.file)
	if err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimSpace(string(private))
	for _, args := range [][]string{{"--recipient", secret}, {"--recipient", strings.ToLower(secret)},
		{"--recipients-file", key.file}} {
		args = append([]string{"backup", "--archive", file, "--data", data}, args...)
		out, status := executed(t, args...)
		if status == 0 || !strings.Contains(out, "this is a private key") ||
			strings.Contains(strings.ToUpper(out), secret[len("AGE-SECRET-KEY-"):]) {
			t.Errorf("status %d: backup to a private key says something else, or the key", status)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v are left, %v", left, err)
	}
	out := command(t, "backup", "--archive", file, "--data", data)
	if !strings.Contains(out, "without the keys this backup cannot be used") ||
		!strings.Contains(out, "1 tenant, 2 accounts") {
		t.Errorf("backup says\n%s", out)
	}
	first, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	wantFailure(t, exitFailed, "add --force", "backup", "--archive", file, "--data", data)
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, first) {
		t.Error("the file was changed")
	}
	recipients := filepath.Join(dir, "recipients")
	if err := os.WriteFile(recipients, []byte("# ann\n"+key.recipient+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "backup", "--archive", file, "--force", "--recipients-file", recipients, "--data", data)
	if now, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(now, []byte("age-encryption.org/v1")) {
		t.Error("the file was not replaced by an encrypted one")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".backup-*")); err != nil || len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	data, dir := made(t), t.TempDir()
	other := made(t)
	file, sealed, key := filepath.Join(dir, "backup.tar"), filepath.Join(dir, "backup.age"), newIdentity(t)
	command(t, "backup", "--archive", file, "--data", data)
	command(t, "backup", "--archive", sealed, "--with-keys", "--recipient", key.recipient, "--data", data)
	to := filepath.Join(dir, "to")
	empty := func() {
		t.Helper()
		if _, err := os.Lstat(to); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", to, err)
		}
	}
	wantFailure(t, exitUsage, "name an archive", "restore", "--data", to)
	wantFailure(t, exitUsage, "not both", "restore", file, "--after-database", "--data", to)
	wantFailure(t, exitConfig, "the backup contains no keys", "restore", file, "--data", to)
	empty()
	wantFailure(t, exitConfig, "sealed with another key", "restore", file, "--keys-dir", filepath.Join(other, "keys"),
		"--data", to)
	empty()
	wantFailure(t, exitFailed, "is encrypted; give", "restore", sealed, "--data", to)
	wantFailure(t, exitFailed, "encrypted to others", "restore", sealed, "--identity", newIdentity(t).file,
		"--data", to)
	wantFailure(t, exitFailed, "is not encrypted", "restore", file, "--identity", key.file, "--data", to)
	wantFailure(t, exitFailed, "but a copy of the database alone", "restore", filepath.Join(data, "dialtone.db"),
		"--data", to)
	empty()
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(whole)
	changed[20000] ^= 1
	for name, text := range map[string][]byte{"cut": whole[:len(whole)-4096], "changed": changed} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		wantFailure(t, exitFailed, "not a complete Dialtone backup", "restore", path,
			"--keys-dir", filepath.Join(data, "keys"), "--data", to)
		empty()
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dialtone.db", "dialtone.db-wal", "dialtone.db-shm", "keys", "node.id"} {
		path := filepath.Join(to, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		wantFailure(t, exitFailed, "is not empty: it contains "+name+";", "restore", sealed, "--identity", key.file,
			"--data", to)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	start(t, launch{data: other})
	wantFailure(t, exitFailed, "another server runs", "restore", sealed, "--data", other)
	command(t, "restore", sealed, "--identity", key.file, "--data", to)
	if out := command(t, "verify", "--data", to); !strings.Contains(out, "no faults found") {
		t.Errorf("verify says\n%s", out)
	}
}

// restoredTrail returns the times of the changes in a store, in order.
func restoredTrail(t *testing.T, data string) (times []time.Time) {
	t.Helper()
	for line := range bytes.Lines(mustOutput(t, "audit", "export", "--data", data)) {
		var v opjson.Change
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		times = append(times, v.Time)
	}
	return times
}

// The changes in the lost server's trail are repeated, from an export and from the damaged
// database.
func TestRestoreRepeats(t *testing.T) {
	t.Parallel()
	data, dir := made(t), t.TempDir()
	file, trail := filepath.Join(dir, "backup.tar"), filepath.Join(dir, "trail.jsonl")
	keys := filepath.Join(data, "keys")
	add := func(user string) {
		command(t, "account", "add", user, "--name", user, "--email", user+"@example.test", "--active", "--data", data)
	}
	for _, user := range []string{"cleo", "dora", "emma"} {
		add(user)
	}
	command(t, "directory", "token", "add", "stolen", "--tenant", "localhost", "--data", data)
	command(t, "token", "add", "lent", "--scope", "accounts:read", "--data", data)
	command(t, "backup", "--archive", file, "--data", data)
	for _, line := range []string{
		"account disable ann --reason thief", "account delete bob", "account role cleo user",
		"account disable dora", "account enable dora", "directory token remove stolen", "token remove lent",
		"account rename emma Emma", "account delete emma", "account free-name emma",
	} {
		command(t, append(strings.Fields(line), "--data", data)...)
	}
	add("emma") // another person
	command(t, "account", "disable", "emma", "--data", data)
	if err := os.WriteFile(trail, mustOutput(t, "audit", "export", "--data", data), 0o600); err != nil {
		t.Fatal(err)
	}
	lost := filepath.Join(dir, "lost.db")
	text, err := os.ReadFile(filepath.Join(data, "dialtone.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(lost, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"export": trail, "database": lost} {
		to := filepath.Join(dir, name)
		out := command(t, "restore", file, "--keys-dir", keys, "--trail", from, "--data", to)
		states := map[string]string{}
		for _, a := range shownAccounts(t, to) {
			states[a.User] = string(a.State) + " " + string(a.Role)
		}
		want := map[string]string{"ann": "disabled guest", "cleo": "active user", "dora": "active guest"}
		if fmt.Sprint(states) != fmt.Sprint(want) {
			t.Errorf("%s: the accounts are %v, want %v\n%s", name, states, want, out)
		}
		if list := command(t, "directory", "token", "list", "--data", to); strings.Contains(list, "stolen") {
			t.Errorf("%s: the token is there", name)
		}
		if !regexp.MustCompile(`not repeated .*account.profile emma@localhost`).MatchString(out) ||
			!regexp.MustCompile(`not applicable .*account.disable emma@localhost`).MatchString(out) {
			t.Errorf("%s: restore says\n%s", name, out)
		}
		if !slices.IsSortedFunc(restoredTrail(t, to), time.Time.Compare) {
			t.Errorf("%s: a later change of the trail has an earlier time", name)
		}
		lost := strings.Contains(out, "1 account that was created after the backup is lost")
		if lost != (name == "database") {
			t.Errorf("%s: lost accounts: restore says\n%s", name, out)
		}
		shown := command(t, "audit", "list", "--account", "ann", "--tenant", "localhost", "--data", to)
		if !strings.Contains(shown, "thief") || !strings.Contains(shown, "restore: change") {
			t.Errorf("%s: the trail says\n%s", name, shown)
		}
		if out := command(t, "verify", "--data", to); !strings.Contains(out, "no faults found") {
			t.Errorf("%s: verify says\n%s", name, out)
		}
	}
	now, err := os.ReadFile(lost)
	if err != nil || !bytes.Equal(now, text) {
		t.Error("the lost database was changed")
	}
	// The trail of another platform is refused.
	other := made(t)
	command(t, "account", "disable", "ann", "--data", other)
	foreign := filepath.Join(dir, "foreign.jsonl")
	if err := os.WriteFile(foreign, mustOutput(t, "audit", "export", "--data", other), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, exitFailed, "the trail of another platform", "restore", file, "--keys-dir", keys, "--trail", foreign,
		"--data", filepath.Join(dir, "refused"))
}

// A backup lists the configured files that it does not contain.
func TestBackupNamesOtherFiles(t *testing.T) {
	t.Parallel()
	data, dir := made(t), t.TempDir()
	config, password := filepath.Join(dir, "dialtone.toml"), filepath.Join(dir, "relay.password")
	text := fmt.Sprintf("[mail]\nrelay = %q\nrelay_password_file = %q\n", "smtps://x@127.0.0.1:1", password)
	err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(password, []byte("x\n"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	out := command(t, "backup", "--archive", filepath.Join(dir, "backup.tar"), "--config", config, "--data", data)
	if want := "not included: " + password + " (mail.relay_password_file)"; !strings.Contains(out, want) {
		t.Errorf("backup does not say %q\n%s", want, out)
	}
}

// killed starts a command, and kills it at a random time after a file exists that matches a
// pattern. It reports whether the command was killed before it finished.
func killed(t *testing.T, pattern string, within time.Duration, args ...string) bool {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(200 * time.Microsecond)
	defer look.Stop()
	for exists := false; !exists; {
		select {
		case err := <-ended:
			return err != nil
		case <-look.C:
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		exists = len(found) > 0
	}
	timer := time.AfterFunc(rand.N(within), func() { cmd.Process.Kill() })
	defer timer.Stop()
	return <-ended != nil
}

// A killed backup leaves either no file under its name, or a complete one.
func TestKilledBackup(t *testing.T) {
	t.Parallel()
	data, dir := made(t), t.TempDir()
	early, whole := 0, 0
	for i := range 2 * rounds(t) {
		own := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(own, 0o700); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(own, "backup.tar")
		if killed(t, filepath.Join(own, ".*"), 40*time.Millisecond, "backup", "--archive", file, "--data", data) {
			early++
		}
		f, err := os.Open(file)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		whole++
		_, err = archive.Read(f, archive.Options{
			MaxDatabase: 1 << 30, Begin: func(string, int64) (io.WriteCloser, error) { return nowhere{}, nil },
		})
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	t.Logf("%d killed, %d archives", early, whole)
	if early == 0 {
		t.Error("no backup was killed")
	}
	command(t, "backup", "--archive", filepath.Join(dir, "last"), "--data", data)
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) Close() error                { return nil }

// A killed restore leaves a directory that no command uses until another restore has completed it.
func TestKilledRestore(t *testing.T) {
	t.Parallel()
	data, dir := made(t), t.TempDir()
	file := filepath.Join(dir, "backup.tar")
	command(t, "backup", "--archive", file, "--with-keys", "--plain-keys", "--data", data)
	early, ready := 0, 0
	for i := range rounds(t) {
		to := filepath.Join(dir, fmt.Sprint(i))
		for attempt, done := 0, false; !done; attempt++ {
			if attempt == 3 {
				command(t, "restore", file, "--data", to)
				break
			}
			after := []string{"", "dialtone.db", "plan.json"}[i%3]
			within := []time.Duration{40 * time.Millisecond, 40 * time.Millisecond, time.Millisecond}[i%3]
			killed(t, filepath.Join(to, "restore.unfinished", after), within, "restore", file, "--data", to)
			out, status := executed(t, "account", "list", "--data", to)
			_, err := os.Stat(filepath.Join(to, "restore.unfinished"))
			switch {
			case err == nil:
				early++
				if status != exitConfig || !strings.Contains(out, "run the same dialtone restore command again") {
					t.Errorf("after a kill: status %d\n%s", status, out)
				}
				out, status = executed(t, "serve", "--listen", "127.0.0.1:0", "--data", to)
				if status != exitConfig || !strings.Contains(out, "a restore was started but not finished") {
					t.Errorf("serve after a kill: status %d\n%s", status, out)
				}
				if _, err := os.Stat(filepath.Join(to, "restore.unfinished", "plan.json")); err == nil {
					ready++
				}
			case status == 0:
				done = true
			case !strings.Contains(out, "there is no store"):
				t.Fatalf("after a kill: status %d\n%s", status, out)
			default:
				early++
			}
		}
		if out := command(t, "verify", "--data", to); !strings.Contains(out, "no faults found") ||
			!strings.Contains(out, "2 accounts") {
			t.Errorf("verify says\n%s", out)
		}
	}
	t.Logf("%d killed before their end, %d of them when all was checked", early, ready)
	if early == 0 {
		t.Error("no restore was killed")
	}
}
