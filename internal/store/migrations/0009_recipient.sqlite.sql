-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- Where the message goes. It is empty for rows of a program that does not know it.
ALTER TABLE delivery ADD COLUMN email TEXT NOT NULL DEFAULT '';
