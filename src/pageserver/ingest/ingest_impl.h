/*
 * ingest_impl.h
 *	  What the files of this folder know of each other.
 */
#ifndef PS_INGEST_IMPL_H
#define PS_INGEST_IMPL_H

#include "ingest/ingest.h"
#include "ingest/rel_sizes.h"
#include "pg/decoder.h"
#include "pg/interpret.h"
#include "timeline/engine.h"
#include "wal/reader.h"

/*
 * Belongs to the connection that opened it, which frees it.  It may write as
 * long as Timeline.receiver points to it.
 */
struct WalReceiver
{
	Timeline *tl; /* fixed, as generation */
	uint64 generation;
	WalDecoder *decoder;       /* under receive_lock, as failed */
	PsError *failed;           /* after a bad record nothing is taken any more */
	int64 owed_us;             /* for what was taken and not waited for; of the connection's thread */
	atomic_bool superseded;    /* set under receive_lock, read by any thread */
	time_t since;              /* when it was opened; fixed */
	const CancelCheck *client; /* under receive_lock: any thread asks it whether the client has disconnected; NULL: unknown */
};

/* The ingest thread's own state: no other thread reads it. */
typedef struct Ingest
{
	WalReader *reader;
	WalState state;
	Layer *open;             /* the set's open layer */
	XLogRecPtr open_start;   /* its lsn_start */
	int64 open_since;        /* when its first record came (clock_now_ms()); 0: it is empty */
	size_t open_counted;     /* of its memory, by memory_budget_take() */
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
extern const WalSink ingest_sink; /* the caller sets arg, the Timeline */

/* The layers in memory are gone.  Caller holds Timeline.lock; Timeline.ingest_ended is set. */
extern void ingest_forget(Timeline *tl);

/* ---- receiver.c ---- */

/* WAL is durable up to lsn: says so to all.  Caller holds receive_lock, not Timeline.lock. */
extern PsError *receiver_set_flushed(Timeline *tl, XLogRecPtr lsn, XLogRecPtr prev);

#endif /* PS_INGEST_IMPL_H */
