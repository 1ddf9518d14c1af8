-- check.sql: each line of output is a problem.  The temporary table told (client, seq, state) has what test/load/ledger
-- was told; the comment at the head of ledger.c explains the states.
\set QUIET on
SET statement_timeout = '120s';

-- what clients were told, and what is there
SELECT format('client %s, transaction %s, kind %s: told %s, %s in the ledger, %s prepared',
              client, seq, coalesce(kind, 'unknown'), coalesce(state::text, 'nothing'),
              CASE WHEN kind IS NULL THEN 'not' ELSE 'is' END, CASE WHEN gid IS NULL THEN 'not' ELSE 'is' END)
  FROM told FULL JOIN ledger USING (client, seq)
       FULL JOIN (SELECT gid, split_part(gid, '_', 2)::int AS client, split_part(gid, '_', 3)::int AS seq FROM pg_prepared_xacts) p
       USING (client, seq)
 WHERE NOT CASE state
           WHEN 'A' THEN kind IS NOT NULL AND gid IS NULL
           WHEN 'F' THEN kind IS NULL AND gid IS NULL
           WHEN 'U' THEN gid IS NULL
           WHEN 'P' THEN kind IS NULL AND gid IS NOT NULL
           WHEN 'Q' THEN kind IS NULL
           WHEN 'C' THEN (kind IS NULL) <> (gid IS NULL)
           WHEN 'D' THEN kind IS NULL
           ELSE false END
 LIMIT 20;

-- sums
SELECT format('sums differ: ledger %s, accounts %s, tellers %s, branches %s', l, a, t, b)
  FROM (SELECT coalesce(sum(n), 0) l FROM ledger WHERE kind IN ('money', '2pc')) l,
       (SELECT sum(balance) a FROM accounts) a, (SELECT sum(balance) t FROM tellers) t, (SELECT sum(balance) b FROM branches) b
 WHERE l <> a OR l <> t OR l <> b;
SELECT format('table wide: the sum is %s, of %s rows, ledger %s', v, rows, l)
  FROM (SELECT sum(v) v, count(*) AS rows FROM wide) w, (SELECT coalesce(sum(n), 0) l FROM ledger WHERE kind = 'long') l
 WHERE v <> l OR rows <> 3000;

-- rows of COPY, values of the sequence
SELECT format('table bulk, client %s, transaction %s: %s rows, expected %s', client, seq, b.rows, n)
  FROM (SELECT * FROM ledger WHERE kind = 'copy' AND n <> 0) l FULL JOIN (SELECT client, seq, count(*) AS rows FROM bulk GROUP BY 1, 2) b
       USING (client, seq)
 WHERE b.rows IS DISTINCT FROM n;
SELECT format('table numbers, client %s, transaction %s: %s, expected %s', client, seq, v, n)
  FROM (SELECT * FROM ledger WHERE kind = 'number') l FULL JOIN numbers USING (client, seq)
 WHERE v IS DISTINCT FROM n;
SELECT format('sequence at %s, and a number %s was given', last_value, v)
  FROM numbers_v_seq, (SELECT max(v) v FROM numbers) n WHERE v > last_value;

-- tables created by DDL: they exist or not, with their rows, which all indexes find
CREATE FUNCTION pg_temp.check_made() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	made record;
	condition text;
	rows bigint;
	found bigint;
