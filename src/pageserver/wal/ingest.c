/*
 * ingest.c
 *	  The timeline's ingest thread: durable WAL to versions in the open layer.
 *
 * Records are read back from the timeline's files up to flushed_lsn, told to
 * the sink below by wal_interpret(), and filed: what a record does to a page is
 * a reference to the record, sizes and other small values are held in memory.
 * ingested_lsn is published after each batch; readers look at nothing beyond
 * it, so that a record is seen whole or not at all.
 *
 * The open layer is frozen when it covers enough WAL, holds much memory or is
 * old; keep/flush.c writes it.
 */
#include "ps_fe.h"

#include "common/hashfn.h"

#include "ps_wire.h"
#include "timeline_impl.h"

/* Records between two looks at locks. */
#define BATCH 256

/* Relation sizes that are remembered; when there are more the cache starts anew. */
#define MAX_CACHED_SIZES 100000

/* Pause after a copy of a database failed, and between two messages about that; ms (as keep/flush.c). */
#define COPY_RETRY_DELAY 1000
#define COPY_WARNING_INTERVAL 60000

typedef struct CachedSize
{
	PsRel		rel;
	uint8		fork;
	bool		used;			/* the place in the table is taken */
	bool		exists;
	RelSize		size;
} CachedSize;

/* The ingest thread's own state: no other thread looks at it. */
typedef struct Ingest
{
	WalReader  *reader;
	WalState	state;
	Layer	   *open;			/* the set's open layer */
	XLogRecPtr	open_start;		/* its lsn_start */
	int64		open_since;		/* when its first record came (timeline_now_ms()); 0: it is empty */
	size_t		open_counted;	/* of its memory, by layer_memory_add() */
	XLogSegNo	state_segment;	/* segment in which the state was saved last */
	CachedSize *sizes;			/* open addressing, power of two */
	uint32		nsizes;
	uint32		capacity;
	/* newest known segment of each SLRU: its number and pages; saves a look-up for each commit */
	bool		slru_known[PS_NSLRU];
	uint32		slru_segno[PS_NSLRU];
	uint32		slru_pages[PS_NSLRU];
	StringInfoData buf;
} Ingest;

/* Ends ingest without a failure: see ingest_main(). */
static PsError *
stopping_error(void)
{
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "the store is stopping");
}

/* ---- sizes of relations, as of the record being ingested ---- */

static uint32
size_hash(PsRel rel, ForkNumber fork)
{
	return murmurhash32(rel.rel ^ murmurhash32(rel.db ^ murmurhash32(rel.spc * 4 + (uint32) fork)));
}

static void
forget_sizes(Ingest *in)
{
	for (uint32 i = 0; i < in->capacity; i++)
		if (in->sizes[i].used)
			relsize_free(&in->sizes[i].size);
	free(in->sizes);
	in->capacity = 1024;
	in->sizes = pg_malloc0(in->capacity * sizeof(CachedSize));
	in->nsizes = 0;
}

/* The entry of a fork, or the free place where it belongs. */
static CachedSize *
size_place(Ingest *in, PsRel rel, ForkNumber fork)
{
	uint32		i = size_hash(rel, fork) & (in->capacity - 1);

	while (in->sizes[i].used && (in->sizes[i].fork != fork || !ps_rel_equal(in->sizes[i].rel, rel)))
		i = (i + 1) & (in->capacity - 1);
	return &in->sizes[i];
}

static void
grow_sizes(Ingest *in)
{
	CachedSize *old = in->sizes;
	uint32		n = in->capacity;

	in->capacity *= 2;
	in->sizes = pg_malloc0(in->capacity * sizeof(CachedSize));
	for (uint32 i = 0; i < n; i++)
		if (old[i].used)
			*size_place(in, old[i].rel, old[i].fork) = old[i];
	free(old);
}

