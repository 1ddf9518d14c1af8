/*
 * walstate.h
 *	  The counters that a checkpoint record would hold at an LSN.
 */
#ifndef PS_PG_WALSTATE_H
#define PS_PG_WALSTATE_H

#include "catalog/pg_control.h"
#include "lib/stringinfo.h"

#include "base/error.h"
#include "pg/parse.h"

/*
 * What a shutdown checkpoint written at "end" would hold, and what else of the
 * state at an LSN is in no page (docs/postgres-facts.md, section 6).
 */
typedef struct WalState
{
	XLogRecPtr prev;            /* start of the last record */
	XLogRecPtr end;             /* its end: the state is that of this LSN */
	bool shutdown;              /* the last record is a shutdown checkpoint */
	CheckPoint checkpoint;      /* redo and time are those of the last checkpoint record */
	XLogRecPtr last_checkpoint; /* where that record starts, or 0 */
	/* of pg_control, kept up to date by XLOG_PARAMETER_CHANGE */
	int32 max_connections;
	int32 max_worker_processes;
	int32 max_wal_senders;
	int32 max_prepared_xacts;
	int32 max_locks_per_xact;
	int32 wal_level;
	bool wal_log_hints;
	bool track_commit_timestamp;
	TimestampTz last_commit; /* newest commit or abort time seen; until there is one, when the cluster was shut down */

	/*
	 * Of the last commit or abort record: its end and the time that it says; and
	 * the end of the last one that says a time well before last_commit, after
	 * which it is known that a clock was wrong.  0: there was none, or it was
	 * before a state of version 1, which does not know.
	 */
	XLogRecPtr commit_end;
	TimestampTz commit_time;
	XLogRecPtr step_back;
} WalState;

/* Commits may be so much out of order, us, and it means nothing. */
#define WAL_STATE_STEP_BACK (10 * USECS_PER_SEC)

/* From a cluster that was shut down: state at the end of its checkpoint record. */
extern void wal_state_from_control(WalState *state, const ControlFileData *control, XLogRecPtr checkpoint_end);
extern PsError *wal_state_apply(WalState *state, const WalRecord *rec, const WalParsed *parsed);

/* As bytes, with a version; decode knows the older one, too, and refuses others. */
extern void wal_state_encode(const WalState *state, StringInfo out);
extern PsError *wal_state_decode(const char *data, size_t len, WalState *state);

/*
 * The shutdown checkpoint record that follows the state: its bytes as they
 * stand in the stream from state->end on, page header included where the
 * record begins at or crosses a page boundary; *start is the record's LSN,
 * *end its end.  page_tail_known etc: the bytes of the page before state->end
 * are not part of the result.  (xlog.c: CreateCheckPoint.)
 */
extern void wal_make_shutdown_checkpoint(const WalState *state, uint64 system_identifier, uint32 segment_size,
										 pg_time_t now, StringInfo bytes, CheckPoint *checkpoint,
										 XLogRecPtr *start, XLogRecPtr *end);

#endif /* PS_PG_WALSTATE_H */
