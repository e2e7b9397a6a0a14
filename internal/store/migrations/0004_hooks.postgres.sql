-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- Phone servers that are told of changes.
CREATE TABLE hook (
	id       BYTEA PRIMARY KEY,
	name     TEXT COLLATE "C" NOT NULL UNIQUE,
	kind     TEXT COLLATE "C" NOT NULL,
	url      TEXT COLLATE "C" NOT NULL,
	plain    BOOLEAN NOT NULL, -- http is allowed on any network
	everyone BOOLEAN NOT NULL, -- it is for all tenants, and otherwise for those of hook_tenant
	secret   BYTEA NOT NULL,   -- sealed, or empty
	created  BIGINT NOT NULL,
	given_up BIGINT NOT NULL,  -- how many notices
	failed   BIGINT NOT NULL,  -- when a try last failed, or 0
	why      TEXT COLLATE "C" NOT NULL
);

-- A tenant may live in another database.
CREATE TABLE hook_tenant (
	hook   BYTEA NOT NULL REFERENCES hook (id) ON DELETE CASCADE,
	tenant BIGINT NOT NULL,
	PRIMARY KEY (hook, tenant)
);

-- Changes that a phone server is not known to have been told of.
CREATE TABLE notice (
	hook     BYTEA NOT NULL REFERENCES hook (id) ON DELETE CASCADE,
	event    BYTEA NOT NULL,
	account  BYTEA NOT NULL, -- empty for a change of a tenant
	what     TEXT COLLATE "C" NOT NULL,
	tenant   BIGINT NOT NULL,
	host     TEXT COLLATE "C" NOT NULL,
	realm    TEXT COLLATE "C" NOT NULL,
	username TEXT COLLATE "C" NOT NULL,
	at       BIGINT NOT NULL,
	due      BIGINT NOT NULL, -- when it may be claimed: 0 for one that never was
	tries    BIGINT NOT NULL,
	PRIMARY KEY (hook, event, account)
);
CREATE INDEX notice_due ON notice (hook, due, at);
