package audit

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"dialtone/internal/fault"
)

// TestActionsAreListed checks that actions has every action that audit.go declares.
func TestActionsAreListed(t *testing.T) {
	source, err := os.ReadFile("audit.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\t\w+ +Action = "(.+)"$`).FindAllStringSubmatch(string(source), -1)
	if len(declared) != len(actions) || len(actions) < 70 {
		t.Errorf("%d are declared, and %d listed", len(declared), len(actions))
	}
	for _, m := range declared {
		if !slices.Contains(actions, Action(m[1])) {
			t.Errorf("%s is not listed", m[1])
		}
	}
}

func TestCheckAction(t *testing.T) {
	for _, text := range []string{"", "account.", "account.role", "directory.hook.", "signup", "unreadable"} {
		if err := CheckAction("action", text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		"foo":         "actions begin with account., activate, admin., audit., ",
		"foo.":        "actions begin with account., ",
		"account.foo": "there are account.add, account.bulk, ",
		"delete":      "there are account.delete",
		"account":     "there are account.add, ",
		"ign":         "there are signin, ",
		"ig":          "actions begin with account., ",
	} {
		err := CheckAction("action", text)
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestWords checks that the description of an actor is the same before and after it is stored.
func TestWords(t *testing.T) {
	for want, a := range map[string]Actor{
		"the server":                             {Kind: System},
		"the person concerned":                   {Kind: Person},
		"operator ann":                           {Kind: Admin, Name: "ann", ID: "1"},
		"token crm":                              {Kind: Token, Name: "crm", ID: "1"},
		"root at the command line":               {Kind: Command, Name: "root"},
		"root (sudo by ann) at the command line": {Kind: Command, Name: "root", Sudo: "ann"},
	} {
		if got, stored := a.Words(), WordsOf(a.String()); got != want || stored != want {
			t.Errorf("got %q and %q, want %q", got, stored, want)
		}
	}
	if got := WordsOf(""); got != "" {
		t.Errorf("nobody is %q", got)
	}
}
