/* sql/pageserver_smgr--1.0.sql */

-- complain if script is sourced in psql, rather than via CREATE EXTENSION
\echo Use "CREATE EXTENSION pageserver_smgr" to load this file. \quit

-- The local cache of pages.  Sizes are in bytes, counters since the start of
-- the server.
CREATE FUNCTION pageserver_smgr_get_cache(
	OUT size bigint,			-- pageserver_smgr.cache_size
	OUT size_limit bigint,		-- pageserver_smgr.cache_limit; null: none
	OUT used bigint,
	OUT spilled bigint,			-- of it, beyond size, for pages that had to be kept
	OUT kept bigint,			-- pages that must not leave the cache now
	OUT hits bigint,
	OUT misses bigint,
	OUT writes bigint,			-- pages written by PostgreSQL
	OUT fills bigint,			-- pages taken from the store
	OUT evictions bigint,
	OUT io_errors bigint)
RETURNS record
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

-- The store, how far it has this compute's WAL, and what was asked of it.
CREATE FUNCTION pageserver_smgr_get_store(
	OUT store text,
	OUT tenant text,
	OUT timeline text,
	OUT generation numeric,
	OUT worker_pid integer,		-- of the WAL worker
	OUT connected boolean,
	OUT connected_since timestamptz,
	OUT sent_lsn pg_lsn,
	OUT flushed_lsn pg_lsn,		-- durable in the store: commits up to here are acknowledged
	OUT ingested_lsn pg_lsn,	-- reads in the store see it
	OUT flush_lag bigint,		-- bytes of WAL
	OUT ingest_lag bigint,
	OUT last_error text,
	OUT requests bigint,
	OUT pages bigint,			-- asked for, also ahead of need
	OUT prefetched bigint,		-- of them, ahead of need
	OUT prefetch_hits bigint,
	OUT prefetch_dropped bigint,	-- outdated or not needed after all
	OUT reconnects bigint,
	OUT wait_time double precision, -- ms, of all processes, for answers
	OUT max_lag bigint)			-- pageserver_smgr.max_wal_lag, bytes
RETURNS record
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

-- Empties the local cache, but for pages that must be kept: for tests and
-- measurements.
CREATE FUNCTION pageserver_smgr_clear_cache()
RETURNS void
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

-- Relations in the store, of this database and of such as do not exist, that no
-- catalog names: a server that was killed while it created or moved them left
-- them behind.  With remove they are dropped when the transaction commits.
CREATE FUNCTION pageserver_smgr_orphans(
	remove boolean DEFAULT false,
	OUT tablespace oid,
	OUT database oid,
	OUT filenode oid,
	OUT size bigint)			-- bytes
RETURNS SETOF record
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE VIEW pageserver_smgr_cache AS
	SELECT * FROM pageserver_smgr_get_cache();

CREATE VIEW pageserver_smgr_store AS
	SELECT * FROM pageserver_smgr_get_store();

REVOKE ALL ON FUNCTION pageserver_smgr_get_cache() FROM PUBLIC;
REVOKE ALL ON FUNCTION pageserver_smgr_get_store() FROM PUBLIC;
REVOKE ALL ON FUNCTION pageserver_smgr_clear_cache() FROM PUBLIC;
REVOKE ALL ON FUNCTION pageserver_smgr_orphans(boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pageserver_smgr_get_cache() TO pg_monitor;
GRANT EXECUTE ON FUNCTION pageserver_smgr_get_store() TO pg_monitor;
GRANT SELECT ON pageserver_smgr_cache TO pg_monitor;
GRANT SELECT ON pageserver_smgr_store TO pg_monitor;
