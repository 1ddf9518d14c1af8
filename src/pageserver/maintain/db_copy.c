/*
 * db_copy.c
 *	  Writes the pages of a database that was copied as a whole (CREATE DATABASE with
 *	  STRATEGY FILE_COPY, ALTER DATABASE SET TABLESPACE).
 *
 * Such a copy is a single WAL record for any number of pages.
 *
 * Ingest (ingest/ingest_sink.c) ends what the destination had, and files the sizes and
 * other small values of the source under the destination's keys, at the record's end.
 * Each fork gets an *origin* (relsize.h): the source's fork at the record's start.  This
 * costs as much as there are relations.
 *
 * A read of a block that has no version and no base starts with the page at the origin,
 * which may have an origin itself (read/reconstruct.c).  A truncation ends the origin of
 * the blocks that it cuts off.
 *
 * Two pins for each copy (DbCopy) keep what is needed, also if the source is dropped: at
 * the record's start for its pages, and at its end for this file.  Copies whose record is
 * in layer files are in the manifest; others are found again when WAL is ingested again.
 *
 * When the record is in layer files, this file writes the pages under the destination's
 * keys to image files at the record's end.  One change of the manifest adds all of them and
 * forgets the copy; after a stop or a crash before it, the work starts again.  Pages of zeros are
 * written, too: every block then has a version, and no read goes to the origin any more.
 * Branches that begin in between find these images as their parent does.
 */
#include "ps_fe.h"

#include "layer/layer_writer.h"
#include "maintain/maintain_impl.h"
#include "sqlstate.h"
#include "wire.h"

/* Estimated size of a page in an image file; images.c has the same constant. */
#define IMAGE_PAGE_BYTES 3000

typedef struct Fork
{
	PsKey key; /* of its size */
	BlockNumber nblocks;
} Fork;

typedef struct Copy
{
	Timeline *tl;
	const DbCopy *of;
	Fork *forks;
	int nforks;
	int cap;
	uint64 npages; /* of all forks */
	char *pages;
	ImageWriter *writer; /* NULL: no file is being written */
	uint64 nwritten;     /* pages in that file so far */
	Layer **layers;      /* files that are complete */
	int nlayers;
} Copy;

static PsError *
note_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	Copy *copy = arg;

	if (copy->nforks == copy->cap)
	{
		copy->cap = copy->cap ? copy->cap * 2 : 512;
		copy->forks = pg_realloc(copy->forks, copy->cap * sizeof(Fork));
	}
	copy->forks[copy->nforks++] = (Fork) {*key, relsize_value_nblocks(value, len)};
	copy->npages += relsize_value_nblocks(value, len);
	return NULL;
}

static PsError *
find_forks(Copy *copy, PsKeyKind kind)
{
	PsKey lo = ps_key_simple(kind, copy->of->spc, copy->of->db, 0);
	PsKey hi = ps_key_simple(kind, copy->of->spc, copy->of->db, PG_UINT32_MAX);

	hi.fork = MAX_FORKNUM;
	return timeline_scan(copy->tl, &lo, &hi, copy->of->end, note_fork, copy);
}

/* Ascending, as keys of blocks are: by relation, then fork. */
static int
by_relation(const void *a, const void *b)
{
	const Fork *x = a;
	const Fork *y = b;

	if (x->key.rel != y->key.rel)
		return x->key.rel < y->key.rel ? -1 : 1;
	return (int) x->key.fork - (int) y->key.fork;
}

static PsError *
end_file(Copy *copy)
{
	Layer *layer;

	if (copy->writer == NULL)
		return NULL;
	PS_TRY(image_writer_finish(copy->writer, &layer));
	copy->writer = NULL;
	copy->nwritten = 0;
	copy->layers = pg_realloc(copy->layers, (copy->nlayers + 1) * sizeof(Layer *));
	copy->layers[copy->nlayers++] = layer;
	return NULL;
}

