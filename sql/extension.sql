--
-- The extension's views, functions and settings
--
CREATE EXTENSION pageserver_smgr;
\dx+ pageserver_smgr
\d pageserver_smgr_cache
\d pageserver_smgr_store
-- what is always so on a compute
SELECT size > 0 AS size, coalesce(size_limit >= size, true) AS size_limit, used > 0 AS used,
       spilled <= used AS spilled, kept <= used AS kept, misses > 0 AS misses, io_errors
  FROM pageserver_smgr_cache;
SELECT tenant ~ '^[0-9a-f]{32}$' AS tenant, tenant = current_setting('pageserver_smgr.tenant') AS same_tenant,
       timeline = current_setting('pageserver_smgr.timeline') AS timeline,
       generation::text = current_setting('pageserver_smgr.generation') AS generation,
       connected, connected_since <= now() AS connected_since,
       flushed_lsn <= sent_lsn AS flushed, ingested_lsn <= sent_lsn AS ingested,
       requests > 0 AS requests, pages > 0 AS pages, prefetch_hits + prefetch_dropped <= prefetched AS prefetched,
       wait_time > 0 AS wait_time
  FROM pageserver_smgr_store;
-- the WAL worker is the synchronous standby, and a background worker
SELECT r.application_name, backend_type, r.state, sync_priority, sync_state
  FROM pg_stat_replication r JOIN pg_stat_activity USING (pid) JOIN pageserver_smgr_store ON pid = worker_pid;
SELECT slot_name, slot_type, active, wal_status FROM pg_replication_slots;
\set VERBOSITY sqlstate
SELECT pg_drop_replication_slot('pageserver');
\set VERBOSITY default
-- a commit is acknowledged when the store has it
CREATE TABLE commit_test (lsn pg_lsn);
INSERT INTO commit_test VALUES (pg_current_wal_insert_lsn());
SELECT flushed_lsn > lsn AS flushed FROM commit_test, pageserver_smgr_store;
SET synchronous_commit = remote_apply;
INSERT INTO commit_test VALUES (pg_current_wal_insert_lsn());
SELECT ingested_lsn > max(lsn) AS ingested FROM commit_test, pageserver_smgr_store GROUP BY ingested_lsn;
RESET synchronous_commit;
DROP TABLE commit_test;
-- for monitoring roles only
CREATE ROLE regress_smgr_user;
SET ROLE regress_smgr_user;
SELECT size FROM pageserver_smgr_cache;
SELECT connected FROM pageserver_smgr_store;
SELECT pageserver_smgr_get_cache();
SELECT pageserver_smgr_get_store();
SHOW pageserver_smgr.store;
RESET ROLE;
GRANT pg_monitor TO regress_smgr_user;
SET ROLE regress_smgr_user;
SELECT size > 0 AS size FROM pageserver_smgr_cache;
SELECT connected FROM pageserver_smgr_store;
RESET ROLE;
DROP ROLE regress_smgr_user;
-- what a compute must have cannot be changed
SELECT name, setting, source FROM pg_settings
 WHERE name IN ('fsync', 'full_page_writes', 'restart_after_crash', 'wal_log_hints', 'max_slot_wal_keep_size', 'archive_mode')
 ORDER BY name COLLATE "C";
SELECT length(trim('"' FROM setting)) > 63 AS longer_than_any_name, source
  FROM pg_settings WHERE name = 'synchronous_standby_names';
ALTER SYSTEM SET fsync = on;
ALTER SYSTEM SET full_page_writes = on;
ALTER SYSTEM SET synchronous_standby_names = '';
ALTER SYSTEM SET restart_after_crash = on;
ALTER SYSTEM SET max_slot_wal_keep_size = '1GB';
SELECT pg_reload_conf();
SELECT pg_sleep(0.5);
SELECT name, setting, source FROM pg_settings
 WHERE name IN ('fsync', 'full_page_writes', 'restart_after_crash', 'max_slot_wal_keep_size')
 ORDER BY name COLLATE "C";
SHOW synchronous_standby_names;
ALTER SYSTEM RESET fsync;
ALTER SYSTEM RESET full_page_writes;
ALTER SYSTEM RESET synchronous_standby_names;
ALTER SYSTEM RESET restart_after_crash;
ALTER SYSTEM RESET max_slot_wal_keep_size;
SELECT pg_reload_conf();
-- bad values, and what is nobody's to set
ALTER SYSTEM SET pageserver_smgr.store = 'host=a';
ALTER SYSTEM SET pageserver_smgr.tenant = '0123456789abcdef0123456789abcdef';
ALTER SYSTEM SET pageserver_smgr.timeline = '0123456789abcdef0123456789abcdef';
ALTER SYSTEM SET pageserver_smgr.generation = '1';
ALTER SYSTEM SET pageserver_smgr.checkpoint_lsn = '0/1500028';
SET pageserver_smgr.readahead = 129;
SET pageserver_smgr.tenant = '0123456789abcdef0123456789abcdef';
SET pageserver_smgr.no_such_setting = 1;
-- settings get to parallel workers
SET pageserver_smgr.readahead = 7;
SET force_parallel_mode = on;
SELECT current_setting('pageserver_smgr.readahead');
RESET force_parallel_mode;
RESET pageserver_smgr.readahead;
-- relocatable
CREATE SCHEMA smgr;
ALTER EXTENSION pageserver_smgr SET SCHEMA smgr;
SELECT connected FROM smgr.pageserver_smgr_store;
DROP EXTENSION pageserver_smgr;
DROP SCHEMA smgr;
