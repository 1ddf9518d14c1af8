/*
 * readahead.c
 *	  Requests blocks from the store before they are read.
 *
 * There are two sources: sequential reads, which are detected here from the sequence
 * of blocks, for several streams of one process at a time (a nested loop, a merge
 * join, an append); and smgrprefetch(), by which PostgreSQL announces blocks one at a
 * time (bitmap scans, VACUUM, ANALYZE) and which is collected into batches.  Answers
 * wait in page_client_ring.c until the block is read.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "lsn_cache.h"
#include "page_cache.h"
#include "page_client.h"
#include "persistence.h"
#include "pg_compat.h"
#include "readahead.h"
#include "settings.h"
#include "stub.h"
#include "wal_progress.h"
#include "wire.h"

#define STREAMS      8
#define FIRST_WINDOW 4

/* Largest gap in a stream: blocks in shared buffers are not read through here. */
#define MAX_GAP 16

typedef struct Stream
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber next;  /* block expected to be read next */
	BlockNumber asked; /* blocks before this one have been requested */
	int window;        /* number of blocks to request ahead; 0: not known to be sequential yet */
	uint64 last_used;
} Stream;

static Stream streams[STREAMS];
static uint64 use_counter;

/* A request in the making: blocks of one fork. */
typedef struct Batch
{
	PsRel rel;
	ForkNumber fork;
	XLogRecPtr not_modified_since;
	int n;
	BlockNumber blks[PS_MAX_BATCH];
} Batch;

static Batch collected;

/*
 * Adds a block, unless it is cached or prefetched already, or its WAL would have
 * to be flushed before the store could be asked.  missing: the page cache is
 * known not to have it.
 */
static void
batch_add(Batch *batch, BlockNumber blk, XLogRecPtr flushed, bool missing)
{
	XLogRecPtr lsn = lsn_cache_get(batch->rel, batch->fork, blk);

	if (lsn > flushed || page_client_is_prefetched(batch->rel, batch->fork, blk) ||
		(!missing && page_cache_has(batch->rel, batch->fork, blk)))
		return;
	batch->blks[batch->n++] = blk;
	batch->not_modified_since = Max(batch->not_modified_since, lsn);
}

static void
batch_send(Batch *batch)
{
	if (batch->n > 0)
		page_client_prefetch(batch->rel, batch->fork, batch->blks, batch->n,
							 wal_progress_flush_for_read(batch->not_modified_since));
	batch->n = 0;
	batch->not_modified_since = InvalidXLogRecPtr;
}

/* Returns the stream that a read of blk continues, or else the least recently used one and sets *is_new. */
static Stream *
find_stream(PsRel rel, ForkNumber fork, BlockNumber blk, bool *is_new)
{
	Stream *oldest = &streams[0];

	*is_new = false;
	for (int i = 0; i < STREAMS; i++)
	{
		Stream *s = &streams[i];

		if (ps_rel_equal(s->rel, rel) && s->fork == fork && blk >= s->next && blk - s->next <= MAX_GAP)
			return s;
		if (s->last_used < oldest->last_used)
			oldest = s;
	}
	*is_new = true;
	return oldest;
}

/*
 * If blk continues a stream for which less than half a window has been requested
 * ahead, requests the next window, and blk itself first if it is missing.
 */
void
readahead_advance(SMgrRelation reln, ForkNumber fork, BlockNumber blk, bool missing)
{
	PsRel rel = compat_smgr_rel(reln);
	bool is_new;
	Stream *s;
	BlockNumber nblocks;
	BlockNumber end;
	XLogRecPtr flushed;
	Batch batch;

	if (ps_readahead == 0)
		return;
	s = find_stream(rel, fork, blk, &is_new);
	s->last_used = ++use_counter;
	s->next = blk + 1;
	if (is_new)
	{
		s->rel = rel;
		s->fork = fork;
		s->asked = s->next;
		s->window = 0;
		return;
	}
	if (s->window == 0)
		s->window = Min(FIRST_WINDOW, ps_readahead);
	if (s->asked < s->next)
		s->asked = s->next;
	if (s->asked - s->next > s->window / 2 || !stub_nblocks_local(reln, fork, &nblocks))
		return;

	flushed = GetFlushRecPtr(NULL);
	batch.rel = rel;
	batch.fork = fork;
	batch.not_modified_since = InvalidXLogRecPtr;
	batch.n = 0;
	if (missing)
		batch_add(&batch, blk, flushed, true);
	end = nblocks - s->next > s->window ? s->next + s->window : nblocks;
	while (s->asked < end && batch.n < PS_MAX_BATCH)
	{
		if (!persistence_in_shared_buffers(rel, fork, s->asked))
			batch_add(&batch, s->asked, flushed, false);
		s->asked++;
	}
	s->window = Min(s->window * 2, ps_readahead);

	/* a request for the block alone would not be a read-ahead */
	if (batch.n > 1 || (batch.n == 1 && batch.blks[0] != blk))
		batch_send(&batch);
}

void
readahead_collect(SMgrRelation reln, ForkNumber fork, BlockNumber blk)
{
	PsRel rel = compat_smgr_rel(reln);

	if (collected.n > 0 && (!ps_rel_equal(collected.rel, rel) || collected.fork != fork))
		batch_send(&collected);
	for (int i = 0; i < collected.n; i++)
		if (collected.blks[i] == blk)
			return;
	collected.rel = rel;
	collected.fork = fork;
	batch_add(&collected, blk, GetFlushRecPtr(NULL), false);
	if (collected.n == PS_MAX_BATCH)
		batch_send(&collected);
}

void
readahead_send_collected(void)
{
	batch_send(&collected);
}
