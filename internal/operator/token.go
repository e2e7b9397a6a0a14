package operator

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dialtone/internal/audit"
	"dialtone/internal/fault"
	"dialtone/internal/outage"
	"dialtone/internal/recorder"
	"dialtone/internal/secret"
	"dialtone/internal/throttle"
)

// Token describes a token of the API for operators. The token itself is not stored.
type Token struct {
	ID     string
	Name   string   // unique
	Hash   [32]byte // SHA-256 of the secret.Token
	Tenant int64    // the only tenant at which it may act, or 0 for all
	Scopes []Scope  // in the order of Scopes
	Made   time.Time
	MadeBy string // the actor in words
	// Expires is when it expires, or zero for never. Used is when it was last used, or zero;
	// the last use can be up to a minute later.
	Expires, Used time.Time
}

// TokenUse is a use of a token.
type TokenUse struct {
	ID string
	At time.Time
}

// TokenStore stores tokens. Each method is one transaction.
type TokenStore interface {
	// AddToken adds a token. It fails with fault.Conflict if the name is taken.
	AddToken(ctx context.Context, t Token) error

	// RemoveToken removes the token with a name. It fails with fault.NotFound, even if the
	// token exists but belongs to another tenant, unless tenant is 0.
	RemoveToken(ctx context.Context, name string, tenant int64, now time.Time) error

	// Tokens returns the tokens of a tenant, or all if tenant is 0, ordered by name.
	Tokens(ctx context.Context, tenant int64) ([]Token, error)

	// TokenByHash returns a token. It fails with fault.NotFound, even for a token that has expired.
	TokenByHash(ctx context.Context, hash [32]byte, now time.Time) (Token, error)

	// RecordTokenUses sets when tokens were last used, unless the stored time is later.
	RecordTokenUses(ctx context.Context, list []TokenUse) error
}

const (
	// tokenPrefix identifies a token to people and to programs that scan files for secrets.
	tokenPrefix = "dta_"
	// tokenSum is the length of the checksum at the end of a token: six characters of base64url.
	tokenSum = 6
)

// TokenText returns a token as programs send it: a prefix, the secret in base64url, and its
// CRC-32 (IEEE, big-endian) in base64url, by which programs can distinguish a token from other
// texts. The result is secret.
func TokenText(t secret.Token) string { return tokenPrefix + t.Text() + sumOf(t.Text()) }

func sumOf(text string) string {
	b := binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE([]byte(text)))
	return base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken parses the result of TokenText, and rejects all other texts.
func ParseToken(text string) (secret.Token, bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(rest) != secret.TokenLength+tokenSum ||
		rest[secret.TokenLength:] != sumOf(rest[:secret.TokenLength]) {
		return secret.Token{}, false
	}
	return secret.ParseToken(rest[:secret.TokenLength])
}

// maxTokenName is the maximum length of a token's name.
const maxTokenName = 64

func checkTokenName(name string) error {
	bad := func(c rune) bool {
		return !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("-_.", c))
	}
	if name == "" || len(name) > maxTokenName || strings.ContainsFunc(name, bad) {
		return fault.Field("name",
			"give the token a name of 1 to %d letters, digits, hyphens, dots and underscores", maxTokenName)
	}
	return nil
}

// CheckScopes returns scopes without duplicates, in the order of Scopes. It fails with
// fault.Invalid if the list is empty or contains an unknown scope.
func CheckScopes(list []Scope) (sorted []Scope, err error) {
	for _, s := range Scopes {
		if slices.Contains(list, s) {
			sorted = append(sorted, s)
		}
	}
	for _, s := range list {
		if !slices.Contains(Scopes, s) {
			return nil, fault.Field("scopes", "there is no scope %q; the scopes are %s", s, Words(Scopes))
		}
	}
	if len(sorted) == 0 {
		return nil, fault.Field("scopes", "name at least one of the scopes %s", Words(Scopes))
	}
	return sorted, nil
}

