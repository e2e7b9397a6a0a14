-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- The logo on a tenant's pages, and its media type. Both are empty if there is none.
ALTER TABLE tenant ADD COLUMN logo_type TEXT NOT NULL DEFAULT '';
ALTER TABLE tenant ADD COLUMN logo BLOB NOT NULL DEFAULT x'';
