-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- The state that an operator last gave the account, with the time, the operator and the reason. They count while the account is in
-- this state. A program that does not know them leaves them as they are.
ALTER TABLE account ADD COLUMN set_state TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN set_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN set_by TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN set_why TEXT NOT NULL DEFAULT '';

-- The names that deleted accounts keep from others.
CREATE INDEX account_closed ON account (tenant, username) WHERE closed IS NOT NULL;
