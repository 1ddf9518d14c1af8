/*
 * import.h
 *	  What the files of the import know of each other.
 */
#ifndef PS_IMPORT_H
#define PS_IMPORT_H

#include "backup/backup.h"

/*
 * import.c: makes dir (which must exist and be empty) what
 * store_add_timeline() takes: wal/ and layers/, durable.  The seed has its name
 * and ids, the rest is filled in; seed->layers must be released with
 * import_free_layers(), after an error, too.
 */
extern PsError *import_data_directory(const char *pgdata, const char *dir, const CancelCheck *cancel,
									  const ProgressSink *progress, TimelineSeed *seed);
extern void import_free_layers(TimelineSeed *seed);

/*
 * import_wal.c: copies the WAL that holds the shutdown checkpoint to wal_dir,
 * as of timeline 1, and nothing after it; *end is where it ends.
 */
extern PsError *import_wal(const char *pgdata, const char *wal_dir, const ControlFileData *control, XLogRecPtr *end);

/*
 * import_layers.c: the contents of dir as image layers at seed->lsn, in seed->space.  control
 * is the file as it is, PG_CONTROL_FILE_SIZE bytes.
 */
extern PsError *import_layers(const DataDir *dir, const char *control, const WalState *state,
							  const CancelCheck *cancel, const ProgressSink *progress, TimelineSeed *seed);

#endif /* PS_IMPORT_H */
