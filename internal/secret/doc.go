// Package secret makes keys and uses them: for message authentication codes, signed tickets, sealed
// values and one-time tokens.
//
// # Guarantees
//
// Keys and tokens print as [secret] in every fmt verb, in log/slog and in JSON. Codes are compared
// in constant time. A value made for one purpose proves nothing for another: each purpose has a key
// of its own, derived by HKDF-SHA-256 (RFC 5869).
//
// # Keys
//
// An installation has three rings of keys, each in a file (package keyfile) apart from the
// database, so that a stolen copy of one is useless without the other:
//
//	sign.key  signs what is handed out and comes back: captchas, sessions, links. A rotation keeps
//	          older keys for as long as what they signed is valid, so open forms still work.
//	turn.key  is what TURN servers share with the platform. It is made when it is first needed, and
//	          a new key signs nothing until the servers know it.
//	seal.key  seals what is in the store: credentials and pending activation links. Every key that
//	          ever sealed a value is kept.
//
// Each line of a file is one key, newest first:
//
//	v1 <created, Unix seconds> <32 bytes as hex>
//
// In seal.key, v2 instead of v1 says that the key is strict: it opens no value of an older form
// (Vault.OpenOld). The mark is beside the key, and not in the store, because it protects against
// those who can write to the store.
//
// A key's ID is derived from the key too, so an ID in the store proves that the key file is the one
// that the store was sealed with.
//
// # What it is not
//
// The package reads no files, and does not protect the memory of the process.
package secret
