-- The directory that phone servers read: one file, which is opened by them and holds nothing else. It is run whenever the file is
-- opened for writing, so that a new version of the program may show more.

-- What of the store the file has seen: the changes of one enabling, up to a number. It is whole when every active account is in it.
CREATE TABLE IF NOT EXISTS state (
	one     INTEGER PRIMARY KEY CHECK (one = 1),
	export  BLOB NOT NULL,
	applied BIGINT NOT NULL,
	whole   BOOLEAN NOT NULL
);
INSERT INTO state (one, export, applied, whole) VALUES (1, x'', 0, FALSE) ON CONFLICT DO NOTHING;

-- The active accounts of all tenants. Hashes are lower-case hex, and empty where the client sent none.
-- Kamailio goes by the types that are declared here, and takes what is not some sort of CHAR for binary.
CREATE TABLE IF NOT EXISTS entry (
	uid        BLOB PRIMARY KEY,
	realm      VARCHAR NOT NULL,
	username   VARCHAR NOT NULL,
	address    VARCHAR NOT NULL, -- username@realm
	role       VARCHAR NOT NULL,
	ha1        VARCHAR NOT NULL, -- MD5(username:realm:password)
	ha1b       VARCHAR NOT NULL, -- MD5(username@realm:realm:password)
	ha1_sha256 VARCHAR NOT NULL  -- SHA-256(username:realm:password)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entry_username ON entry (realm, username);
CREATE INDEX IF NOT EXISTS entry_address ON entry (address);

-- The active accounts that have no entry, because their credentials do not open.
CREATE TABLE IF NOT EXISTS missing (
	uid BLOB PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS realm (
	domain VARCHAR PRIMARY KEY,
	realm  VARCHAR NOT NULL,
	tenant BIGINT NOT NULL
) WITHOUT ROWID;

-- The columns of a view have declared types only where they come from a table.
CREATE TABLE IF NOT EXISTS attribute (
	name VARCHAR PRIMARY KEY,
	type INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO attribute (name, type) VALUES ('realm', 2) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS revision (
	table_name    VARCHAR PRIMARY KEY,
	table_version INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO revision (table_name, table_version) VALUES ('subscriber', 7), ('domain', 2), ('domain_attrs', 1) ON CONFLICT DO NOTHING;

-- Kamailio and OpenSIPS: auth_db and domain.
DROP VIEW IF EXISTS subscriber;
CREATE VIEW subscriber AS
	SELECT username, realm AS domain, ha1, ha1b, ha1_sha256, role FROM entry;
DROP VIEW IF EXISTS domain;
CREATE VIEW domain AS
	SELECT domain, domain AS did FROM realm;
DROP VIEW IF EXISTS domain_attrs;
CREATE VIEW domain_attrs AS
	SELECT r.domain AS did, a.name AS name, a.type AS type, r.realm AS value FROM realm r JOIN attribute a;
DROP VIEW IF EXISTS version;
CREATE VIEW version AS
	SELECT table_name, table_version FROM revision;

-- coturn: long-term credentials.
DROP VIEW IF EXISTS turnusers_lt;
CREATE VIEW turnusers_lt AS
	SELECT realm, username AS name, ha1 AS hmackey FROM entry;

-- Asterisk: the realtime tables of PJSIP. A context of its own for each role keeps guests off the paid trunks.
DROP VIEW IF EXISTS ps_auths;
CREATE VIEW ps_auths AS
	SELECT address AS id, 'md5' AS auth_type, username, realm, ha1 AS md5_cred FROM entry;
DROP VIEW IF EXISTS ps_aors;
CREATE VIEW ps_aors AS
	SELECT address AS id, 10 AS max_contacts, 'yes' AS remove_existing FROM entry;
DROP VIEW IF EXISTS ps_endpoints;
CREATE VIEW ps_endpoints AS
	SELECT address AS id, address AS auth, address AS aors, 'dialtone-' || role AS context FROM entry;

-- Apache, Dovecot, FreeRADIUS and whoever else writes its own query.
DROP VIEW IF EXISTS credential;
CREATE VIEW credential AS
	SELECT username, realm, address, ha1, ha1b, ha1_sha256, role FROM entry;
