package fault

import "time"

// ErrInDoubt means that a store lost its database during a commit and cannot say in time whether
// the transaction happened.
var ErrInDoubt = &Error{
	Kind: Overloaded, RetryAfter: 5 * time.Second,
	Message: "we lost the database while saving and do not know whether it was saved; " +
		"check in a moment, and try again if it is missing",
}