/* The size of a fork as of all records before this one. */
static PsError *
get_size(Timeline *tl, PsRel rel, ForkNumber fork, CachedSize **result)
{
	Ingest	   *in = tl->ingest;
	CachedSize *entry = size_place(in, rel, fork);
	ReadView	view;
	RelSize		size = {0};
	bool		exists;
	PsError    *err;

	if (entry->used)
	{
		*result = entry;
		return NULL;
	}
	PS_TRY(view_open(&view, tl, UINT64_MAX - 1));
	err = read_relsize(&view, rel, fork, UINT64_MAX - 1, &exists, &size);
	view_close(&view);
	if (err != NULL)
		return err;
	if (in->nsizes >= MAX_CACHED_SIZES)
		forget_sizes(in);
	else if (in->nsizes * 2 >= in->capacity)
		grow_sizes(in);
	entry = size_place(in, rel, fork);
	*entry = (CachedSize){.rel = rel, .fork = (uint8) fork, .used = true, .exists = exists, .size = size};
	in->nsizes++;
	*result = entry;
	return NULL;
}

static void
put_size(Timeline *tl, const WalRecord *rec, const CachedSize *entry)
{
	Ingest	   *in = tl->ingest;
	PsKey		key = ps_key_relsize(entry->rel, (ForkNumber) entry->fork);

	resetStringInfo(&in->buf);
	if (entry->exists)
		relsize_encode(&entry->size, &in->buf);
	open_layer_put_value(in->open, &key, rec->end, entry->exists ? VALUE_IMAGE : VALUE_TOMBSTONE, in->buf.data, in->buf.len);
}

/* The fork begins anew, with no blocks: versions from before this record do not count. */
static void
begin_fork(CachedSize *entry, const WalRecord *rec)
{
	relsize_free(&entry->size);
	entry->exists = true;
	relsize_add_floor(&entry->size, 0, rec->start);
}

/*
 * Of blocks that come back after a truncation, older versions do not count.
 * The tombstones are a byte before the record's end, an LSN that nobody reads
 * at: the record itself may make some of these blocks.
 */
static void
extend_fork(Timeline *tl, const WalRecord *rec, CachedSize *entry, BlockNumber nblocks, bool is_made)
{
	BlockNumber blk;
	BlockNumber end;

	relsize_extend(&entry->size, nblocks, is_made, &blk, &end);
	for (; blk < end; blk++)
	{
		PsKey		key = ps_key_block(entry->rel, (ForkNumber) entry->fork, blk);

		open_layer_put_value(tl->ingest->open, &key, rec->end - 1, VALUE_TOMBSTONE, NULL, 0);
	}
}

/* ---- the sink ---- */

static PsError *
sink_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	Timeline   *tl = arg;
	PsKey		key = ps_key_block(rel, fork, blk);
	CachedSize *entry;

	PS_TRY(get_size(tl, rel, fork, &entry));
	if (!entry->exists || blk >= entry->size.nblocks)
	{
		/* a truncation does not make the page whose rest it would clear */
		if (((const XLogRecord *) rec->data)->xl_rmid == RM_SMGR_ID)
			return NULL;
		/* as XLogReadBufferExtended does, a fork is made when it is first touched */
		if (!entry->exists)
			begin_fork(entry, rec);
		extend_fork(tl, rec, entry, blk + 1, will_init);
		put_size(tl, rec, entry);
	}
	open_layer_put_record(tl->ingest->open, &key, rec->end, rec->start, rec->len, will_init);
	return NULL;
}

static PsError *
sink_rel_create(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork)
{
	Timeline   *tl = arg;
	CachedSize *entry;

	PS_TRY(get_size(tl, rel, fork, &entry));
	if (entry->exists)
		return NULL;			/* mdcreate() in redo leaves what exists */
	begin_fork(entry, rec);
	put_size(tl, rec, entry);
	return NULL;
}

static PsError *
sink_rel_truncate(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	Timeline   *tl = arg;
	CachedSize *entry;

	PS_TRY(get_size(tl, rel, fork, &entry));
	if (!entry->exists || nblocks >= entry->size.nblocks)
		return NULL;			/* blocks from there on have had no version since the last floor */
	relsize_add_floor(&entry->size, nblocks, rec->start);
	entry->size.nblocks = nblocks;
	put_size(tl, rec, entry);
	return NULL;
}

