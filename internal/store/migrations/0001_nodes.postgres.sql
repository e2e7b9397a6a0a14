-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- The oldest program that may use the database as a step left it: one that knows the schema up to floor.
CREATE TABLE schema_floor (
	version BIGINT PRIMARY KEY,
	floor   BIGINT NOT NULL
);

-- The node whose pickup directory the message belongs in.
ALTER TABLE outbox ADD COLUMN node TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX outbox_node ON outbox (node);

-- The servers that run. Each raises its beat every few seconds; one whose beat stood still for the time of the lease is dead, and
-- another takes over its outbox rows.
CREATE TABLE node (
	id   TEXT COLLATE "C" PRIMARY KEY,
	beat BIGINT NOT NULL
);
