-- What test/sql/ddl.sql left: run before and after the compute is replaced.
SELECT count(*), sum(id), sum(length(body)), md5(string_agg(body, ',' ORDER BY id)) FROM items;
SET enable_seqscan = off;
SELECT count(*) FROM items WHERE tags @> ARRAY['t3'];
SELECT count(*) FROM items WHERE doc @> '{"k": 5}';
SELECT count(*) FROM items WHERE loc <@ box '((10,10),(20,20))';
SELECT count(*) FROM items WHERE span && int4range(100, 120);
SELECT count(*) FROM items WHERE name = 'item 77';
SELECT count(*) FROM items WHERE id BETWEEN 1000 AND 1100;
RESET enable_seqscan;
SELECT tableoid::regclass, count(*), sum(n) FROM events GROUP BY 1 ORDER BY 1::text;
SELECT op, count(*) FROM audit GROUP BY op ORDER BY op;
SELECT * FROM moods ORDER BY m;
SELECT * FROM happy ORDER BY 1, 2;
SELECT * FROM counts ORDER BY m;
SELECT count(*), sum(w) FROM ident;
SELECT count(*) FROM u2;
SELECT length(lo_get(4242)), md5(lo_get(4242));
SELECT count(*) FROM copied;
SELECT relname, relkind, relpersistence FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1;
SELECT datname FROM pg_database ORDER BY datname;
\c copy_wal
SELECT count(*), max(m) FROM t;
\c copy_of_copy
SELECT count(*), min(m) FROM t;
