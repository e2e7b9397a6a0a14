-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- There is a row while the directory that phone servers read is kept. It is in a file of its own, which is brought up to date
-- behind the store: changes counts what that file must have seen.
CREATE TABLE export (
	name    TEXT PRIMARY KEY, -- 'directory'
	id      BLOB NOT NULL,    -- of this enabling
	changes BIGINT NOT NULL
) WITHOUT ROWID;

-- What changed, by the number of the change: the uid of an account, or nothing for the tenants. Rows that the file is known to
-- have seen are removed.
CREATE TABLE export_due (
	n       BIGINT PRIMARY KEY,
	subject BLOB NOT NULL
) WITHOUT ROWID;
