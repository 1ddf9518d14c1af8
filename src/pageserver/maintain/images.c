/*
 * images.c
 *	  Writes image files: complete values of a range of keys at one LSN, where many
 *	  deltas have accumulated.
 *
 * The keys are divided into parts of about the size of a file, in the order of relations;
 * large relations are divided at multiples of a fixed number of blocks.  A part gets an
 * image file when reads of its pages have become expensive:
 *
 *	- image_delta_records records for each page since its last image, on average,
 *	- or image_delta_percent of the bytes that an image would take,
 *	- or a tenth of either in image_delta_layers files.
 *
 * So the work of a read is bounded.  So is the space for images: all deltas of the window
 * must be kept, and an image inside the window makes none of them unnecessary.  Images are
 * written so late that they take about a third of what the deltas take.  Only parts for
 * which a new file has entries are examined.
 *
 * At the beginning of a branch, before the horizon of its parent, a part gets an image if
 * the deltas that are kept for that branch alone take more space than an image.
 */
#include "ps_fe.h"

#include "layer/layer_merge.h"
#include "layer/layer_writer.h"
#include "maintain/maintain_impl.h"
#include "sqlstate.h"
#include "wire.h"

/* Estimated size of a page in an image file; see docs/performance.md. */
#define IMAGE_PAGE_BYTES 3000

/* Estimated size of any other value. */
#define IMAGE_VALUE_BYTES 100

typedef struct Fork
{
	PsKey key; /* of its size */
	BlockNumber nblocks;
} Fork;

typedef struct ForkList
{
	Fork *forks;
	int n;
	int cap;
} ForkList;

/* Keys lo to hi.  The blocks begin in forks[first] at first_block and end in forks[last] before end_block. */
typedef struct Part
{
	PsKey lo;
	PsKey hi;
	uint64 nkeys;
	bool is_blocks;
	int first;
	int last;
	BlockNumber first_block;
	BlockNumber end_block;
} Part;

typedef struct Images
{
	Timeline *tl;
	XLogRecPtr lsn; /* of the images */
	LayerSet *set;
	bool all;                /* wherever there are deltas */
	XLogRecPtr examined_lsn; /* LSN of the last complete run; only parts with newer deltas are examined */
	bool for_branch;         /* a branch begins at the LSN; nothing around it can be read */
	ForkList forks;
	char *pages;
	int made;     /* number of files written */
	PsError *err; /* of the first damaged part */
} Images;

static PsError *
note_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	ForkList *list = arg;

	if (list->n == list->cap)
	{
		list->cap = list->cap ? list->cap * 2 : 512;
		list->forks = pg_realloc(list->forks, list->cap * sizeof(Fork));
	}
	list->forks[list->n++] = (Fork) {*key, relsize_value_nblocks(value, len)};
	return NULL;
}

/* The order that keys of blocks have. */
static int
by_key(const void *a, const void *b)
{
	const PsKey *x = &((const Fork *) a)->key;
	const PsKey *y = &((const Fork *) b)->key;
	PsKey p = {.kind = 1, .spc = x->spc, .db = x->db, .rel = x->rel, .fork = x->fork};
	PsKey q = {.kind = 1, .spc = y->spc, .db = y->db, .rel = y->rel, .fork = y->fork};

	return ps_key_cmp(&p, &q);
}

/* ---- is an image due ---- */

/*
 * Estimates what a delta file has for the part.  For images of a branch, only versions after
 * "after" and up to the branch's beginning count.
 */
static PsError *
find_deltas(const Images *images, const Part *part, Layer *layer, XLogRecPtr after, LayerRange *range)
{
	const LayerInfo *info = layer_info(layer);
	LayerMerge *entries;
	PsKey key;
	ValueRef ref;
	bool found;
	PsError *err;

	if (!images->for_branch)
		return layer_range(layer, &part->lo, &part->hi, range);
	*range = (LayerRange) {0};
	PS_TRY(layer_merge_open(&layer, 1, &part->lo, &part->hi, &entries));
	while ((err = layer_merge_next(entries, &key, &ref, &found)) == NULL && found)
		range->entries += ref.lsn > after && ref.lsn <= images->lsn;
	layer_merge_close(entries);
	range->bytes = info->entries > 0 ? info->file_size / info->entries * range->entries : 0;
	return err;
}

