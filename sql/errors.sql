--
-- What a compute refuses
--
SELECT pg_backup_start('label');
SET fsync = off;
SET pageserver_smgr.generation = 1;
SET pageserver_smgr.readahead = -1;
-- a tablespace with a relation, whose file is not here
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE regress_smgr_space LOCATION '';
CREATE TABLE smgr_in_space (i int) TABLESPACE regress_smgr_space;
DROP TABLESPACE regress_smgr_space;
DROP TABLE smgr_in_space;
DROP TABLESPACE regress_smgr_space;
-- an older version of the extension can be updated, and there is none newer
CREATE EXTENSION pageserver_smgr VERSION '1.0';
SELECT count(*) AS waits_for FROM pg_attribute WHERE attrelid = 'pageserver_smgr_store'::regclass AND attname = 'waits_for';
ALTER EXTENSION pageserver_smgr UPDATE;
SELECT extversion = default_version AS newest, count(waits_since) AS waits
  FROM pg_extension JOIN pg_available_extensions ON name = extname, pageserver_smgr_store
 WHERE extname = 'pageserver_smgr' GROUP BY 1;
ALTER EXTENSION pageserver_smgr UPDATE TO '99';
DROP EXTENSION pageserver_smgr;
