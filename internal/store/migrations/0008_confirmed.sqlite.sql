-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- When somebody first had both the link and the password. A program that does not know it confirms nothing.
ALTER TABLE account ADD COLUMN confirmed BIGINT;
