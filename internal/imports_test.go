package internal

import (
	"fmt"
	"go/build"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The architecture: every package has a room, and what it may import of this program is written here. Imports of tests are
// free, since a test's double is the real thing.
var rooms = map[string][]string{
	// Vocabulary.
	"fault":        {},
	"secret":       {},
	"digest":       {},
	"weakpass":     {},
	"weakpass/gen": {},
	"lang":         {},

	// Domain: the rules. A package may use those above it.
	"audit":     {},
	"tenant":    {"fault", "digest"},
	"throttle":  {"secret"},
	"captcha":   {"secret"},
	"letter":    {"secret", "lang", "tenant"},
	"account":   {"fault", "secret", "digest", "weakpass", "lang", "audit", "tenant", "throttle", "captcha", "letter"},
	"delivery":  {"fault", "secret", "letter", "account"},
	"session":   {"fault", "secret", "digest", "audit", "tenant", "throttle", "account"},
	"provision": {"fault", "secret", "audit", "tenant", "account"},
	"turn":      {"secret", "tenant"},
	"phone":     {"fault", "secret", "digest", "audit", "tenant", "throttle", "account"},

	// Adapters: one outside system each. They may use the vocabulary and the domain, and never each other.
	"sqlstore":  {"fault", "secret", "digest", "lang", "captcha", "throttle", "letter", "tenant", "account", "delivery", "session", "phone", "sqlstore/sqlite"},
	"storetest": {"fault", "secret", "digest", "lang", "captcha", "throttle", "letter", "tenant", "account", "delivery", "session", "phone"},
	"pickup":    {"letter", "account", "delivery"},
	"relay":     {"delivery"},
	"dkim":      {"secret", "delivery"},
	"doctor":    {},
	"htdigest":  {"phone"},
	"callout":   {"phone"},

	// A connection to SQLite, for the store alone.
	"sqlstore/sqlite": {},

	// Test support: a file system that can lose power, database servers that can die, and mail servers that say no.
	"crashfs":      {},
	"postgrestest": {},
	"phonetest":    {},
	"smtptest":     {},

	// Edges: what people and programs touch.
	"ops":        {},
	"directory":  {"fault", "digest", "throttle", "account", "phone"},
	"web":        {"fault", "digest", "lang", "captcha", "tenant", "account", "delivery", "session", "provision", "turn"},
	"config":     {},
	"config/gen": {"config"},
}

// The domain touches neither network, database nor files. Two of its packages use tables of golang.org/x for names.
var (
	vocabulary = []string{"fault", "secret", "digest", "weakpass", "lang"}
	domain     = []string{"audit", "tenant", "throttle", "captcha", "letter", "account", "delivery", "session", "phone", "provision", "turn"}
	outside    = []string{"net/http", "database/sql", "os", "os/exec", "net"}
	tables     = []string{"golang.org/x/net/idna", "golang.org/x/text/unicode/norm", "golang.org/x/sys/cpu"}
)

func TestImports(t *testing.T) {
	seen := make(map[string]bool)
	err := filepath.WalkDir(".", func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || d.Name() == "testdata" {
			return err
		}
		if strings.HasPrefix(d.Name(), "_") { // a module of its own
			return fs.SkipDir
		}
		p, err := build.ImportDir(dir, 0)
		if _, none := err.(*build.NoGoError); none {
			return nil
		} else if err != nil {
			return err
		}
		if dir == "." || len(p.GoFiles) == 0 {
			return nil
		}
		name := filepath.ToSlash(dir)
		seen[name] = true
		for _, fault := range judge(name, p.Imports) {
			t.Error(fault)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range rooms {
		if !seen[name] {
			t.Errorf("there is a room for %s and no such package; take it out of the plan", name)
		}
	}
}

// judge names what is wrong with a package's imports.
func judge(name string, imports []string) (faults []string) {
	allowed, known := rooms[name]
	if !known {
		return []string{fmt.Sprintf("%s has no room; give it one here and in docs/architecture.md", name)}
	}
	for _, path := range imports {
		inner, own := strings.CutPrefix(path, "dialtone/internal/")
		switch {
		case own && !slices.Contains(allowed, inner):
			faults = append(faults, fmt.Sprintf("%s may not import %s", name, inner))
		case !own && slices.Contains(domain, name) && slices.Contains(outside, path):
			faults = append(faults, fmt.Sprintf("%s is of the domain and may not touch %s", name, path))
		case !own && strings.Contains(path, ".") && !slices.Contains(tables, path) &&
			(slices.Contains(vocabulary, name) || slices.Contains(domain, name)):
			faults = append(faults, fmt.Sprintf("%s may not use the library %s", name, path))
		}
	}
	return faults
}

func TestJudgeRefuses(t *testing.T) {
	for _, c := range []struct{ name, path string }{
		{"util", "fmt"},
		{"account", "dialtone/internal/sqlstore"},
		{"captcha", "dialtone/internal/account"},
		{"web", "dialtone/internal/pickup"},
		{"account", "net/http"},
		{"digest", "github.com/some/library"},
	} {
		if len(judge(c.name, []string{c.path})) == 0 {
			t.Errorf("%s imports %s and nobody minds", c.name, c.path)
		}
	}
}
