--
-- The size functions, which do not look at local files
--
CREATE TABLE size_heap (i int PRIMARY KEY, t text);
INSERT INTO size_heap SELECT i, repeat('x', 100) FROM generate_series(1, 10000) i;
CREATE INDEX ON size_heap (t);
VACUUM ANALYZE size_heap;
-- to the block: what is read is what is counted
SELECT pg_relation_size('size_heap') = 8192 * (SELECT count(DISTINCT (ctid::text::point)[0]) FROM size_heap) AS heap,
       pg_relation_size('size_heap') = 8192 * relpages AS relpages,
       pg_relation_size('size_heap') = pg_relation_size('size_heap', 'main') AS main,
       pg_relation_size('size_heap', 'vm') AS vm, pg_relation_size('size_heap', 'init') AS init
  FROM pg_class WHERE oid = 'size_heap'::regclass;
SELECT pg_relation_size(oid) = 8192 * relpages AS index, pg_indexes_size(oid) AS indexes_of_it
  FROM pg_class WHERE relname LIKE 'size_heap_%' ORDER BY relname;
-- the sums
CREATE VIEW size_sums AS
SELECT oid, relname, (SELECT sum(pg_relation_size(c.oid, f)) FROM unnest('{main,fsm,vm,init}'::text[]) f) AS forks,
       pg_table_size(oid) AS table_size, pg_indexes_size(oid) AS indexes_size, pg_total_relation_size(oid) AS total_size
  FROM pg_class c;
SELECT forks + (SELECT total_size FROM size_sums x WHERE x.oid = c.reltoastrelid) = table_size AS table_size,
       (SELECT sum(forks) FROM size_sums x JOIN pg_index ON indexrelid = x.oid WHERE indrelid = c.oid) = indexes_size AS indexes_size,
       table_size + indexes_size = total_size AS total
  FROM size_sums s JOIN pg_class c USING (oid) WHERE c.oid = 'size_heap'::regclass;
-- TOAST: 100 values of 10 kB
CREATE TABLE size_toast (t text);
ALTER TABLE size_toast ALTER t SET STORAGE EXTERNAL;
INSERT INTO size_toast SELECT repeat('x', 10000) FROM generate_series(1, 100);
SELECT pg_relation_size('size_toast') AS heap, pg_table_size('size_toast') > 1000000 AS toast FROM pg_class LIMIT 1;
-- unlogged and temporary
CREATE UNLOGGED TABLE size_unlogged AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 10000) i;
CREATE TEMP TABLE size_temp AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 10000) i;
CREATE INDEX ON size_unlogged (i);
SELECT pg_relation_size('size_unlogged') = pg_relation_size('size_temp') AS as_temporary,
       pg_relation_size('size_unlogged') = pg_relation_size('size_heap') AS as_permanent,
       pg_relation_size('size_unlogged_i_idx', 'init') AS init;
-- truncate, vacuum at the end, drop
DELETE FROM size_heap WHERE i > 1000;
VACUUM (TRUNCATE) size_heap;
SELECT pg_relation_size('size_heap') = 8192 * (SELECT count(DISTINCT (ctid::text::point)[0]) FROM size_heap) AS vacuumed;
BEGIN;
TRUNCATE size_heap;
SELECT pg_relation_size('size_heap') AS truncated;
ROLLBACK;
SELECT pg_relation_size('size_heap') > 0 AS rolled_back;
TRUNCATE size_heap, size_toast;
SELECT pg_relation_size('size_heap') AS heap, pg_indexes_size('size_heap') AS indexes, pg_total_relation_size('size_toast') AS toast;
SELECT 'size_toast'::regclass::oid AS gone \gset
DROP TABLE size_toast;
SELECT pg_relation_size(:gone) IS NULL AS relation, pg_table_size(:gone) IS NULL AS "table",
       pg_indexes_size(:gone) IS NULL AS indexes, pg_total_relation_size(:gone) IS NULL AS total;