/* Finds the LSN of the newest image file of the part, and the average size of a key in it. */
static PsError *
find_newest_image(const Part *part, Layer *const *layers, int nlayers, XLogRecPtr *lsn, uint64 *key_bytes)
{
	LayerRange newest = {0};

	*lsn = InvalidXLogRecPtr;
	for (int i = 0; i < nlayers; i++)
	{
		if (layer_info(layers[i])->type != LAYER_IMAGE || layer_info(layers[i])->lsn_start <= *lsn)
			continue;
		*lsn = layer_info(layers[i])->lsn_start;
		PS_TRY(layer_range(layers[i], &part->lo, &part->hi, &newest));
	}
	if (newest.entries > 0)
		*key_bytes = Max(newest.bytes / newest.entries, 1);
	else
		*key_bytes = part->is_blocks ? IMAGE_PAGE_BYTES : IMAGE_VALUE_BYTES;
	return NULL;
}

/* Do the n delta files with these entries justify an image of nkeys keys? */
static bool
image_is_worthwhile(const Images *images, int n, const LayerRange *deltas, uint64 nkeys, uint64 image_bytes)
{
	const Config *config = timeline_config(images->tl);
	uint64 records = nkeys * config->image_delta_records;
	uint64 bytes = image_bytes * config->image_delta_percent / 100;

	if (n == 0)
		return false;
	if (images->for_branch)
		return deltas->bytes >= image_bytes;
	return images->all || deltas->entries >= records || deltas->bytes >= bytes ||
		   (n >= config->image_delta_layers && (deltas->entries >= records / 10 || deltas->bytes >= bytes / 10));
}

/* Does any file with versions newer than the last complete run have entries for this part? */
static PsError *
has_changed(const Images *images, const Part *part, Layer *const *layers, int nlayers, bool *changed)
{
	LayerRange range = {0};

	for (int i = 0; i < nlayers && range.entries == 0; i++)
		if (layer_info(layers[i])->type == LAYER_DELTA && layer_info(layers[i])->lsn_end > images->examined_lsn + 1)
			PS_TRY(layer_range(layers[i], &part->lo, &part->hi, &range));
	*changed = range.entries > 0;
	return NULL;
}

static PsError *
image_is_due(const Images *images, const Part *part, bool *due)
{
	LayerRange deltas = {0};
	XLogRecPtr newest_image;
	uint64 key_bytes;
	int n = 0;
	Layer **layers;
	int nlayers = layer_map_find(images->set->map, &part->lo, &part->hi, 0, images->lsn, &layers);
	PsError *err;

	PS_GOTO(has_changed(images, part, layers, nlayers, due), done);
	if (!*due)
		goto done;
	PS_GOTO(find_newest_image(part, layers, nlayers, &newest_image, &key_bytes), done);
	for (int i = 0; i < nlayers; i++)
	{
		const LayerInfo *info = layer_info(layers[i]);
		LayerRange range;

		if (info->type != LAYER_DELTA || info->lsn_end <= newest_image + 1)
			continue;
		PS_GOTO(find_deltas(images, part, layers[i], newest_image, &range), done);
		if (range.entries > 0)
		{
			deltas.entries += range.entries;
			deltas.bytes += range.bytes;
			n++;
		}
	}
	*due = image_is_worthwhile(images, n, &deltas, part->nkeys, part->nkeys * key_bytes);
done:
	free(layers);
	return err;
}

/* ---- writing an image file ---- */

static PsError *
put_value(void *arg, const PsKey *key, const char *value, uint32 len)
{
	return image_writer_put(arg, key, value, len);
}

/*
 * Writes "count" blocks from blk on, whose pages are in images->pages, except those with an
 * error.  A damaged page is left out: a read of it continues to older versions, as it would
 * without the image, and those are kept.
 */
