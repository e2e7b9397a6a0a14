package audit_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dialtone/internal/audit"
)

func collect(c *audit.Counts, hosts ...string) map[string]int64 {
	got := make(map[string]int64)
	c.Each(hosts, func(n audit.Count) { got[fmt.Sprint(n.Tenant, " ", n.Action, " ", n.Outcome)] += n.N })
	return got
}

func TestCounts(t *testing.T) {
	tenants := []string{"a.test", "b.test"}
	c := audit.NewCounts(func(host string) bool { return slices.Contains(tenants, host) })
	c.Observe(audit.Event{Action: audit.Signup, Outcome: "ok", Tenant: "a.test"})
	c.Observe(audit.Event{Action: audit.Signup, Outcome: "ok", Tenant: "a.test"})
	c.Observe(audit.Event{Action: audit.SignIn, Outcome: "denied", Tenant: "a.test"})
	c.Observe(audit.Event{Action: audit.SignIn, Outcome: "a forged outcome", Tenant: "evil.test"})
	c.Observe(audit.Event{Action: audit.KeysRotate, Outcome: "ok"})
	got := collect(c, "a.test", "b.test")
	for key, want := range map[string]int64{
		"a.test signup ok": 2, "a.test signin denied": 1, "b.test signup ok": 0, " signin other": 1,
	} {
		if n, ok := got[key]; !ok || n != want {
			t.Errorf("%s: %d (present: %v), want %d", key, n, ok, want)
		}
	}
	for _, key := range []string{"a.test signup denied", " signup ok", " activate ok"} {
		if n, ok := got[key]; ok {
			t.Errorf("%s: %d, and should not be there", key, n)
		}
	}
	for key := range got {
		if strings.Contains(key, "evil") || strings.Contains(key, "forged") || strings.Contains(key, "keys") {
			t.Errorf("counted: %s", key)
		}
	}
	tenants = tenants[:1]
	for key := range collect(c, "a.test") {
		if strings.HasPrefix(key, "b.test") {
			t.Errorf("the tenant was removed, but there is %s", key)
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		c.Observe(audit.Event{Action: audit.SignIn, Outcome: "denied", Tenant: "a.test"})
		c.Observe(audit.Event{Action: audit.SignIn, Outcome: "denied", Tenant: "evil.test"})
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Every outcome in the packages that record events is counted.
func TestOutcomesAreKnown(t *testing.T) {
	known := audit.Outcomes()
	// These functions take an outcome. The value is the index of the argument.
	place := map[string]int{"record": 5, "recordDetail": 5}
	checked := 0
	for _, dir := range []string{"account", "session", "sipserver", "outbox", "provision"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			check := func(e ast.Expr) {
				if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING && lit.Value != `""` {
					checked++
					if value, _ := strconv.Unquote(lit.Value); !slices.Contains(known, value) {
						t.Errorf("%s: the outcome %q is not counted", path, value)
					}
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.KeyValueExpr:
					if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Outcome" {
						check(n.Value)
					}
				case *ast.AssignStmt:
					for i, l := range n.Lhs {
						name := ""
						switch l := l.(type) {
						case *ast.Ident:
							name = l.Name
						case *ast.SelectorExpr:
							name = l.Sel.Name
						}
						if (name == "outcome" || name == "Outcome") && i < len(n.Rhs) {
							check(n.Rhs[i])
						}
					}
				case *ast.FuncDecl:
					if n.Name.Name == "auditReason" {
						ast.Inspect(n.Body, func(n ast.Node) bool {
							if r, ok := n.(*ast.ReturnStmt); ok {
								check(r.Results[0])
							}
							return true
						})
					}
				case *ast.CallExpr:
					if sel, ok := n.Fun.(*ast.SelectorExpr); ok {
						if i, ok := place[sel.Sel.Name]; ok && i < len(n.Args) {
							check(n.Args[i])
						}
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if checked < 30 {
		t.Errorf("only %d outcomes were found", checked)
	}
}

func BenchmarkCounts(b *testing.B) {
	c := audit.NewCounts(func(string) bool { return true })
	b.ReportAllocs()
	for b.Loop() {
		c.Observe(audit.Event{Action: audit.SignIn, Outcome: "denied", Tenant: "a.test"})
	}
}
