package postgres_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/secret"
	"dialtone/internal/store/engine"
	"dialtone/internal/store/postgres"
	"dialtone/internal/test/postgrestest"
)

// call matches the calls of functions in statements of the program.
var call = regexp.MustCompile(`(?i)\b([a-z_][a-z0-9_]*)\(`)

// Every function of PostgreSQL that a text of the program could call is in the list of those that
// nobody may replace. The statements of CheckSchema and CheckExportSchema themselves cannot call
// replaced functions.
func TestBuiltInIsComplete(t *testing.T) {
	found := make(map[string]string) // names, and where they are
	add := func(path, text string) {
		for _, match := range call.FindAllStringSubmatch(text, -1) {
			found[strings.ToLower(match[1])] = path
		}
	}
	apart := []string{
		"internal/store/postgres/schema.go", "internal/store/postgres/durable.go",
		"internal/store/phonetables/postgrescheck.go",
	}
	const root = "../../.."
	for _, dir := range []string{"internal", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			switch {
			case err != nil:
				return err
			case d.IsDir() && (name == "internal/test" || name == "internal/store/sqlite" || d.Name() == "testdata"):
				return fs.SkipDir
			case strings.HasSuffix(name, ".postgres.sql"):
				text, err := os.ReadFile(path)
				add(name, string(text))
				return err
			case !strings.HasSuffix(name, ".go"), strings.HasSuffix(name, "_test.go"), slices.Contains(apart, name):
				return nil
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING {
					add(name, text.Value)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s := openStore(t, secret.NewRing(noon), "a", postgrestest.Shared(t).Database(t))
	err := s.engine.Reads(t.Context()).Each(func(row engine.Scanner) error {
		var name string
		err := row.Scan(&name)
		if path, ok := found[name]; ok && !slices.Contains(postgres.BuiltIn, name) {
			t.Errorf("%s may call %s, which is not in builtIn", path, name)
		}
		return err
	}, `SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace`)
	if err != nil {
		t.Fatal(err)
	}
}
