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
 * What a shutdown checkpoint written at "end" would contain, and the other state at an
 * LSN that is not in pages (docs/postgres-facts.md, section 6).
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
	 * Of the last commit or abort record: its end and its time; and the end of the
	 * last one whose time is well before last_commit, which shows that a clock was
	 * wrong.  0: there was none, or it came before a state of version 1, which does
	 * not have it.
	 */
	XLogRecPtr commit_end;
	TimestampTz commit_time;
	XLogRecPtr step_back;
} WalState;

/* Commit times may be out of order by this much, us, with a correct clock. */
#define WAL_STATE_STEP_BACK (10 * USECS_PER_SEC)

/* The state of a cluster that was shut down, at the end of its checkpoint record. */
extern void wal_state_from_control(WalState *state, const ControlFileData *control, XLogRecPtr checkpoint_end);
extern PsError *wal_state_apply(WalState *state, const WalRecord *rec, const WalParsed *parsed);

/* The state as bytes, with version and checksum.  Decoding accepts the previous version, too, and refuses others. */
extern void wal_state_encode(const WalState *state, StringInfo out);
extern PsError *wal_state_decode(const char *data, size_t len, WalState *state);

/*
 * Makes the shutdown checkpoint record that follows the state (CreateCheckPoint() of
 * xlog.c).  bytes: the WAL from state->end on, including a page header where the record
 * begins at or crosses a page boundary.  *start is the record's LSN, *end its end.
 */
extern void wal_make_shutdown_checkpoint(const WalState *state, uint64 system_identifier, uint32 segment_size,
										 pg_time_t now, StringInfo bytes, CheckPoint *checkpoint,
										 XLogRecPtr *start, XLogRecPtr *end);

/* Appends the header of the page at "page", whose first rem_len bytes continue a record. */
extern void wal_append_page_header(StringInfo out, XLogRecPtr page, uint32 rem_len, uint64 system_identifier,
								   uint32 segment_size);

#endif /* PS_PG_WALSTATE_H */
