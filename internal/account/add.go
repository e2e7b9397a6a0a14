package account

import (
	"dialtone/internal/i18n"
)

// NewAccount is an account that an operator adds.
type NewAccount struct {
	User, Name, Email string
	// Role is the role, or empty for Guest. Lang is the language for messages, or empty for English.
	Role Role
	Lang i18n.Tag
	// HA1 and HA1SHA256 are the digests of the password, as in a Form. Without HA1, a message to the address has a
	// link to set the password.
	HA1       string
	HA1SHA256 *string
	// Active says that the account is active at once. Otherwise it waits for the link in its message.
	Active bool
	// Reserved permits a reserved user name.
	Reserved bool
}
