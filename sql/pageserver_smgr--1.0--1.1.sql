/* sql/pageserver_smgr--1.0--1.1.sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION pageserver_smgr UPDATE TO '1.1'" to load this file. \quit

-- The view of the store says what is waited for.
ALTER EXTENSION pageserver_smgr DROP VIEW pageserver_smgr_store;
ALTER EXTENSION pageserver_smgr DROP FUNCTION pageserver_smgr_get_store();
DROP VIEW pageserver_smgr_store;
DROP FUNCTION pageserver_smgr_get_store();

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
	OUT max_lag bigint,			-- pageserver_smgr.max_wal_lag, bytes
	OUT waits_for text,			-- why commits or reads wait now; null: they do not
	OUT waits_since timestamptz)
RETURNS record
AS 'MODULE_PATHNAME'
LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE VIEW pageserver_smgr_store AS
	SELECT * FROM pageserver_smgr_get_store();

REVOKE ALL ON FUNCTION pageserver_smgr_get_store() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pageserver_smgr_get_store() TO pg_monitor;
GRANT SELECT ON pageserver_smgr_store TO pg_monitor;
