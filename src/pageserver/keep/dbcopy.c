/*
 * dbcopy.c
 *	  A database's files copied as a whole (CREATE DATABASE with STRATEGY
 *	  FILE_COPY, ALTER DATABASE SET TABLESPACE), as WAL tells of it: one record
 *	  and nothing more.
 *
 * Every key of the source at the record's start is written under the new
 * database's keys to an image layer at the record's end.  Called by the ingest
 * thread, when nothing is in memory that is older.
 */
#include "ps_fe.h"

#include "ps_wire.h"
#include "timeline_impl.h"

typedef struct Copy
{
	Timeline   *tl;
	const WalRecord *rec;
	Oid			src_spc;
	Oid			src_db;
	Oid			spc;
	Oid			db;
	ImageWriter *writer;
	struct Fork
	{
		PsKey		key;		/* of the source's size */
		BlockNumber nblocks;
	}		   *forks;
	int			nforks;
	int			cap;
} Copy;

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
	err = image_writer_put(copy->writer, &to, buf.data, buf.len);
	pfree(buf.data);
	relsize_free(&size);
	return err;
}

static PsError *
copy_value(void *arg, const PsKey *key, const char *value, uint32 len)
{
	Copy	   *copy = arg;
	PsKey		to = translate(copy, *key);

	return image_writer_put(copy->writer, &to, value, len);
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

	for (BlockNumber blk = 0; blk < fork->nblocks; blk += PS_MAX_BATCH)
	{
		int			n = Min(PS_MAX_BATCH, fork->nblocks - blk);

		if (timeline_is_stopping(copy->tl))
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "the store is stopping");

		for (int i = 0; i < n; i++)
			blks[i] = blk + i;
		PS_TRY(timeline_read_pages(copy->tl, rel, (ForkNumber) fork->key.fork, blks, n, copy->rec->start, pages));
		for (int i = 0; i < n; i++)
		{
			PsKey		to = translate(copy, ps_key_block(rel, (ForkNumber) fork->key.fork, blk + i));

			if (memcmp(pages + (size_t) i * BLCKSZ, zeros, BLCKSZ) != 0)
				PS_TRY(image_writer_put(copy->writer, &to, pages + (size_t) i * BLCKSZ, BLCKSZ));
		}
	}
	return NULL;
}

static PsError *
copy_kind(Copy *copy, PsKeyKind kind, KeyCallback cb)
{
	PsKey		lo = ps_key_simple(kind, copy->src_spc, copy->src_db, 0);
	PsKey		hi = ps_key_simple(kind, copy->src_spc, copy->src_db, PG_UINT32_MAX);

	hi.fork = MAX_FORKNUM;
	return timeline_scan(copy->tl, &lo, &hi, copy->rec->start, cb, copy);
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

/*
 * Was the copy made before a crash, and is it in the manifest?  All that was
 * older had been written to layer files by then, the end of what the
 * destination held before included.
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

/* PS_SQLSTATE_DISK_FULL: nothing has changed, the caller may try the same again. */
PsError *
db_copy(Timeline *tl, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db)
{
	Copy		copy = {.tl = tl, .rec = rec, .src_spc = src_spc, .src_db = src_db, .spc = spc, .db = db};
	Layer	   *layer = NULL;
	char	   *pages;
	PsError    *err;

	PS_TRY(image_writer_create(tl->layers_dir, &tl->tenant->id, &tl->id, rec->end, &copy.writer));
	pages = pg_malloc((size_t) PS_MAX_BATCH * BLCKSZ);
	err = copy_all(&copy, pages);
	if (err == NULL)
		err = image_writer_finish(copy.writer, &layer);
	else
		image_writer_abort(copy.writer);
	if (err == NULL)
	{
		LayerSet   *set;
		LayerMap   *map;

		pthread_mutex_lock(&tl->manifest_lock);
		set = timeline_layers(tl);
		map = layer_map_change(set->map, &layer, 1, NULL, 0);
		err = timeline_save(tl, map, tl->disk_consistent_lsn, tl->generation, tl->owner);
		if (err == NULL)
		{
			LayerSet   *old;

			pthread_mutex_lock(&tl->lock);
			old = timeline_set_map(tl, map, 0);
			pthread_mutex_unlock(&tl->lock);
			layer_set_unref(old);
		}
		else
			layer_map_unref(map);
		layer_set_unref(set);
		pthread_mutex_unlock(&tl->manifest_lock);
		layer_unref(layer);
	}
	free(pages);
	free(copy.forks);
	return err;
}
