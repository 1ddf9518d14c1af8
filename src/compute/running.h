/*
 * running.h
 *	  Which transactions are running.
 *
 * All functions may be called in every process, including the checkpointer and the
 * background writer, and with content locks of buffers or locks of the page cache
 * held.  They take XidGenLock, ProcArrayLock and, if a transaction has more
 * subtransactions than fit into its PGPROC, SubtransSLRULock, with which PostgreSQL
 * reads and writes pg_subtrans; only that can raise an error.
 */
#ifndef PS_RUNNING_H
#define PS_RUNNING_H

/* From shmem_startup_hook: allocates memory that child processes inherit. */
extern void running_startup_shmem(void);

/*
 * xid is on a page.  Returns the running top-level transaction that it belongs
 * to, or InvalidTransactionId.  An aborted subtransaction may or may not count
 * as running.
 */
extern TransactionId running_top(TransactionId xid);

/*
 * Is a top-level transaction running whose ID is in the range, which has come
 * from running_top()?  Which is the oldest one (InvalidTransactionId: none), and
 * how many are there?  A transaction may still count for some milliseconds after
 * it has ended, unless running_refresh() is called first.
 */
extern bool running_in_range(TransactionId oldest, TransactionId newest);
extern TransactionId running_oldest_in_range(TransactionId oldest, TransactionId newest);
extern int running_count_in_range(TransactionId oldest, TransactionId newest);
extern void running_refresh(void);

/*
 * From running_hold(true) to running_hold(false) all answers are as of the first
 * call, unless that takes long, or newer transactions are asked for.  If an
 * error prevents the second call, answers are somewhat old until it is made the
 * next time.
 */
extern void running_hold(bool hold);

/* Sets the range of all transactions that are running now; false if there are none. */
extern bool running_all(TransactionId *oldest, TransactionId *newest);

#endif /* PS_RUNNING_H */
