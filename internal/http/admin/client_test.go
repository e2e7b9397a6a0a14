package admin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"dialtone/internal/http/admin"
	"dialtone/internal/operator"
	"dialtone/internal/test/adminclient"
)

var update = flag.Bool("update", false, "write the document that the client is made from")

// TestClientIsCurrent checks that the client was generated from the current document.
func TestClientIsCurrent(t *testing.T) {
	f := newFixture(t)
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest("GET", admin.DocumentPath, nil))
	var indented bytes.Buffer
	f.Must(json.Indent(&indented, w.Body.Bytes(), "", "\t"))
	if *update {
		f.Must(os.WriteFile("../../test/adminclient/openapi.json", indented.Bytes(), 0o644))
	} else if !bytes.Equal(indented.Bytes(), adminclient.Document) {
		t.Error("the document has changed; run: go generate ./internal/test/adminclient")
	}
	r := httptest.NewRequest("POST", admin.DocumentPath, nil)
	w = httptest.NewRecorder()
	if f.handler.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

// TestClient uses the client that was generated from the document.
func TestClient(t *testing.T) {
	f := newFixture(t)
	token := f.token("one", "a.test", operator.AccountsRead, operator.AccountsWrite)
	f.At("a.test").Member("ann")
	c, err := adminclient.NewClientWithResponses(f.url, adminclient.WithRequestEditorFn(
		func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+token)
			return nil
		}))
	f.Must(err)
	list, err := c.ListAccountsWithResponse(t.Context(), "a.test", &adminclient.ListAccountsParams{})
	f.Must(err)
	if list.JSON200 == nil || len(list.JSON200.Items) != 1 || list.JSON200.Items[0].User != "ann" {
		t.Fatalf("%s", list.Body)
	}
	reason := "asked"
	changed, err := c.DisableAccountWithResponse(t.Context(), "a.test", "ann", nil,
		adminclient.ReasonBody{Reason: &reason})
	f.Must(err)
	if changed.JSON200 == nil || changed.JSON200.State != "disabled" || changed.JSON200.StateReason != reason {
		t.Errorf("%s", changed.Body)
	}
	refused, err := c.GetTenantWithResponse(t.Context(), "a.test")
	f.Must(err)
	if refused.JSON403 == nil || refused.JSON403.Error != "forbidden" {
		t.Errorf("%s", refused.Body)
	}
}
