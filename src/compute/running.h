/*
 * running.h
 *	  running.c: which transactions run now.
 *
 * All of it is fit for every process, the checkpointer and the background
 * writer included, and for callers that hold content locks of buffers or locks
 * of ours.  Takes XidGenLock, ProcArrayLock and, if a transaction has more
 * subtransactions than fit into its PGPROC, SubtransSLRULock, under which
 * PostgreSQL reads and writes pg_subtrans; the only error is one of that.
 */
#ifndef PS_RUNNING_H
#define PS_RUNNING_H

extern void running_startup_shmem(void);

/*
 * The top-level transaction that xid, which is on a page that was written
 * before, is part of if that runs; invalid if it does not.  An aborted
 * subtransaction may or may not count as running.
 */
extern TransactionId running_top(TransactionId xid);

/*
 * Does a top-level transaction run of a range, which came from running_top()?
 * The oldest that does, or invalid; and how many do.  May count one that has ended some
 * milliseconds ago, unless running_look_again() was called.
 */
extern bool running_in_range(TransactionId oldest, TransactionId newest);
extern TransactionId running_oldest_in_range(TransactionId oldest, TransactionId newest);
extern int running_count_in_range(TransactionId oldest, TransactionId newest);
extern void running_look_again(void);

/*
 * Between the two calls all answers are as of the first, unless it takes long,
 * or is asked about newer transactions.  If an error keeps the second from being
 * made, answers are somewhat old until it is made the next time.
 */
extern void running_hold(bool hold);

/* All that run now; false if none does. */
extern bool running_all(TransactionId *oldest, TransactionId *newest);

#endif /* PS_RUNNING_H */
