package web

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"dialtone/internal/audit"
	"dialtone/internal/i18n"
)

// TestActionsInWords checks that each action that can occur in the trail of a tenant has a text in
// every language and an entry in the filter of the list of changes.
func TestActionsInWords(t *testing.T) {
	// These never occur in the trail of a tenant.
	elsewhere := []audit.Action{
		// They are only log events.
		audit.Signup, audit.Activate, audit.Resend, audit.Confirm, audit.SignIn, audit.SignOut, audit.PasswordForgot,
		audit.TwoStepBegin, audit.EmailRequest, audit.AdminRequest, audit.ProvisionLink, audit.ProvisionFile,
		audit.Undo, audit.UndoResend, audit.Republish, audit.DirectoryRequest,
		// They are changes of the whole installation.
		audit.SignupsFreeze, audit.SignupsUnfreeze, audit.KeysRotate, audit.KeysBind, audit.TURNSecret,
		audit.TURNRotate, audit.TrailBroken, audit.TrailRestart, audit.ExportEnable, audit.ExportDisable,
		audit.ExportRebuild, audit.ExportRole, audit.HookTest, audit.Restore,
	}
	file, err := parser.ParseFile(token.NewFileSet(), "../../audit/audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); !ok || name.Name != "Action" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		a := audit.Action(text)
		found++
		offered := slices.ContainsFunc(actionGroups, func(g actionGroup) bool { return slices.Contains(g.Actions, a) })
		if offered == slices.Contains(elsewhere, a) {
			t.Errorf("%s: in the selection %v", a, offered)
		}
		for _, tag := range i18n.Tags {
			if _, ok := i18n.In(tag).Find("admin.act." + text); ok != offered {
				t.Errorf("%s: words in %s %v, in the selection %v", a, tag, ok, offered)
			}
		}
		return true
	})
	if found < 60 {
		t.Errorf("only %d actions", found)
	}
}
