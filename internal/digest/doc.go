// Package digest implements HTTP Digest access authentication (RFC 7616) as SIP (RFC 3261 section
// 22, RFC 8760) and TURN (RFC 8489) share it: the hashes of a password, the challenge, and the
// proof that answers it.
//
// # The hashes
//
//	HA1         MD5(user:realm:password)         H(A1), RFC 7616 section 3.4.2; also the key of RFC 8489 section 9.2.2
//	HA1B        MD5(user@realm:realm:password)   for phones that send user@domain as the digest user name
//	HA1-SHA-256 SHA-256(user:realm:password)     RFC 7616, RFC 8760
//
// Each of them is password-equivalent: somebody who has it can sign in. So none of the types prints. The
// platforms' phones use MD5, which is a fast hash and a weakness. We refuse weak passwords, seal the
// hashes at rest, and never send them again after signup.
//
// # The exchange
//
//	client                              server
//	  | GET /signin.ashx                   |
//	  |----------------------------------->|
//	  | 401 WWW-Authenticate: Digest nonce |
//	  |<-----------------------------------|
//	  | GET /signin.ashx                   |  response = H(HA1:nonce:nc:cnonce:qop:H(method:uri))
//	  | Authorization: Digest response     |
//	  |----------------------------------->|  the same from the stored HA1, compared in constant time
//	  | 200                                |
//	  |<-----------------------------------|
//
// Only qop=auth is supported, and no -sess algorithm.
//
// # Nonces
//
// A nonce is valid once and for a short time, and nothing is stored when it is issued. It contains
// a serial number under an authentication code, and a ring with one bit per number records which
// were spent. So a flood of challenges costs no memory, and a replayed answer is recognized by its
// bit. The key is random and lives in memory: after a restart, earlier nonces are stale, which
// costs a client one more exchange.
package digest
