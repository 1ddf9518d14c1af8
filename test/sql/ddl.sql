-- A little of everything: the output must be the same as on a stock server.
-- Run with psql -a -X; nothing here may print an OID, a size of WAL or a time.
\set VERBOSITY terse
SET client_min_messages = warning;

-- tables, TOAST, all kinds of indexes
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, tags text[], loc point, span int4range, doc jsonb, body text);
INSERT INTO items SELECT i, 'item ' || i, ARRAY['t' || i % 7, 'u' || i % 11], point(i % 100, i / 100), int4range(i, i + 10),
	jsonb_build_object('k', i % 13, 'v', i), repeat(md5(i::text), 1 + i % 200) FROM generate_series(1, 5000) i;
ALTER TABLE items ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO items SELECT i, 'ext ' || i, ARRAY['x'], point(i % 100, i / 100), int4range(i, i + 10), '{}', repeat(md5(i::text), 300)
	FROM generate_series(5001, 5300) i;
CREATE INDEX items_name ON items (name);
CREATE INDEX items_hash ON items USING hash (name);
CREATE INDEX items_tags ON items USING gin (tags);
CREATE INDEX items_doc ON items USING gin (doc jsonb_path_ops);
CREATE INDEX items_loc ON items USING gist (loc);
CREATE INDEX items_span ON items USING spgist (span);
CREATE INDEX items_loc_sp ON items USING spgist (loc);
CREATE INDEX items_brin ON items USING brin (id);
CREATE INDEX items_part ON items (id) WHERE id % 10 = 0;
CREATE UNIQUE INDEX CONCURRENTLY items_expr ON items (lower(name));
SELECT count(*), sum(id), sum(length(body)) FROM items;
SET enable_seqscan = off;
SELECT count(*) FROM items WHERE tags @> ARRAY['t3'];
SELECT count(*) FROM items WHERE doc @> '{"k": 5}';
SELECT count(*) FROM items WHERE loc <@ box '((10,10),(20,20))';
SELECT count(*) FROM items WHERE span && int4range(100, 120);
SELECT count(*) FROM items WHERE name = 'item 77';
SELECT count(*) FROM items WHERE id BETWEEN 1000 AND 1100;
RESET enable_seqscan;
DELETE FROM items WHERE id % 3 = 0;
UPDATE items SET name = name || '!' WHERE id % 5 = 0;
VACUUM items;
INSERT INTO items SELECT i, 'again ' || i, ARRAY['t3'], point(15, 15), int4range(105, 106), '{"k": 5}', md5(i::text)
	FROM generate_series(6001, 7000) i;
REINDEX TABLE items;
ANALYZE items;
SELECT count(*), sum(id), sum(length(body)) FROM items;

-- partitions
CREATE TABLE events (at date NOT NULL, n int, note text) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2020-01-01') TO ('2020-07-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2020-07-01') TO ('2021-01-01') PARTITION BY HASH (n);
CREATE TABLE events_2a PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE events_2b PARTITION OF events_2 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE INDEX ON events (n);
INSERT INTO events SELECT '2020-01-01'::date + i % 366, i, 'note ' || i FROM generate_series(1, 10000) i;
SELECT tableoid::regclass, count(*), sum(n) FROM events GROUP BY 1 ORDER BY 1::text;
ALTER TABLE events DETACH PARTITION events_1;
SELECT count(*) FROM events;
ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM ('2020-01-01') TO ('2020-07-01');

-- sequences, identity, enums, domains, views, materialized views, functions, triggers
CREATE SEQUENCE seq INCREMENT 3 CACHE 5;
SELECT nextval('seq') FROM generate_series(1, 5);
SELECT setval('seq', 1000);
CREATE TABLE ident (id int GENERATED ALWAYS AS IDENTITY, v text);
INSERT INTO ident (v) SELECT 'v' || i FROM generate_series(1, 100) i;
SELECT max(id) FROM ident;
CREATE TYPE mood AS ENUM ('sad', 'ok');
ALTER TYPE mood ADD VALUE 'happy';
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE moods (m mood, p positive);
INSERT INTO moods VALUES ('happy', 1), ('sad', 2);
INSERT INTO moods VALUES ('ok', -1);
SELECT * FROM moods ORDER BY m;
CREATE VIEW happy AS SELECT * FROM moods WHERE m = 'happy';
CREATE MATERIALIZED VIEW counts AS SELECT m, count(*) FROM moods GROUP BY m;
INSERT INTO moods VALUES ('happy', 5);
REFRESH MATERIALIZED VIEW counts;
SELECT * FROM counts ORDER BY m;
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (TG_OP, OLD.id); RETURN NULL; END $$;
CREATE TABLE audit (op text, id int);
CREATE TRIGGER note AFTER DELETE ON items FOR EACH ROW EXECUTE FUNCTION note_change();
DELETE FROM items WHERE id < 50;
SELECT op, count(*), sum(id) FROM audit GROUP BY op;

