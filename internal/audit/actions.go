package audit

import (
	"slices"
	"strings"

	"dialtone/internal/fault"
)

// actions are all actions, except Unreadable.
var actions = []Action{
	Signup, Activate, Resend, Confirm, SignIn, NewBrowser, SignOut, SessionsEnd, PasswordChange,
	PasswordReset, PasswordLink, PasswordForgot, PasswordNotMe, TwoStepBegin, TwoStepOn, TwoStepOff,
	TwoStepCodes, TwoStepRecovery, PasskeyAdd, PasskeyRename, PasskeyRemove, EmailRequest, EmailChange,
	ProfileChange, AccountEnable, AccountDisable, AccountRole, AccountDecline, AccountLeave, AccountStay,
	AccountData, AccountView, AccountList, AccountAdd, AccountResend, AccountDelete, AccountFreeName,
	AccountFactors, AccountBulk, AccountImport, AccountExport, TenantAdd, TenantSet, TenantRemove, TokenAdd,
	TokenRemove, AdminRequest, SignupsFreeze, SignupsUnfreeze, KeysRotate, KeysBind, TURNSecret, TURNRotate,
	ProvisionLink, ProvisionFile, Undo, UndoResend, Republish, MessageRetry, MessageDiscard, AuditExport,
	TrailBroken, TrailRestart, Restore, DKIMAdd, DKIMRemove, DirectoryTokenAdd, DirectoryTokenRemove,
	DirectoryRequest, ExportEnable, ExportDisable, ExportRebuild, ExportRole, ExportFile, HookAdd,
	HookRemove, HookTest,
}

// CheckAction fails with fault.Invalid for a text that is not valid as Filter.Action. The error
// lists similar actions.
func CheckAction(field, text string) error {
	prefix := strings.HasSuffix(text, ".")
	if text == "" || text == string(Unreadable) || slices.ContainsFunc(actions, func(a Action) bool {
		return string(a) == text || prefix && strings.HasPrefix(string(a), text)
	}) {
		return nil
	}
	word, _, _ := strings.Cut(text, ".")
	var similar, prefixes []string
	for _, a := range actions {
		first, _, more := strings.Cut(string(a), ".")
		if first == word || len(text) > 2 && strings.Contains(string(a), text) {
			similar = append(similar, string(a))
		}
		if more {
			first += "."
		}
		prefixes = append(prefixes, first)
	}
	if len(similar) > 0 {
		slices.Sort(similar)
		return fault.Field(field, "there is no action %q; there are %s", text, strings.Join(similar, ", "))
	}
	slices.Sort(prefixes)
	return fault.Field(field, "there is no action %q; actions begin with %s", text,
		strings.Join(slices.Compact(prefixes), ", "))
}
