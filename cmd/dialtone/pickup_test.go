package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"dialtone/internal/test/process"
	"dialtone/internal/test/smtptest"
)

// pickupRun runs deploy/pickup/dialtone-pickup on a pickup directory.
type pickupRun struct {
	t                   *testing.T
	dir, pickup, script string
	sendmail            []string
}

func newPickupRun(t *testing.T, pickup string, sendmail ...string) *pickupRun {
	t.Helper()
	script, err := filepath.Abs(filepath.Join(root, "deploy", "pickup", "dialtone-pickup"))
	if err != nil {
		t.Fatal(err)
	}
	return &pickupRun{t: t, dir: t.TempDir(), pickup: pickup, script: script, sendmail: sendmail}
}

// write writes a file, which can be a program, in the directory in which the script runs.
func (p *pickupRun) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o700); err != nil {
		p.t.Fatal(err)
	}
}

// run runs the script in its own process group, and returns its exit status, or -1 if it was
// killed.
func (p *pickupRun) run() (status int, output string) {
	p.t.Helper()
	cmd := exec.Command(p.script, append([]string{p.pickup, "postmaster@example.org"}, p.sendmail...)...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "SCRIPT=" + p.script, "PICKUP=" + p.pickup}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// files returns the names in the pickup directory or in a sibling directory.
func (p *pickupRun) files(dir string) []string {
	p.t.Helper()
	entries, err := os.ReadDir(filepath.Join(filepath.Dir(p.pickup), dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// sendmail replaces the mail server's program. It records its arguments and its input. Its exit
// status for a message to USER is in the file status-USER. During its first call it runs the script
// once more, as cron does, and publishes another message.
const sendmail = `#!/bin/sh
n=$(ls -d calls/* 2>/dev/null | wc -l)
mkdir "calls/$n"
echo "$*" > "calls/$n/arguments"
cat > "calls/$n/input"
if [ "$n" -eq 0 ]; then
	"$SCRIPT" "$PICKUP" other@example.org ./sendmail > second-run 2>&1 || echo failed >> second-run
	mv late "$PICKUP/00000000000000000000000000000000.eml"
fi
user=$(sed -n 's/^To: \(.*\)@.*/\1/p' "calls/$n/input")
echo "no mailbox $user@example.test" >&2
[ ! -e "status-$user" ] || exit "$(cat "status-$user")"
`

func TestPickupScript(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := newPickupRun(t, filepath.Join(data, "pickup"), "./sendmail")
	p.write("sendmail", sendmail)
	p.write("late", "To: late@example.test\r\n\r\nlast\r\n")
	if err := os.Mkdir(filepath.Join(p.dir, "calls"), 0o700); err != nil {
		t.Fatal(err)
	}
	server := start(t, launch{data: data})
	if status, out := p.run(); status != 0 || out != "" || len(p.files("pickup")) != 0 {
		t.Errorf("on an empty directory: status %d, %q", status, out)
	}

	// The names of users are in the order of their messages.
	statuses := map[string]string{"c64": "64", "d65": "65", "e67": "67", "f68": "68", "g75": "75", "h69": "69",
		"i1": "1", "j127": "127", "k137": "137"}
	users := []string{"a0", "c64", "d65", "e67", "f68", "g75", "h69", "i1", "j127", "k137", "z0"}
	ids := make(map[string]string)
	for i, user := range users {
		v := newVisitor(server.address, "")
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
		v.leave()
		list, err := messagesIn(p.pickup)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.to == email(user) {
				ids[user] = m.id[1:33]
			}
		}
		at := time.Now().Add(time.Duration(i-100) * time.Second)
		if err := os.Chtimes(filepath.Join(p.pickup, ids[user]+".eml"), at, at); err != nil {
			t.Fatal(err)
		}
		if status := statuses[user]; status != "" {
			p.write("status-"+user, status)
		}
	}
	messages, err := messagesIn(p.pickup)
	if err != nil || len(messages) != len(users) {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	raw := make(map[string]string)
	for _, m := range messages {
		raw[m.to] = m.raw
	}

	// Files that are not complete messages.
	hex := strings.Repeat("5", 32)
	odd := []string{"." + hex + ".part", hex + ".part", hex + ".EML", hex[1:] + ".eml", "a b.eml", "*.eml", "-f.eml",
		"$(touch executed).eml", "new\nline.eml", "'\".eml", strings.Repeat("A", 32) + ".eml", ".eml", "\xff.eml"}
	for _, name := range odd {
		err := os.WriteFile(filepath.Join(p.pickup, name), []byte("To: odd@example.test\r\n\r\n"), 0o640)
		if err != nil {
			t.Fatal(err)
		}
	}
	link := strings.Repeat("6", 32) + ".eml"
	if err := os.Symlink(filepath.Join(data, "keys", "seal.key"), filepath.Join(p.pickup, link)); err != nil {
		t.Fatal(err)
	}
	folder := strings.Repeat("7", 32) + ".eml"
	if err := os.Mkdir(filepath.Join(p.pickup, folder), 0o700); err != nil {
		t.Fatal(err)
	}
	odd = append(odd, link, folder)

	// calls returns the messages that sendmail got since the last time.
	seen := 0
	calls := func() (list []string) {
		t.Helper()
		for ; ; seen++ {
			dir := filepath.Join(p.dir, "calls", fmt.Sprint(seen))
			arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
			if errors.Is(err, os.ErrNotExist) {
				return list
			}
			input, err2 := os.ReadFile(filepath.Join(dir, "input"))
			if err := errors.Join(err, err2); err != nil {
				t.Fatal(err)
			}
			if string(arguments) != "-t -i -f postmaster@example.org\n" {
				t.Errorf("the arguments are %q", arguments)
			}
			list = append(list, string(input))
		}
	}
	checkKept := func(users ...string) {
		t.Helper()
		want := slices.Clone(odd)
		for _, u := range users {
			want = append(want, ids[u]+".eml")
		}
		slices.Sort(want)
		if got := p.files("pickup"); !slices.Equal(got, want) {
			t.Errorf("the pickup directory has\n%q, want\n%q", got, want)
		}
	}
	quiet := func(out string) {
		t.Helper()
		if strings.Contains(out, "@example.test") || strings.Contains(out, "activate") {
			t.Errorf("the output has an address or a link: %s", out)
		}
	}

	status, out := p.run()
	quiet(out)
	if status != 75 || !strings.Contains(out, "message "+ids["d65"]+": sendmail refused it with exit status 65") ||
		!strings.Contains(out, "5 messages stay; the last exit status of sendmail is 137") {
		t.Errorf("status %d, output\n%s", status, out)
	}
	var want []string
	for _, u := range users {
		want = append(want, raw[email(u)])
	}
	want = append(want, "To: late@example.test\r\n\r\nlast\r\n") // which arrived during the run
	if got := calls(); !slices.Equal(got, want) {
		t.Errorf("sendmail got %d messages: %q, want %q", len(got), got, want)
	}
	if text, err := os.ReadFile(filepath.Join(p.dir, "second-run")); err != nil || len(text) > 0 {
		t.Errorf("a concurrent run: %q, %v", text, err)
	}
	checkKept("g75", "h69", "i1", "j127", "k137")
	var bad []string
	for _, u := range []string{"c64", "d65", "e67", "f68"} {
		bad = append(bad, ids[u]+".eml", ids[u]+".txt")
		text, err := os.ReadFile(filepath.Join(data, "badmail", ids[u]+".eml"))
		if err != nil || string(text) != raw[email(u)] {
			t.Errorf("the message to %s in badmail is %q, %v", u, text, err)
		}
		reason, err := os.ReadFile(filepath.Join(data, "badmail", ids[u]+".txt"))
		if err != nil || !strings.Contains(string(reason), "is "+statuses[u]+".\nno mailbox "+email(u)+"\n") {
			t.Errorf("the reason is %q, %v", reason, err)
		}
		info, err := os.Stat(filepath.Join(data, "badmail", ids[u]+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o027 != 0 {
			t.Errorf("the reason has the mode %v", info.Mode())
		}
	}
	if slices.Sort(bad); !slices.Equal(p.files("badmail"), bad) {
		t.Errorf("badmail has %q, want %q", p.files("badmail"), bad)
	}

	// The next run retries the remaining messages. One of them is almost three days old.
	old := time.Now().Add(-71 * time.Hour)
	if err := os.Chtimes(filepath.Join(p.pickup, ids["k137"]+".eml"), old, old); err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{"g75", "i1"} {
		p.write("status-"+u, "0")
	}
	if status, out := p.run(); status != 75 || !strings.HasPrefix(out, "3 messages stay") {
		t.Errorf("the second run: status %d, %s", status, out)
	}
	if got := calls(); len(got) != 5 {
		t.Errorf("sendmail got %d messages in the second run, want 5", len(got))
	}
	checkKept("h69", "j127", "k137")
	for _, u := range []string{"h69", "j127", "k137"} {
		p.write("status-"+u, "0")
	}
	if status, out := p.run(); status != 0 || out != "" {
		t.Errorf("the last run: status %d, %s", status, out)
	}
	checkKept()
	if _, err := os.Stat(filepath.Join(p.dir, "executed")); err == nil {
		t.Error("a name was run as a command")
	}
	p.sendmail = []string{"./missing"}
	if err := os.Rename(filepath.Join(data, "badmail", ids["c64"]+".eml"),
		filepath.Join(p.pickup, ids["c64"]+".eml")); err != nil {
		t.Fatal(err)
	}
	if status, out := p.run(); status != 75 || !strings.Contains(out, "is 127") {
		t.Errorf("without sendmail: status %d, %s", status, out)
	}
	checkKept("c64")
	p.pickup += "/none"
	if status, out := p.run(); status != 64 || !strings.Contains(out, "usage: ") {
		t.Errorf("without a directory: status %d, %s", status, out)
	}
}

// dying is a wrapper between the script and Postfix's sendmail. In one of its calls it is killed
// with kill -9, together with the script.
const dying = `#!/bin/sh
n=$(cat calls 2>/dev/null || echo 0)
echo $((n + 1)) > calls
case $n in
1) kill -9 0 ;;                                        # before sendmail has the message
3) { head -c 600; sleep 0.2; kill -9 0; } | "$@" ;;    # while sendmail reads it
6) "$@"; kill -9 0 ;;                                  # after it was accepted
esac
exec "$@"
`

func TestPickupThroughPostfix(t *testing.T) {
	t.Parallel()
	if why := smtptest.PostfixUnavailable(); why != "" {
		t.Skip(why)
	}
	sink := smtptest.Start(t, smtptest.Options{})
	pf := smtptest.StartPostfix(t, sink.Address)
	data := filepath.Join(t.TempDir(), "data")
	p := newPickupRun(t, filepath.Join(data, "pickup"), append([]string{"./dying"}, pf.Sendmail()...)...)
	p.write("dying", dying)
	server := start(t, launch{data: data})
	const users = 8
	for i := range users {
		v := newVisitor(server.address, "")
		if a, err := v.signup(fmt.Sprintf("user%d", i)); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
		v.leave()
	}
	if list, err := messagesIn(p.pickup); err != nil || len(list) != users {
		t.Fatalf("%d messages, %v", len(list), err)
	}
	// Postfix's sendmail never accepts a message without a recipient. Such a message stays without
	// delaying the others.
	id := strings.Repeat("0", 32)
	if err := os.WriteFile(filepath.Join(p.pickup, id+".eml"), []byte("Subject: nobody\r\n\r\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(p.pickup, id+".eml"), old, old); err != nil {
		t.Fatal(err)
	}
	kills := 0
	status, out := p.run()
	for ; status == -1 && kills < 10; kills++ {
		status, out = p.run()
	}
	if kills != 3 || status != 75 || !strings.HasPrefix(out, "1 messages stay") {
		t.Errorf("%d kills, then status %d, %q; want 3 kills and status 75", kills, status, out)
	}
	old = time.Now().Add(-73 * time.Hour)
	if err := os.Chtimes(filepath.Join(p.pickup, id+".eml"), old, old); err != nil {
		t.Fatal(err)
	}
	const late = "not accepted within three days (exit status 75)"
	if status, out := p.run(); status != 0 || !strings.Contains(out, late) {
		t.Errorf("after three days: status %d, %q", status, out)
	}
	if left := p.files("pickup"); len(left) != 0 {
		t.Errorf("messages are left: %q", left)
	}
	if got := p.files("badmail"); !slices.Equal(got, []string{id + ".eml", id + ".txt"}) {
		t.Errorf("badmail has %q", got)
	}
	process.Eventually(t, "Postfix delivers all messages", func() error {
		if n := sink.Accepted(); n != users+1 { // one was sent twice
			return fmt.Errorf("%d messages", n)
		}
		return nil
	})
	twice := make(map[string]int)
	for i := range users {
		user := fmt.Sprintf("user%d", i)
		for _, m := range sink.Messages() {
			if m.To == email(user) {
				twice[user]++
				if m.From != "postmaster@example.org" {
					t.Errorf("the sender is %s", m.From)
				}
			}
		}
		v := newVisitor(server.address, "")
		if status, _, err := v.open(arrived(t, sink, user).link); err != nil || status != 200 {
			t.Errorf("the link of %s: %d, %v", user, status, err)
		}
		v.leave()
	}
	for user, n := range twice {
		if n > 2 {
			t.Errorf("%s got %d messages", user, n)
		}
	}
}

// impliesNNP lists settings that imply NoNewPrivileges= for a service that does not run as root
// (systemd.exec(5)). Postfix's sendmail needs the group of its queue.
var impliesNNP = regexp.MustCompile(`(?m)^(NoNewPrivileges|PrivateDevices|ProtectKernel\w+|ProtectClock|` +
	`ProtectHostname|LockPersonality|MemoryDenyWriteExecute|Restrict\w+|SystemCall\w+|DynamicUser|PrivateUsers)=`)

func TestPickupUnits(t *testing.T) {
	analyze := installed(t, "systemd-analyze")
	dir := t.TempDir()
	script, err := filepath.Abs(filepath.Join(root, "deploy", "pickup", "dialtone-pickup"))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, name := range []string{"dialtone-pickup.service", "dialtone-pickup.path", "dialtone-pickup.timer"} {
		text := deployText(t, "pickup/"+name)
		if m := impliesNNP.FindString(text); m != "" {
			t.Errorf("%s has %s", name, m)
		}
		if strings.HasSuffix(name, ".service") &&
			!strings.Contains(text, "=/usr/local/sbin/dialtone-pickup /var/lib/dialtone/pickup ") {
			t.Error("the service does not run the script")
		}
		text = strings.Replace(text, "/usr/local/sbin/dialtone-pickup", script, 1)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	verify := exec.Command(analyze, append([]string{"verify"}, paths...)...)
	verify.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := verify.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", paths[0]).CombinedOutput()
	m := exposure.FindSubmatch(out)
	if m == nil {
		t.Fatalf("systemd-analyze: %v\n%s", err, out)
	}
	t.Logf("the exposure of the unit is %s", m[1])
}
