-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- What a message is about, where it goes, until when its link counts, and the network that a change came from. The defaults are
-- those of an activation message: it goes to the account's address, and its link counts until the account expires.
ALTER TABLE outbox ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN address TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN net TEXT COLLATE "C" NOT NULL DEFAULT '';

-- How often the password was changed, and when last.
ALTER TABLE account ADD COLUMN password_n BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN password_at BIGINT;

-- Links in messages other than activation messages.
CREATE TABLE link (
	token   BYTEA PRIMARY KEY, -- SHA-256 of the token
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	kind    TEXT COLLATE "C" NOT NULL,
	email   TEXT COLLATE "C" NOT NULL,    -- where the message went
	made    BIGINT NOT NULL,
	until   BIGINT NOT NULL
);
CREATE INDEX link_account ON link (account, kind);
CREATE INDEX link_until ON link (until);

-- People who wrote that they forgot the password, until a server has looked for their accounts.
CREATE TABLE forgotten (
	id     BYTEA PRIMARY KEY,
	tenant BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
	who    BYTEA NOT NULL, -- a user name or an address, as they wrote it, sealed
	net    TEXT COLLATE "C" NOT NULL,
	at     BIGINT NOT NULL
);

-- Sessions that may not have ended, as far as they are known: the token of a session says by itself whether it counts.
CREATE TABLE session (
	id      BYTEA NOT NULL,  -- of the token, which needs the signing key too
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	epoch   BIGINT NOT NULL,  -- of the account when the session began
	began   BIGINT NOT NULL,
	seen    BIGINT NOT NULL,
	until   BIGINT NOT NULL,
	net     TEXT COLLATE "C" NOT NULL,    -- the prefix of the address
	browser TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (account, id)
);
CREATE INDEX session_until ON session (until);

-- To find accounts by their address.
CREATE INDEX account_email ON account (tenant, lower(email)) WHERE closed IS NULL;