-- savepoints, sub-transactions, row locks
BEGIN;
INSERT INTO audit SELECT 'a', i FROM generate_series(1, 1000) i;
SAVEPOINT s1;
UPDATE audit SET op = 'b' WHERE id <= 500 AND op = 'a';
SAVEPOINT s2;
DELETE FROM audit WHERE op = 'b';
ROLLBACK TO s2;
RELEASE s1;
SAVEPOINT s3;
TRUNCATE events_1;
SELECT count(*) FROM events_1;
ROLLBACK TO s3;
SELECT count(*) FROM events_1;
SELECT count(*) FROM (SELECT 1 FROM audit WHERE id <= 10 FOR UPDATE) x;
COMMIT;
SELECT op, count(*) FROM audit GROUP BY op ORDER BY op;
DO $$ BEGIN FOR i IN 1..200 LOOP BEGIN INSERT INTO audit VALUES ('sub', i); IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
	EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
SELECT count(*) FROM audit WHERE op = 'sub';

-- two-phase commit
BEGIN; INSERT INTO audit VALUES ('2pc', 1); PREPARE TRANSACTION 'p1';
BEGIN; CREATE TABLE prepared_table AS SELECT i FROM generate_series(1, 100) i; PREPARE TRANSACTION 'p2';
BEGIN; INSERT INTO audit VALUES ('2pc', 3); PREPARE TRANSACTION 'p3';
COMMIT PREPARED 'p1';
ROLLBACK PREPARED 'p3';
SELECT gid FROM pg_prepared_xacts ORDER BY gid;
SELECT count(*) FROM audit WHERE op = '2pc';
COMMIT PREPARED 'p2';
SELECT count(*) FROM prepared_table;

-- unlogged and temporary tables, changing between
CREATE UNLOGGED TABLE u (id int PRIMARY KEY, v text);
INSERT INTO u SELECT i, 'u' || i FROM generate_series(1, 3000) i;
SELECT count(*) FROM u;
CREATE UNLOGGED TABLE u2 AS SELECT i FROM generate_series(1, 1000) i;
ALTER TABLE u2 SET LOGGED;
SELECT count(*) FROM u2;
ALTER TABLE u2 SET UNLOGGED;
ALTER TABLE u2 SET LOGGED;
CREATE TEMP TABLE tmp AS SELECT i FROM generate_series(1, 20000) i;
CREATE INDEX ON tmp (i);
SELECT count(*) FROM tmp WHERE i % 2 = 0;
CREATE UNLOGGED SEQUENCE useq;
SELECT nextval('useq');

-- rewriting
VACUUM FULL items;
CLUSTER events_1 USING events_1_n_idx;
ALTER TABLE ident ALTER COLUMN id SET DATA TYPE bigint;
ALTER TABLE ident ADD COLUMN w int DEFAULT 7;
TRUNCATE moods;
INSERT INTO moods VALUES ('ok', 9);
SELECT * FROM moods;
SELECT count(*), sum(w) FROM ident;
VACUUM FULL pg_class;
VACUUM (FREEZE, ANALYZE);
SELECT count(*), sum(id) FROM items;
DROP TABLE prepared_table;

-- large objects, COPY, cursors
SELECT lo_from_bytea(4242, convert_to(repeat('large object ', 10000), 'UTF8'));
SELECT length(lo_get(4242)), md5(lo_get(4242));
COPY (SELECT id, name FROM items WHERE id < 60 ORDER BY id) TO STDOUT;
CREATE TABLE copied (id int, name text);
COPY copied FROM STDIN;
1	one
2	two
3	\N
\.
SELECT * FROM copied ORDER BY id;
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id;
FETCH 3 FROM c;
DELETE FROM copied;
MOVE FORWARD 100 IN c;
FETCH 2 FROM c;
COMMIT;

-- databases
CREATE DATABASE copy_wal STRATEGY WAL_LOG;
CREATE DATABASE copy_file STRATEGY FILE_COPY;
\c copy_file
SET client_min_messages = warning;
CREATE TABLE t AS SELECT i, md5(i::text) m FROM generate_series(1, 2000) i;
SELECT count(*), min(m) FROM t;
\c copy_wal
SET client_min_messages = warning;
CREATE TABLE t AS SELECT i, md5(i::text) m FROM generate_series(1, 2000) i;
SELECT count(*), max(m) FROM t;
\c postgres
CREATE DATABASE copy_of_copy TEMPLATE copy_file STRATEGY FILE_COPY;
\c copy_of_copy
SELECT count(*), min(m) FROM t;
\c postgres
DROP DATABASE copy_file;
SELECT datname FROM pg_database ORDER BY datname;
