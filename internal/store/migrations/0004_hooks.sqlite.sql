-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- Phone servers that are told of changes.
CREATE TABLE hook (
	id       BLOB PRIMARY KEY,
	name     TEXT NOT NULL UNIQUE,
	kind     TEXT NOT NULL,
	url      TEXT NOT NULL,
	plain    BOOLEAN NOT NULL, -- http is allowed on any network
	everyone BOOLEAN NOT NULL, -- it is for all tenants, and otherwise for those of hook_tenant
	secret   BLOB NOT NULL,    -- sealed, or empty
	created  BIGINT NOT NULL,
	given_up BIGINT NOT NULL,  -- how many notices
	failed   BIGINT NOT NULL,  -- when a try last failed, or 0
	why      TEXT NOT NULL
) WITHOUT ROWID;

-- A tenant may live in another database.
CREATE TABLE hook_tenant (
	hook   BLOB NOT NULL REFERENCES hook (id) ON DELETE CASCADE,
	tenant BIGINT NOT NULL,
	PRIMARY KEY (hook, tenant)
) WITHOUT ROWID;

-- Changes that a phone server is not known to have been told of.
CREATE TABLE notice (
	hook     BLOB NOT NULL REFERENCES hook (id) ON DELETE CASCADE,
	event    BLOB NOT NULL,
	account  BLOB NOT NULL, -- empty for a change of a tenant
	what     TEXT NOT NULL,
	tenant   BIGINT NOT NULL,
	host     TEXT NOT NULL,
	realm    TEXT NOT NULL,
	username TEXT NOT NULL,
	at       BIGINT NOT NULL,
	due      BIGINT NOT NULL, -- when it may be claimed: 0 for one that never was
	tries    BIGINT NOT NULL,
	PRIMARY KEY (hook, event, account)
) WITHOUT ROWID;
CREATE INDEX notice_due ON notice (hook, due, at);
