/*
 * dbcopy.c
 *	  A database's files copied as a whole (CREATE DATABASE with STRATEGY
 *	  FILE_COPY, ALTER DATABASE SET TABLESPACE), as WAL tells of it: one record
 *	  and nothing more.
 *
 * Every key of the source at the record's start is written under the new
 * database's keys to an image layer at the record's end.  What the destination
 * held before (dbase_redo() removes it) ends by tombstones one byte before that
 * LSN, in a small delta layer.  Both come into the manifest at once.  Called by
 * the ingest thread, when nothing is in memory that is older.
 */
#include "ps_fe.h"

#include "keep/keep.h"
#include "ps_wire.h"

typedef struct Copy
{
	Timeline   *tl;
	const WalRecord *rec;
	Oid			src_spc;
	Oid			src_db;
	Oid			spc;
	Oid			db;
	ImageWriter *writer;
	uint64		nkeys;			/* written */
	struct Fork
	{
		PsKey		key;		/* of the source's size */
		BlockNumber nblocks;
	}		   *forks;
	int			nforks;
	int			cap;
} Copy;

/* What the destination held. */
typedef struct OldKeys
{
	PsKey	   *keys;
	int			n;
	int			cap;
} OldKeys;

/* The kinds of keys that a database has in one tablespace, without blocks, in their order. */
static const PsKeyKind db_kinds[] = {PS_KEY_RELSIZE, PS_KEY_INITSIZE, PS_KEY_DATABASE, PS_KEY_RELMAP};

static PsError *
scan_kind(Timeline *tl, PsKeyKind kind, Oid spc, Oid db, XLogRecPtr lsn, KeyCallback cb, void *arg)
{
	PsKey		lo = ps_key_simple(kind, spc, db, 0);
	PsKey		hi = ps_key_simple(kind, spc, db, PG_UINT32_MAX);

	hi.fork = MAX_FORKNUM;
	return timeline_scan(tl, &lo, &hi, lsn, cb, arg);
}

/* ---- the copy ---- */

static PsError *
put(Copy *copy, const PsKey *key, const char *data, uint32 len)
{
	copy->nkeys++;
	return image_writer_put(copy->writer, key, data, len);
}

/* The source's key in the new database. */
static PsKey
translate(const Copy *copy, PsKey key)
{
	key.spc = copy->spc;
	key.db = copy->db;
	return key;
}

static PsError *
copy_size(void *arg, const PsKey *key, const char *value, uint32 len)
{
	Copy	   *copy = arg;
	PsKey		to = translate(copy, *key);
	RelSize		size = {.nblocks = relsize_value_nblocks(value, len)};
	StringInfoData buf;
	PsError    *err;

	if (copy->nforks == copy->cap)
	{
		copy->cap = copy->cap ? copy->cap * 2 : 512;
		copy->forks = pg_realloc(copy->forks, copy->cap * sizeof(*copy->forks));
	}
	copy->forks[copy->nforks++] = (struct Fork){*key, size.nblocks};
	relsize_add_floor(&size, 0, copy->rec->start);
	initStringInfo(&buf);
	relsize_encode(&size, &buf);
	err = put(copy, &to, buf.data, buf.len);
	pfree(buf.data);
	relsize_free(&size);
	return err;
}

static PsError *
copy_value(void *arg, const PsKey *key, const char *value, uint32 len)
{
	Copy	   *copy = arg;
	PsKey		to = translate(copy, *key);

	return put(copy, &to, value, len);
}

/* Ascending, as keys of blocks are: by relation, then fork. */
static int
by_relation(const void *a, const void *b)
{
	const struct Fork *x = a;
	const struct Fork *y = b;

	if (x->key.rel != y->key.rel)
		return x->key.rel < y->key.rel ? -1 : 1;
	return (int) x->key.fork - (int) y->key.fork;
}

static PsError *
copy_blocks(Copy *copy, const struct Fork *fork, char *pages)
{
	static const char zeros[BLCKSZ];
	PsRel		rel = {fork->key.spc, fork->key.db, fork->key.rel};
	BlockNumber blks[PS_MAX_BATCH];

	/* no further than nblocks, which may be the greatest number there is */
	for (BlockNumber blk = 0, n; blk < fork->nblocks; blk += n)
	{
		n = Min(PS_MAX_BATCH, fork->nblocks - blk);
		if (timeline_is_stopping(copy->tl))
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "the store is stopping");

		for (int i = 0; i < n; i++)
			blks[i] = blk + i;
		PS_TRY(timeline_read_pages(copy->tl, rel, (ForkNumber) fork->key.fork, blks, n, copy->rec->start, pages));
		for (int i = 0; i < n; i++)
		{
			PsKey		to = translate(copy, ps_key_block(rel, (ForkNumber) fork->key.fork, blk + i));

			if (memcmp(pages + (size_t) i * BLCKSZ, zeros, BLCKSZ) != 0)
				PS_TRY(put(copy, &to, pages + (size_t) i * BLCKSZ, BLCKSZ));
		}
	}
	return NULL;
}