static PsError *
sink_rel_drop(void *arg, const WalRecord *rec, PsRel rel)
{
	Timeline   *tl = arg;

	for (ForkNumber fork = MAIN_FORKNUM; fork <= MAX_FORKNUM; fork++)
	{
		CachedSize *entry;

		PS_TRY(get_size(tl, rel, fork, &entry));
		if (!entry->exists)
			continue;
		relsize_free(&entry->size);
		entry->exists = false;
		put_size(tl, rec, entry);
	}
	return NULL;
}

static PsError *
sink_put(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len)
{
	Timeline   *tl = arg;

	open_layer_put_value(tl->ingest->open, key, rec->end, VALUE_IMAGE, data, len);
	return NULL;
}

static PsError *
sink_del(void *arg, const WalRecord *rec, const PsKey *key)
{
	Timeline   *tl = arg;

	open_layer_put_value(tl->ingest->open, key, rec->end, VALUE_TOMBSTONE, NULL, 0);
	return NULL;
}

/* ---- SLRUs ---- */

static PsError *
put_segment_pages(Timeline *tl, const WalRecord *rec, PsSlru slru, uint32 segno, uint32 pages)
{
	PsKey		key = ps_key_slru_segment(slru, segno);
	char		value[4];

	ps_put32(value, pages);
	return sink_put(tl, rec, &key, value, sizeof(value));
}

static PsError *
sink_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	Timeline   *tl = arg;
	Ingest	   *in = tl->ingest;
	PsKey		key = ps_key_slru_block(slru, pageno);

	if (!in->slru_known[slru] || in->slru_segno[slru] != key.rel)
	{
		PsKey		segment = ps_key_slru_segment(slru, key.rel);
		bool		found;

		PS_TRY(timeline_read_value(tl, &segment, UINT64_MAX - 1, &in->buf, &found));
		in->slru_known[slru] = true;
		in->slru_segno[slru] = key.rel;
		in->slru_pages[slru] = found && in->buf.len == 4 ? ps_get32(in->buf.data) : 0;
	}
	if (key.blk >= in->slru_pages[slru])
	{
		in->slru_pages[slru] = key.blk + 1;
		PS_TRY(put_segment_pages(tl, rec, slru, key.rel, key.blk + 1));
	}
	open_layer_put_record(in->open, &key, rec->end, rec->start, rec->len, will_init);
	return NULL;
}

typedef struct SlruTruncation
{
	Timeline   *tl;
	const WalRecord *rec;
	PsSlru		slru;
	uint32		cutoff;
} SlruTruncation;

static PsError *
truncate_segment(void *arg, const PsKey *key, const char *value, uint32 len)
{
	SlruTruncation *t = arg;

	return wal_slru_truncates(t->rec, t->slru, t->cutoff, key->rel) ? sink_del(t->tl, t->rec, key) : NULL;
}

static PsError *
sink_slru_truncate(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page)
{
	Timeline   *tl = arg;
	PsKey		lo = ps_key_slru_segment(slru, 0);
	PsKey		hi = ps_key_slru_segment(slru, PG_UINT32_MAX);
	SlruTruncation t = {tl, rec, slru, cutoff_page};

	tl->ingest->slru_known[slru] = false;
	return timeline_scan(tl, &lo, &hi, UINT64_MAX - 1, truncate_segment, &t);
}

static PsError *
sink_origin(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force)
{
	Timeline   *tl = arg;
	PsKey		key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, id);
	char		value[8];
	bool		found;

	PS_TRY(timeline_read_value(tl, &key, UINT64_MAX - 1, &tl->ingest->buf, &found));
	if (found && !force && ps_get64(tl->ingest->buf.data) >= remote_lsn)
		return NULL;
	ps_put64(value, remote_lsn);
	return sink_put(tl, rec, &key, value, sizeof(value));
}

/* ---- whole databases ---- */

typedef struct DbDrop
{
	Timeline   *tl;
	const WalRecord *rec;
} DbDrop;

