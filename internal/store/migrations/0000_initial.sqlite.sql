-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- What servers watch: n rises with every change of the subject.
CREATE TABLE revision (
	subject TEXT PRIMARY KEY,
	n       BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO revision (subject, n) VALUES ('tenant', 0);

-- The ids of the keys that values in here are sealed with: proof that a key file belongs to this store.
CREATE TABLE seal_key (
	id TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE tenant (
	id         INTEGER PRIMARY KEY AUTOINCREMENT, -- never given again: a server may not know yet that its tenant is gone
	host       TEXT NOT NULL UNIQUE,
	realm      TEXT NOT NULL,
	public_url TEXT NOT NULL,
	settings   TEXT NOT NULL, -- JSON
	created    BIGINT NOT NULL
);
-- Phone servers compare realms without case.
CREATE UNIQUE INDEX tenant_realm ON tenant (lower(realm));

CREATE TABLE account (
	uid        BLOB PRIMARY KEY,
	tenant     BIGINT NOT NULL REFERENCES tenant (id),
	username   TEXT NOT NULL,
	name       TEXT NOT NULL,
	email      TEXT NOT NULL,
	role       TEXT NOT NULL,
	held       BOOLEAN NOT NULL, -- an operator disabled it
	created    BIGINT NOT NULL,
	expires    BIGINT NOT NULL,  -- when it is gone if it is not activated
	activated  BIGINT,
	closed     BIGINT,           -- deleted after it was active: the row keeps the name from others
	epoch      BIGINT NOT NULL,
	credential BLOB NOT NULL,    -- sealed
	has_sha256 BOOLEAN NOT NULL,
	token      BLOB UNIQUE       -- SHA-256 of the activation token
) WITHOUT ROWID;
CREATE UNIQUE INDEX account_username ON account (tenant, username);
CREATE INDEX account_pending ON account (expires) WHERE activated IS NULL;

-- Messages that are not yet known to be on the disk.
CREATE TABLE outbox (
	account BLOB NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	message BLOB NOT NULL,
	token   BLOB NOT NULL, -- the activation token, sealed
	PRIMARY KEY (account, message)
) WITHOUT ROWID;

-- Captchas that were answered and sessions that were ended, until they would be refused by their time.
CREATE TABLE spent (
	expires BIGINT NOT NULL,
	nonce   BLOB NOT NULL,
	PRIMARY KEY (expires, nonce)
) WITHOUT ROWID;

-- Places taken under the limits. A place counts until it is as old as the rule says.
CREATE TABLE taken (
	bucket  BLOB NOT NULL,
	at      BIGINT NOT NULL,
	account BLOB NOT NULL,
	until   BIGINT NOT NULL,
	PRIMARY KEY (bucket, at, account)
) WITHOUT ROWID;
CREATE INDEX taken_until ON taken (until);
