package provision_test

import (
	"strings"
	"testing"

	"dialtone/internal/account"
	"dialtone/internal/provision"
	"dialtone/internal/tenant"
)

func TestTURN(t *testing.T) {
	for want, settings := range map[bool]tenant.Settings{
		false: {}, true: {TURNURIs: []string{"turn:turn.test"}},
	} {
		if got := phone(t, alex, settings).TURN; got != want {
			t.Errorf("with %d TURN servers: %v", len(settings.TURNURIs), got)
		}
	}
}

func TestBaresipName(t *testing.T) {
	for name, want := range map[string]string{
		`a"b\<c> d`: `"abc d" <sip:`, ` "a" `: `"a" <sip:`, `<>`: `<sip:`, "": `<sip:`,
	} {
		file, err := phone(t, account.Account{User: "ann", Name: name}, tenant.Settings{}).In(provision.Baresip)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(file.Text), want) {
			t.Errorf("%q becomes %q, want %s", name, file.Text, want)
		}
	}
}