static PsError *
drop_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	DbDrop	   *d = arg;
	CachedSize *entry;

	PS_TRY(get_size(d->tl, (PsRel){key->spc, key->db, key->rel}, (ForkNumber) key->fork, &entry));
	relsize_free(&entry->size);
	entry->exists = false;
	put_size(d->tl, d->rec, entry);
	return NULL;
}

static PsError *
sink_db_drop(void *arg, const WalRecord *rec, Oid spc, Oid db)
{
	static const PsKeyKind kinds[] = {PS_KEY_RELSIZE, PS_KEY_INITSIZE};
	DbDrop		d = {arg, rec};
	PsKey		key;

	for (int i = 0; i < lengthof(kinds); i++)
	{
		PsKey		lo = ps_key_simple(kinds[i], spc, db, 0);
		PsKey		hi = ps_key_simple(kinds[i], spc, db, PG_UINT32_MAX);

		hi.fork = MAX_FORKNUM;
		PS_TRY(timeline_scan(arg, &lo, &hi, UINT64_MAX - 1, drop_fork, &d));
	}
	key = ps_key_simple(PS_KEY_DATABASE, spc, db, 0);
	PS_TRY(sink_del(arg, rec, &key));
	key = ps_key_simple(PS_KEY_RELMAP, spc, db, 0);
	return sink_del(arg, rec, &key);
}

/* Waits ms; an error if the store is stopping. */
static PsError *
pause_ingest(Timeline *tl, int64 ms)
{
	int64		until = timeline_now_ms() + ms;
	bool		stopping;

	pthread_mutex_lock(&tl->lock);
	for (int64 now = timeline_now_ms(); now < until && !tl->stopping; now = timeline_now_ms())
		timeline_wait(tl, &tl->layers_changed, until - now);
	stopping = tl->stopping;
	pthread_mutex_unlock(&tl->lock);
	return stopping ? stopping_error() : NULL;
}

/* For who asks how the branch is; no flush goes on, so its own is not lost. */
static void
set_flush_error(Timeline *tl, const char *message)
{
	pthread_mutex_lock(&tl->lock);
	strlcpy(tl->flush_error, message, sizeof(tl->flush_error));
	pthread_mutex_unlock(&tl->lock);
}

static void save_state(Timeline *tl);
static PsError *freeze(Timeline *tl);

/* Not what is damaged, or what must not be. */
static bool
is_tried_again(const PsError *err)
{
	return ps_error_is_transient(err) || ps_error_is(err, PS_SQLSTATE_IO) || ps_error_is(err, PS_SQLSTATE_UNKNOWN);
}

/*
 * CREATE DATABASE with STRATEGY FILE_COPY, ALTER DATABASE SET TABLESPACE: the
 * copies become a layer file at the record's LSN.  Memory is searched before
 * files, so all that is in memory is written out before.  What a try that failed
 * has written is gone: another is as good as the first, with the disk well again.
 */
static PsError *
sink_db_copy(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	Timeline   *tl = arg;
	Ingest	   *in = tl->ingest;
	XLogRecPtr	before = in->state.end;
	int64		next_warning = 0;
	PsError    *err;

	/* after a crash the record may come again, with the copy in place */
	if (db_copy_is_done(tl, rec, spc, db))
		return NULL;
	if (in->open_start <= before)
	{
		save_state(tl);
		PS_TRY(freeze(tl));
	}
	pthread_mutex_lock(&tl->lock);
	while (tl->layers->nfrozen > 0 && !tl->stopping)
		timeline_wait(tl, &tl->layers_changed, 60 * 1000);
	err = tl->stopping ? stopping_error() : NULL;
	pthread_mutex_unlock(&tl->lock);
	if (err != NULL)
		return err;
	forget_sizes(in);
	while ((err = db_copy(tl, rec, src_spc, src_db, spc, db)) != NULL && is_tried_again(err))
	{
		set_flush_error(tl, err->message);
		if (timeline_now_ms() >= next_warning)
		{
			ps_log(PS_WARNING, "branch \"%s\": could not copy database %u, will try again: %s", tl->name, src_db, err->message);
			next_warning = timeline_now_ms() + COPY_WARNING_INTERVAL;
		}
		ps_error_free(err);
		PS_TRY(pause_ingest(tl, COPY_RETRY_DELAY));
	}
	set_flush_error(tl, "");
	return err;
}

