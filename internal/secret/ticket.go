package secret

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"time"
)

// Ticket is the content of a signed token. Nothing is stored when a token is issued: the key alone
// proves that it is genuine. The reader decides whether it is still valid, and can keep a list of
// used or revoked IDs.
type Ticket struct {
	// ID is random.
	ID [16]byte
	// Account and Epoch are those of an account, if the format includes them.
	Account [16]byte
	Epoch   int64
	// Issued is in whole units of the format.
	Issued time.Time
}

// NewTicket returns a ticket with a random ID.
func NewTicket(now time.Time) Ticket {
	t := Ticket{Issued: now}
	rand.Read(t.ID[:])
	return t
}

// Fresh reports whether the ticket was issued less than life ago, and at most skew in the
// future, by a server whose clock is ahead.
func (t Ticket) Fresh(now time.Time, life, skew time.Duration) bool {
	age := now.Sub(t.Issued)
	return age >= -skew && age < life
}

// TicketFormat is the format of the tokens of one purpose. A token is the unpadded base64url of
//
//	version (1 byte, if not zero)
//	ID (16)
//	account (16) and epoch (8), if Account is set
//	time of issue since the Unix epoch (8), if Unit is not zero
//	the first CodeSize bytes of an HMAC-SHA-256
//
// with integers in big-endian order. The HMAC covers, with the length of each, the tenant,
// everything before the code, and the texts that the token is bound to. Tokens outlive the program
// that issued them, so a format never changes.
type TicketFormat struct {
	Purpose string // from which the key is derived
	Version byte
	Account bool
	Unit    time.Duration
	// CodeSize is between 16 and 32.
	CodeSize int
	// BoundFirst puts the texts before the content of the token in the input of the HMAC, instead of after it.
	BoundFirst bool
}

// Tickets issues and reads the tokens of one format. It is safe for concurrent use.
type Tickets struct {
	format TicketFormat
	mac    *MAC
}

// NewTickets returns Tickets that sign with the newest key of the ring and accept all of them.
func NewTickets(r *Ring, f TicketFormat) *Tickets { return &Tickets{f, NewMAC(r, f.Purpose)} }

// Issue returns a ticket's token for a tenant, bound to texts that are not in it.
func (t *Tickets) Issue(tenant int64, k Ticket, bound ...string) string {
	var token, text buffer
	return string(base64.RawURLEncoding.AppendEncode(text[:0], t.Append(token[:0], tenant, k, bound...)))
}

// Read returns the ticket in a token. It returns false unless the token was issued for the same
// tenant and texts under a key of the ring, and is spelled exactly as it was issued.
func (t *Tickets) Read(tenant int64, token string, bound ...string) (Ticket, bool) {
	var room buffer
	b, ok := appendText(room[:0], token)
	if !ok {
		return Ticket{}, false
	}
	return t.Parse(tenant, b, bound...)
}

// Append is Issue without the base64url: it appends the bytes of the token.
func (t *Tickets) Append(b []byte, tenant int64, k Ticket, bound ...string) []byte {
	b = slices.Grow(b, t.format.contentSize()+t.format.CodeSize)
	start := len(b)
	if t.format.Version != 0 {
		b = append(b, t.format.Version)
	}
	b = append(b, k.ID[:]...)
	if t.format.Account {
		b = append(b, k.Account[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(k.Epoch))
	}
	switch t.format.Unit {
	case time.Second:
		b = binary.BigEndian.AppendUint64(b, uint64(k.Issued.Unix()))
	case time.Millisecond:
		b = binary.BigEndian.AppendUint64(b, uint64(k.Issued.UnixMilli()))
	}
	var m buffer
	code := t.mac.sum(t.appendMessage(m[:0], tenant, b[start:], bound))
	return append(b, code[:t.format.CodeSize]...)
}

// Parse is Read without the base64url.
func (t *Tickets) Parse(tenant int64, b []byte, bound ...string) (Ticket, bool) {
	content := len(b) - t.format.CodeSize
	var m buffer
	if content != t.format.contentSize() ||
		!t.mac.verify(b[content:], t.appendMessage(m[:0], tenant, b[:content], bound)) {
		return Ticket{}, false
	}
	take := func(n int) (field []byte) {
		field, b = b[:n], b[n:]
		return field
	}
	if t.format.Version != 0 && take(1)[0] != t.format.Version {
		return Ticket{}, false
	}
	k := Ticket{ID: [16]byte(take(16))}
	if t.format.Account {
		k.Account = [16]byte(take(16))
		k.Epoch = int64(binary.BigEndian.Uint64(take(8)))
	}
	switch t.format.Unit {
	case time.Second:
		k.Issued = time.Unix(int64(binary.BigEndian.Uint64(take(8))), 0)
	case time.Millisecond:
		k.Issued = time.UnixMilli(int64(binary.BigEndian.Uint64(take(8))))
	}
	return k, true
}

func (f TicketFormat) contentSize() int {
	n := 16
	if f.Version != 0 {
		n++
	}
	if f.Account {
		n += 16 + 8
	}
	if f.Unit != 0 {
		n += 8
	}
	return n
}

// appendMessage appends the input of the HMAC.
func (t *Tickets) appendMessage(m []byte, tenant int64, content []byte, bound []string) []byte {
	m = binary.BigEndian.AppendUint64(appendLength(m, 8), uint64(tenant))
	if !t.format.BoundFirst {
		m = append(appendLength(m, len(content)), content...)
	}
	for _, text := range bound {
		m = append(appendLength(m, len(text)), text...)
	}
	if t.format.BoundFirst {
		m = append(appendLength(m, len(content)), content...)
	}
	return m
}
