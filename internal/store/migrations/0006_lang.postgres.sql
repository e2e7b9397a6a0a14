-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- The language that the person is written to in. A program that does not know it wrote English.
ALTER TABLE account ADD COLUMN lang TEXT COLLATE "C" NOT NULL DEFAULT 'en';
