-- for programs from version 1 on
-- This file is frozen: a change of the schema is a new file.

-- How the tokens of links are kept: 0 as their SHA-256, 1 in the order in which they were made. It is 1 in stores that were made
-- since this version, and then the floor of this version is this version: older programs would not find such links.
INSERT INTO revision (subject, n) VALUES ('links', 0);
