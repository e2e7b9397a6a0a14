-- The directory that phone servers read. It is run with every enabling, so that a new version of the program may show more.
-- Each kind of server has a schema with the views under the names that it knows, and sees nothing else.

CREATE SCHEMA IF NOT EXISTS dialtone_directory;

-- It is whole when every active account is in it.
CREATE TABLE IF NOT EXISTS dialtone_directory.state (
	one   INTEGER PRIMARY KEY CHECK (one = 1),
	whole BOOLEAN NOT NULL
);
INSERT INTO dialtone_directory.state (one, whole) VALUES (1, FALSE) ON CONFLICT DO NOTHING;

-- Another value after each change of an entry. A row would be waited for by all who change an account.
CREATE SEQUENCE IF NOT EXISTS dialtone_directory.change;

-- The active accounts of all tenants. Hashes are lower-case hex, and empty where the client sent none.
CREATE TABLE IF NOT EXISTS dialtone_directory.entry (
	uid        BYTEA PRIMARY KEY,
	realm      TEXT COLLATE "C" NOT NULL,
	username   TEXT COLLATE "C" NOT NULL,
	address    TEXT COLLATE "C" NOT NULL, -- username@realm
	role       TEXT COLLATE "C" NOT NULL,
	ha1        TEXT COLLATE "C" NOT NULL, -- MD5(username:realm:password)
	ha1b       TEXT COLLATE "C" NOT NULL, -- MD5(username@realm:realm:password)
	ha1_sha256 TEXT COLLATE "C" NOT NULL  -- SHA-256(username:realm:password)
);
CREATE INDEX IF NOT EXISTS entry_username ON dialtone_directory.entry (realm, username);
CREATE INDEX IF NOT EXISTS entry_address ON dialtone_directory.entry (address);

-- The active accounts that have no entry, because their credentials do not open. (Also in postgres.go: prepareMissing.)
CREATE TABLE IF NOT EXISTS dialtone_directory.missing (
	uid BYTEA PRIMARY KEY
);

CREATE TABLE IF NOT EXISTS dialtone_directory.realm (
	domain TEXT COLLATE "C" PRIMARY KEY,
	realm  TEXT COLLATE "C" NOT NULL,
	tenant BIGINT NOT NULL
);

-- Kamailio and OpenSIPS: auth_db and domain. Kamailio takes TEXT for binary, so everything is varchar; and varchar without a
-- length, since a cast to a length is a function, for which no index is used.
CREATE SCHEMA IF NOT EXISTS dialtone_kamailio;
CREATE OR REPLACE VIEW dialtone_kamailio.subscriber AS
	SELECT username::varchar AS username, realm::varchar AS domain, ha1::varchar AS ha1, ha1b::varchar AS ha1b,
		ha1_sha256::varchar AS ha1_sha256, role::varchar AS role
	FROM dialtone_directory.entry;
CREATE OR REPLACE VIEW dialtone_kamailio.domain AS
	SELECT domain::varchar AS domain, domain::varchar AS did FROM dialtone_directory.realm;
CREATE OR REPLACE VIEW dialtone_kamailio.domain_attrs AS
	SELECT domain::varchar AS did, 'realm'::varchar AS name, 2::integer AS type, realm::varchar AS value FROM dialtone_directory.realm;
CREATE OR REPLACE VIEW dialtone_kamailio.version AS
	SELECT t::varchar AS table_name, v::integer AS table_version
	FROM (VALUES ('subscriber', 7), ('domain', 2), ('domain_attrs', 1)) known (t, v);

-- coturn: long-term credentials.
CREATE SCHEMA IF NOT EXISTS dialtone_coturn;
CREATE OR REPLACE VIEW dialtone_coturn.turnusers_lt AS
	SELECT realm::varchar AS realm, username::varchar AS name, ha1::varchar AS hmackey FROM dialtone_directory.entry;

-- Asterisk: the realtime tables of PJSIP. A context of its own for each role keeps guests off the paid trunks.
CREATE SCHEMA IF NOT EXISTS dialtone_asterisk;
CREATE OR REPLACE VIEW dialtone_asterisk.ps_auths AS
	SELECT address::varchar AS id, 'md5'::varchar AS auth_type, username::varchar AS username, realm::varchar AS realm, ha1::varchar AS md5_cred
	FROM dialtone_directory.entry;
CREATE OR REPLACE VIEW dialtone_asterisk.ps_aors AS
	SELECT address::varchar AS id, 10::integer AS max_contacts, 'yes'::varchar AS remove_existing FROM dialtone_directory.entry;
CREATE OR REPLACE VIEW dialtone_asterisk.ps_endpoints AS
	SELECT address::varchar AS id, address::varchar AS auth, address::varchar AS aors, ('dialtone-' || role)::varchar AS context
	FROM dialtone_directory.entry;

-- Apache, Dovecot, FreeRADIUS and others that send queries of their own.
CREATE SCHEMA IF NOT EXISTS dialtone_digest;
CREATE OR REPLACE VIEW dialtone_digest.credential AS
	SELECT username, realm, address, ha1, ha1b, ha1_sha256, role FROM dialtone_directory.entry;