static PsError *
put_page(Copy *copy, const PsKey *key, const char *page)
{
	uint64 most = Max((uint64) timeline_config(copy->tl)->target_file_size * 1024 * 1024 / IMAGE_PAGE_BYTES, 1);

	if (copy->nwritten >= most)
		PS_TRY(end_file(copy));
	if (copy->writer == NULL)
		PS_TRY(image_writer_create(&copy->tl->spec->space, copy->of->end, &copy->writer));
	copy->nwritten++;
	return image_writer_put(copy->writer, key, page, BLCKSZ);
}

static PsError *
copy_fork(Copy *copy, const Fork *fork)
{
	PsRel rel = {fork->key.spc, fork->key.db, fork->key.rel};
	BlockNumber blks[PS_MAX_BATCH];

	/* do not count beyond nblocks, which may be the largest BlockNumber */
	for (BlockNumber blk = 0, n; blk < fork->nblocks; blk += n)
	{
		n = Min(PS_MAX_BATCH, fork->nblocks - blk);
		PS_TRY(timeline_check_stopping(copy->tl));
		for (int i = 0; i < n; i++)
			blks[i] = blk + i;
		PS_TRY(timeline_read_pages(copy->tl, rel, (ForkNumber) fork->key.fork, blks, n, copy->of->end, copy->pages));
		for (int i = 0; i < n; i++)
		{
			PsKey key = ps_key_block(rel, (ForkNumber) fork->key.fork, blk + i);

			PS_TRY(put_page(copy, &key, copy->pages + (size_t) i * BLCKSZ));
		}
	}
	return NULL;
}

/* Adds the files and forgets the copy, in one change of the manifest. */
static PsError *
finish(Copy *copy)
{
	PsError *err;

	err = timeline_finish_copy(copy->tl, copy->layers, copy->nlayers, copy->of);
	if (err == NULL)
		ps_log(PS_LOG, "branch \"%s\": wrote %llu pages of copied database %u in tablespace %u to %d files",
			   timeline_name(copy->tl), (unsigned long long) copy->npages, copy->of->db, copy->of->spc, copy->nlayers);
	return err;
}

static PsError *
write_copy(Timeline *tl, const DbCopy *of)
{
	Copy copy = {.tl = tl, .of = of};
	uint64 bytes = 0;
	PsError *err;

	PS_GOTO(find_forks(&copy, PS_KEY_RELSIZE), done);
	PS_GOTO(find_forks(&copy, PS_KEY_INITSIZE), done);
	if (!room_reserve(tl, copy.npages * IMAGE_PAGE_BYTES))
	{
		err = room_error(tl, copy.npages * IMAGE_PAGE_BYTES, "pages of a copied database cannot be written");
		goto done;
	}
	bytes = copy.npages * IMAGE_PAGE_BYTES;
	copy.pages = pg_malloc((size_t) PS_MAX_BATCH * BLCKSZ);
	if (copy.nforks > 0)
		qsort(copy.forks, copy.nforks, sizeof(Fork), by_relation);
	for (int i = 0; i < copy.nforks; i++)
		PS_GOTO(copy_fork(&copy, &copy.forks[i]), done);
	PS_GOTO(end_file(&copy), done);
	err = finish(&copy);
	/* the manifest has the files, or timeline_save() has arranged for their removal */
	for (int i = 0; i < copy.nlayers; i++)
		layer_unref(copy.layers[i]);
	copy.nlayers = 0;

done:
	image_writer_abort(copy.writer);
	for (int i = 0; i < copy.nlayers; i++)
	{
		layer_remove(copy.layers[i]);
		layer_unref(copy.layers[i]);
	}
	room_release(tl, bytes);
	free(copy.layers);
	free(copy.pages);
	free(copy.forks);
	return err;
}

PsError *
copy_databases(Timeline *tl)
{
	DbCopy copy;

	while (timeline_next_copy(tl, &copy))
		PS_TRY(write_copy(tl, &copy));
	return NULL;
}
