-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- Each signup wrote this index at several places. Expired places are found in the order of the primary key now; programs of earlier versions
-- find them too, only slower.
DROP INDEX taken_until;
