/*
 * import.h
 *	  Clusters become branches: data directories on this machine, data
 *	  directories that a client sends, and new clusters.
 *
 * These functions run in the thread of the connection that asked for them, any
 * number at once.  The name must not be in use.  progress may be NULL.  After an
 * error nothing is left behind.
 */
#ifndef PS_IMPORT_H
#define PS_IMPORT_H

#include "base/bytesink.h"
#include "store/store.h"

/* Imports a cluster that was shut down cleanly.  pgdata is only read. */
extern PsError *import_cluster(Store *store, const char *name, const char *pgdata, const CancelCheck *cancel,
							   const ProgressSink *progress, Timeline **tl);

/*
 * Checks whether the store finds the same cluster in pgdata as the client, which
 * may be on another machine.  identity is what the client has found
 * (control_identity() in pg/control.h).  PS_SQLSTATE_ELSEWHERE if it is another cluster, or
 * cannot be read here.
 */
extern PsError *import_check_identity(const char *pgdata, const char *identity);

/* Imports a cluster whose data directory the client sends as a tar (import_stream.c). */
extern PsError *import_stream(Store *store, const char *name, ByteSource source, const CancelCheck *cancel,
							  const ProgressSink *progress, Timeline **tl);

/* Imports a new cluster, created by initdb. */
extern PsError *import_initdb(Store *store, const char *name, bool data_checksums, const CancelCheck *cancel,
							  const ProgressSink *progress, Timeline **tl);

#endif /* PS_IMPORT_H */
