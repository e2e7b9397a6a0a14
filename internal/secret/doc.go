// Package secret makes, keeps and uses the keys of an installation, and hands out what is derived from them: message
// authentication codes, sealed values and one-time tokens.
//
// # Keys
//
// An installation has its keys in files apart from the database, so that a stolen copy of one is worth nothing without the
// other:
//
//	sign.key  what is handed out and comes back: captcha tokens, session cookies. Rotating it keeps the present key as
//	          the previous one, so that a form that was open during one rotation still works; after two it does not.
//	turn.key  what TURN servers share with the platform; made when it is first asked for. A new one signs nothing until the
//	          servers know it.
//	seal.key  what lies in the store: credentials, waiting activation links. Every key that ever sealed a value stays.
//
// A file is made on first start, with mode 0600 and durable before it is used; there is no default key. A file that
// others may read, that is too short or that does not parse is refused, and never overwritten. Each line is one key, newest
// first:
//
//	v1 <created, Unix seconds> <32 bytes as hex>
//
// No key is used by itself: each purpose has its own, derived by HKDF-SHA-256 (RFC 5869) with the purpose as info, so that
// a token made for one purpose proves nothing for another. A key's id is derived from the key too: an id in the store
// therefore proves that the key file is the one that the store was sealed with.
//
// # Promises
//
// The types of this package that hold secrets print as [secret] in every fmt verb and in slog, marshal to JSON as the same
// word, and compare in constant time.
package secret
