/*
 * control.h
 *	  Reading and writing pg_control.
 */
#ifndef PS_CONTROL_H
#define PS_CONTROL_H

#include "catalog/pg_control.h"

#include "base/error.h"
#include "wal/wal.h"

/*
 * Checks the length, CRC, version and layout constants of a pg_control file and
 * copies its contents to *control.  "what" names the file in errors.
 */
extern PsError *control_decode(const char *data, size_t len, const char *what, ControlFileData *control);

/* Returns an error that says what to do, unless the cluster was shut down cleanly. */
extern PsError *control_check_shutdown(const ControlFileData *control, const char *pgdata);

/*
 * Creates the pg_control file of a cluster that was shut down with the checkpoint
 * record at checkpoint_lsn.  "base" supplies what never changes (identifiers,
 * layout).
 */
extern void control_make(const ControlFileData *base, const WalState *state, const CheckPoint *checkpoint,
						 XLogRecPtr checkpoint_lsn, pg_time_t now, char out[PG_CONTROL_FILE_SIZE]);

#endif /* PS_CONTROL_H */
