-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- Certificates that the servers get by ACME, one for a tenant.
CREATE TABLE certificate (
	tenant     BIGINT PRIMARY KEY REFERENCES tenant (id) ON DELETE CASCADE,
	authority  TEXT NOT NULL, -- the URL of the directory that was asked last
	issued     BIGINT, -- NULL while there is no certificate
	not_before BIGINT NOT NULL DEFAULT 0,
	not_after  BIGINT NOT NULL DEFAULT 0,
	chain      BLOB, -- in PEM
	sealed     BLOB, -- the private key
	due        BIGINT NOT NULL DEFAULT 0, -- when the next certificate is ordered
	failures   BIGINT NOT NULL DEFAULT 0, -- since the last success
	failure    TEXT NOT NULL DEFAULT '', -- why the last attempt failed
	tried      BIGINT NOT NULL, -- when a server last began to order one
	lease      BIGINT NOT NULL, -- until when a server orders a certificate
	challenge  TEXT NOT NULL DEFAULT '' -- the token that the authority checks now, or ''
) WITHOUT ROWID;

-- The keys of the accounts with certificate authorities.
CREATE TABLE authority_key (
	authority TEXT PRIMARY KEY,
	sealed    BLOB NOT NULL,
	made      BIGINT NOT NULL
) WITHOUT ROWID;
