/*
 * ingest_sink.c
 *	  Adds the changes of records to the open layer: for a page, a reference to the
 *	  record; for sizes and other small values, the value.  wal_interpret() calls
 *	  this, in the ingest thread.
 */
#include "ps_fe.h"

#include "read/read.h"
#include "bytes.h"
#include "ingest/ingest_impl.h"
#include "pg/slru.h"

/* ---- sizes ---- */

static void
put_size(Timeline *tl, const WalRecord *rec, const CachedSize *entry)
{
	Ingest *in = tl->ingest;
	PsKey key = ps_key_relsize(entry->rel, (ForkNumber) entry->fork);

	resetStringInfo(&in->buf);
	if (entry->exists)
		relsize_encode(&entry->size, &in->buf);
	open_layer_put_value(in->open, &key, rec->end, entry->exists ? VALUE_IMAGE : VALUE_TOMBSTONE, in->buf.data,
						 in->buf.len);
}

/* The fork is created, with no blocks: versions from before this record are invisible. */
static void
begin_fork(CachedSize *entry, const WalRecord *rec)
{
	relsize_free(&entry->size);
	entry->exists = true;
	relsize_add_floor(&entry->size, 0, rec->start);
}

/*
 * Tombstones hide older versions of blocks that exist again after a truncation.  They are at
 * the LSN before the record's end, at which no read happens, because the record itself may
 * write some of these blocks.
 */
static void
extend_fork(Timeline *tl, const WalRecord *rec, CachedSize *entry, BlockNumber nblocks, bool will_init)
{
	BlockNumber blk;
	BlockNumber end;

	relsize_extend(&entry->size, nblocks, will_init, &blk, &end);
	for (; blk < end; blk++)
	{
		PsKey key = ps_key_block(entry->rel, (ForkNumber) entry->fork, blk);

		open_layer_put_value(tl->ingest->open, &key, rec->end - 1, VALUE_TOMBSTONE, NULL, 0);
	}
}

/* ---- the sink: relations ---- */

static PsError *
sink_block(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init)
{
	Timeline *tl = arg;
	PsKey key = ps_key_block(rel, fork, blk);
	CachedSize *entry;

	PS_TRY(sizes_get(&tl->ingest->sizes, tl, rel, fork, &entry));
	if (!entry->exists || blk >= entry->size.nblocks)
	{
		/* a truncation does not create the page whose rest it clears */
		if (((const XLogRecord *) rec->data)->xl_rmid == RM_SMGR_ID)
			return NULL;
		/* like XLogReadBufferExtended(), creates a fork when it is first accessed */
		if (!entry->exists)
			begin_fork(entry, rec);
		extend_fork(tl, rec, entry, blk + 1, will_init);
		put_size(tl, rec, entry);
	}
	open_layer_put_record(tl->ingest->open, &key, rec->end, rec->start, rec->len - rec->cut, will_init);
	return NULL;
}

static PsError *
sink_rel_create(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork)
{
	Timeline *tl = arg;
	CachedSize *entry;

	PS_TRY(sizes_get(&tl->ingest->sizes, tl, rel, fork, &entry));
	if (entry->exists)
		return NULL; /* in redo, mdcreate() does nothing if the fork exists */
	begin_fork(entry, rec);
	put_size(tl, rec, entry);
	return NULL;
}

static PsError *
sink_rel_truncate(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks)
{
	Timeline *tl = arg;
	CachedSize *entry;

	PS_TRY(sizes_get(&tl->ingest->sizes, tl, rel, fork, &entry));
	if (!entry->exists || nblocks >= entry->size.nblocks)
		return NULL; /* blocks from there on have had no version since the last floor */
	relsize_add_floor(&entry->size, nblocks, rec->start);
	entry->size.nblocks = nblocks;
	put_size(tl, rec, entry);
	return NULL;
}

