-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- What operators changed. Ids are given in the order of the commits, and never again.
CREATE TABLE audit (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	event      BLOB NOT NULL UNIQUE, -- so that a transaction that runs again adds one row
	at         BIGINT NOT NULL,
	action     TEXT NOT NULL,
	outcome    TEXT NOT NULL,
	tenant     TEXT NOT NULL, -- the host: the tenant may be removed
	account    TEXT NOT NULL, -- the uid in hex: the account may be removed
	username   TEXT NOT NULL,
	subject    TEXT NOT NULL,
	before     TEXT NOT NULL,
	after      TEXT NOT NULL,
	actor_kind TEXT NOT NULL,
	actor      TEXT NOT NULL,
	actor_id   TEXT NOT NULL,
	sudo_user  TEXT NOT NULL,
	reason     TEXT NOT NULL
);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX audit_user ON audit (tenant, username, id);