-- without storage
CREATE TABLE size_parts (i int) PARTITION BY RANGE (i);
CREATE TABLE size_part PARTITION OF size_parts FOR VALUES FROM (0) TO (10);
INSERT INTO size_parts VALUES (1);
SELECT pg_relation_size('size_parts') AS parts, pg_total_relation_size('size_parts') AS total, pg_relation_size('size_part') AS part,
       pg_table_size('size_sums') AS view, pg_relation_size('size_parts', 'vm') AS vm;
SELECT pg_relation_size('size_part', 'nonsense');
-- mapped and shared relations
SELECT relname, pg_relation_size(oid) >= 8192 * (SELECT count(DISTINCT (ctid::text::point)[0]) FROM pg_class) AS size FROM pg_class WHERE relname = 'pg_class';
SELECT pg_relation_size('pg_database') AS pg_database;
-- a database, to the store's number and the few files that are local
CREATE VIEW size_all AS
SELECT sum(forks) AS relations FROM size_sums JOIN pg_class c USING (oid)
 WHERE relkind IN ('r', 'i', 'S', 't', 'm') AND NOT relisshared;
SELECT pg_database_size(current_database()) - relations BETWEEN 0 AND 1000000 AS database FROM size_all;
SELECT pg_database_size(oid) = pg_database_size(datname) AS same FROM pg_database WHERE datname = 'template0';
SELECT pg_database_size(current_database()) AS before \gset
CREATE TABLE size_more AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 10000) i;
SELECT pg_database_size(current_database()) - :before BETWEEN pg_total_relation_size('size_more') AND pg_total_relation_size('size_more') + 200000 AS grown;
DROP TABLE size_more;
CREATE DATABASE size_db;
SELECT pg_database_size('size_db') > 5000000 AS created;
SELECT oid AS size_db FROM pg_database WHERE datname = 'size_db' \gset
DROP DATABASE size_db;
SELECT pg_database_size('size_db');
SELECT pg_database_size(:size_db) IS NULL AS dropped;
SELECT pg_database_size(0::oid) IS NULL AS none;
-- tablespaces
SELECT pg_tablespace_size('pg_default') >= sum(pg_database_size(oid)) AS pg_default FROM pg_database;
SELECT pg_tablespace_size('pg_global') >= (SELECT sum(forks) FROM size_sums JOIN pg_class USING (oid) WHERE relisshared AND relkind IN ('r', 'i', 't')) AS pg_global;
SELECT pg_tablespace_size('no_such');
SELECT pg_tablespace_size(1) IS NULL AS none, pg_tablespace_size(0) IS NULL AS zero;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_smgr_space LOCATION '';
SELECT pg_tablespace_size('regress_smgr_space') < 10000 AS empty, pg_database_size(current_database()) AS before \gset
CREATE TABLE size_moved TABLESPACE regress_smgr_space AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 10000) i;
CREATE UNLOGGED TABLE size_moved_unlogged TABLESPACE regress_smgr_space AS TABLE size_moved;
SELECT :'empty' AS empty, pg_tablespace_size('regress_smgr_space') - sum(total_size) BETWEEN 0 AND 30000 AS filled,
       pg_database_size(current_database()) - :before - sum(total_size) BETWEEN -200000 AND 200000 AS database
  FROM size_sums WHERE relname LIKE 'size_moved%';
DROP TABLE size_moved, size_moved_unlogged;
DROP TABLESPACE regress_smgr_space;
-- permissions
CREATE ROLE regress_smgr_user;
REVOKE CONNECT ON DATABASE template1 FROM PUBLIC;
SET ROLE regress_smgr_user;
SELECT pg_database_size('template1');
SELECT pg_tablespace_size('pg_global');
SELECT pg_tablespace_size('pg_default') > 0 AS default_of_the_database, pg_relation_size('size_part') AS relation;
RESET ROLE;
GRANT pg_read_all_stats TO regress_smgr_user;
SET ROLE regress_smgr_user;
SELECT pg_database_size('template1') > 0 AS database, pg_tablespace_size('pg_global') > 0 AS tablespace;
RESET ROLE;
GRANT CONNECT ON DATABASE template1 TO PUBLIC;
DROP ROLE regress_smgr_user;
DROP VIEW size_all, size_sums;
DROP TABLE size_heap, size_unlogged, size_temp, size_parts;
