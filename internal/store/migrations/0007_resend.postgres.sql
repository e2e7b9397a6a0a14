-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- Of an account's messages the one with the highest turn holds the link that counts. It is dated made; 0 is the time at which the
-- account was made.
ALTER TABLE outbox ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN made BIGINT NOT NULL DEFAULT 0;

-- Links that a newer message has made worthless.
CREATE TABLE replaced (
	token   BYTEA PRIMARY KEY, -- SHA-256 of the activation token
	account BYTEA NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	message BYTEA NOT NULL, -- the newer one
	email   TEXT COLLATE "C" NOT NULL, -- where the older one went, until the newer one is known to be on the disk
	until   BIGINT NOT NULL
);
CREATE INDEX replaced_account ON replaced (account);
CREATE INDEX replaced_until ON replaced (until);
