-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- Addresses come in random order. So in the index of a million accounts, each signup changed a page of its own. Now a signup changes the
-- index of the accounts that wait for their activation, which has few pages. Programs of earlier versions find accounts by their address
-- too, only slower.
DROP INDEX account_email;
CREATE INDEX account_email ON account (tenant, lower(email)) WHERE closed IS NULL AND activated IS NOT NULL;
CREATE INDEX account_waiting_email ON account (tenant, lower(email)) WHERE closed IS NULL AND activated IS NULL;
