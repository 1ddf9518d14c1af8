/*
 * wal_worker.h
 *	  What the parts of the WAL worker know of each other: wal_worker.c (the
 *	  process, and its connections), wal_worker_stream.c (WAL goes, replies
 *	  come), wal_worker_status.c (what it tells in a file), wal_worker_standby.c (what the rest of the server takes it for),
 *	  wal_worker_stop.c (how it ends).
 */
#ifndef PS_WAL_WORKER_IMPL_H
#define PS_WAL_WORKER_IMPL_H

#include <signal.h>

#include "store_conn.h"
#include "wal_progress_impl.h"

#define STANDBY_NAME "pageserver" /* application_name, and name of the slot */

/* ---- wal_worker_stream.c ---- */

/* Once, in a memory context that lasts. */
extern void stream_init(void);

/*
 * Streams until the connection is lost.  Returns why, palloc'd, and the store's
 * SQLSTATE.
 */
extern char *stream_wal(StoreConn *stream_conn, char sqlstate[6]);

extern TimestampTz outage_since;    /* set by who finds that there is no connection; 0: none, or WAL goes again */
extern TimestampTz streaming_since; /* 0: the store has not said yet from where on to send */

/* ---- wal_worker_standby.c ---- */

/* Takes the WalSnd slot and the replication slot. */
extern void standby_init(void);

/* WAL before this is needed no more.  first: on this connection. */
extern void standby_advance_slot(XLogRecPtr lsn, bool first);

/* WAL goes to the store, from sent on. */
extern void standby_streaming(XLogRecPtr sent);
extern void standby_sent(XLogRecPtr sent);

/* What the store has, as it said at that time: releases commits that have waited for it. */
extern void standby_acknowledged(XLogRecPtr written, XLogRecPtr flushed, XLogRecPtr applied, TimestampTz time);

extern void standby_disconnected(void);

/* ---- wal_worker_status.c: the file pageserver_smgr.status ---- */

/* To be called often: writes the file if it is time.  status_file_due(): ms until then. */
extern void status_file_update(void);
extern long status_file_due(void);

/* There is something that people wait to hear: the next status_file_update() writes it. */
extern void status_file_changed(void);
extern void status_file_remove(void);

/* ---- wal_worker_stop.c ---- */

extern void wal_worker_handle_sigterm(int signo, siginfo_t *info, void *context);

/*
 * To be called in each round of each loop: what a process does now and then,
 * and wal_worker_exit_if_stopping().
 */
extern void wal_worker_housekeeping(StoreConn *conn);

/*
 * Ends the process, if it was told to and may.  conn: the connection, to be
 * closed then; NULL: none.
 */
extern void wal_worker_exit_if_stopping(StoreConn *conn);

/* How long a wait may last, in ms, so that wal_worker_exit_if_stopping() is called in time; and an attempt to connect. */
extern long wal_worker_limit_wait(long timeout_ms);
extern long wal_worker_limit_connect(long timeout_ms);

/*
 * The store will never take what this compute writes, so that no commit can
 * end: stops the server.  Trying again would not change anything.
 */
extern void wal_worker_give_up(const char *detail) pg_attribute_noreturn();

#endif /* PS_WAL_WORKER_IMPL_H */
