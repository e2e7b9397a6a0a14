package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// installed returns the path of a program that make tools installs, and skips the test if the
// program is missing.
func installed(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed; tools/need %s installs it on Debian", program, program)
	}
	return path
}

func deployText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var exposure = regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)

// The unit starts an existing command, and restricts what a compromised server can do.
func TestUnit(t *testing.T) {
	unit := deployText(t, "systemd/dialtone.service")
	setting := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return m[1]
	}
	args := strings.Fields(setting("ExecStart"))
	p := parse(t, args[1:]...)
	if args[0] != "/usr/bin/dialtone" || p.line.Config != "/etc/dialtone/dialtone.toml" {
		t.Errorf("the unit runs %q", args)
	}
	// 2 is the exit status of a Go program that panics, or gets SIGABRT from the watchdog.
	if got := setting("RestartPreventExitStatus"); got != strconv.Itoa(exitConfig) {
		t.Errorf("the unit does not start the server again after status %s", got)
	}

	analyze := installed(t, "systemd-analyze")
	level := func(unit string) float64 {
		t.Helper()
		out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", unit).CombinedOutput()
		m := exposure.FindSubmatch(out)
		if m == nil {
			t.Fatalf("systemd-analyze: %v\n%s", err, out)
		}
		f, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "dialtone.service")
	// The program is elsewhere in this test.
	text := strings.Replace(unit, "/usr/bin/dialtone ", binary(t)+" ", 1)
	text = strings.Replace(text, "Documentation=man:dialtone(1) ", "Documentation=", 1)
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(path, text)
	if out, err := exec.Command(analyze, "verify", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	write(path, strings.Replace(text, "RestartSec=", "RestartSecs=", 1))
	if out, _ := exec.Command(analyze, "verify", path).CombinedOutput(); !strings.Contains(string(out), "RestartSecs") {
		t.Errorf("systemd-analyze verify does not report a mistake: %s", out)
	}
	write(path, text)
	if got := level(path); got > 2 {
		t.Errorf("the exposure of the unit is %.1f", got)
	}
	write(path, text+deployText(t, "systemd/low-ports.conf"))
	if got := level(path); got > 2.5 {
		t.Errorf("the exposure of the unit with low-ports.conf is %.1f", got)
	}
}

// The unit, sysusers and tmpfiles agree on the user and the data directory.
func TestSysusers(t *testing.T) {
	unit := deployText(t, "systemd/dialtone.service")
	user := strings.Fields(deployText(t, "systemd/sysusers.conf"))
	dir := strings.Fields(deployText(t, "systemd/tmpfiles.conf"))
	if !strings.Contains(unit, "\nUser="+user[1]+"\n") || user[len(user)-1] != dir[1] || dir[3] != user[1] {
		t.Errorf("the user is %q, the directory %q", user, dir)
	}
	if !strings.Contains(unit, "\nStateDirectory="+strings.TrimPrefix(dir[1], "/var/lib/")+"\n") ||
		!strings.Contains(unit, "\nStateDirectoryMode="+dir[2]+"\n") {
		t.Errorf("the unit does not have the directory %q", dir)
	}
}

