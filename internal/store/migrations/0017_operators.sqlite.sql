-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- The network that the signup came from, IPv4 /24 or IPv6 /48, or '' if it is not known.
ALTER TABLE account ADD COLUMN signup_net TEXT NOT NULL DEFAULT '';

-- When the person first signed in. NULL means not yet, and 0 that it is not known: accounts of earlier versions.
ALTER TABLE account ADD COLUMN first_signin BIGINT DEFAULT 0;

-- What an operator sets for the whole installation. A value that is missing has its default.
CREATE TABLE platform (
	name  TEXT PRIMARY KEY,
	value TEXT NOT NULL
) WITHOUT ROWID;

-- The network and the id of the request that made a change, or ''.
ALTER TABLE audit ADD COLUMN net TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN request TEXT NOT NULL DEFAULT '';

-- Proof that nobody has changed the audit trail: each row covers the changes after those of the row before it, and
-- its MAC covers them and the MAC of that row. first is the id of the first change that it covers, and through that
-- of the last one; a row that covers none has first = through + 1.
CREATE TABLE audit_checkpoint (
	id      BIGINT PRIMARY KEY,
	at      BIGINT NOT NULL,
	node    TEXT NOT NULL, -- the server that wrote it
	first   BIGINT NOT NULL,
	through BIGINT NOT NULL,
	changes BIGINT NOT NULL, -- how many it covers
	seal    TEXT NOT NULL, -- the id of the seal key that the MAC's key is derived from
	mac     BLOB NOT NULL
);

-- Tokens for programs that use the API for operators.
CREATE TABLE api_token (
	id      TEXT PRIMARY KEY,
	name    TEXT NOT NULL UNIQUE,
	hash    BLOB NOT NULL UNIQUE, -- SHA-256 of the token
	tenant  BIGINT REFERENCES tenant (id) ON DELETE CASCADE, -- NULL for all tenants
	scopes  TEXT NOT NULL, -- words with spaces between them
	made    BIGINT NOT NULL,
	made_by TEXT NOT NULL,
	expires BIGINT, -- NULL for never
	used    BIGINT  -- roughly; NULL before the first use
) WITHOUT ROWID;

-- Answers to requests of the API that may be sent again.
CREATE TABLE idempotency (
	token   TEXT NOT NULL REFERENCES api_token (id) ON DELETE CASCADE,
	key     TEXT NOT NULL,
	request BLOB NOT NULL, -- SHA-256 of the request
	status  BIGINT NOT NULL, -- 0 while the first request has no answer yet
	body    BLOB NOT NULL,
	until   BIGINT NOT NULL,
	PRIMARY KEY (token, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_until ON idempotency (until);

-- Changes of many accounts at once. A server works on one at a time, which it claims with a lease.
CREATE TABLE bulk (
	id         BLOB PRIMARY KEY,
	tenant     BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
	action     TEXT NOT NULL,
	query      TEXT NOT NULL, -- JSON: which accounts
	through    BLOB NOT NULL, -- uid: later accounts do not belong to it
	state      TEXT NOT NULL,
	position   BLOB NOT NULL, -- uid: up to which accounts were looked at
	found      BIGINT NOT NULL, -- how many accounts were counted
	done       BIGINT NOT NULL, -- how many accounts were changed
	made       BIGINT NOT NULL,
	changed    BIGINT NOT NULL, -- when one of these columns last changed
	lease      BIGINT NOT NULL, -- until when a server works on it
	actor_kind TEXT NOT NULL,
	actor      TEXT NOT NULL,
	actor_id   TEXT NOT NULL,
	sudo_user  TEXT NOT NULL,
	reason     TEXT NOT NULL,
	net        TEXT NOT NULL,
	request    TEXT NOT NULL,
	failure    TEXT NOT NULL  -- why it ended early, or ''
) WITHOUT ROWID;
CREATE INDEX bulk_state ON bulk (state, made);
CREATE INDEX bulk_tenant ON bulk (tenant, made);

-- What happened at a tenant on a day (UTC), counted by the servers.
CREATE TABLE daily (
	tenant BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
	day    BIGINT NOT NULL, -- days since 1970-01-01
	kind   TEXT NOT NULL,
	n      BIGINT NOT NULL,
	PRIMARY KEY (tenant, day, kind)
) WITHOUT ROWID;

-- Which events a hook is notified of: words with spaces between them, or '' for those that phone servers need.
ALTER TABLE hook ADD COLUMN events TEXT NOT NULL DEFAULT '';

-- The messages that were not sent, which are few among those that were.
CREATE INDEX delivery_unsent ON delivery (state, since) WHERE state IN ('waiting', 'deferred', 'failed');