static PsError *
copy_kind(Copy *copy, PsKeyKind kind, KeyCallback cb)
{
	return scan_kind(copy->tl, kind, copy->src_spc, copy->src_db, copy->rec->start, cb, copy);
}

/* Keys in the order of their kinds (ps_key.h): sizes, blocks, then the rest. */
static PsError *
copy_all(Copy *copy, char *pages)
{
	PS_TRY(copy_kind(copy, PS_KEY_RELSIZE, copy_size));
	PS_TRY(copy_kind(copy, PS_KEY_INITSIZE, copy_size));
	if (copy->nforks > 0)
		qsort(copy->forks, copy->nforks, sizeof(*copy->forks), by_relation);
	for (int i = 0; i < copy->nforks; i++)
		PS_TRY(copy_blocks(copy, &copy->forks[i], pages));
	PS_TRY(copy_kind(copy, PS_KEY_DATABASE, copy_value));
	return copy_kind(copy, PS_KEY_RELMAP, copy_value);
}

/* Writes the image layer; *layer stays NULL if the source has nothing. */
static PsError *
write_copy(Copy *copy, Layer **layer)
{
	Timeline   *tl = copy->tl;
	char	   *pages;
	PsError    *err;

	PS_TRY(image_writer_create(&tl->space, copy->rec->end, &copy->writer));
	pages = pg_malloc((size_t) PS_MAX_BATCH * BLCKSZ);
	err = copy_all(copy, pages);
	if (err == NULL && copy->nkeys > 0)
		err = image_writer_finish(copy->writer, layer);
	if (*layer == NULL)
		image_writer_abort(copy->writer);
	free(pages);
	free(copy->forks);
	return err;
}

/* ---- the end of what was there ---- */

static PsError *
note_key(void *arg, const PsKey *key, const char *value, uint32 len)
{
	OldKeys    *old = arg;

	if (old->n == old->cap)
	{
		old->cap = old->cap ? old->cap * 2 : 512;
		old->keys = pg_realloc(old->keys, old->cap * sizeof(PsKey));
	}
	old->keys[old->n++] = *key;
	return NULL;
}

/* Writes the delta layer; *layer stays NULL if the destination held nothing. */
static PsError *
write_tombstones(const Copy *copy, Layer **layer)
{
	Timeline   *tl = copy->tl;
	XLogRecPtr	lsn = copy->rec->end - 1;
	OldKeys		old = {0};
	DeltaWriter *writer = NULL;
	uint64		offset;
	PsError    *err = NULL;

	for (int i = 0; i < lengthof(db_kinds); i++)
		PS_GOTO(scan_kind(tl, db_kinds[i], copy->spc, copy->db, copy->rec->start, note_key, &old), done);
	if (old.n == 0)
		goto done;
	PS_GOTO(delta_writer_create(&tl->space, 0, lsn, lsn + 1, &writer), done);
	PS_GOTO(delta_writer_value(writer, VALUE_TOMBSTONE, InvalidXLogRecPtr, "", 0, &offset), done);
	for (int i = 0; i < old.n; i++)
		PS_GOTO(delta_writer_add(writer, &old.keys[i], lsn, VALUE_TOMBSTONE, true, old.n > 1, offset), done);
	PS_GOTO(delta_writer_finish(writer, layer), done);
	writer = NULL;

done:
	delta_writer_abort(writer);
	free(old.keys);
	return err;
}

/*
 * Was the copy made before a crash, and is it in the manifest?  A source that
 * has nothing leaves nothing to see: then the copy is made again, which changes
 * nothing.
 */
bool
db_copy_is_done(Timeline *tl, const WalRecord *rec, Oid spc, Oid db)
{
	LayerSet   *set = timeline_layers(tl);
	bool		found = false;

	for (int i = 0; i < layer_map_count(set->map) && !found; i++)
	{
		const LayerInfo *info = layer_info(layer_map_get(set->map, i));

		found = info->type == LAYER_IMAGE && info->lsn_start == rec->end && info->key_min.spc == spc && info->key_min.db == db;
	}
	layer_set_unref(set);
	return found;
}

/* After an error nothing has changed; unless something is damaged, the caller may try the same again. */
PsError *
db_copy(Timeline *tl, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	Copy		copy = {.tl = tl, .rec = rec, .src_spc = src_spc, .src_db = src_db, .spc = spc, .db = db};
	Layer	   *image = NULL;
	Layer	   *delta = NULL;
	Layer	   *layers[2];
	int			n = 0;
	PsError    *err;

	err = write_copy(&copy, &image);
	if (err == NULL)
		err = write_tombstones(&copy, &delta);
	if (image != NULL)
		layers[n++] = image;
	if (delta != NULL)
		layers[n++] = delta;
	if (err == NULL && n > 0)
		err = keep_replace(tl, layers, n, NULL, 0);
	else
		for (int i = 0; i < n; i++)
			layer_remove(layers[i]);
	while (n > 0)
		layer_unref(layers[--n]);
	return err;
}
