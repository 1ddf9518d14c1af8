/*
 * ingest.h
 *	  What the two parts of ingest know of each other: the thread (ingest.c),
 *	  and the sink that files what records change (ingest_sink.c).
 */
#ifndef PS_WAL_INGEST_H
#define PS_WAL_INGEST_H

#include "ingest/rel_sizes.h"
#include "pg/interpret.h"
#include "wal/reader.h"

/* The ingest thread's own state: no other thread looks at it. */
typedef struct Ingest
{
	WalReader *reader;
	WalState state;
	Layer *open;             /* the set's open layer */
	XLogRecPtr open_start;   /* its lsn_start */
	int64 open_since;        /* when its first record came (clock_now_ms()); 0: it is empty */
	size_t open_counted;     /* of its memory, by layer_memory_add() */
	XLogSegNo state_segment; /* segment in which the state was saved last */
	SizeCache sizes;
	/* newest known segment of each SLRU: its number and pages; saves a look-up for each commit */
	bool slru_known[PS_NSLRU];
	uint32 slru_segno[PS_NSLRU];
	uint32 slru_pages[PS_NSLRU];
	StringInfoData buf;
} Ingest;

/* ---- ingest.c ---- */

/* Files the state under the LSN that it is of: what timeline_state_at() begins with. */
extern void ingest_save_state(Timeline *tl);

/*
 * The open layer ends at the last record; a new one begins.  Waits while too
 * many layers wait to be written; an error, as ingest_stopping_error(), if the
 * store stops, or they cannot be written ever.
 */
extern PsError *ingest_freeze(Timeline *tl);

/* Ends ingest without a failure: see ingest_main(). */
extern PsError *ingest_stopping_error(Timeline *tl);

/* ---- ingest_sink.c ---- */
extern const WalSink ingest_sink; /* but for arg, a Timeline */

#endif /* PS_WAL_INGEST_H */