static PsError *
sink_rel_drop(void *arg, const WalRecord *rec, PsRel rel)
{
	Timeline *tl = arg;

	for (ForkNumber fork = MAIN_FORKNUM; fork <= MAX_FORKNUM; fork++)
	{
		CachedSize *entry;

		PS_TRY(sizes_get(&tl->ingest->sizes, tl, rel, fork, &entry));
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
	Timeline *tl = arg;

	open_layer_put_value(tl->ingest->open, key, rec->end, VALUE_IMAGE, data, len);
	return NULL;
}

static PsError *
sink_del(void *arg, const WalRecord *rec, const PsKey *key)
{
	Timeline *tl = arg;

	open_layer_put_value(tl->ingest->open, key, rec->end, VALUE_TOMBSTONE, NULL, 0);
	return NULL;
}

/* ---- SLRUs ---- */

static PsError *
put_segment_pages(Timeline *tl, const WalRecord *rec, PsSlru slru, uint32 segno, uint32 pages)
{
	PsKey key = ps_key_slru_segment(slru, segno);
	char value[4];

	ps_put32(value, pages);
	return sink_put(tl, rec, &key, value, sizeof(value));
}

static PsError *
sink_slru(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init)
{
	Timeline *tl = arg;
	Ingest *in = tl->ingest;
	PsKey key = ps_key_slru_block(slru, pageno);

	if (!in->slru_known[slru] || in->slru_segno[slru] != key.rel)
	{
		PsKey segment = ps_key_slru_segment(slru, key.rel);
		bool found;

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
	Timeline *tl;
	const WalRecord *rec;
	PsSlru slru;
	uint32 cutoff;
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
	Timeline *tl = arg;
	PsKey lo = ps_key_slru_segment(slru, 0);
	PsKey hi = ps_key_slru_segment(slru, PG_UINT32_MAX);
	SlruTruncation t = {tl, rec, slru, cutoff_page};

	tl->ingest->slru_known[slru] = false;
	return timeline_scan(tl, &lo, &hi, UINT64_MAX - 1, truncate_segment, &t);
}

static PsError *
sink_origin(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force)
{
	Timeline *tl = arg;
	PsKey key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, id);
	char value[8];
	bool found;

	PS_TRY(timeline_read_value(tl, &key, UINT64_MAX - 1, &tl->ingest->buf, &found));
	if (found && !force && ps_get64(tl->ingest->buf.data) >= remote_lsn)
		return NULL;
	ps_put64(value, remote_lsn);
	return sink_put(tl, rec, &key, value, sizeof(value));
}

/* ---- whole databases ---- */

typedef struct DbDrop
{
	Timeline *tl;
	const WalRecord *rec;
} DbDrop;

static PsError *
drop_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	DbDrop *d = arg;
	CachedSize *entry;

	PS_TRY(sizes_get(&d->tl->ingest->sizes, d->tl, (PsRel) {key->spc, key->db, key->rel}, (ForkNumber) key->fork,
					 &entry));
	relsize_free(&entry->size);
	entry->exists = false;
	put_size(d->tl, d->rec, entry);
	return NULL;
}

static PsError *
sink_db_drop(void *arg, const WalRecord *rec, Oid spc, Oid db)
{
	static const PsKeyKind kinds[] = {PS_KEY_RELSIZE, PS_KEY_INITSIZE};
	DbDrop d = {arg, rec};
	PsKey key;

	for (int i = 0; i < lengthof(kinds); i++)
	{
		PsKey lo = ps_key_simple(kinds[i], spc, db, 0);
		PsKey hi = ps_key_simple(kinds[i], spc, db, PG_UINT32_MAX);

		hi.fork = MAX_FORKNUM;
		PS_TRY(timeline_scan(arg, &lo, &hi, UINT64_MAX - 1, drop_fork, &d));
	}
	key = ps_key_simple(PS_KEY_DATABASE, spc, db, 0);
	PS_TRY(sink_del(arg, rec, &key));
	key = ps_key_simple(PS_KEY_RELMAP, spc, db, 0);
	return sink_del(arg, rec, &key);
}

