package admin

import (
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestDocumentedPaths checks that docs/admin-api.md names the paths of all GET operations.
func TestDocumentedPaths(t *testing.T) {
	text, err := os.ReadFile("../../../docs/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer("{host}", "HOST", "{user}", "USER", "{id}", "ID", "{name}", "NAME")
	n := 0
	for _, o := range new(Handler).routes() {
		if o.method != http.MethodGet {
			continue
		}
		n++
		path := "/" + names.Replace(strings.TrimPrefix(o.path, Root))
		if !strings.Contains(string(text), "`"+path+"`") {
			t.Errorf("%s: the page lacks `%s`", o.id, path)
		}
	}
	if n < 15 {
		t.Errorf("%d operations", n)
	}
}
