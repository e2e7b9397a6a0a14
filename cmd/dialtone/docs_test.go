package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// root is the directory of the project, relative to this one.
const root = "../.."

var (
	codeBlock  = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```")
	codeSpan   = regexp.MustCompile("`([^`\n]+)`")
	invocation = regexp.MustCompile(`(?:^|[\s(])dialtone((?: +[^\s|;&<>)]+)*)`)
	loneFlag   = regexp.MustCompile(`^--[a-z][a-z-]*`)
)

// documentedCommands returns the code in a document that may contain command lines, line by line.
func documentedCommands(text string) (lines []string) {
	for _, m := range codeBlock.FindAllStringSubmatch(text, -1) {
		joined := strings.ReplaceAll(m[1], "\\\n", " ")
		lines = append(lines, strings.Split(joined, "\n")...)
	}
	for _, m := range codeSpan.FindAllStringSubmatch(codeBlock.ReplaceAllString(text, ""), -1) {
		lines = append(lines, m[1])
	}
	return lines
}

// unknownWords returns the commands and flags on a line that the program does not have.
func unknownWords(app *kong.Application, line string) (unknown []string) {
	if flag := loneFlag.FindString(line); flag != "" && !anyCommandHas(app.Node, flag) {
		unknown = append(unknown, flag)
	}
	line = strings.ReplaceAll(line, "go run ./cmd/dialtone", "dialtone")
	for _, m := range invocation.FindAllStringSubmatch(line, -1) {
		node, descending, isValue := app.Node, true, false
		for word := range strings.FieldsSeq(m[1]) {
			name, _, hasValue := strings.Cut(word, "=")
			switch {
			case isValue:
				isValue = false
			case strings.HasPrefix(word, "--"):
				flag := findFlag(node, strings.TrimRight(name, ".,])"))
				if flag == nil {
					unknown = append(unknown, node.FullPath()+" "+name)
				} else {
					isValue = !hasValue && !flag.IsBool()
				}
			case !descending || len(node.Children) == 0:
			default:
				child := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
				if child >= 0 {
					node = node.Children[child]
				} else {
					descending = false
					if node != app.Node || regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
						unknown = append(unknown, node.FullPath()+" "+word)
					}
				}
			}
		}
	}
	return unknown
}

// findFlag returns a flag that a command takes, or nil.
func findFlag(node *kong.Node, name string) *kong.Flag {
	for _, group := range node.AllFlags(false) {
		for _, flag := range group {
			if "--"+flag.Name == name {
				return flag
			}
		}
	}
	return nil
}

// anyCommandHas reports whether a command or one of its subcommands takes the flag.
func anyCommandHas(node *kong.Node, name string) bool {
	return findFlag(node, name) != nil ||
		slices.ContainsFunc(node.Children, func(n *kong.Node) bool { return anyCommandHas(n, name) })
}

// TestDocumentedCommands checks that every command and flag in the documents exists.
func TestDocumentedCommands(t *testing.T) {
	app := grammar(t, newCommandLine()).Model
	checked := 0
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/decisions/*.md", "deploy/*/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range documentedCommands(string(text)) {
				checked++
				for _, word := range unknownWords(app, line) {
					t.Errorf("%s: there is no %q, in: %s", path, word, line)
				}
			}
		}
	}
	if checked < 200 {
		t.Errorf("only %d pieces of code were found in the documents", checked)
	}
}

// The commands in code blocks name their store, so that nobody runs them on the wrong one.
func TestDocumentedCommandsNameTheStore(t *testing.T) {
	command := regexp.MustCompile(`(?:^|[\s(])dialtone +` +
		`(?:account|tenant|directory|provision|mail|verify|backup|keys|turn|store migrate)\b`)
	names := regexp.MustCompile(`--data|--config|DIALTONE_(?:CONFIG|DATA)=`)
	checked := 0
	named := map[string]bool{} // by a variable, for the rest of the document
	for _, r := range recipes(t) {
		for line := range strings.Lines(strings.ReplaceAll(r.text, "\\\n", " ")) {
			if strings.Contains(line, "export DIALTONE_CONFIG=") {
				named[r.document] = true
			}
			if !command.MatchString(line) {
				continue
			}
			checked++
			if !named[r.document] && !names.MatchString(line) {
				t.Errorf("%s: the store is not named in: %s", r.document, line)
			}
		}
	}
	if checked < 30 {
		t.Errorf("only %d commands were found in the documents", checked)
	}
}