/* ---- the thread ---- */

static const WalSink sink_template = {
	.block = sink_block,
	.slru = sink_slru,
	.slru_truncate = sink_slru_truncate,
	.rel_create = sink_rel_create,
	.rel_truncate = sink_rel_truncate,
	.rel_drop = sink_rel_drop,
	.db_copy = sink_db_copy,
	.db_drop = sink_db_drop,
	.origin = sink_origin,
	.put = sink_put,
	.del = sink_del,
};

PsError *
ingest_create(Timeline *tl, const WalState *state)
{
	Ingest	   *in = pg_malloc0(sizeof(Ingest));

	tl->ingest = in;
	in->state = *state;
	in->open = layer_ref(tl->layers->open);
	in->open_start = state->end + 1;
	XLByteToSeg(state->end, in->state_segment, tl->segment_size);
	in->reader = wal_reader_create(tl->wal, state->end, state->prev, tl->system_identifier);
	forget_sizes(in);
	initStringInfo(&in->buf);
	return NULL;
}

void
ingest_free(Timeline *tl)
{
	Ingest	   *in = tl->ingest;

	if (in == NULL)
		return;
	wal_reader_free(in->reader);
	layer_memory_open(tl, in->open_since != 0 ? -1 : 0);
	layer_memory_add(tl, -atomic_load(&tl->layer_memory));
	layer_unref(in->open);
	forget_sizes(in);
	free(in->sizes);
	pfree(in->buf.data);
	free(in);
	tl->ingest = NULL;
}

/* Files the state under the LSN that it is of: what timeline_state_at() begins with. */
static void
save_state(Timeline *tl)
{
	Ingest	   *in = tl->ingest;
	PsKey		key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);

	resetStringInfo(&in->buf);
	wal_state_encode(&in->state, &in->buf);
	open_layer_put_value(in->open, &key, in->state.end, VALUE_IMAGE, in->buf.data, in->buf.len);
	XLByteToSeg(in->state.end, in->state_segment, tl->segment_size);
}

static void
count_memory(Timeline *tl)
{
	Ingest	   *in = tl->ingest;
	size_t		memory = open_layer_memory(in->open);

	layer_memory_add(tl, memory - in->open_counted);
	in->open_counted = memory;
}

/*
 * The open layer ends at the last record; a new one begins.  Waits while too
 * many layers wait to be written.
 */
static PsError *
freeze(Timeline *tl)
{
	Ingest	   *in = tl->ingest;
	LayerSet   *old;
	Layer	   *frozen[MAX_FROZEN];

	pthread_mutex_lock(&tl->lock);
	while (tl->layers->nfrozen == MAX_FROZEN && !tl->stopping)
		timeline_wait(tl, &tl->layers_changed, 60 * 1000);
	if (tl->stopping)
	{
		pthread_mutex_unlock(&tl->lock);
		return stopping_error();
	}
	open_layer_freeze(in->open, in->state.end + 1);
	count_memory(tl);
	layer_memory_open(tl, in->open_since != 0 ? -1 : 0);
	old = tl->layers;
	frozen[0] = layer_ref(old->open);
	for (int i = 0; i < old->nfrozen; i++)
		frozen[i + 1] = layer_ref(old->frozen[i]);
	layer_unref(in->open);
	in->open = open_layer_create(in->state.end + 1);
	in->open_start = in->state.end + 1;
	in->open_since = 0;
	in->open_counted = 0;
	old = timeline_set_layers(tl, layer_set_create(layer_ref(in->open), frozen, old->nfrozen + 1, layer_map_ref(old->map)));
	pthread_mutex_unlock(&tl->lock);
	layer_set_unref(old);
	return NULL;
}

