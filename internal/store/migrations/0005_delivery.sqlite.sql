-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- What became of messages that this program sends itself.
CREATE TABLE delivery (
	message  BLOB PRIMARY KEY,
	account  BLOB NOT NULL REFERENCES account (uid) ON DELETE CASCADE,
	node     TEXT NOT NULL DEFAULT '', -- whose pickup directory has the file
	state    TEXT NOT NULL,
	since    BIGINT NOT NULL, -- when it began to wait
	expires  BIGINT NOT NULL, -- when its link is worth nothing
	due      BIGINT,          -- when something is to be done about it
	attempts BIGINT NOT NULL,
	answer   TEXT NOT NULL    -- what the relay said last
) WITHOUT ROWID;
CREATE INDEX delivery_account ON delivery (account);
CREATE INDEX delivery_expires ON delivery (expires);
CREATE INDEX delivery_due ON delivery (node, due) WHERE due IS NOT NULL;

-- The keys that messages of a tenant are signed with.
CREATE TABLE dkim_key (
	tenant   BIGINT NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
	selector TEXT NOT NULL,
	created  BIGINT NOT NULL,
	sealed   BLOB NOT NULL,
	PRIMARY KEY (tenant, selector)
) WITHOUT ROWID;