static PsError *
put_pages(Images *images, ImageWriter *writer, const Fork *fork, BlockNumber blk, int count, PsError **errors,
		  uint64 *n)
{
	static const char zeros[BLCKSZ];
	PsRel rel = {fork->key.spc, fork->key.db, fork->key.rel};
	PsError *err = NULL;

	for (int i = 0; i < count; i++)
	{
		PsKey key = ps_key_block(rel, (ForkNumber) fork->key.fork, blk + i);
		const char *page = images->pages + (size_t) i * BLCKSZ;

		if (err != NULL)
			ps_error_free(errors[i]);
		else if (errors[i] != NULL)
		{
			if (ps_error_is_damage(errors[i]))
				ps_error_free(errors[i]);
			else
				err = errors[i];
		}
		/* a key without a version reads as zeros, so zeros need not be written */
		else if (memcmp(page, zeros, BLCKSZ) != 0)
		{
			err = image_writer_put(writer, &key, page, BLCKSZ);
			(*n)++;
		}
	}
	return err;
}

static PsError *
put_fork(Images *images, ImageWriter *writer, const Fork *fork, BlockNumber from, BlockNumber to, uint64 *n)
{
	PsRel rel = {fork->key.spc, fork->key.db, fork->key.rel};
	BlockNumber blks[PS_MAX_BATCH];
	PsError *errors[PS_MAX_BATCH];

	/* do not count beyond "to", which may be the largest BlockNumber */
	for (BlockNumber blk = from, count; blk < to; blk += count)
	{
		count = Min(PS_MAX_BATCH, to - blk);
		PS_TRY(timeline_check_stopping(images->tl));
		for (int i = 0; i < count; i++)
			blks[i] = blk + i;
		PS_TRY(timeline_read_each_page(images->tl, rel, (ForkNumber) fork->key.fork, blks, count, images->lsn,
									   images->pages, errors));
		PS_TRY(put_pages(images, writer, fork, blk, count, errors, n));
	}
	return NULL;
}

/* Writes pages of SLRUs and all other values that are not blocks of relations. */
static PsError *
put_values(Images *images, ImageWriter *writer, const Part *part)
{
	return timeline_scan(images->tl, &part->lo, &part->hi, images->lsn, put_value, writer);
}

static PsError *
write_part(Images *images, const Part *part)
{
	Timeline *tl = images->tl;
	ImageWriter *writer;
	Layer *layer;
	uint64 n = 0;
	PsError *err = NULL;

	PS_TRY(image_writer_create(&tl->spec->space, images->lsn, &writer));
	if (!part->is_blocks)
		err = put_values(images, writer, part);
	else
		for (int f = part->first; f <= part->last && err == NULL; f++)
			err = put_fork(images, writer, &images->forks.forks[f], f == part->first ? part->first_block : 0,
						   f == part->last ? part->end_block : images->forks.forks[f].nblocks, &n);
	if (err != NULL || (part->is_blocks && n == 0))
	{
		image_writer_abort(writer);
		return err;
	}
	err = image_writer_finish(writer, &layer);
	if (err != NULL)
	{
		image_writer_abort(writer);
		return err;
	}
	err = timeline_replace_files(tl, &layer, 1, NULL, 0);
	if (err == NULL)
	{
		char name[LAYER_NAME_MAX];

		images->made++;
		ps_log(PS_DEBUG, "branch \"%s\": wrote image layer \"%s\" (%llu kB)", timeline_name(tl),
			   layer_name(layer, name), (unsigned long long) layer_info(layer)->file_size / 1024);
	}
	layer_unref(layer);
	return err;
}

/*
 * Writes an image of a part if one is due.  Damage prevents this part only; it is reported
 * when all parts are done.
 */