// Words returns scopes with spaces between them.
func Words(list []Scope) string {
	words := make([]string, len(list))
	for i, s := range list {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}

// NewToken describes a token to make.
type NewToken struct {
	Name    string
	Tenant  int64 // 0 for all
	Scopes  []Scope
	Expires time.Time // zero for never
	Reason  string    // why, for the audit trail
}

// TokensDeps are the dependencies of Tokens. All are required.
type TokensDeps struct {
	Store    TokenStore
	SealRing *secret.Ring
	Audit    audit.Log
	Log      *slog.Logger
	Now      func() time.Time
}

// Tokens makes and recognizes tokens. It is safe for concurrent use.
type Tokens struct {
	deps    TokensDeps
	buckets throttle.Buckets
	wrong   *throttle.Failures
	uses    *recorder.Recorder[string, TokenUse]
	recent  *recorder.Recent
}

// tokenUseInterval is the minimum interval between two recorded uses of a token.
const tokenUseInterval = time.Minute

// NewTokens returns a Tokens.
func NewTokens(d TokensDeps) *Tokens {
	return &Tokens{
		deps:    d,
		buckets: throttle.NewBuckets(d.SealRing),
		wrong:   throttle.NewFailures(throttle.WrongTokens, throttle.WrongTokenBuckets, d.Now),
		uses: recorder.New(recorder.Deps[string, TokenUse]{
			Key: func(u TokenUse) string { return u.ID },
			Write: func(ctx context.Context, list []TokenUse) error {
				// All servers write in the same order, so that transactions cannot deadlock.
				slices.SortFunc(list, func(a, b TokenUse) int { return cmp.Compare(a.ID, b.ID) })
				return d.Store.RecordTokenUses(ctx, list)
			},
			Failed:  outage.New(d.Log, "uses of API tokens not recorded", "uses of API tokens recorded again", d.Now),
			Dropped: outage.New(d.Log, "uses of API tokens dropped", "uses of API tokens no longer dropped", d.Now),
			TooMany: errors.New("more uses than can be written"),
		}),
		recent: recorder.NewRecent(tokenUseInterval),
	}
}

// Run writes uses of tokens to the store until ctx is done.
func (k *Tokens) Run(ctx context.Context) { k.uses.Run(ctx) }

// Flush writes all uses of tokens so far to the store.
func (k *Tokens) Flush(ctx context.Context) error { return k.uses.Flush(ctx) }

// ErrBadToken refuses a token that is malformed, unknown, removed or expired.
var ErrBadToken = fault.New(fault.Unauthorized,
	"this is no valid token of the API for operators; make one with: dialtone token add")

// Authenticate returns the Caller for a token, and the token. It fails with ErrBadToken, and with fault.Limited if
// too many wrong tokens came from the address. A valid token is never refused because of wrong ones. Authenticate
// reads the store each time, so all servers refuse a removed token at once.
func (k *Tokens) Authenticate(ctx context.Context, text string, addr netip.Addr, request string) (Caller, Token,
	error) {
	now := k.deps.Now()
	if parsed, ok := ParseToken(text); ok {
		// Looking up the hash reveals nothing about tokens by its timing, since nobody can choose a hash.
		t, err := k.deps.Store.TokenByHash(ctx, parsed.Hash(), now)
		if err == nil {
			k.used(ctx, t, now)
			return Caller{
				Actor: audit.Actor{Kind: audit.Token, Name: t.Name, ID: t.ID}, Tenant: t.Tenant, Scopes: t.Scopes,
				Addr: addr, Request: request,
			}, t, nil
		} else if !fault.Is(err, fault.NotFound) {
			return Caller{}, Token{}, err
		}
	}
	bucket := k.buckets.Of("wrong API token", 0, throttle.Party(addr))
	if wait := k.wrong.Fail(bucket); wait > 0 {
		return Caller{}, Token{}, fault.Limit(wait, "too many wrong tokens came from this address; "+
			"the right token is accepted at once")
	}
	k.deps.Audit.Record(ctx, audit.Event{
		Action: audit.AdminRequest, Outcome: "denied", Peer: addr, Request: request,
	})
	return Caller{}, Token{}, ErrBadToken
}

// used queues the use of a token to be recorded, unless one was recorded within the last minute.
func (k *Tokens) used(ctx context.Context, t Token, now time.Time) {
	var id [16]byte
	copy(id[:], t.ID)
	key := k.recent.Key(id)
	if !k.recent.Has(key, now) && k.uses.Add(ctx, TokenUse{t.ID, now.UTC().Truncate(time.Microsecond)}) {
		k.recent.Add(key, now)
	}
}

// Add makes a token and returns it and its text. A caller cannot make a token with more
// permissions than their own, or one that expires after their own token, which expires at until
// unless that is zero: Add then fails with fault.Forbidden. It also fails with fault.Conflict
// if the name is taken, and with fault.Invalid.
func (k *Tokens) Add(ctx context.Context, c Caller, until time.Time, n NewToken) (t Token, text string, err error) {
	if !slices.Contains(c.Scopes, TokensWrite) {
		return t, "", missingScope(TokensWrite)
	}
	if err := checkTokenName(n.Name); err != nil {
		return t, "", err
	}
	scopes, err := CheckScopes(n.Scopes)
	if err != nil {
		return t, "", err
	}
	now := k.deps.Now().UTC().Truncate(time.Microsecond)
	expires := n.Expires.UTC().Truncate(time.Microsecond)
	if n.Expires.IsZero() {
		expires = time.Time{}
	}
	switch {
	case c.Tenant != 0 && n.Tenant != c.Tenant:
		return t, "", fault.New(fault.Forbidden, "your token is for one tenant, so it makes tokens for that one only")
	case slices.ContainsFunc(scopes, func(s Scope) bool { return !slices.Contains(c.Scopes, s) }):
		return t, "", fault.New(fault.Forbidden, "a token cannot have scopes that you do not have: you have %s",
			Words(c.Scopes))
	case !expires.IsZero() && !expires.After(now):
		return t, "", fault.Field("expires", "this time is not in the future")
	case !until.IsZero() && (expires.IsZero() || expires.After(until)):
		return t, "", fault.New(fault.Forbidden, "a token cannot live longer than yours, which ends at %s",
			until.UTC().Format(time.RFC3339))
	}
	ctx, err = c.With(ctx, n.Reason)
	if err != nil {
		return t, "", err
	}
	var id [8]byte
	rand.Read(id[:])
	made := secret.NewToken()
	t = Token{
		ID: hex.EncodeToString(id[:]), Name: n.Name, Hash: made.Hash(), Tenant: n.Tenant, Scopes: scopes, Made: now,
		MadeBy: c.Actor.String(), Expires: expires,
	}
	err = k.deps.Store.AddToken(ctx, t)
	if fault.Is(err, fault.Conflict) && c.Tenant != 0 {
		// The existing token may be one that the caller must not see.
		return Token{}, "", fault.New(fault.Conflict, "this name cannot be used; choose another one")
	}
	if err != nil {
		return Token{}, "", err
	}
	return t, TokenText(made), nil
}

// Remove removes a token. It fails with fault.NotFound, even for an existing token that the
// caller may not see, and with fault.Forbidden for a token with scopes that the caller does not
// have. Tokens that were made with the removed one remain valid: the list shows who made them,
// and a program that replaces its own token must not invalidate those of others.
func (k *Tokens) Remove(ctx context.Context, c Caller, name, reason string) error {
	if !slices.Contains(c.Scopes, TokensWrite) {
		return missingScope(TokensWrite)
	}
	ctx, err := c.With(ctx, reason)
	if err != nil {
		return err
	}
	list, err := k.deps.Store.Tokens(ctx, c.Tenant)
	if err != nil {
		return err
	}
	for _, t := range list {
		missing := func(s Scope) bool { return !slices.Contains(c.Scopes, s) }
		if t.Name == name && slices.ContainsFunc(t.Scopes, missing) {
			return fault.New(fault.Forbidden, "this token has scopes that you do not have: it has %s", Words(t.Scopes))
		}
	}
	return k.deps.Store.RemoveToken(ctx, name, c.Tenant, k.deps.Now())
}

// List returns the tokens that the caller may see, ordered by name.
func (k *Tokens) List(ctx context.Context, c Caller) ([]Token, error) {
	if !slices.Contains(c.Scopes, TokensWrite) {
		return nil, missingScope(TokensWrite)
	}
	return k.deps.Store.Tokens(ctx, c.Tenant)
}
