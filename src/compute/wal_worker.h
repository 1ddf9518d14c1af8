/*
 * wal_worker.h
 *	  The background worker that streams WAL to the store.  For its state see
 *	  wal_progress.h.
 */
#ifndef PS_WAL_WORKER_H
#define PS_WAL_WORKER_H

/* From _PG_init.  Raises max_worker_processes if the worker would find no slot; FATAL if that does not help. */
extern void wal_worker_register(void);

#endif /* PS_WAL_WORKER_H */
