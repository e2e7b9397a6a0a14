-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- The process that has the name of a node: where it runs and a random text, with a blank between. It is empty after the process
-- ended in order.
ALTER TABLE node ADD COLUMN instance TEXT COLLATE "C" NOT NULL DEFAULT '';
