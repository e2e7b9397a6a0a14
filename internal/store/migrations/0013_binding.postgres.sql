-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- How far credentials are bound to user names: 0 not at all, 1 begun, 2 all. From 1 on, the floor of this version is this version:
-- older programs cannot open such credentials.
INSERT INTO revision (subject, n) VALUES ('binding', 0);

-- The last beat of a program that can open bound credentials. If it is not the last beat of all, an older program runs.
ALTER TABLE node ADD COLUMN binding_beat BIGINT NOT NULL DEFAULT 0;