/* The copy of a database: deletes what the destination has, then copies what the source has. */
typedef struct DbCopying
{
	Timeline *tl;
	const WalRecord *rec;
	Oid src_spc;
	Oid src_db;
	Oid spc;
	Oid db;
} DbCopying;

/*
 * Is the copy in an image file of the manifest?  Versions of this program that did not know
 * origins (relsize.h) wrote it there.  The copy of an empty database has no file: it is made
 * again, which changes nothing.
 */
static bool
copy_is_done(Timeline *tl, const WalRecord *rec, Oid spc, Oid db)
{
	LayerSet *set = timeline_layers(tl);
	bool found = false;

	for (int i = 0; i < layer_map_count(set->map) && !found; i++)
	{
		const LayerInfo *info = layer_info(layer_map_get(set->map, i));

		found = info->type == LAYER_IMAGE && info->lsn_start == rec->end && info->key_min.spc == spc &&
				info->key_min.db == db;
	}
	layer_set_unref(set);
	return found;
}

static PsError *
delete_key(void *arg, const PsKey *key, const char *value, uint32 len)
{
	DbCopying *copy = arg;

	return sink_del(copy->tl, copy->rec, key);
}

static PsError *
copy_key(void *arg, const PsKey *key, const char *value, uint32 len)
{
	DbCopying *copy = arg;
	StringInfo buf = &copy->tl->ingest->buf;
	PsKey to = *key;
	RelSize size = {0};

	to.spc = copy->spc;
	to.db = copy->db;
	if (key->kind != PS_KEY_RELSIZE && key->kind != PS_KEY_INITSIZE)
		return sink_put(copy->tl, copy->rec, &to, value, len);
	size.nblocks = relsize_value_nblocks(value, len);
	relsize_add_floor(&size, 0, copy->rec->start);
	size.origin = (RelSizeOrigin) {copy->src_spc, copy->src_db, copy->rec->start, size.nblocks};
	resetStringInfo(buf);
	relsize_encode(&size, buf);
	relsize_free(&size);
	return sink_put(copy->tl, copy->rec, &to, buf->data, buf->len);
}

static PsError *
for_each_key(DbCopying *copy, Oid spc, Oid db, KeyCallback cb)
{
	static const PsKeyKind kinds[] = {PS_KEY_RELSIZE, PS_KEY_INITSIZE, PS_KEY_DATABASE, PS_KEY_RELMAP};

	for (int i = 0; i < lengthof(kinds); i++)
	{
		PsKey lo = ps_key_simple(kinds[i], spc, db, 0);
		PsKey hi = ps_key_simple(kinds[i], spc, db, PG_UINT32_MAX);

		hi.fork = MAX_FORKNUM;
		PS_TRY(timeline_scan(copy->tl, &lo, &hi, UINT64_MAX - 1, cb, copy));
	}
	return NULL;
}

/*
 * CREATE DATABASE with STRATEGY FILE_COPY, ALTER DATABASE SET TABLESPACE: one record for the
 * whole copy.  Sizes and other small values are copied here, so that the cost depends on the
 * number of relations; pages are found by the origin of their fork (relsize.h) until upkeep
 * has written them (maintain/db_copy.c).
 */
static PsError *
sink_db_copy(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	DbCopying copy = {arg, rec, src_spc, src_db, spc, db};
	DbCopy pending = {.start = rec->start, .end = rec->end, .spc = spc, .db = db};

	if (copy_is_done(arg, rec, spc, db))
		return NULL;
	timeline_add_copy(arg, &pending);
	sizes_forget(&copy.tl->ingest->sizes);
	/* a second version of a key at the same LSN replaces the first */
	PS_TRY(for_each_key(&copy, spc, db, delete_key));
	return for_each_key(&copy, src_spc, src_db, copy_key);
}

const WalSink ingest_sink = {
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
