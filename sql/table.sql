--
-- A table whose every page goes to the store and comes back
--
CREATE EXTENSION pageserver_smgr;
CREATE TABLE smgr_table (id int PRIMARY KEY, grp int, note text);
ALTER TABLE smgr_table ALTER note SET STORAGE EXTERNAL;
CREATE INDEX ON smgr_table (grp);
CREATE INDEX ON smgr_table USING gin (string_to_array(left(note, 20), ' '));
CREATE SEQUENCE smgr_seq;
INSERT INTO smgr_table SELECT i, i % 100, 'word' || i % 10 || ' ' || repeat('x', i % 200) FROM generate_series(1, 20000) i;
INSERT INTO smgr_table SELECT 100000 + i, -1, repeat('long ', 1000) || i FROM generate_series(1, 50) i;
UPDATE smgr_table SET grp = grp + 1 WHERE id % 7 = 0;
DELETE FROM smgr_table WHERE id % 11 = 0;
BEGIN;
SAVEPOINT s;
DELETE FROM smgr_table WHERE id < 1000;
ROLLBACK TO s;
UPDATE smgr_table SET note = 'after a subtransaction' WHERE id = 1;
COMMIT;
VACUUM ANALYZE smgr_table;
SELECT nextval('smgr_seq') FROM generate_series(1, 3);
CREATE VIEW smgr_sums AS
SELECT count(*), sum(id) AS ids, sum(grp) AS grps, md5(string_agg(md5(note), '' ORDER BY id)) AS md5 FROM smgr_table;
SELECT count, ids, grps FROM smgr_sums;
SELECT md5 AS before FROM smgr_sums \gset
-- The copy of a database is made in the store: the server has none of its pages.
CHECKPOINT;
SELECT current_database() AS source \gset
\c template1
CREATE DATABASE regress_smgr_copy TEMPLATE :"source" STRATEGY = file_copy;
\c regress_smgr_copy
SELECT fills AS fills_before FROM pageserver_smgr_cache \gset
SELECT count, ids, grps, md5 = :'before' AS same FROM smgr_sums;
SELECT fills - :fills_before >= pg_relation_size('smgr_table') / 8192 AS from_the_store FROM pageserver_smgr_cache;
SET enable_seqscan = off;
SELECT count(*) FROM smgr_table WHERE grp = 50;
SELECT count(*) FROM smgr_table WHERE string_to_array(left(note, 20), ' ') @> '{word3}';
SELECT id, note FROM smgr_table WHERE id = 1;
SELECT length(note) FROM smgr_table WHERE id = 100050;
RESET enable_seqscan;
SELECT nextval('smgr_seq') BETWEEN 4 AND 36 AS next_value;
-- It is a database like any other.
INSERT INTO smgr_table VALUES (1, 0, 'there is one');
INSERT INTO smgr_table VALUES (0, 0, 'new');
SELECT count(*) FROM smgr_table;
SELECT count(*) FROM pageserver_smgr_orphans() WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database());
\c :source
DROP DATABASE regress_smgr_copy;
-- The cache can be emptied at any time.
SELECT pageserver_smgr_clear_cache();
SELECT md5 = :'before' AS same FROM smgr_sums;
DROP VIEW smgr_sums;
DROP TABLE smgr_table;
DROP SEQUENCE smgr_seq;
DROP EXTENSION pageserver_smgr;
