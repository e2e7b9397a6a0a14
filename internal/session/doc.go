// Package session implements signing in, and knows who is signed in and for how long.
//
// # Authentication
//
// A person proves the password in the Digest exchange of package digest. Neither the password nor
// its hash is sent. A wrong password, an unknown name and an account that an operator disabled get
// the same answer after the same work: for an unknown name, the store reads the row of another
// account, and a decoy is unsealed and checked. The remaining difference is a fraction of a
// microsecond (BenchmarkUnknownName). A person is told that the account is not activated yet, or
// that its owner has left, only after the right proof. Authenticate is the only implementation of
// this, for signing in, for a new activation message and for confirming a link.
//
// Wrong proofs are counted by name, known or not, and by address. Once a limit is reached, further
// attempts have to wait. The limits are exact on one server, even for concurrent attempts; several
// servers count separately. Nobody must be able to lock out the owner of an account by guessing
// passwords for the name, or by abusing an address that the owner shares. So a browser that signed
// up, confirmed a link, signed in or set a new password gets a device token. Attempts with a
// device token or with the newest link of a pending account are counted only by that token. A new
// password ends the earlier device tokens of the account.
//
// A person can also sign in with a passkey. The browser gets options with a challenge, and the authenticator
// signs it with the key of the passkey. The challenge is a ticket of package secret with ChallengeLife, which is
// spent by the first response with it. An unknown passkey, a wrong signature and a disabled account get the same
// answer. Wrong responses are counted only by address, or by the device token: nobody can guess a signature, and
// a name or an ID that anybody can send must not lock its owner out. Options for a new passkey need the
// password. Their challenge names the account and its epoch, so they end with its sessions.
//
// # The second step
//
// An account with an authenticator app also needs a code: one from the app, or a recovery code.
// Authenticate asks for it only after the right password, for every action. A code works once,
// across all servers. Wrong codes are limited per account, no matter which token comes with
// them.
//
// A platform can require a second factor for some accounts. If such an account has none yet, a
// session or a proof only permits setting one up. A session is valid only if it began with a
// code or a passkey. If the account has a passkey and no app, its password is accepted only
// together with such a session.
//
// # Sessions
//
// A session is a signed token in a cookie. It is valid without a row in a table, so signing in does not
// wait for a durable write. It is valid for at most Life, for Idle after its last use, not before it was
// issued, and only while the account's epoch is the one it was issued under: disabling or deleting an
// account and changing its password end its sessions with the next request, on every server. The browser
// that changed the password gets a new session. Signing out revokes one session, by its ID, in the
// store; after a number of revocations within a day, it raises the epoch instead, which needs no row.
// Reading a session also opens the account's credential: if somebody has put another user name into the
// row, it does not open, and the session does not become that of another person.
//
// The token is a ticket of package secret:
//
//	version (1 byte) ‖ ID (16) ‖ account (16) ‖ epoch (8) ‖ Unix seconds of issue (8) ‖ HMAC (32)
//
// The HMAC also covers the tenant. The ID alone is not a token, so the store, the API and the
// page can identify a session by it. A device token is a ticket without a time, whose epoch is
// the number of password changes.
//
// # The list
//
// A recorder writes beginnings and uses of sessions to the store, in the background and in
// transactions of bounded size. The records help people to recognize a session, and are used
// for the idle limit. Until a session is recorded, or if that fails, it is still valid, but not
// listed, and its last use is assumed to be when it was issued. A use is recorded at most once
// per seenInterval.
//
// # New browsers
//
// The transaction that records a session which began without a device token also decides whether the
// account was used with this browser before, and adds a message to its owner if not (NewBrowser).
// The answer to the sign-in does not wait for that.
//
// # What an attacker can do
//
// With a stolen cookie, an attacker can use the account's pages, change the display name and the
// language, see the list and end sessions, until the session ends. The attacker cannot learn the password.
// They cannot change it or the address, since each change needs a proof of the present password, and can
// register a phone only by a link of the page that sets one up. They cannot make the session last longer
// than Life after the sign-in. The session ends at once if the owner ends all other sessions or sets a new
// password, or if an operator disables the account. The owner sees it in the list once it is used from
// another network or browser for more than seenInterval. No message is sent about that, since nobody has
// signed in.
//
// With the password, an attacker can sign in. The owner gets a message about it, with a link that ends all
// sessions, unless the attacker has a device token of the owner as well, or uses a known kind of browser in
// a known network. Neither signing out nor ending other sessions prevents the message.
//
// A passkey cannot be phished: a browser uses it only at the host name of the tenant, and the
// response names the origin of the page. A captured response cannot be replayed. Somebody who
// gets a synchronized passkey, through the owner's account at the provider, can sign in until
// the owner removes it. A copy of a passkey with a counter is detected when both copies have
// been used.
//
// With a stolen device token, an attacker gets further attempts at guessing, and a sign-in with
// the password causes no message. The token gives nothing else. A captured proof cannot be
// replayed, because its nonce is spent. It permits guessing the password offline, which is one
// more reason for TLS.
//
// With the password but without a code, an attacker can neither sign in to an account with an
// authenticator app nor change its password or anything else. The attacker can register a phone, since
// SIP has no second step, learns that the account has an app, and can lock out the owner with wrong
// codes, until the owner sets another password by mail or, after many wrong codes, for a day. Neither
// a reset by mail nor the link of its message removes the app, so somebody with the mailbox also needs
// a code for the website, but not for phones. Without an app, the attacker can do everything that the
// owner can, and add an app of their own: the message about that has a link that removes it.
//
// With a copy of the database, nobody can make a token or a cookie: the database contains IDs,
// but no signing key. It shows when and from which network and kind of browser each account was
// used. Somebody who can write to the database can end sessions, hide them from the list, and
// lift revocations and the idle limit of stolen tokens, but cannot make tokens. They can set an
// epoch back, remove an authenticator app, and make a used code valid again. The secret of an
// app is sealed, and recovery codes are hashed under a key that is not in the database.
//
// With the signing key and a copy of the database, which contains the UIDs and epochs, anybody
// can make sessions of every account, and add passkeys without the password. The owner gets a
// message about a passkey. Rotate the keys with --revoke, which ends all sessions.
//
// In the browser of the owner, a script on a page of the site cannot read the cookie, but can use the
// session. Somebody with physical access to the browser can do what the cookie permits.
package session
