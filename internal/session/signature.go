package session

import (
	"time"

	"dialtone/internal/secret"
)

// Signatures sign sessions, device tokens and shared nonces under one state of the signing keys.
type Signatures struct{ session, device, nonce, challenge, addition *secret.Tickets }

// NewSignatures returns Signatures under the keys of the ring.
func NewSignatures(r *secret.Ring) *Signatures {
	return &Signatures{
		session: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "session", Version: 1, Account: true, Unit: time.Second, CodeSize: 32,
		}),
		device: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "device", Version: 1, Account: true, CodeSize: 32,
		}),
		nonce: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "sign-in nonce", Unit: time.Millisecond, CodeSize: 32,
		}),
		challenge: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "passkey challenge", Version: 1, Unit: time.Millisecond, CodeSize: 32,
		}),
		addition: secret.NewTickets(r, secret.TicketFormat{
			Purpose: "new passkey challenge", Version: 1, Account: true, Unit: time.Millisecond, CodeSize: 32,
		}),
	}
}
