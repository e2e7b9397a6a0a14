package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"dialtone/internal/test/process"
)

// Signals that mean "reload" to other programs do not stop the server, and are logged.
func TestSignalsDoNotEndServer(t *testing.T) {
	p := start(t, launch{data: filepath.Join(t.TempDir(), "data")})
	for signal, logged := range map[syscall.Signal]string{
		syscall.SIGHUP:  `"msg":"configuration reloaded"`,
		syscall.SIGUSR1: `"msg":"signal ignored","signal":"SIGUSR1"`,
		syscall.SIGUSR2: `"msg":"signal ignored","signal":"SIGUSR2"`,
	} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			if err := syscall.Kill(p.Pid(), signal); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), stopWithin)
			defer cancel()
			err := p.WaitReady(ctx, func() error {
				if p.stderr.Count(logged) == 0 {
					return fmt.Errorf("not logged: %s", logged)
				}
				return p.answers()
			})
			if err != nil {
				t.Fatalf("%v\n%s", err, p.stderr)
			}
		})
	}
	p.mustStop(t)
}

// SIGHUP applies the level of the log and the templates, names the keys that need a restart, and changes nothing
// if the configuration is faulty.
func TestReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "dialtone.toml")
	template := filepath.Join(dir, "letters", "activation.en.txt")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Dir(template), 0o700); err != nil {
		t.Fatal(err)
	}
	letter := func(greeting string) string {
		return "{{define \"subject\"}}Hello{{end}}\n" + greeting + "\n\n{{.Link}}\n\nUntil {{.Until}}.\n{{.Footer}}\n"
	}
	write(strings.TrimSuffix(template, "txt")+"html", `<p><a href="{{.Link}}">Link</a></p>`)
	write(template, letter("Welcome."))
	write(file, "[mail]\ntemplates_dir = \""+filepath.Dir(template)+"\"\n[log]\nlevel = \"info\"\n")
	p := start(t, launch{data: data, flags: []string{"--config", file}})
	hangUp := func(logged ...string) {
		t.Helper()
		p.stderr.Reset()
		if err := syscall.Kill(p.Pid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for _, text := range logged {
			p.stderr.Wait(t, text)
		}
	}
	messages := func(user string) string {
		t.Helper()
		v := newVisitor(p.address, "")
		defer v.leave()
		if a, err := v.signup(user); err != nil || !a.OK {
			t.Fatalf("%v, %v", a, err)
		}
		paths, err := filepath.Glob(filepath.Join(data, "pickup", "*.eml"))
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
		return all.String()
	}

	// A raised level hides events, and the new template is used.
	write(template, letter("Welcome back."))
	write(file, "[mail]\ntemplates_dir = \""+filepath.Dir(template)+"\"\n[log]\nlevel = \"error\"\n"+
		"[http]\nmax_connections = 100\n")
	hangUp(`"msg":"configuration reloaded","applied":["log.level"],"templates_read":"`+filepath.Dir(template)+`"`,
		`"msg":"changed keys need a restart","keys":["http.max_connections"]`)
	p.stderr.Reset()
	if text := messages("alex"); !strings.Contains(text, "Welcome back.") {
		t.Errorf("the message is %s", text)
	}
	if text := p.stderr.String(); text != "" {
		t.Errorf("at the level error, the log has %s", text)
	}

	// A fault is logged at any level, and changes nothing.
	write(file, "[log]\nlevel = \"loud\"\n")
	hangUp(`"msg":"configuration not reloaded"`, "log.level")
	write(file, "[mail]\ntemplates_dir = \""+filepath.Dir(template)+"\"\n[log]\nlevel = \"debug\"\n")
	write(template, "no link")
	hangUp(`"msg":"configuration not reloaded"`, "activation.en.txt")
	if text := messages("berta"); strings.Count(text, "Welcome back.") != 2 {
		t.Errorf("the messages are %s", text)
	}

	// A lowered level shows the hidden events again.
	write(template, letter("Welcome."))
	hangUp(`"msg":"configuration reloaded","applied":["log.level"]`)
	// If only a template has changed, the log says that the templates were read.
	hangUp(`"msg":"configuration reloaded","applied":[],"templates_read":"` + filepath.Dir(template) + `"`)
	messages("carl")
	process.Eventually(t, "the signup is logged", process.Holds(func() bool { return p.stderr.Count(`"signup"`) > 0 }))
	p.mustStop(t)
}