func TestUnknownWords(t *testing.T) {
	app := grammar(t, newCommandLine()).Model
	for line, want := range map[string]int{
		"dialtone serve --data DIR":                                    0,
		"go run ./cmd/dialtone serve --dev":                            0,
		"dialtone account disable alex --tenant a.org":                 0,
		"dialtone serve --none":                                        1,
		"dialtone remove":                                              1,
		"dialtone account remove":                                      1,
		"dialtone account list --tenant a --sql | dialtone tenant cut": 2,
		"--tenant": 0,
		"--none":   1,
	} {
		if got := unknownWords(app, line); len(got) != want {
			t.Errorf("%s: got %q, want %d", line, got, want)
		}
	}
}

// TestReadmeSession runs the terminal session of the README. Values that a server generates (the
// captcha's question and token, the link's token) replace those of the README.
func TestReadmeSession(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	sessions := regexp.MustCompile("(?ms)^```console\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
	if len(sessions) != 2 || !strings.HasPrefix(sessions[0][1], "$ go run ./cmd/dialtone serve --dev\n") {
		t.Fatalf("the README has %d sessions; want one that starts a server and one that uses it", len(sessions))
	}
	dir := t.TempDir()
	p := start(t, launch{data: filepath.Join(dir, "data"), flags: []string{"--dev"}})

	// The first session prints the same lines, except addresses and directories.
	var want []string
	for line := range strings.Lines(sessions[0][1]) {
		want = append(want, strings.Fields(line)[0])
	}
	got := []string{"$"}
	for _, line := range p.stdout.Lines() {
		got = append(got, strings.Fields(line)[0])
	}
	if !slices.Equal(got, want) {
		t.Errorf("the server prints %q, the README says %q", got, want)
	}

	// The commands of the second session share variables, as in one shell.
	pairs := []string{
		"http://localhost:8080", p.base, "digest -u alex ", "digest -u 'alex:correct horse battery' ",
	}
	shell := "set -o pipefail\n"
	for _, step := range steps(t, sessions[1][1]) {
		command := strings.NewReplacer(pairs...).Replace(step.command)
		cmd := exec.Command("bash", "-c", shell+command)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", command, err, out)
		}
		if regexp.MustCompile(`^[a-z0-9]+=`).MatchString(command) {
			shell += command + "\n"
		}
		output := strings.TrimRight(strings.ReplaceAll(string(out), "\r\n", "\n"), "\n")
		expected := step.output
		for _, pattern := range generated {
			before, after := pattern.FindStringSubmatch(expected), pattern.FindStringSubmatch(output)
			if before == nil {
				continue
			}
			if after == nil {
				t.Fatalf("%s\nprints %s, which does not match %v", command, output, pattern)
			}
			for i := range before[1:] {
				pairs = append(pairs, before[1+i], after[1+i])
			}
			if strings.Contains(pattern.String(), "question") {
				var a, b, c, d int
				fmt.Sscanf(before[1], "%d + %d", &a, &b)
				fmt.Sscanf(after[1], "%d + %d", &c, &d)
				pairs = append(pairs, fmt.Sprintf("captcha_answer=%d", a+b), fmt.Sprintf("captcha_answer=%d", c+d))
			}
		}
		if expected = strings.NewReplacer(pairs...).Replace(expected); output != expected {
			t.Errorf("%s\nprints\n%s\nthe README says\n%s", command, output, expected)
		}
	}
}

// generated matches the values of the session that are different in each run.
var generated = []*regexp.Regexp{
	regexp.MustCompile(`"question":"(\d+ \+ \d+)","token":"([^"]+)"`),
	regexp.MustCompile(`activate\.ashx\?token=(\S+)`),
}

type step struct{ command, output string }

// steps splits a session into commands, each with its output. It omits the password prompt of curl,
// because the test gives the password on the command line.
func steps(t *testing.T, session string) (list []step) {
	t.Helper()
	continued := false
	for line := range strings.Lines(session) {
		line = strings.TrimSuffix(line, "\n")
		command, begins := strings.CutPrefix(line, "$ ")
		switch {
		case begins:
			list = append(list, step{command: command})
		case len(list) == 0:
			t.Fatalf("the session begins with %q", line)
		case continued:
			list[len(list)-1].command += "\n" + line
		case strings.HasPrefix(line, "Enter host password"):
		default:
			s := &list[len(list)-1]
			s.output = strings.TrimPrefix(s.output+"\n"+line, "\n")
		}
		continued = (begins || continued) && (strings.HasSuffix(line, "|") || strings.HasSuffix(line, "\\"))
	}
	if len(list) < 6 {
		t.Fatalf("the session has only %d commands", len(list))
	}
	return list
}
