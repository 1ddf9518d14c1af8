/*
 * ingest_impl.h
 *	  Private header of this folder.
 */
#ifndef PS_INGEST_IMPL_H
#define PS_INGEST_IMPL_H

#include "ingest/ingest.h"
#include "ingest/rel_sizes.h"
#include "pg/decoder.h"
#include "pg/interpret.h"
#include "timeline/engine.h"
#include "wal/reader.h"

/* Owned by the connection that opened it.  It may write while Timeline.receiver points to it. */
struct WalReceiver
{
	/* fixed */
	Timeline *tl;
	uint64 generation;
	time_t since; /* when it was opened */

	/* under receive_lock */
	WalDecoder *decoder;
	PsError *failed;           /* after a bad record, no WAL is accepted any more */
	const CancelCheck *client; /* any thread calls it to find out that the client has disconnected; NULL: unknown */

	void *wake_arg; /* of wal_receiver_set_wake(); owned by the connection's thread */

	int64 owed_us;          /* delay for accepted bytes that was not waited for yet; owned by the connection's thread */
	atomic_bool superseded; /* set under receive_lock, read by any thread */
};

/* The state of the ingest thread; no other thread reads it, unless Timeline.ingest_ended is set. */
typedef struct Ingest
{
	WalReader *reader;
	WalState state;
	Layer *open;             /* the open layer of Timeline.layers */
	XLogRecPtr open_start;   /* its lsn_start */
	int64 open_since;        /* when its first record arrived (clock_now_ms()); 0: it is empty */
	size_t open_counted;     /* its memory that memory_budget_take() has counted */
	XLogSegNo state_segment; /* WAL segment in which the state was saved last */
	SizeCache sizes;

	/* newest known segment of each SLRU, and its number of pages; saves a read for each commit */
	bool slru_known[PS_NSLRU];
	uint32 slru_segno[PS_NSLRU];
	uint32 slru_pages[PS_NSLRU];
	StringInfoData buf;
} Ingest;

/* ---- ingest_sink.c ---- */
extern const WalSink ingest_sink; /* the caller sets arg, the Timeline */

/* Gives back the memory of layers that were dropped.  Caller holds Timeline.lock; Timeline.ingest_ended is set. */
extern void ingest_forget(Timeline *tl);

/* ---- receiver.c ---- */

/* Publishes that WAL is durable up to lsn.  Caller holds receive_lock, not Timeline.lock. */
extern PsError *receiver_set_flushed(Timeline *tl, XLogRecPtr lsn, XLogRecPtr prev);

/* ---- remote_wal.c: callers hold Timeline.lock ---- */

/* flushed_lsn has risen from "before". */
extern void remote_wal_flushed(Timeline *tl, XLogRecPtr before);

/* Must the receiver wait for object storage (wal_upload_max_lag)? */
extern bool remote_wal_is_late(const Timeline *tl);

/* The end of the WAL that may be acknowledged. */
extern XLogRecPtr remote_wal_acknowledged(const Timeline *tl);

/* ---- wal_copy.c: callers do not hold Timeline.lock ---- */

/* Whole records were written up to "end", and will be synced. */
extern void wal_copy_announce(Timeline *tl, XLogRecPtr end);

/* WAL after the LSN was cut off.  Caller holds receive_lock. */
extern void wal_copy_cut(Timeline *tl, XLogRecPtr lsn);

/* If wal_acknowledge is directory: like wal_remote_wait(), for the copy. */
extern PsError *wal_copy_wait(Timeline *tl, XLogRecPtr lsn, int timeout_ms, const CancelCheck *cancel);

#endif /* PS_INGEST_IMPL_H */
