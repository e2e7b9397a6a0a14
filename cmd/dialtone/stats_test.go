package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dialtone/internal/operator/opjson"
	"dialtone/internal/stats"
	"dialtone/internal/test/process"
)

// dialtone stats counts what people do, whether or not the server is running.
func TestStats(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := start(t, launch{data: data})
	command(t, "directory", "hook", "add", "crm", "--webhook", "http://127.0.0.1:1", "--events", "account.created",
		"--data", data)
	v := newVisitor(p.address, "")
	for _, user := range []string{"ann", "ben"} {
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
	}
	taken, err := v.form("ann")
	if err != nil {
		t.Fatal(err)
	}
	taken.Set("email", email("eve"))
	if a, err := v.post(taken); err != nil || a.OK {
		t.Fatalf("a name that is taken: %v, %v", a, err)
	}
	wrong, err := v.form("cid")
	if err != nil {
		t.Fatal(err)
	}
	wrong.Set("captcha_answer", "0")
	if a, err := v.post(wrong); err != nil || a.OK {
		t.Fatalf("a wrong answer: %v, %v", a, err)
	}
	files, _ := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), email("ann")) {
			link := strings.TrimSpace(linksIn(string(text))[0][0])
			if status, page, err := v.open(link); err != nil || status != 200 {
				t.Fatalf("%d, %v\n%s", status, err, page)
			}
		}
	}
	for range 2 {
		if a, err := v.signIn("ann", password("ann")); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
	}
	if a, err := v.signIn("ann", "wrong"); err != nil || a.OK {
		t.Fatalf("a wrong password: %v, %v", a, err)
	}
	v.leave()
	want := stats.Counts{
		stats.Signup: 2, stats.Activation: 1, stats.FirstSignIn: 1, stats.SignIn: 2, stats.SignInRefused: 1,
		stats.SignupTaken: 1, stats.SignupCaptcha: 1,
	}
	for _, k := range stats.Kinds {
		want[k] += 0
	}
	var got opjson.Stats
	process.Eventually(t, "the counts", func() error {
		text := command(t, "stats", "--json", "--days", "3", "--data", data)
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			return err
		}
		if !maps.Equal(got.Total, want) {
			return fmt.Errorf("got %v, want %v", got.Total, want)
		}
		if len(got.Hooks) != 1 || got.Hooks[0].Waiting != 2 || got.Hooks[0].Oldest == nil ||
			got.Hooks[0].LastFailure == nil {
			return fmt.Errorf("the hooks are %+v", got.Hooks)
		}
		return nil
	})
	if len(got.Days) != 3 || got.Funnel != (opjson.Funnel{Signups: 2, Activations: 1, FirstSignIns: 1}) {
		t.Errorf("got %+v", got)
	}
	p.mustStop(t)
	text := command(t, "stats", "--data", data, "--tenant", "localhost")
	for _, line := range []string{
		`DAY \(UTC\) +SIGNUPS +REFUSED +ACTIVATIONS +CONFIRMATIONS +FIRST SIGN-INS +SIGN-INS +REFUSED +LOOK-UPS +` +
			`MAIL SENT +FAILED`,
		`\d{4}-\d\d-\d\d +0 +0 +0 +0 +0 +0 +0 +0 +0 +0`,
		`total +2 +2 +1 +0 +1 +2 +1 +0 +0 +0`,
		`funnel +2 signups, 1 activations \(50 %\), 1 first sign-ins \(50 %\)`,
		`refused signups +1 captcha, 1 name taken, 0 limits, 0 invalid, 0 closed, 0 failures`,
		`signups +open`,
		`mail +0 waiting, 0 deferred, 0 failed`,
		`hook crm +2 waiting, the oldest for \d+s, last failure .*`,
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(text) {
			t.Errorf("there is no line %s in\n%s", line, text)
		}
	}
}
