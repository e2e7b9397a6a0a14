// Package secret makes keys and uses them: for message authentication codes, signed tickets, sealed
// values and one-time tokens.
//
// # Guarantees
//
// Keys and tokens print as [secret] in every fmt verb, in log/slog and in JSON. Codes are compared
// in constant time. A value made for one purpose is not valid for another: each purpose has its
// own key, derived by HKDF-SHA-256 (RFC 5869).
//
// # Keys
//
// An installation has three rings of keys, each in a file (package keyfile) separate from the
// database, so that a stolen copy of one is useless without the other:
//
//	sign.key  signs tokens that clients send back: captchas, sessions, links. A rotation keeps
//	          older keys for as long as these tokens are valid, so open forms still work.
//	turn.key  is shared with TURN servers. It is created when it is first needed, and
//	          a new key is not used until the servers know it.
//	seal.key  seals values in the store: credentials, pending activation links and others. Every key that
//	          ever sealed a value is kept.
//
// Each line of a file is one key, newest first:
//
//	v1 <created, Unix seconds> <32 bytes as hex>
//
// In seal.key, v2 instead of v1 says that the key is strict: it opens no value of an older form
// (Vault.OpenOld). This mark is in the key file, and not in the store, because it protects
// against somebody who can write to the store.
//
// A key's ID is also derived from the key, so an ID in the store proves that the store was sealed with this key
// file.
//
// # What it is not
//
// The package reads no files, and does not protect the memory of the process.
package secret
