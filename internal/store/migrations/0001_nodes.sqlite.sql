-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- The oldest program that may use the database as a step left it: one that knows the schema up to floor.
CREATE TABLE schema_floor (
	version BIGINT PRIMARY KEY,
	floor   BIGINT NOT NULL
) WITHOUT ROWID;

-- The node whose pickup directory the message belongs in. One that has no other nodes has no name.
ALTER TABLE outbox ADD COLUMN node TEXT NOT NULL DEFAULT '';
