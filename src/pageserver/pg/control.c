/*
 * control.c
 *	  Reading and making pg_control (docs/postgres-facts.md, section 6).
 *
 * The file is one struct in the machine's own layout, ControlFileData, with a
 * CRC-32C over all that comes before the CRC, padded with zeros to 8192 bytes
 * (src/include/catalog/pg_control.h; WriteControlFile() of xlog.c).
 */
#include "ps_fe.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/catversion.h"
#include "storage/bufpage.h"

#include "sqlstate.h"
#include "pg/control.h"

static pg_crc32c
control_crc(const ControlFileData *control)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, control, offsetof(ControlFileData, crc));
	FIN_CRC32C(crc);
	return crc;
}

/* The version comes first: a control file of another version has its CRC elsewhere. */
PsError *
control_decode(const char *data, size_t len, const char *what, ControlFileData *control)
{
	if (len < sizeof(ControlFileData))
		return ps_error(PS_SQLSTATE_CORRUPTED, "%s has %zu bytes, expected %d", what, len, PG_CONTROL_FILE_SIZE);
	memcpy(control, data, sizeof(ControlFileData));

	if (control->pg_control_version != PG_CONTROL_VERSION)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "%s is of another version of PostgreSQL: "
									  "it has control file version %u, expected %u",
									  what, control->pg_control_version, PG_CONTROL_VERSION),
							 "This store holds clusters of PostgreSQL %s; upgrade the cluster with pg_upgrade first.",
							 PG_MAJORVERSION);
	if (!EQ_CRC32C(control_crc(control), control->crc))
		return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED, "%s has CRC %08X, expected %08X", what, control->crc,
									  control_crc(control)),
							 "The file is damaged; restore the cluster from a backup.");
	if (control->catalog_version_no != CATALOG_VERSION_NO)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "%s has catalog version %u, expected %u", what,
									  control->catalog_version_no, CATALOG_VERSION_NO),
							 "This store holds clusters of PostgreSQL %s; upgrade the cluster with pg_upgrade first.",
							 PG_MAJORVERSION);

#define CHECK_CONSTANT(field, value)                                                                             \
	if (control->field != (value))                                                                               \
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "%s has " #field " %u, this store was built with %u", what, \
								  (unsigned) control->field, (unsigned) (value)),                                \
						 "Clusters of a PostgreSQL built with other constants cannot be kept here; use pg_dump.")
	CHECK_CONSTANT(maxAlign, MAXIMUM_ALIGNOF);
	CHECK_CONSTANT(blcksz, BLCKSZ);
	CHECK_CONSTANT(relseg_size, RELSEG_SIZE);
	CHECK_CONSTANT(xlog_blcksz, XLOG_BLCKSZ);
	CHECK_CONSTANT(nameDataLen, NAMEDATALEN);
	CHECK_CONSTANT(indexMaxKeys, INDEX_MAX_KEYS);
#undef CHECK_CONSTANT
	if (control->floatFormat != FLOATFORMAT_VALUE)
		return ps_error(PS_SQLSTATE_STATE, "%s has floatFormat %g, this machine has %g", what, control->floatFormat,
						FLOATFORMAT_VALUE);
	if (!IsValidWalSegSize(control->xlog_seg_size))
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"%s has WAL segments of %u bytes, expected a power of two from 1 MB to 1 GB", what,
						control->xlog_seg_size);
	if (control->data_checksum_version > PG_DATA_CHECKSUM_VERSION)
		return ps_error(PS_SQLSTATE_STATE, "%s has data checksums of version %u, expected 0 or %u",
						what, control->data_checksum_version, PG_DATA_CHECKSUM_VERSION);

	/* checked as they are in the file, used as C knows them */
	control->backupEndRequired = wal_bool(&control->backupEndRequired);
	control->wal_log_hints = wal_bool(&control->wal_log_hints);
	control->track_commit_timestamp = wal_bool(&control->track_commit_timestamp);
	control->float8ByVal = wal_bool(&control->float8ByVal);
	control->checkPointCopy.fullPageWrites = wal_bool(&control->checkPointCopy.fullPageWrites);
	return NULL;
}

PsError *
control_check_shutdown(const ControlFileData *control, const char *pgdata)
{
	PsError *err;

	switch (control->state)
	{
		case DB_SHUTDOWNED:
			return NULL;
		case DB_SHUTDOWNED_IN_RECOVERY:
		case DB_IN_ARCHIVE_RECOVERY:
			err = ps_error(PS_SQLSTATE_STATE, "the cluster in \"%s\" is a standby", pgdata);
			return ps_error_hint(err,
								 "Promote it (pg_ctl promote), then stop it with \"pg_ctl stop -m fast\", "
								 "and import it again.");
		default:
			err = ps_error(PS_SQLSTATE_STATE, "the cluster in \"%s\" was not shut down cleanly, or is running", pgdata);
			return ps_error_hint(err,
								 "Start it if it does not run, so that it recovers, "
								 "stop it with \"pg_ctl stop -m fast\", and import it again.");
	}
}

void
control_make(const ControlFileData *base, const WalState *state, const CheckPoint *checkpoint,
			 XLogRecPtr checkpoint_lsn, pg_time_t now, char out[PG_CONTROL_FILE_SIZE])
{
	ControlFileData control;

	/* base was read from a file, so its padding is defined, and the result is the same on each call */
	memcpy(&control, base, sizeof(control));
	control.state = DB_SHUTDOWNED;
	control.time = now;
	control.checkPoint = checkpoint_lsn;
	memcpy(&control.checkPointCopy, checkpoint, sizeof(CheckPoint));
	control.unloggedLSN = FirstNormalUnloggedLSN;
	control.minRecoveryPoint = InvalidXLogRecPtr;
	control.minRecoveryPointTLI = 0;
	control.backupStartPoint = InvalidXLogRecPtr;
	control.backupEndPoint = InvalidXLogRecPtr;
	control.backupEndRequired = false;
	control.wal_level = state->wal_level;
	control.wal_log_hints = state->wal_log_hints;
	control.MaxConnections = state->max_connections;
	control.max_worker_processes = state->max_worker_processes;
	control.max_wal_senders = state->max_wal_senders;
	control.max_prepared_xacts = state->max_prepared_xacts;
	control.max_locks_per_xact = state->max_locks_per_xact;
	control.track_commit_timestamp = state->track_commit_timestamp;
	control.crc = control_crc(&control);

	memset(out, 0, PG_CONTROL_FILE_SIZE);
	memcpy(out, &control, sizeof(control));
}

void
control_identity(const ControlFileData *control, char identity[CONTROL_IDENTITY_SIZE])
{
	snprintf(identity, CONTROL_IDENTITY_SIZE, UINT64_FORMAT "-%llX-%08X", control->system_identifier,
			 (unsigned long long) control->checkPoint, control->crc);
}