// The packaged configuration is the documented example with the service's data directory.
func TestPackagedConfiguration(t *testing.T) {
	example, err := os.Open(filepath.Join(root, "docs", "dialtone.example.toml"))
	if err != nil {
		t.Fatal(err)
	}
	defer example.Close()
	cmd := exec.Command(filepath.Join(root, "tools", "release", "deb", "config"))
	cmd.Stdin = example
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `"./`) || strings.Contains(string(text), "See configuration.md") {
		t.Errorf("the file is %s", text)
	}
	path := filepath.Join(t.TempDir(), "dialtone.toml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := parse(t, "--config", path, "version").settings()
	if err != nil || c.Data != "/var/lib/dialtone" || c.Keys.Dir != "/var/lib/dialtone/keys" {
		t.Errorf("data is %q, keys.dir is %q, %v", c.Data, c.Keys.Dir, err)
	}
	// Every key that is commented out has its default.
	all := regexp.MustCompile(`(?m)^#([a-z_]+ = )`).ReplaceAllString(string(text), "$1")
	if err := os.WriteFile(path, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	if full, err := parse(t, "--config", path, "version").settings(); err != nil || full.Listen != c.Listen ||
		full.Keys != c.Keys || full.Mail != c.Mail {
		t.Errorf("with all keys, the configuration is %+v, %v", full, err)
	}
}

// Versions of the package are in the same order as those of the program.
func TestPackageVersions(t *testing.T) {
	last := ""
	for _, v := range []struct{ program, seconds, want string }{
		{"v0.0.0-20260301120000-0123456789ab", "1772366400", "0.0.0~20260301120000.0123456789ab-1"},
		{"v1.0.0-rc.1", "1772366400", "1.0.0~rc.1-1"},
		{"v1.0.0", "1772366400", "1.0.0-1"},
		{"v1.0.1-0.20260302120000-0123456789ab", "1772452800", "1.0.1~20260302120000.0123456789ab-1"},
		{"v1.0.1", "1772452800", "1.0.1-1"},
	} {
		cmd := exec.Command(filepath.Join(root, "tools", "release", "deb", "version"), v.program, v.seconds)
		out, err := cmd.Output()
		got := strings.TrimSpace(string(out))
		if err != nil || got != v.want {
			t.Errorf("%s: %s, %v, want %s", v.program, got, err, v.want)
		}
		if dpkg, err := exec.LookPath("dpkg"); err == nil && last != "" {
			if err := exec.Command(dpkg, "--compare-versions", last, "lt", got).Run(); err != nil {
				t.Errorf("%s is not before %s: %v", last, got, err)
			}
		}
		last = got
	}
}

// The Dockerfile names only files that an archive contains, and runs the program as a user other
// than root.
func TestDockerfiles(t *testing.T) {
	text := deployText(t, "docker/Dockerfile")
	for _, want := range []string{"\nFROM scratch\n", "\nUSER 64400:64400\n", `CMD ["/dialtone", "health"]`,
		"\nVOLUME /data\n", "\nENTRYPOINT [\"/dialtone\"]\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
	parse(t, "health")
	build, err := os.ReadFile(filepath.Join(root, "tools", "release", "build"))
	if err != nil {
		t.Fatal(err)
	}
	copies := regexp.MustCompile(`(?m)^COPY --chmod=\d+ (.+) \S+$`).FindAllStringSubmatch(text, -1)
	if len(copies) < 2 {
		t.Fatal("the Dockerfile copies no files")
	}
	for _, m := range copies {
		for name := range strings.FieldsSeq(m[1]) {
			if !strings.Contains(string(build), name) {
				t.Errorf("the Dockerfile copies %s, which tools/release/build does not make", name)
			}
		}
	}
	compose := deployText(t, "docker/compose.yaml")
	servers := deployText(t, "docker/servers.Dockerfile")
	for _, m := range regexp.MustCompile(`target: (\w+)`).FindAllStringSubmatch(compose, -1) {
		if !strings.Contains(servers, " AS "+m[1]+"\n") {
			t.Errorf("servers.Dockerfile has no target %s", m[1])
		}
	}
}

// docker-compose accepts the file, and the commands of the page create the files that it mounts.
func TestCompose(t *testing.T) {
	compose := installed(t, "docker-compose")
	dir := t.TempDir()
	for _, d := range []string{"docker/bin", "kamailio", "coturn"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"docker/compose.yaml", "kamailio/http.cfg", "coturn/rest.conf"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(deployText(t, name)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(compose, "config", "--quiet")
	cmd.Dir = filepath.Join(dir, "docker")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker-compose config: %v\n%s", err, out)
	}

	// "docker compose exec dialtone /dialtone …" runs the program here; other commands of Docker do nothing.
	docker := "#!/bin/sh\nset -e\nwhile [ $# -gt 0 ] && [ \"$1\" != /dialtone ]; do shift; done\n" +
		"[ $# -eq 0 ] || { shift; exec " + binary(t) + " \"$@\"; }\n"
	if err := os.WriteFile(filepath.Join(dir, "docker", "bin", "docker"), []byte(docker), 0o755); err != nil {
		t.Fatal(err)
	}
	_, script, _ := strings.Cut(deployText(t, "docker/README.md"), "```\ntenant=")
	script, _, _ = strings.Cut(script, "```")
	cmd = exec.Command("bash", "-euo", "pipefail", "-c", "tenant="+script)
	cmd.Dir = filepath.Join(dir, "docker")
	cmd.Env = []string{"PATH=" + filepath.Join(dir, "docker", "bin") + ":" + os.Getenv("PATH"),
		"DIALTONE_DATA=" + filepath.Join(dir, "data")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, want := range map[string]string{
		"kamailio/directory.cfg": `^#!define DIRECTORY "dialtone=>http://kamailio:\S{20,}@127\.0\.0\.1:8081"\n$`,
		"kamailio/kamailio.cfg":  `(?m)^alias="phone\.example\.org"\nlisten=udp:192\.0\.2\.10:5060\n`,
		"turnserver.conf":        `\nstatic-auth-secret=\S{20,}\n$`,
	} {
		text, err := os.ReadFile(filepath.Join(dir, "docker", "config", name))
		if err != nil || !regexp.MustCompile(want).Match(text) {
			t.Errorf("config/%s: %v\n%s", name, err, text)
		}
	}
}

// mandoc and groff accept the manual page, which contains every command and flag.
func TestManualPage(t *testing.T) {
	status, page, stderr := runCommand(t, nil, "man")
	if status != 0 {
		t.Fatalf("status %d\n%s", status, stderr)
	}
	flagsOf := 0
	for name, n := range commands(t) {
		_, text, ok := strings.Cut(page, "\n.It Ic "+name)
		if !ok {
			t.Errorf("the page lacks %s", name)
		}
		text, _, _ = strings.Cut(text, "\n.It Ic ")
		for _, f := range n.Flags {
			if flagsOf++; !f.Hidden && !strings.Contains(text, "\n.It Fl -"+f.Name) {
				t.Errorf("the page lacks %s --%s", name, f.Name)
			}
		}
	}
	if flagsOf < 100 {
		t.Errorf("only %d flags were found", flagsOf)
	}
	path := filepath.Join(t.TempDir(), "dialtone.1")
	if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	// A cross-reference to a page that is not installed here is not an error.
	lint, err := exec.Command(installed(t, "mandoc"), "-Tlint", "-Wwarning", path).CombinedOutput()
	if err != nil || len(lint) > 0 {
		t.Errorf("mandoc: %v\n%s", err, lint)
	}
}

// completions asks a shell for what may follow a command line whose last word is incomplete.
func completions(t *testing.T, shell, script string, lines [][]string) [][]string {
	t.Helper()
	var program strings.Builder
	program.WriteString(map[string]string{
		"bash": ". " + script + "\n",
		// The functions of zsh that take candidates print them.
		"zsh": "compdef() { : }\n_files() { print -- FILES }\ncompset() { : }\n" +
			"_describe() { print -l -- ${(P)2%%:*} }\ncompadd() { shift; print -l -- $@ }\n. " + script + "\n",
		"fish": ". " + script + "\n",
	}[shell])
	for _, line := range lines {
		quoted := "'" + strings.Join(line, "' '") + "'"
		switch shell {
		case "bash":
			program.WriteString("COMP_WORDS=(" + quoted + ") COMP_CWORD=" + strconv.Itoa(len(line)-1) +
				"\nCOMPREPLY=()\n_dialtone\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n")
		case "zsh":
			program.WriteString("words=(" + quoted + ") CURRENT=" + strconv.Itoa(len(line)) + "\n_dialtone\n")
		case "fish":
			program.WriteString("complete -C \"" + strings.Join(line, " ") + "\"\n")
		}
		program.WriteString("echo ----\n")
	}
	args := map[string][]string{
		"bash": {"--norc", "-c"}, "zsh": {"-f", "-c"}, "fish": {"--no-config", "-c"},
	}[shell]
	dir := t.TempDir()
	cmd := exec.Command(installed(t, shell), append(args, program.String())...)
	cmd.Dir, cmd.Env = dir, []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", shell, err, out)
	}
	var answers [][]string
	for part := range strings.SplitSeq(string(out), "----\n") {
		var words []string
		for line := range strings.Lines(part) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if word != "" {
				words = append(words, word)
			}
		}
		slices.Sort(words)
		answers = append(answers, words)
	}
	return answers[:len(answers)-1]
}

// The scripts complete every command and flag, in the shells themselves.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			t.Parallel()
			script := filepath.Join(t.TempDir(), "script")
			status, text, stderr := runCommand(t, nil, "completion", shell)
			if status != 0 {
				t.Fatalf("status %d\n%s", status, stderr)
			}
			if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var lines, want [][]string
			expect := func(words []string, line ...string) {
				slices.Sort(words)
				lines, want = append(lines, line), append(want, words)
			}
			var visit func(n *kong.Node, line []string)
			visit = func(n *kong.Node, line []string) {
				var names, flags []string
				for _, child := range n.Children {
					if !child.Hidden {
						names = append(names, child.Name)
						visit(child, append(slices.Clone(line), child.Name))
					}
				}
				for _, group := range n.AllFlags(true) {
					for _, f := range group {
						flags = append(flags, "--"+f.Name)
					}
				}
				if len(n.Children) > 0 {
					expect(names, append(slices.Clone(line), "")...)
				}
				expect(flags, append(slices.Clone(line), "--")...)
			}
			visit(grammar(t, newCommandLine()).Model.Node, []string{"dialtone"})
			expect([]string{"bash", "fish", "zsh"}, "dialtone", "completion", "")
			// The value of a flag is not a command.
			expect([]string{"show"}, "dialtone", "--data", "tenant", "account", "sho")
			expect([]string{"list"}, "dialtone", "help", "tenant", "li")
			if shell == "zsh" { // it filters by the beginning of the word, which the test takes the place of
				lines, want = lines[:len(lines)-2], want[:len(want)-2]
				tenant := slices.IndexFunc(lines, func(l []string) bool {
					return slices.Equal(l, []string{"dialtone", "tenant", ""})
				})
				account := slices.IndexFunc(lines, func(l []string) bool {
					return slices.Equal(l, []string{"dialtone", "account", ""})
				})
				expect(want[account], "dialtone", "--data", "tenant", "account", "sho")
				expect(want[tenant], "dialtone", "help", "tenant", "li")
			}
			if len(lines) < 60 {
				t.Fatalf("only %d lines", len(lines))
			}
			got := completions(t, shell, script, lines)
			if len(got) != len(lines) {
				t.Fatalf("%d answers for %d lines", len(got), len(lines))
			}
			for i := range lines {
				words := slices.DeleteFunc(slices.Clone(got[i]),
					func(w string) bool { return w == "FILES" || w == "-h" })
				if !slices.Equal(words, want[i]) {
					t.Errorf("%q: %q, want %q", lines[i], words, want[i])
				}
			}
		})
	}
}

// zsh finds the function in a directory of its path.
func TestZshFindsCompletion(t *testing.T) {
	zsh := installed(t, "zsh")
	dir := t.TempDir()
	_, text, _ := runCommand(t, nil, "completion", "zsh")
	if err := os.WriteFile(filepath.Join(dir, "_dialtone"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(zsh, "-f", "-c",
		"fpath=("+dir+" $fpath); autoload -U compinit; compinit -u -D; print $_comps[dialtone]")
	cmd.Env = []string{"HOME=" + dir, "PATH=" + os.Getenv("PATH")}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "_dialtone" {
		t.Errorf("%v: %s", err, out)
	}
}
