/*
 * control.h
 *	  Reading and making pg_control.
 */
#ifndef PS_PG_CONTROL_H
#define PS_PG_CONTROL_H

#include "catalog/pg_control.h"

#include "base/error.h"
#include "pg/walstate.h"

/*
 * Checks length, CRC, version and layout constants of a control file; "what" names it
 * in errors (CORRUPTED, or STATE if it belongs to another version or build).
 */
extern PsError *control_decode(const char *data, size_t len, const char *what, ControlFileData *control);

/* An error with a hint unless the control file says that the cluster was shut down cleanly. */
extern PsError *control_check_shutdown(const ControlFileData *control, const char *pgdata);

/*
 * Makes the control file of a cluster that was shut down with the checkpoint record at
 * checkpoint_lsn.  "base" has what never changes: identifiers and layout.
 */
extern void control_make(const ControlFileData *base, const WalState *state, const CheckPoint *checkpoint,
						 XLogRecPtr checkpoint_lsn, pg_time_t now, char out[PG_CONTROL_FILE_SIZE]);

/*
 * Which cluster, in which state, a control file belongs to: a client and the store
 * compare this to find out whether a path names the same directory for both.  The
 * CRC covers the rest of pg_control, which includes a random number made by initdb.
 */
#define CONTROL_IDENTITY_SIZE 64
extern void control_identity(const ControlFileData *control, char identity[CONTROL_IDENTITY_SIZE]);

#endif /* PS_PG_CONTROL_H */