static PsError *
ingest_record(Timeline *tl, const WalSink *sink, const WalRecord *rec)
{
	Ingest	   *in = tl->ingest;
	WalParsed	parsed;
	XLogSegNo	segment;

	PS_TRY(wal_parse(rec, &parsed));
	PS_TRY(wal_interpret(rec, &parsed, in->state.track_commit_timestamp, sink));
	PS_TRY(wal_state_apply(&in->state, rec, &parsed));
	XLByteToSeg(rec->end, segment, tl->segment_size);
	if (segment != in->state_segment)
		save_state(tl);
	return NULL;
}

/* ms until the open layer is old enough to be written. */
static int64
time_left(const Timeline *tl)
{
	return tl->ingest->open_since + (int64) tl->tenant->store->config->checkpoint_timeout * 1000 - timeline_now_ms();
}

static bool
time_to_freeze(const Timeline *tl)
{
	const Ingest *in = tl->ingest;
	const Config *config = tl->tenant->store->config;

	if (in->open_since == 0)
		return false;
	return in->state.end - in->open_start >= (uint64) config->checkpoint_distance * 1024 * 1024 ||
		open_layer_memory(in->open) >= (size_t) config->open_layer_memory * 1024 * 1024 ||
		layer_memory_is_over(tl, open_layer_memory(in->open)) ||
		time_left(tl) <= 0;
}

static void
publish(Timeline *tl)
{
	Ingest	   *in = tl->ingest;

	pthread_mutex_lock(&tl->lock);
	tl->ingested_lsn = in->state.end;
	tl->state = in->state;
	pthread_cond_broadcast(&tl->changed);
	pthread_mutex_unlock(&tl->lock);
}

static bool
is_stopping(void *arg)
{
	return timeline_is_stopping(arg);
}

/* Sizes of relations that begin in an ancestor are not known before it has them (read/plan.c); however long that takes. */
static PsError *
wait_for_ancestors(Timeline *tl)
{
	Waiter		waiter = {is_stopping, tl};

	for (Timeline *t = tl; t->ancestor != NULL; t = t->ancestor)
		PS_TRY(timeline_wait_ingested(t->ancestor, t->start_lsn, -1, &waiter));
	return NULL;
}

void *
ingest_main(void *arg)
{
	Timeline   *tl = arg;
	Ingest	   *in = tl->ingest;
	WalSink		sink = sink_template;
	PsError    *err = NULL;

	ps_thread_name("ingest %.8s", tl->name);
	sink.arg = tl;
	err = wait_for_ancestors(tl);
	while (err == NULL)
	{
		XLogRecPtr	upto;
		bool		stopping;
		bool		found = true;
		int			n = 0;

		pthread_mutex_lock(&tl->lock);
		while (tl->flushed_lsn <= in->state.end && !tl->stopping && !time_to_freeze(tl))
			timeline_wait(tl, &tl->changed, in->open_since != 0 ? time_left(tl) : 60 * 1000);
		upto = tl->flushed_lsn;
		stopping = tl->stopping;
		pthread_mutex_unlock(&tl->lock);
		if (stopping)
			break;
		while (n < BATCH && err == NULL)
		{
			WalRecord	rec;

			err = wal_reader_next(in->reader, upto, &rec, &found);
			if (err != NULL || !found)
				break;
			err = ingest_record(tl, &sink, &rec);
			n++;
			/* after the record: a copy of a database freezes what was before it */
			if (in->open_since == 0)
			{
				in->open_since = timeline_now_ms();
				layer_memory_open(tl, 1);
			}
		}
		/* what came before a record that failed is seen; of that one nothing, its LSN is beyond */
		if (n > 0)
			publish(tl);
		count_memory(tl);
		if (err == NULL && time_to_freeze(tl))
		{
			save_state(tl);
			err = freeze(tl);
		}
		layer_memory_wait(tl);
	}
	/* an ancestor may be told to stop first */
	if (err != NULL && (timeline_is_stopping(tl) || ps_error_is(err, PS_SQLSTATE_TRY_AGAIN)))
		ps_error_free(err);
	else if (err != NULL)
		timeline_fail(tl, err);
	return NULL;
}
