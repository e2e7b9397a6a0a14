-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- There is a row while the directory that phone servers read is kept, in the schema dialtone_directory.
CREATE TABLE export (
	name TEXT COLLATE "C" PRIMARY KEY -- 'directory'
);

-- Whether it is kept. Whoever asks changes accounts or tenants, and shares a lock until its transaction ends; who begins or ends the
-- keeping has the lock alone. Each statement in here sees what was committed before it began, and so the second what was true when
-- the first had the lock. The number was chosen once (exportLock).
CREATE FUNCTION dialtone_exporting() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock_shared(7235421394785234535);
	RETURN EXISTS (SELECT 1 FROM export WHERE name = 'directory');
END $$;
