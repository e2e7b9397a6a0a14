-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- A server on SQLite is alone, so it is no node.