static PsError *
write_part_if_due(Images *images, const Part *part)
{
	uint64 bytes = part->nkeys * (part->is_blocks ? IMAGE_PAGE_BYTES : IMAGE_VALUE_BYTES);
	bool due;
	PsError *err;

	PS_TRY(timeline_check_stopping(images->tl));
	err = image_is_due(images, part, &due);
	if (err == NULL && due)
	{
		if (!room_reserve(images->tl, bytes))
			return room_error(images->tl, bytes, "image files cannot be written");
		err = write_part(images, part);
		room_release(images->tl, bytes);
	}
	if (err == NULL || !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return err;
	images->err = ps_error_first(images->err, err);
	return NULL;
}

/* ---- all parts ---- */

static PsError *
do_value_parts(Images *images, PsKeyKind from, PsKeyKind to, uint64 nvalues)
{
	Part part = {.nkeys = nvalues};

	part.lo = (PsKey) {.kind = from};
	part.hi = (PsKey) {.kind = to,
					   .fork = UINT8_MAX,
					   .spc = PG_UINT32_MAX,
					   .db = PG_UINT32_MAX,
					   .rel = PG_UINT32_MAX,
					   .blk = PG_UINT32_MAX};
	return write_part_if_due(images, &part);
}

static PsKey
block_key(const Fork *fork, BlockNumber blk)
{
	PsRel rel = {fork->key.spc, fork->key.db, fork->key.rel};

	return ps_key_block(rel, (ForkNumber) fork->key.fork, blk);
}

/* Divides the blocks of all forks into parts. */
static PsError *
do_block_parts(Images *images)
{
	const Config *config = timeline_config(images->tl);
	BlockNumber most = Max(1, (BlockNumber) ((uint64) config->target_file_size * 1024 * 1024 / IMAGE_PAGE_BYTES));
	int f = 0;
	BlockNumber blk = 0;

	while (f < images->forks.n)
	{
		const Fork *forks = images->forks.forks;
		Part part = {.is_blocks = true, .first = f, .first_block = blk};
		BlockNumber left = most - blk % most;

		while (f < images->forks.n && left > 0)
		{
			BlockNumber take = Min(left, forks[f].nblocks - blk);

			left -= take;
			part.nkeys += take;
			part.last = f;
			part.end_block = blk + take;
			blk += take;
			if (blk < forks[f].nblocks)
				break;
			f++;
			blk = 0;
		}
		if (part.nkeys == 0)
			continue;
		part.lo = block_key(&forks[part.first], part.first_block);
		part.hi = block_key(&forks[part.last], part.end_block - 1);
		PS_TRY(write_part_if_due(images, &part));
	}
	return NULL;
}

static PsError *
do_all_parts(Images *images)
{
	PsKey lo = ps_key_simple(PS_KEY_RELSIZE, 0, 0, 0);
	PsKey hi = ps_key_simple(PS_KEY_INITSIZE, PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX);
	PsError *err;

	hi.fork = UINT8_MAX;
	images->set = timeline_files(images->tl);
	images->pages = pg_malloc((size_t) PS_MAX_BATCH * BLCKSZ);
	PS_GOTO(timeline_scan(images->tl, &lo, &hi, images->lsn, note_fork, &images->forks), done);
	if (images->forks.n > 0)
		qsort(images->forks.forks, images->forks.n, sizeof(Fork), by_key);
	PS_GOTO(do_value_parts(images, PS_KEY_RELSIZE, PS_KEY_INITSIZE, images->forks.n), done);
	PS_GOTO(do_block_parts(images), done);
	err = do_value_parts(images, PS_KEY_DATABASE, PS_KEY_AUX, images->forks.n);
done:
	err = ps_error_first(err, images->err);
	layer_set_unref(images->set);
	free(images->forks.forks);
	free(images->pages);
	return err;
}

PsError *
make_images(Timeline *tl, bool all, int *made)
{
	Images images = {.tl = tl, .all = all, .examined_lsn = all ? 0 : tl->spec->maintained.marks.images_lsn};
	PsError *err;

	*made = 0;
	pthread_mutex_lock(&tl->lock);
	images.lsn = tl->disk_consistent_lsn;
	pthread_mutex_unlock(&tl->lock);
	/* no part has changed, and no file need be read to know that */
	if (images.examined_lsn >= images.lsn)
		return NULL;
	err = do_all_parts(&images);
	*made = images.made;
	if (err == NULL)
		tl->spec->maintained.marks.images_lsn = images.lsn;
	return err;
}

PsError *
make_branch_images(Timeline *tl, int *made)
{
	XLogRecPtr lsn;

	*made = 0;
	while ((lsn = pins_without_images(tl->spec->pins)) != InvalidXLogRecPtr)
	{
		Images images = {.tl = tl, .for_branch = true, .lsn = lsn};
		PsError *err = do_all_parts(&images);

		*made += images.made;
		if (err != NULL)
			return err;
		pins_set_imaged(tl->spec->pins, lsn);
	}
	return NULL;
}
