package audit

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"dialtone/internal/fault"
	"dialtone/internal/i18n"
)

// Trail stores changes made by operators and by the owners of accounts. It is append-only, with
// two exceptions: old changes are removed, and when an account is erased, personal data is
// cleared from its changes: masked addresses, and the names of passkeys, which earlier versions
// stored as subjects. The transaction that makes a change also adds it to the trail, so that
// neither exists without the other.
type Trail interface {
	// AddChange adds a change of something outside the store, with the cause that CauseOf returns for ctx.
	AddChange(ctx context.Context, c Change) error

	// Changes calls each for every change that the filter selects, in the order in which they were
	// committed, until each returns an error, and returns that error. A caller that has seen a
	// change has seen all changes with lower IDs.
	Changes(ctx context.Context, f Filter, each func(Change) error) error

	// ChangePage returns up to limit changes that the filter selects, after the page whose Next
	// is given; without next it returns the first page. The time that it takes does not depend
	// on the number of changes. It fails with fault.Invalid for a next that no page returned.
	ChangePage(ctx context.Context, f Filter, next string, limit int) (Page, error)

	// LastChange returns the ID of the newest change, or 0, and whether one of the newest 100,000 has one of the
	// actions.
	LastChange(ctx context.Context, actions ...Action) (id int64, found bool, err error)
}

// Change is one change in the Trail.
//
// It is kept even if the account is deleted. So it identifies the account by its UID and its
// user name, and contains no e-mail address, name or credential of a person. The settings of a
// tenant can contain addresses of the operator.
type Change struct {
	ID     int64
	At     time.Time
	Action Action
	// Outcome is OK, or Failed for a change outside the store that was announced and failed.
	Outcome string
	// Tenant is the host of the tenant, or empty.
	Tenant string
	// Account is the UID of the account, or empty. User is its name.
	Account string
	User    string
	// Subject names what else was changed, for instance a phone server or a hook.
	Subject string
	// Before and After are the changed value, where it is short.
	Before, After string
	Cause
}

// Unreadable is the action of a change whose row has a value of a wrong type, which no version
// of the program writes. Only the ID of such a change is known.
const Unreadable Action = "unreadable"

// The outcomes of a Change.
const (
	OK     = "ok"
	Failed = "failed"
)

// Filter selects changes. A zero field selects all.
type Filter struct {
	// AfterID selects changes with a higher ID.
	AfterID int64
	// Since and Before limit the time to the half-open interval [Since, Before).
	Since, Before time.Time
	Tenant        string // the host
	User          string
	// Action is an action, or a prefix of actions that ends in a dot: "account." selects account.enable and others.
	Action string
	// Actor is the name of the actor, and ActorKind its kind.
	Actor     string
	ActorKind ActorKind
	// Net selects changes that may have been made from this network: those whose network or address overlaps it.
	Net netip.Prefix
	// Bulk selects the changes of single accounts by the bulk change with this ID.
	Bulk string
	// NoBulk leaves out the changes of single accounts by bulk changes (BulkSubject).
	NoBulk bool
	// Newest puts the newest change first. Otherwise the oldest is first.
	Newest bool
}

// Matches reports whether the filter selects a change.
func (f Filter) Matches(c Change) bool {
	return c.ID > f.AfterID && !c.At.Before(f.Since) && (f.Before.IsZero() || c.At.Before(f.Before)) &&
		(f.Tenant == "" || c.Tenant == f.Tenant) && (f.User == "" || c.User == f.User) &&
		(f.Actor == "" || c.Actor.Name == f.Actor) && (f.ActorKind == "" || c.Actor.Kind == f.ActorKind) &&
		(f.Action == "" || string(c.Action) == f.Action ||
			strings.HasSuffix(f.Action, ".") && strings.HasPrefix(string(c.Action), f.Action)) &&
		(!f.Net.IsValid() || overlaps(c.Net, f.Net)) && !(f.NoBulk && strings.HasPrefix(c.Subject, BulkSubject)) &&
		(f.Bulk == "" || c.Subject == BulkSubject+f.Bulk)
}

// BulkSubject is the prefix of the subject of each change of an account by a bulk change. The
// ID of the bulk change follows.
const BulkSubject = "bulk "

// overlaps reports whether the address or network in text overlaps a network.
func overlaps(text string, net netip.Prefix) bool {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p.Overlaps(net)
}

// Page is a part of the trail.
type Page struct {
	Changes []Change
	// Next continues the list after this page. It is empty at the end of the list. A page with
	// a Next can have fewer changes than requested, or none: the store examines a limited
	// number of changes for one page.
	Next string
}

// Cause is who made a change, and why.
type Cause struct {
	Actor  Actor
	Reason string
	// Net is the network or the address that the request came from, as AddrText returns it, and Request the request's
	// ID. They are empty for a change that no request made.
	Net, Request string
}

// ActorKind is a kind of actor. A name never changes.
type ActorKind string

// The kinds of actors.
const (
	// System is a server that acts on its own.
	System ActorKind = "system"
	// Command is a user of the operating system who runs a command.
	Command ActorKind = "command"
	// Person is the owner of the account, or of its address.
	Person ActorKind = "person"
	// Admin is a person with the role admin, on the pages for operators.
	Admin ActorKind = "admin"
	// Token is a program that uses the API for operators.
	Token ActorKind = "token"
)

// Actor is who made a change.
type Actor struct {
	Kind ActorKind
	// Name and ID are those of the operating system's user, the user name and UID of an Admin,
	// or the name and ID of a Token.
	Name string
	ID   string
	// Sudo is the user who became that user by sudo. It comes from the environment, so a user can forge it.
	Sudo string
}

