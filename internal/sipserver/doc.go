// Package phone is what phone servers may know of accounts: the SIP, TURN and other servers of a platform, which check a phone's
// answer to their own Digest challenge and need the account's HA1 for that.
//
// # Who may ask
//
// A Server is a program that an operator has given a token. The token stands for the server alone, and is good for the tenants
// that were named with it and for no others. It has 256 random bits, is shown once, and only its SHA-256 is kept.
//
// Servers lie in the store, where a command adds and removes them while servers of accounts run. Those look tokens up in a
// Directory: a table in memory, read without a lock and renewed when the store's count of changes has moved, so that asking writes
// nothing and costs no look-up of its own. A token that was removed is refused as soon as the table is renewed, which the program
// does several times a second.
//
// # What they are told
//
// An HA1 is the password itself to whoever holds it, and the servers have no field for "disabled". So an account is told of only
// while it is active: activated, not held by an operator, not deleted. All else is one refusal, at the cost of one look-up: an
// unknown name, an account that waits for its link or is held, a realm of nobody or of a tenant that the server may not ask about,
// a hash that the account does not have. What is no answer at all, such as a store that cannot be reached, is another error: a
// phone server that took it for the refusal would tell every phone that its password is wrong.
//
// A phone sends its user name as alice or as alice@realm, and the name is part of the hash. Both are found, each with the hash that
// was made with it; for the latter there is an MD5 one only. The realm is compared as SIP servers do, with ASCII letters in any
// case. User names are compared byte by byte.
package sipserver
