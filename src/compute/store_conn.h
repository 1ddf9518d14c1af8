/*
 * store_conn.h
 *	  A libpq connection to the store, in COPY BOTH mode.
 *
 * A connection belongs to one process.
 */
#ifndef PS_STORE_CONN_H
#define PS_STORE_CONN_H

#include "libpq-fe.h"

typedef struct StoreConn
{
	PGconn *pg;                    /* non-blocking, in COPY BOTH mode */
	struct WaitEventSet *wait_set; /* its socket, the process latch, postmaster death */
	int socket_pos;                /* position of the socket in wait_set */
	uint32 socket_events;          /* events that wait_set waits for on the socket */
	uint32 store_version;          /* version of the address, see wal_progress_store() */
	bool latch_was_set;            /* a wait has reset the process latch since the caller cleared this */
} StoreConn;

/*
 * Connects, sends the command and expects CopyBothResponse.  Returns NULL with
 * *error (palloc'd) and *sqlstate set if that fails or takes longer than
 * timeout_ms; sqlstate is PS_SQLSTATE_CONNECTION if the store did not answer the
 * command.  If the address has several hosts, they are tried one after the other,
 * the one that had the tenant last first; PS_SQLSTATE_NOT_FOUND if each of them said
 * so.  Waits on the latch and calls interrupts_check(), which may raise an ERROR.  The
 * caller frees the connection with store_conn_close().
 */
extern StoreConn *store_conn_open(const char *command, const char *application_name, int timeout_ms, uint32 wait_event,
								  char **error, char sqlstate[6]);
extern void store_conn_close(StoreConn *conn);

/*
 * Waits until the store has sent something or, if want_write, can take more; the
 * latch is set (it is then reset, and latch_was_set set); or timeout_ms have
 * passed (-1: no timeout).  Does not check for interrupts.
 */
extern void store_conn_wait(StoreConn *conn, bool want_write, long timeout_ms, uint32 wait_event);

/*
 * Why the connection failed, after PQgetCopyData() returned less than 0 or
 * another libpq call failed.  Returns a palloc'd message; *sqlstate is the
 * store's if it sent one, else PS_SQLSTATE_CONNECTION.
 */
extern char *store_conn_error(StoreConn *conn, char sqlstate[6]);

/*
 * A newer compute runs this timeline: reports that as FATAL (LOG in a critical
 * section) and makes the postmaster stop immediately.  Does not return.
 */
extern void store_conn_superseded(const char *message) pg_attribute_noreturn();

/*
 * The store no longer has this timeline: reports that as FATAL and makes the
 * postmaster stop immediately.  Only the WAL worker calls it; other processes
 * retry until it does.  Does not return.
 */
extern void store_conn_deleted(const char *message) pg_attribute_noreturn();

/*
 * The address of the store for display: host, port, database and user as far as
 * they are given, without passwords.  palloc'd.
 */
extern char *store_conn_display_address(void);

#endif /* PS_STORE_CONN_H */
