-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- The phone servers that may look accounts up.
CREATE TABLE phone_server (
	name    TEXT PRIMARY KEY,
	token   BLOB NOT NULL UNIQUE, -- SHA-256 of its token
	tenants TEXT NOT NULL,        -- JSON: the ids of those it may ask about. One that is gone is never given again
	created BIGINT NOT NULL
) WITHOUT ROWID;

INSERT INTO revision (subject, n) VALUES ('phone', 0);
