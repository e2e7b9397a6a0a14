-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- When an account is erased whose owner has left. Until then it is held too, so programs of earlier versions
-- refuse it. Not NULL and not held means that such a program has enabled it again.
ALTER TABLE account ADD COLUMN leaving BIGINT;

-- Which second factors the account has, as a sum: 1 for an authenticator app, 2 for passkeys.
ALTER TABLE account ADD COLUMN factors BIGINT NOT NULL DEFAULT 0;

-- How often the address was changed, and for a link, how often it had been when the link was made: a link undoes only
-- later changes.
ALTER TABLE account ADD COLUMN email_n BIGINT NOT NULL DEFAULT 0;
ALTER TABLE link ADD COLUMN email_n BIGINT NOT NULL DEFAULT 0;

CREATE INDEX account_leaving ON account (leaving) WHERE leaving IS NOT NULL;

-- How a person signed in: '' for a password, 'code' for a password and a code, 'passkey'.
ALTER TABLE session ADD COLUMN how TEXT COLLATE "C" NOT NULL DEFAULT '';

-- What a message about a change says of it: which one it was, or the browser of a sign-in. The program has a
-- fixed list of these.
ALTER TABLE outbox ADD COLUMN detail TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Authenticator apps (TOTP, RFC 6238).
CREATE TABLE totp (
	account BYTEA PRIMARY KEY REFERENCES account (uid) ON DELETE CASCADE,
	sealed  BYTEA NOT NULL,   -- the secret
	made    BIGINT NOT NULL,
	since   BIGINT,          -- when the first code proved that the app has the secret; NULL before
	step    BIGINT NOT NULL  -- the newest time step whose code was used
);

-- Recovery codes, each of which takes the place of a code of the app once.
CREATE TABLE recovery_code (
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	code    BYTEA NOT NULL,   -- HMAC of the code
	PRIMARY KEY (account, code)
);

-- Passkeys (WebAuthn).
CREATE TABLE passkey (
	id      BYTEA PRIMARY KEY, -- the credential ID
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	rp      TEXT COLLATE "C" NOT NULL,    -- the RP ID that it was made for
	name    TEXT COLLATE "C" NOT NULL,    -- that the person gave it
	sealed  BYTEA NOT NULL,    -- the public key, flags and signature counter
	made    BIGINT NOT NULL,
	used    BIGINT            -- NULL before the first use
);
CREATE INDEX passkey_account ON passkey (account);

-- When phone servers last asked for an account's credential, roughly.
CREATE TABLE last_lookup (
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	server  TEXT COLLATE "C" NOT NULL,   -- its name in phone_server
	how     TEXT COLLATE "C" NOT NULL,   -- the format that it asked for
	at      BIGINT NOT NULL,
	PRIMARY KEY (account, server, how)
);

-- Browsers and networks that signed in without a device token.
CREATE TABLE known_browser (
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	net     TEXT COLLATE "C" NOT NULL,
	browser TEXT COLLATE "C" NOT NULL,
	until   BIGINT NOT NULL, -- until when it is remembered
	PRIMARY KEY (account, net, browser)
);
CREATE INDEX known_browser_until ON known_browser (until);
