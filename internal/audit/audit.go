// Package audit records decisions: who tried what, and with what outcome. There is one event
// per decision, so that an operator can later find out why a person has or does not have an
// account.
//
// An event contains only what may be kept in a log for years: the tenant, the user name, the name
// of a SIP server or a hook, a masked e-mail address, the network that a request came from (IPv4
// /24, IPv6 /48) and a reason code. It has no field for a password, a hash, a token, a link or
// the answer to a captcha, so none can be logged by mistake. Whole IP addresses are logged only
// if the operator wants that (AddrText).
package audit

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Action is what was tried.
type Action string

// The actions. They are published in docs/operating.md, so a name never changes.
const (
	Signup          Action = "signup"
	Activate        Action = "activate"
	Resend          Action = "resend"
	Confirm         Action = "confirm"
	SignIn          Action = "signin"
	NewBrowser      Action = "signin.new-browser"
	SignOut         Action = "signout"
	SessionsEnd     Action = "sessions.end"
	PasswordChange  Action = "password.change"
	PasswordReset   Action = "password.reset"
	PasswordLink    Action = "password.link"
	PasswordForgot  Action = "password.forgot"
	PasswordNotMe   Action = "password.not-me"
	TwoStepBegin    Action = "two-step.begin"
	TwoStepOn       Action = "two-step.on"
	TwoStepOff      Action = "two-step.off"
	TwoStepCodes    Action = "two-step.codes"
	TwoStepRecovery Action = "two-step.recovery"
	PasskeyAdd      Action = "passkey.add"
	PasskeyRename   Action = "passkey.rename"
	PasskeyRemove   Action = "passkey.remove"
	EmailRequest    Action = "account.email-request"
	EmailChange     Action = "account.email"
	ProfileChange   Action = "account.profile"
	AccountEnable   Action = "account.enable"
	AccountDisable  Action = "account.disable"
	AccountRole     Action = "account.role"
	AccountDecline  Action = "account.decline"
	AccountLeave    Action = "account.leave"
	AccountStay     Action = "account.stay"
	AccountData     Action = "account.data"
	AccountView     Action = "account.view"
	AccountList     Action = "account.list"
	AccountAdd      Action = "account.add"
	AccountResend   Action = "account.resend"
	AccountDelete   Action = "account.delete"
	AccountFreeName Action = "account.free-name"
	AccountFactors  Action = "account.second-factor"
	AccountBulk     Action = "account.bulk"
	AccountImport   Action = "account.import"
	AccountExport   Action = "account.export"
	TenantAdd       Action = "tenant.add"
	TenantSet       Action = "tenant.set"
	TenantRemove    Action = "tenant.remove"
	TokenAdd        Action = "token.add"
	TokenRemove     Action = "token.remove"
	AdminRequest    Action = "admin.request"
	SignupsFreeze   Action = "signups.freeze"
	SignupsUnfreeze Action = "signups.unfreeze"
	KeysRotate      Action = "keys.rotate"
	KeysBind        Action = "keys.bind"
	TURNSecret      Action = "turn.secret"
	TURNRotate      Action = "turn.rotate"
	ProvisionLink   Action = "provision.link"
	ProvisionFile   Action = "provision.file"
	Undo            Action = "signup.undo"
	UndoResend      Action = "resend.undo"
	Republish       Action = "message.republish"
	MessageRetry    Action = "message.retry"
	MessageDiscard  Action = "message.discard"
	AuditExport     Action = "audit.export"
	TrailBroken     Action = "audit.broken"
	TrailRestart    Action = "audit.restart"
	Restore         Action = "store.restore"
	DKIMAdd         Action = "dkim.add"
	DKIMRemove      Action = "dkim.remove"

	DirectoryTokenAdd    Action = "directory.token.add"
	DirectoryTokenRemove Action = "directory.token.remove"
	DirectoryRequest     Action = "directory.request"
	ExportEnable         Action = "directory.export.enable"
	ExportDisable        Action = "directory.export.disable"
	ExportRebuild        Action = "directory.export.rebuild"
	ExportRole           Action = "directory.export.role"
	ExportFile           Action = "directory.htdigest"
	HookAdd              Action = "directory.hook.add"
	HookRemove           Action = "directory.hook.remove"
	HookTest             Action = "directory.hook.test"
)

// Event is one decision.
type Event struct {
	Action Action
	// Outcome is "ok" or a reason code, for instance "captcha_failed".
	Outcome string
	Tenant  string
	User    string
	// Server is the name of a SIP server.
	Server string
	// Hook is the name of a hook.
	Hook string
	// Email is masked (MaskEmail).
	Email string
	// Peer is the client's address. It is logged as AddrText returns it.
	Peer netip.Addr
	// Request is the request's ID, or empty for an event of the command line.
	Request string
	// Detail is a fixed word that adds to the outcome, for instance which rule was broken.
	Detail string
}

// Log writes events. The zero Log drops them.
type Log struct {
	Logger *slog.Logger
	// Observers are called with each event, in order, before it is written. They run on the
	// goroutine of the request, so they must not block, and can be called concurrently.
	Observers []func(Event)
}

// Record writes one event.
func (l Log) Record(ctx context.Context, e Event) {
	for _, observe := range l.Observers {
		observe(e)
	}
	if l.Logger == nil {
		return
	}
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs, slog.String("outcome", e.Outcome))
	for _, a := range [...]struct{ key, value string }{
		{"tenant", e.Tenant}, {"user", e.User}, {"server", e.Server}, {"hook", e.Hook},
		{"email", e.Email}, {"net", AddrText(ctx, e.Peer)}, {"request", e.Request}, {"detail", e.Detail},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	// The methods of a Logger would look up the source line of the caller, which is not logged.
	r := slog.NewRecord(time.Now(), slog.LevelInfo, string(e.Action), 0)
	r.AddAttrs(append(attrs, slog.Bool("audit", true))...)
	if h := l.Logger.Handler(); h.Enabled(ctx, r.Level) {
		h.Handle(ctx, r)
	}
}

// Network returns the network of an address that a log may contain (IPv4 /24, IPv6 /48), or "".
func Network(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	a = a.Unmap().WithZone("")
	bits := 48
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return ""
	}
	return string(p.AppendTo(make([]byte, 0, 32)))
}

// MaskEmail returns an address with only the first character of its local part, which is enough
// for its owner to recognize it: j***@x.test. A text without an @ is masked completely.
func MaskEmail(email string) string {
	at := strings.LastIndexByte(email, '@')
	if at < 0 {
		return "***"
	}
	_, first := utf8.DecodeRuneInString(email[:at])
	return email[:first] + "***" + email[at:]
}
