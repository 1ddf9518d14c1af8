/*
 * wal_worker_impl.h
 *	  Private to wal_worker*.c.
 *
 *	wal_worker.c			the process and its connections
 *	wal_worker_stream.c		sends WAL, processes replies
 *	wal_worker_status.c		the file pageserver_smgr.status
 *	wal_worker_standby.c	the walsender that the rest of the server sees
 *	wal_worker_stop.c		how the worker ends
 */
#ifndef PS_WAL_WORKER_IMPL_H
#define PS_WAL_WORKER_IMPL_H

#include <signal.h>

#include "store_conn.h"
#include "wal_progress_impl.h"

#define STANDBY_NAME "pageserver" /* application_name, and name of the replication slot */

/* ---- wal_worker_stream.c ---- */

/* To be called once, in a memory context that is never reset. */
extern void stream_init(void);

/* Streams WAL until the connection is lost.  Returns the reason, palloc'd, and sets sqlstate. */
extern char *stream_wal(StoreConn *stream_conn, char sqlstate[6]);

/* When the worker found that there is no connection; 0: WAL is being streamed, or no connection was tried yet. */
extern TimestampTz outage_since;

/* When streaming began on this connection; 0: the store has not said yet where it should start. */
extern TimestampTz streaming_since;

/* ---- wal_worker_standby.c ---- */

/* Acquires the WalSnd slot and the replication slot. */
extern void standby_init(void);

/* WAL before lsn is no longer needed.  first: this is the first call on this connection. */
extern void standby_advance_slot(XLogRecPtr lsn, bool first);

/* WAL is being streamed, and has been sent up to this LSN. */
extern void standby_streaming(XLogRecPtr sent);
extern void standby_sent(XLogRecPtr sent);

/* The store has reported at this time what it has: releases the commits that have waited for it. */
extern void standby_acknowledged(XLogRecPtr written, XLogRecPtr flushed, XLogRecPtr applied, TimestampTz time);

/* The connection was lost: no more WAL is sent. */
extern void standby_disconnected(void);

/* ---- wal_worker_status.c: the file pageserver_smgr.status ---- */

/*
 * status_file_update() writes the file if it is due; to be called often.
 * status_file_due() returns the ms until then.
 */
extern void status_file_update(void);
extern long status_file_due(void);

/* The state has changed in a way that users want to know immediately: makes the file due. */
extern void status_file_changed(void);
extern void status_file_remove(void);

/* ---- wal_worker_stop.c ---- */

/* The signal handler for SIGTERM. */
extern void wal_worker_handle_sigterm(int signo, siginfo_t *info, void *context);

/*
 * To be called in each iteration of each loop of the worker: reloads the
 * configuration, checks for interrupts, updates the status file, calls
 * wal_worker_exit_if_stopping().
 */
extern void wal_worker_housekeeping(StoreConn *conn);

/* Exits if the worker was told to stop and may do so.  conn, if not NULL, is closed then. */
extern void wal_worker_exit_if_stopping(StoreConn *conn);

/*
 * Limit a timeout in ms: of a wait, so that wal_worker_exit_if_stopping() is
 * called in time; of an attempt to connect.
 */
extern long wal_worker_limit_wait(long timeout_ms);
extern long wal_worker_limit_connect(long timeout_ms);

/*
 * The store will never accept WAL of this compute, so that no commit can finish
 * and retrying is useless: stops the server.
 */
extern void wal_worker_give_up(const char *detail) pg_attribute_noreturn();

#endif /* PS_WAL_WORKER_IMPL_H */
