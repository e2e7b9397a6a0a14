// Package sipserver decides which phone servers may look up accounts, and what they get.
//
// A phone server is a SIP server such as Kamailio, or any other program that checks a phone's
// response to its own Digest challenge and needs the account's HA1 for that.
//
// # Who may ask
//
// A Server is a program that an operator has given a token. The token identifies the server and
// is valid only for the tenants that were specified with it. It has 256 random bits and is
// shown once; the store keeps its SHA-256.
//
// A Registry holds the servers in memory. Checking a token takes no lock and no query. Commands add
// and remove servers in the store, and the program refreshes the Registry several times a second,
// so that a removed token is refused within a second.
//
// # What they get
//
// An HA1 is password-equivalent, and phone servers have no field for a disabled account. So
// only active accounts are found: activated, not disabled, not deleted. Every other case gives
// the same error, ErrNoAccount, at the cost of one look-up: an unknown name, an account that is
// not activated or is disabled, a realm that does not exist or that the server may not ask
// about, a hash that the account does not have.
//
// A store that cannot be reached is a different error. A phone server that took it for ErrNoAccount
// would tell every phone that its password is wrong.
//
// A phone sends its user name as alice or as alice@realm, and the name is part of the hash.
// Both forms are supported, each with its own hash; for the second form there is only an MD5
// hash. Like SIP servers, a Registry compares realms ignoring the case of ASCII letters. User
// names are compared byte by byte.
//
// # Cache
//
// Active accounts that were looked up are cached, sealed, for at most a second. A look-up sees
// every change that this process has answered, and changes of other processes within a second.
//
// # Look-ups of an account
//
// A Registry records when each server last got the credential of each account, and in which
// form, so that a person sees whether a phone uses the account. The times are approximate: a
// process records the same look-up at most once per LookupInterval, in the background, and a
// crash loses the last ones. Look-ups that the cache answers count too. A look-up means that
// somebody tried to use the account. It does not mean that the password was right, which only
// the phone server knows. Phone servers that read exported tables or files are not recorded.
//
// The protocols of look-ups are in package http/lookup.
package sipserver