BEGIN
	FOR made IN
		SELECT coalesce(c.relname, format('made_%s_%s', l.client, l.seq)) AS name, c.oid, l.n, c.relpersistence
		  FROM (SELECT * FROM ledger WHERE kind = 'made' AND n >= 0) l
		       FULL JOIN (SELECT * FROM pg_class WHERE relkind = 'r' AND relname LIKE 'made\_%') c
		       ON c.relname = format('made_%s_%s', l.client, l.seq)
	LOOP
		IF made.oid IS NULL OR made.n IS NULL OR made.relpersistence <> 'p' THEN
			RETURN NEXT format('table %s: %s, persistence %s, expected %s rows', made.name,
							   CASE WHEN made.oid IS NULL THEN 'is missing' ELSE 'exists' END, made.relpersistence, coalesce(made.n::text, 'no'));
			CONTINUE;
		END IF;
		FOREACH condition IN ARRAY ARRAY['true', 'id > 0', 'txt = ''text 3''', 'substr(txt, 1, 20) = ''text 5''', 'arr @> ARRAY[3]', 'p <@ box ''(5,5),(9,9)''']
		LOOP
			PERFORM set_config('enable_seqscan', 'on', true), set_config('enable_indexscan', 'off', true),
					set_config('enable_bitmapscan', 'off', true), set_config('enable_indexonlyscan', 'off', true);
			EXECUTE format('SELECT count(*) FROM %I WHERE %s', made.name, condition) INTO rows;
			PERFORM set_config('enable_seqscan', 'off', true), set_config('enable_indexscan', 'on', true),
					set_config('enable_bitmapscan', 'on', true), set_config('enable_indexonlyscan', 'on', true);
			EXECUTE format('SELECT count(*) FROM %I WHERE %s', made.name, condition) INTO found;
			IF rows <> found OR (condition = 'true' AND rows <> made.n) THEN
				RETURN NEXT format('table %s: %s rows with %s, by index %s, the ledger says %s', made.name, rows, condition, found, made.n);
			END IF;
		END LOOP;
	END LOOP;
	RESET enable_seqscan;
END
$$;
SELECT * FROM pg_temp.check_made();

-- the structure of tables and indexes, including catalogs
SELECT format('table %s: block %s, item %s: %s', c.oid::regclass, v.blkno, v.offnum, v.msg)
  FROM pg_class c, LATERAL verify_heapam(c.oid::regclass, check_toast => true) v
 WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't';
CREATE FUNCTION pg_temp.check_index(index regclass) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM bt_index_check(index, true);
	RETURN NULL;
EXCEPTION WHEN index_corrupted OR data_corrupted THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN format('index %s: %s (%s)', index, SQLERRM, detail);
END
$$;
SELECT r
  FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam,
       LATERAL pg_temp.check_index(c.oid::regclass) r
 WHERE a.amname = 'btree' AND i.indisvalid AND i.indisready AND c.relpersistence <> 't' AND r IS NOT NULL;

-- one slot, the WAL worker's
SELECT format('replication slot %s, active: %s', slot_name, active) FROM pg_replication_slots WHERE slot_name NOT LIKE 'pageserver%' OR NOT active;
SELECT format('%s replication slots', count(*)) FROM pg_replication_slots HAVING count(*) <> 1;

-- files that belong to no relation; that of a dropped relation is removed by the next checkpoint
CHECKPOINT;
SELECT format('file %s/%s belongs to no relation', dir, f)
  FROM (VALUES ('base/' || (SELECT oid FROM pg_database WHERE datname = current_database())), ('global')) d(dir), LATERAL pg_ls_dir(dir) f
 WHERE f ~ '^\d+' AND NOT EXISTS (SELECT FROM pg_class WHERE pg_relation_filenode(oid) = substring(f FROM '^\d+')::oid);
SELECT format('temporary file %s', f) FROM pg_ls_dir('base/' || (SELECT oid FROM pg_database WHERE datname = current_database())) f
 WHERE f ~ '^t\d+_' AND NOT EXISTS (SELECT FROM pg_class WHERE relpersistence = 't' AND pg_relation_filepath(oid) LIKE '%/' || regexp_replace(f, '\.\d+$|_fsm$|_vm$', ''));
SELECT format('temporary file pgsql_tmp/%s', f) FROM pg_ls_dir('base/pgsql_tmp', true, false) f;
SELECT format('file pg_twophase/%s belongs to no prepared transaction', f) FROM pg_ls_dir('pg_twophase') f
 WHERE NOT EXISTS (SELECT FROM pg_prepared_xacts WHERE to_hex(transaction::text::bigint) = ltrim(lower(f), '0'));
SELECT format('pg_wal holds %s files', count(*)) FROM pg_ls_dir('pg_wal') HAVING count(*) > 20;
