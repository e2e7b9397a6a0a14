-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- The network that the signup came from, IPv4 /24 or IPv6 /48, or '' if it is not known.
ALTER TABLE account ADD COLUMN signup_net TEXT COLLATE "C" NOT NULL DEFAULT '';

-- When the person first signed in. NULL means not yet, and 0 that it is not known: accounts of earlier versions.
ALTER TABLE account ADD COLUMN first_signin BIGINT DEFAULT 0;

-- What an operator sets for the whole installation. A value that is missing has its default.
CREATE TABLE platform (
	name  TEXT COLLATE "C" PRIMARY KEY,
	value TEXT COLLATE "C" NOT NULL
);

-- The network and the id of the request that made a change, or ''.
ALTER TABLE audit ADD COLUMN net TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN request TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Proof that nobody has changed the audit trail: each row covers the changes after those of the row before it, and
-- its MAC covers them and the MAC of that row. first is the id of the first change that it covers, and through that
-- of the last one; a row that covers none has first = through + 1.
CREATE TABLE audit_checkpoint (
	id      BIGINT PRIMARY KEY,
	at      BIGINT NOT NULL,
	node    TEXT COLLATE "C" NOT NULL, -- the server that wrote it
	first   BIGINT NOT NULL,
	through BIGINT NOT NULL,
	changes BIGINT NOT NULL, -- how many it covers
	seal    TEXT COLLATE "C" NOT NULL, -- the id of the seal key that the MAC's key is derived from
	mac     BYTEA NOT NULL
);

-- Tokens for programs that use the API for operators.
CREATE TABLE api_token (
	id      TEXT COLLATE "C" PRIMARY KEY,
	name    TEXT COLLATE "C" NOT NULL UNIQUE,
	hash    BYTEA NOT NULL UNIQUE, -- SHA-256 of the token
	tenant  BIGINT REFERENCES tenant (id) ON DELETE CASCADE, -- NULL for all tenants
	scopes  TEXT COLLATE "C" NOT NULL, -- words with spaces between them
	made    BIGINT NOT NULL,
	made_by TEXT COLLATE "C" NOT NULL,
	expires BIGINT, -- NULL for never
	used    BIGINT  -- roughly; NULL before the first use
);

-- Answers to requests of the API that may be sent again.
CREATE TABLE idempotency (
	token   TEXT COLLATE "C" NOT NULL REFERENCES api_token (id) ON DELETE CASCADE,
	key     TEXT COLLATE "C" NOT NULL,
	request BYTEA NOT NULL, -- SHA-256 of the request
	status  BIGINT NOT NULL, -- 0 while the first request has no answer yet
	body    BYTEA NOT NULL,
	until   BIGINT NOT NULL,
	PRIMARY KEY (token, key)
);
CREATE INDEX idempotency_until ON idempotency (until);

-- Changes of many accounts at once. A server works on one at a time, which it claims with a lease.
CREATE TABLE bulk (
	id         BYTEA PRIMARY KEY,
	tenant     BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
	action     TEXT COLLATE "C" NOT NULL,
	query      TEXT COLLATE "C" NOT NULL, -- JSON: which accounts
	through    BYTEA NOT NULL, -- uid: later accounts do not belong to it
	state      TEXT COLLATE "C" NOT NULL,
	position   BYTEA NOT NULL, -- uid: up to which accounts were looked at
	found      BIGINT NOT NULL, -- how many accounts were counted
	done       BIGINT NOT NULL, -- how many accounts were changed
	made       BIGINT NOT NULL,
	changed    BIGINT NOT NULL, -- when one of these columns last changed
	lease      BIGINT NOT NULL, -- until when a server works on it
	actor_kind TEXT COLLATE "C" NOT NULL,
	actor      TEXT COLLATE "C" NOT NULL,
	actor_id   TEXT COLLATE "C" NOT NULL,
	sudo_user  TEXT COLLATE "C" NOT NULL,
	reason     TEXT COLLATE "C" NOT NULL,
	net        TEXT COLLATE "C" NOT NULL,
	request    TEXT COLLATE "C" NOT NULL,
	failure    TEXT COLLATE "C" NOT NULL  -- why it ended early, or ''
);
CREATE INDEX bulk_state ON bulk (state, made);
CREATE INDEX bulk_tenant ON bulk (tenant, made);

-- What happened at a tenant on a day (UTC), counted by the servers.
CREATE TABLE daily (
	tenant BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
	day    BIGINT NOT NULL, -- days since 1970-01-01
	kind   TEXT COLLATE "C" NOT NULL,
	n      BIGINT NOT NULL,
	PRIMARY KEY (tenant, day, kind)
);

-- Which events a hook is notified of: words with spaces between them, or '' for those that phone servers need.
ALTER TABLE hook ADD COLUMN events TEXT COLLATE "C" NOT NULL DEFAULT '';

-- The messages that were not sent, which are few among those that were.
CREATE INDEX delivery_unsent ON delivery (state, since) WHERE state IN ('waiting', 'deferred', 'failed');
