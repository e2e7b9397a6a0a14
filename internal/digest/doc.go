// Package digest is HTTP Digest access authentication (RFC 7616) as SIP (RFC 3261 §22, RFC 8760) and TURN (RFC 8489) share
// it: the hashes of a password that a phone server keeps, the challenge, and the proof that answers it.
//
// # The hashes
//
//	HA1         MD5(user:realm:password)             H(A1) of RFC 7616 §3.4.2; the long-term key of RFC 8489 §9.2.2
//	HA1B        MD5(user@realm:realm:password)       for phones that send user@domain as the digest user name
//	HA1-SHA-256 SHA-256(user:realm:password)         RFC 7616, RFC 8760
//
// Whoever holds one of them can sign in with it: each is the password that it stands for. So none of the types here prints.
// MD5 is what the platforms' phones speak; it is a fast hash, and an honest weakness. It is met by refusing common
// passwords, by sealing the hashes at rest, and by never sending them again after signup.
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
// Only qop=auth is spoken, and no -sess algorithm: one documented way in.
//
// # Nonces
//
// A nonce is good for one use and a short time, and nothing is stored when it is given out. It is a serial number with an
// authentication code; a ring of bits, one for each number, says which are spent. So a flood of challenges costs no memory,
// and a replayed answer meets a bit that is set. The codes' key is made at start: a restart makes earlier nonces stale,
// which costs a client one more round and a replayer the attack.
package digest
