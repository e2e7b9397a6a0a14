// Package throttle says how often a thing may be tried.
//
// Three kinds of limit stand here, since they have different needs. What a person is granted (a signup, a message) is
// counted exactly, must survive a restart and hold on every node: it is a Rule, and the store keeps the times under a
// Bucket and decides within the transaction that takes the place. What a person fails at (a wrong captcha, a wrong
// password) must cost nothing to count: it is kept in memory, in a Failures of bounded size. What programs do tens of thousands of
// times a second is held to a Rate, which is one number.
//
// The first two are sliding: a place is free again when the oldest of the last Limit times is Per ago, and not at the turn of an
// hour.
package throttle

import (
	"net/netip"
	"sync"
	"time"

	"dialtone/internal/secret"
)

// Rule allows Limit times in any span of Per.
type Rule struct {
	Limit int
	Per   time.Duration
}

// The rules of the published contract.
var (
	// SignupsPerAddress holds for an IPv4 address and for an IPv6 /64.
	SignupsPerAddress = Rule{3, time.Hour}
	// SignupsPerSite holds for an IPv6 /48 besides, the size that a customer is commonly given.
	SignupsPerSite = Rule{30, time.Hour}
	// MessagesPerRecipient holds for one e-mail address.
	MessagesPerRecipient = Rule{3, 24 * time.Hour}
	// ResendsPerAccount holds for the messages of one account after its first.
	ResendsPerAccount = Rule{3, 24 * time.Hour}
	// FailedSignups holds for POSTs of one address that came to nothing.
	FailedSignups = Rule{60, 10 * time.Minute}
	// FailedSignIns holds for wrong passwords for one name, known or not, and for one known device.
	FailedSignIns = Rule{10, 15 * time.Minute}
	// FailedSignInsPerAddress holds for wrong passwords from one address, for any names.
	FailedSignInsPerAddress = Rule{100, 15 * time.Minute}
	// WrongTokens holds for look-ups by phone servers of one address with a token that is none.
	WrongTokens = Rule{60, 10 * time.Minute}
)

// Bucket is what a limit is counted by: a keyed hash, so that neither addresses nor e-mails lie in the store for it.
type Bucket [16]byte

// Buckets makes Buckets under a key of the installation.
type Buckets struct{ mac *secret.MAC }

// NewBuckets keys the buckets by the oldest key of the ring, so that adding a key does not make counts start anew.
func NewBuckets(r *secret.Ring) Buckets { return Buckets{secret.NewMAC(r.Oldest(), "throttle bucket")} }

// Of is the bucket of one thing of one kind at one tenant. Tenant 0 stands for all tenants together.
func (b Buckets) Of(kind string, tenant int64, thing string) Bucket {
	var t [8]byte
	for i := range t {
		t[i] = byte(tenant >> (8 * i))
	}
	sum := b.mac.Sum([]byte(kind), t[:], []byte(thing))
	return Bucket(sum[:16])
}

// Allowance is a place to take under a rule.
type Allowance struct {
	Bucket Bucket
	Rule   Rule
}

// Signup is what one signup takes for the address that it comes from: an IPv4-mapped address counts as the IPv4 one, and
// an IPv6 address for its /64 and its /48.
func (b Buckets) Signup(tenant int64, addr netip.Addr) []Allowance {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return []Allowance{{b.Of("signup", tenant, addr.String()), SignupsPerAddress}}
	}
	return []Allowance{
		{b.Of("signup", tenant, prefix(addr, 64)), SignupsPerAddress},
		{b.Of("signup", tenant, prefix(addr, 48)), SignupsPerSite},
	}
}

// Party is the part of an address that one person is taken to hold: IPv4 whole, IPv6 its /64.
func Party(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	return prefix(addr, 64)
}

func prefix(addr netip.Addr, bits int) string {
	p, err := addr.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}

// Failures counts failures in memory. It is safe for concurrent use. It holds at most size buckets: beyond that the
// bucket that has waited longest is forgotten, which a flood from very many sources can bring about, and which the limits
// in the store do not depend on.
type Failures struct {
	rule Rule
	size int
	now  func() time.Time

	mu    sync.Mutex
	times map[Bucket][]time.Time
	// order holds the buckets as they came, a ring of size places.
	order []Bucket
	next  int
}

// NewFailures counts under one rule.
func NewFailures(rule Rule, size int, now func() time.Time) *Failures {
	return &Failures{rule: rule, size: size, now: now, times: make(map[Bucket][]time.Time)}
}

// Wait is how long to wait before the next try, and zero where it may be made now.
func (f *Failures) Wait(b Bucket) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	past := f.times[b]
	if len(past) < f.rule.Limit {
		return 0
	}
	return max(0, past[len(past)-f.rule.Limit].Add(f.rule.Per).Sub(f.now()))
}

// Add counts a failure.
func (f *Failures) Add(b Bucket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	past, known := f.times[b]
	if !known {
		f.remember(b)
	}
	if len(past) >= f.rule.Limit {
		past = append(past[:0], past[len(past)-f.rule.Limit+1:]...)
	}
	f.times[b] = append(past, f.now())
}

// Forget ends a count, after a success that vouches for the person.
func (f *Failures) Forget(b Bucket) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.times[b]; known {
		f.times[b] = f.times[b][:0]
	}
}

func (f *Failures) remember(b Bucket) {
	if len(f.order) < f.size {
		f.order = append(f.order, b)
		return
	}
	delete(f.times, f.order[f.next])
	f.order[f.next] = b
	f.next = (f.next + 1) % f.size
}
