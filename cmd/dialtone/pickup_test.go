package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sendmail stands for the mail server's program. It records its arguments and its input, and refuses
// messages to "bad". During its first call it runs the script once more, as cron does.
const sendmail = `#!/bin/sh
n=$(ls -d calls/* 2>/dev/null | wc -l)
mkdir "calls/$n"
echo "$*" > "calls/$n/arguments"
cat > "calls/$n/input"
[ "$n" -gt 0 ] || sh ./script || echo failed > second-run
if [ -e refuse ] && grep -q '^To: bad@' "calls/$n/input"; then exit 75; fi
`

// The script of docs/mail.md empties the pickup directory.
func TestPickupScript(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "mail.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sh\n(#!/bin/sh\n.*?)```").FindSubmatch(doc)
	if block == nil {
		t.Fatal("docs/mail.md has no script")
	}
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	pickup := filepath.Join(data, "pickup")
	script := string(block[1])
	for documented, here := range map[string]string{
		"/var/lib/dialtone/pickup": pickup, "/usr/sbin/sendmail": filepath.Join(dir, "sendmail"),
	} {
		if !strings.Contains(script, documented) {
			t.Fatalf("the script does not have %s", documented)
		}
		script = strings.ReplaceAll(script, documented, here)
	}
	for name, text := range map[string]string{"script": script, "sendmail": sendmail, "refuse": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "calls"), 0o700); err != nil {
		t.Fatal(err)
	}
	// run runs the script and returns the messages that sendmail has received until now.
	run := func(wantStatus int) (received []string) {
		t.Helper()
		cmd := exec.Command("sh", "./script")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != wantStatus || len(out) > 0 {
			t.Errorf("the script ended with %v, want status %d, and printed %q", err, wantStatus, out)
		}
		calls, err := filepath.Glob(filepath.Join(dir, "calls", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range calls {
			arguments, err := os.ReadFile(filepath.Join(call, "arguments"))
			if got := string(arguments); err != nil || got != "-t -i -f postmaster@example.org\n" {
				t.Errorf("the arguments are %q, %v", got, err)
			}
			input, err := os.ReadFile(filepath.Join(call, "input"))
			if err != nil {
				t.Fatal(err)
			}
			received = append(received, string(input))
		}
		return received
	}

	server := start(t, launch{data: data})
	if got := run(0); len(got) != 0 {
		t.Errorf("sendmail was called for no message: %q", got)
	}
	for _, user := range []string{"ann", "bad", "eve"} {
		v := newVisitor(server.address, "")
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
		v.leave()
	}
	messages, err := messagesIn(pickup)
	if err != nil || len(messages) != 3 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	var want []string
	for _, m := range messages {
		want = append(want, m.raw)
	}
	got := run(1)
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("sendmail received %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "second-run")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run beside another failed: %v", err)
	}
	left, err := messagesIn(pickup)
	if err != nil || len(left) != 1 || left[0].to != email("bad") {
		t.Errorf("the refused message does not stay: %v, %v", left, err)
	}
	if err := os.Remove(filepath.Join(dir, "refuse")); err != nil {
		t.Fatal(err)
	}
	if got := run(0); len(got) != 4 {
		t.Errorf("sendmail has been called %d times, want 4", len(got))
	}
	if left, err := messagesIn(pickup); err != nil || len(left) != 0 {
		t.Errorf("messages are left: %v, %v", left, err)
	}
}