// String returns the actor in the form that the store keeps. WordsOf turns that into words for people.
func (a Actor) String() string {
	switch {
	case a.Kind == Admin, a.Kind == Token:
		return string(a.Kind) + " " + a.Name
	case a.Kind != Command:
		return string(a.Kind)
	case a.Sudo != "":
		return a.Name + " (sudo by " + a.Sudo + ")"
	default:
		return a.Name
	}
}

// Words describes the actor for people.
func (a Actor) Words() string {
	switch a.Kind {
	case Admin:
		return "operator " + a.Name
	case Person:
		return "the person concerned"
	case System:
		return "the server"
	case Command:
		return a.String() + " at the command line"
	}
	return a.String()
}

// WordsOf returns the Words of an actor from the result of its String method.
func WordsOf(text string) string {
	if text == "" {
		return ""
	}
	return ParseActor(text).Words()
}

// ParseActor parses the result of Actor.String, which lacks the ID. An operating system's user
// named "person" or "system" cannot be distinguished from those kinds.
func ParseActor(text string) Actor {
	kind, name, named := strings.Cut(text, " ")
	switch {
	case text == string(Person), text == string(System):
		return Actor{Kind: ActorKind(text)}
	case named && (kind == string(Admin) || kind == string(Token)):
		return Actor{Kind: ActorKind(kind), Name: name}
	}
	return Actor{Kind: Command, Name: text}
}

type causeKey struct{}

// With returns a context for changes with a cause.
func With(ctx context.Context, c Cause) context.Context {
	return context.WithValue(ctx, causeKey{}, c)
}

// CauseOf returns the cause of changes in a context. If there is none, the actor is System.
func CauseOf(ctx context.Context) Cause {
	if c, ok := ctx.Value(causeKey{}).(Cause); ok {
		return c
	}
	return Cause{Actor: Actor{Kind: System}}
}

// ByPerson returns a context for changes by a person who sent a request.
func ByPerson(ctx context.Context, addr netip.Addr, request string) context.Context {
	return With(ctx, Cause{Actor: Actor{Kind: Person}, Net: AddrText(ctx, addr), Request: request})
}

type markKey struct{}

// Marking returns a context, and a mark that becomes true when a store adds a change to the trail with that
// context.
func Marking(ctx context.Context) (context.Context, *atomic.Bool) {
	mark := new(atomic.Bool)
	return context.WithValue(ctx, markKey{}, mark), mark
}

// MarkOf returns the mark of a context, or nil.
func MarkOf(ctx context.Context) *atomic.Bool {
	mark, _ := ctx.Value(markKey{}).(*atomic.Bool)
	return mark
}

type wholeKey struct{}

// WithWholeAddresses returns a context for which AddrText returns whole addresses.
func WithWholeAddresses(ctx context.Context) context.Context {
	return context.WithValue(ctx, wholeKey{}, true)
}

// AddrText returns the form of an address that the log and the trail may contain: its network,
// or the whole address if the context is from WithWholeAddresses. It is empty for the zero
// address.
func AddrText(ctx context.Context, a netip.Addr) string {
	if whole, _ := ctx.Value(wholeKey{}).(bool); whole && a.IsValid() {
		return a.Unmap().WithZone("").String()
	}
	return Network(a)
}

// NetworkOf returns the network of a result of AddrText.
func NetworkOf(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return Network(a)
	}
	return text
}

// maxValue is the maximum length of a value in the trail, in bytes.
const maxValue = 4 << 10

// Cut returns a value in the form that the trail stores. It cuts a value that is longer than 4
// KiB, and appends the length and the SHA-256 of the whole value, so that a claimed original
// can be checked.
func Cut(value string) string {
	if len(value) <= maxValue {
		return value
	}
	sum := sha256.Sum256([]byte(value))
	mark := fmt.Sprintf("… [%d bytes, SHA-256 %x]", len(value), sum)
	return strings.ToValidUTF8(value[:maxValue-len(mark)], "") + mark
}

// maxReason is the maximum length of a reason in bytes.
const maxReason = 500

// CheckReason fails with fault.Invalid for a reason that is too long, or that contains line
// breaks or other hidden characters (i18n.Hidden).
func CheckReason(reason string) error {
	if len(reason) > maxReason || i18n.Hidden(reason, false) {
		return fault.Field("reason", "a reason is one line of text with at most %d bytes, without hidden characters",
			maxReason)
	}
	return nil
}

// subjectKeys are the log attributes for the subjects of some actions.
var subjectKeys = map[Action]string{
	DirectoryTokenAdd: "server", DirectoryTokenRemove: "server",
	TokenAdd: "token", TokenRemove: "token", HookAdd: "hook", HookRemove: "hook", HookTest: "hook",
}

// RecordChange logs a change of the trail. It leaves out the settings of a tenant, which can be
// long and contain complete e-mail addresses.
func (l Log) RecordChange(ctx context.Context, c Change) {
	if l.Logger == nil {
		return
	}
	subject := subjectKeys[c.Action]
	if subject == "" {
		subject = "subject"
	}
	if c.Action == TenantSet {
		c.Before, c.After = "", ""
	}
	attrs := []slog.Attr{slog.String("outcome", c.Outcome)}
	for _, a := range [...]struct{ key, value string }{
		{"tenant", c.Tenant}, {"user", c.User}, {subject, c.Subject}, {"before", c.Before}, {"after", c.After},
		{"actor", c.Actor.Name}, {"actor_kind", string(c.Actor.Kind)}, {"actor_id", c.Actor.ID},
		{"sudo_user", c.Actor.Sudo}, {"reason", c.Reason}, {"net", c.Net}, {"request", c.Request},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	attrs = append(attrs, slog.Int64("change", c.ID), slog.Time("at", c.At), slog.Bool("audit", true))
	l.Logger.LogAttrs(ctx, slog.LevelInfo, string(c.Action), attrs...)
}
