package shellword_test

import (
	"os/exec"
	"strings"
	"testing"
	"unicode"

	"dialtone/internal/shellword"
)

var hostile = []string{
	"", "plain", "/srv/dialtone/data", "with space", "two  spaces", " at the ends ", "it's", `'`, `''`, `"`, `\`, `\\`,
	`\'`, "$(id -un >pwned)", "`id`", "${HOME}", "$HOME", "!!", "a!b", "*", "?", "[a-z]", "{a,b}", "~", "~root", "=ls",
	"#comment", "a;b", "a&b", "a|b", "a<b>c", "(a)", "-rf", "--reference=/etc/shadow", "-", "a\nb", "a\nrun: evil\n",
	"\n", "a\n\n", "\ra", "a\tb", "\x1b[2Jgone", "\x7f", "\x80\xff", "\u202egnp", "\u200bzero", "\u00a0hard", "é", "名前",
	"e\u0301", "%s%n", `\n`, `\101`, "a%", "end.", ".", "a=b", "'$(id)'", "a'\nb", "\ufffd", "x\n'; id; '", "^a^b",
}

func FuzzPath(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsRune(text, 0) {
			t.Skip("no path contains this")
		}
		word := shellword.Path(text)
		want := text
		if strings.HasPrefix(want, "-") {
			want = "./" + want
		}
		if strings.HasSuffix(want, "\n") {
			want += "/."
		}
		hidden := strings.ContainsFunc(word, func(r rune) bool { return !unicode.IsGraphic(r) })
		if printed := strings.Join(strings.Fields(word), " "); printed != word || hidden ||
			strings.HasPrefix(word, "-") || strings.HasSuffix(word, ".") {
			t.Errorf("%q becomes %q, which changes when it is printed", text, word)
		}
		// The text at the end shows that the word is a single word and where it ends.
		out, err := exec.Command("sh", "-c", "printf '<%s>' "+word+" end").Output()
		if got := string(out); err != nil || got != "<"+want+"><end>" {
			t.Errorf("%q becomes %s, which a shell reads as %q, %v", text, word, got, err)
		}
	})
}

// Other common shells read a word like sh does.
func TestOtherShells(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "busybox"} {
		program, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		args := []string{"-c"}
		if shell == "busybox" {
			args = []string{"sh", "-c"}
		}
		var words, want string
		for _, text := range hostile {
			text = strings.TrimRight(text, "\n")
			words += " " + shellword.Quote(text)
			want += "<" + text + ">"
		}
		out, err := exec.Command(program, append(args, "printf '<%s>'"+words)...).Output()
		if string(out) != want {
			t.Errorf("%s: %v\n%q, want\n%q", shell, err, out, want)
		}
	}
}

func TestPlainWords(t *testing.T) {
	for text, want := range map[string]string{
		"/srv/data/keys/seal.key": "/srv/data/keys/seal.key", "/srv/my data": "'/srv/my data'", "/srv/d.": "'/srv/d.'",
		"it's": `'it'\''s'`, "-x": "./-x", "": "''", "a\nb": `"$(printf 'a\012b')"`, "d\n": `"$(printf 'd\012/.')"`,
	} {
		if got := shellword.Path(text); got != want {
			t.Errorf("%q becomes %s, want %s", text, got, want)
		}
	}
}
