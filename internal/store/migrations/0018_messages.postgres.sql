-- for programs from version 1 on
-- Times are Unix microseconds, UTC. This file is frozen: a change of the schema is a new file.

-- What the message is, as account.KindName says it, or '' for rows of a program that does not know it.
ALTER TABLE delivery ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT '';

-- When it was sent, failed, was discarded, or was replaced. NULL means not yet, or not known.
ALTER TABLE delivery ADD COLUMN ended BIGINT;
