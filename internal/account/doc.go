// Package account is the life of an account: signup, activation, and what operators and owners do with an account.
//
//	    7 days without the link, or declined
//	   +------------------------------------> gone, name free
//	   |
//	waiting --link or operator--> active
//	   |  ^                         |  ^
//	   +--+------ operator ---------+--+
//	   v                            v
//	disabled, and the link does     disabled
//	not activate the account
//
//	Enabling an account returns it to the state that it had before: waiting or active.
//
//	active --its owner leaves--> leaving --after 7 days--> closed
//	   ^                            |
//	   +--link for that, operator---+
//
//	An operator can disable an account that is leaving. It is still erased, unless an operator
//	enables it.
//
//	active, disabled or leaving --delete--> closed: the row only keeps the name, so that nobody gets it again,
//	                               until an operator frees the name
//
// # Guarantees
//
// A signup is one store transaction and one message file. When Signup returns without an error,
// both exist and survive a crash; when it fails, neither does. The same holds for a new link. A
// form that is sent again because its answer was lost is recognized by its user name, address
// and HA1. If it also has the captcha that the account was made with, other people's wrong
// passwords do not prevent that.
//
// # Signing up
//
//  1. All rules that need no store are checked.
//  2. The message is staged: written to the pickup directory under a name that no mail server
//     takes. A failure of that directory is found here, while there is nothing to undo.
//  3. One transaction takes the places under the limits, spends the captcha, and adds the account
//     and the outbox entry. It is durable when it returns.
//  4. The message is published under its final name. If that fails, step 3 is undone.
//  5. The signup is answered.
//
// Package outbox makes messages durable without one sync per message.
//
// # A new link
//
// A person who has proved the password of a pending account can ask for a new link, and correct
// the address that it goes to. Its message is staged, committed and published like that of a
// signup, with an outbox entry of its own. The commit invalidates the older link, which is
// remembered until the account expires, so that a person who opens it learns why. They learn
// nothing about the account, since the first address may have been somebody else's. The older
// outbox entry stays until the new message is on disk or withdrawn, so that undoing the new link
// restores everything as it was.
//
// # A stolen message
//
// A person who can read an activation message has its token, and no password. With the token they can
// activate the account, which is useless without the password. They can neither sign in nor confirm the
// account; at a tenant that requires the password too, they cannot even activate it. While the account is
// pending, they can remove it (DeclineStore), since the owner of an address who did not sign up can do
// that. Then the tenant sends no other activation message to the address for 24 hours, so the owner has to
// wait, or use another address. They learn the user name, from the page behind the activation link. Once
// the account is active, the token has only one use: wrong passwords sent with it are counted for the
// token instead of the user name.
//
// An older message can remove the account only if it went to the address that the account has now. The
// first message of a person who mistyped the address went to a stranger, who must not be able to remove
// the account after the address was corrected. When the address changes, the recorded addresses of
// older links are dropped, and they stay dropped if the address is changed back later.
//
// # Confirmation
//
// An opened link proves little: mail scanners open links, and a mistyped address has an owner too.
// So being confirmed is separate from being active: an account is confirmed once somebody had both
// the newest link and the password. A link alone does not confirm it, and neither does an
// operator. A tenant can require both for activation (tenant.ActivationConfirm); then a link alone
// only leads to the form for the password. At other tenants a browser that has opened the link
// sends its token when its owner signs in. Confirming activates a pending account, can be
// repeated, and starts no session.
//
// # A new password
//
// A person who has proved the present password can set another one. One transaction stores the new
// credential, ends all sessions and device tokens, and adds the notifications of phone servers, the
// row of the audit trail and the message to the owner. Nothing is staged, and nothing needs to be undone: the
// message is written after the commit, from the outbox entry (docs/decisions/0042). Of concurrent changes
// that prove the same password, one succeeds: Account.Passwords tells which password was proved.
//
// Somebody who has learned the password can change it. The message tells the owner, and has a
// link for that case. A session cookie is not enough to change it, and neither is a copy of the
// database. A copy of the database together with the key file is enough, since it reveals every
// HA1 (see Credentials).
//
// # A forgotten password
//
// A request by somebody who forgot a password adds a row to the store, whatever text they
// entered. A worker looks for the account later, so that neither the answer nor its timing
// reveals whether there is one. The message goes to the address of the account, never to the
// entered text. Its link works once, for an hour, for any active account of that address, until
// one of their passwords is changed. It proves the mailbox, so it confirms the account. Opening
// it changes nothing, since mail scanners open links.
//
// Somebody with a stolen reset message can set the password only within that hour. They cannot do it unnoticed: the
// owner gets a message about the change, whose link ends all sessions and makes another reset link. The second link
// works for 7 days, however often the password is changed in the meantime. So with both messages stolen, or the
// mailbox itself, the account is lost until an operator sets another address. The link of the second message alone
// gives a reset link too, as does the link of a message about a new browser or wrong codes: these messages are as
// valuable as a reset message. No link works on a disabled account, at another tenant, or twice. The store contains
// only the hashes of their tokens; the outbox contains the tokens, sealed, until the files of the messages are on
// disk.
//
// An operator can make a reset link without a message. It is for one account, and does not
// confirm it. The same holds for the reset link that NotMe makes. Such a link is not ended by a
// change with proof of the password, which an attacker may know, but by the next reset.
//
// Until the owner has set another password, an attacker who knows the present one can sign in
// with it, even after the owner has ended all sessions.
//
// Somebody who can write to the database, without any key, can have a reset link sent to
// another address, or add a row for a link, and so take over an account: addresses and links
// are not bound to the account by a key, unlike credentials.
//
// # Leaving
//
// A person who has proved the password can leave. The account is then held. So whatever refuses
// a disabled account refuses it too, even in earlier versions of the program: sign-ins,
// look-ups by phone servers, exports, links. Its sessions end. 7 days later, plus a day in case
// the clock is ahead, Sweep erases the account as Delete does. The name stays taken, so that
// nobody else gets its calls.
//
// Somebody who has learned the password can leave in the name of the owner, and so can somebody who finds a page where
// the password is filled in. The message about it has a link with which the owner stays, for the 7 days. It only makes
// the account active again: somebody with a stolen message about leaving can do no more than that, and cannot sign in.
// The links of messages about other changes ("this was not me") first make the account active again, too. Otherwise
// an attacker could change the address, and the message about leaving would not reach the owner. Setting a new
// password by a reset link ends the leave in the same transaction, and leaving ends no reset links: otherwise
// somebody who knows the password could leave again and again, faster than the owner can stay and choose another
// one. None of them works on an account that an operator has disabled, at another tenant, twice, or after the
// account was erased.
//
// # Taking the data along
//
// A session, or a proof of the password, gives access to everything that is stored about the person (Data), without
// credentials, tokens and links. So somebody with a stolen cookie learns the name, the address, the networks of
// sessions and which phones were used, as they do from the pages.
//
// # Passkeys
//
// Somebody who has proved the password can add passkeys, up to MaxPasskeys, and sign in with them on the web
// (package session). One transaction adds or removes a passkey, updates the account's Factors, and adds the
// row of the audit trail and the message to the owner. The link of any message about a change removes the
// second factors that were added since the change, and sets the address back.
//
// The credential of a passkey is sealed, bound to the tenant, the account's UID, the RP ID and the credential
// ID. With a copy of the database, with or without the key file, nobody can sign in with a passkey: it has
// public keys only. Somebody who can write to the database can neither add a passkey nor give one to another
// account, but can remove one, restore one that was removed, or set its counter back. With the key file too,
// they can add one.
//
// Somebody with the password can add a passkey of their own, and keeps it when the password is changed. The
// message tells the owner, whose "this was not me" removes it, and the list of passkeys shows it.
//
// # Another address
//
// A person who has proved the password can have a message sent to another address, whose link makes it the
// address of the account (ProfileStore). Opening the link proves control of that mailbox, so it confirms the
// account. The link ends with every change of the password or of the address. The message to the previous
// address has a link that sets it back, ends all sessions, and makes a reset link. It works for 7 days,
// through any number of later changes, and ends the links that went to addresses which the account got later:
// of several people who say that they did not change the address, the one whose address the account had first
// is right.
//
// So somebody who has learned the password can move the account to a mailbox of their own. The owner learns of it
// from the message to the previous address, and has those 7 days. Uses of links that were sent to the later
// mailbox have a limit of their own, and end no older link that was made without a message (package throttle).
// After those days, or if the attacker also controls the mailbox of the previous address, only an operator can
// help (Service.ReplaceEmail). Somebody with a stolen message to the new address can only do what its owner asked
// for. Somebody with a stolen message to the previous address can take the account over, as with a stolen reset
// message.
//
// Neither the answer nor its timing reveals whether another account has the address. An address
// whose owner has declined an account within 24 hours gets no message, and the answer does not
// reveal that either.
//
// The display name and the language need no proof of the password: a session is enough. Somebody with a stolen
// cookie can change both, which other people may see in a call, and nothing else of the account.
//
// # Accounts of other platforms
//
// An Import adds accounts with their hashes from another platform. Their passwords are not checked. They can lack
// an address: then they get no messages about changes, and nobody can request a link for a forgotten password.
// Anyone who knows the password can add an address, and so take over such an account unnoticed, as with an
// account whose mailbox is dead.
//
// # Credentials
//
// What a browser sends is password-equivalent (package digest). It is sealed before it reaches the
// store, bound to the tenant, the account's UID and its user name, under a key that is not in the
// store. Names and addresses are checked as the bytes that were received: a user name is part of its
// HA1, so it is never folded or trimmed. Passwords are normalized neither by the page nor by the
// server (docs/decisions/0041).
package account
