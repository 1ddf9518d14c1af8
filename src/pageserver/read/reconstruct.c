/*
 * reconstruct.c
 *	  Reconstructs pages from their versions: see reconstruct.h.
 *
 * All pages of a batch are planned, then their values are read together, then the records
 * are applied, oldest first.  The base of a page is what the page cache has, an image, a
 * record that initializes the page, the page that it is a copy of (relsize.h), or zeros.
 * An image in a record is restored here if redo would do nothing else with it; other
 * records go to a redo helper.  A batch that needs much memory is done in several rounds.
 */
#include "ps_fe.h"

#include "storage/bufpage.h"

#include "pg/parse.h"
#include "pg/slru.h"
#include "sqlstate.h"
#include "read/read_impl.h"
#include "read/reconstruct.h"
#include "read/values.h"

/* A page that is being reconstructed. */
typedef struct PageWork
{
	PsKey key;
	char *page;
	bool looked_up;      /* the page cache was searched */
	bool has_base;       /* "page" is valid up to what was applied; otherwise it stands for zeros */
	bool applied;        /* a record was applied, so the page is worth keeping in the page cache */
	XLogRecPtr base_lsn; /* of a base from the page cache */
	int first;           /* index of its newest version in the plan; older ones follow */
	int next;            /* index of the oldest version not applied yet; first - 1 if there is none */
	int first_read;      /* index of its first value of this round in Batch.values, oldest first */
	int nreads;
	PsError *err; /* nothing more is done for this page */
} PageWork;

typedef struct Batch
{
	const ReadView *view;
	XLogRecPtr lsn;
	PageWork *pages;
	int n;
	Plan plan;          /* of all pages */
	ValueBatch values;  /* of this round */
	WalRecord *records; /* records of this round for redo helpers */
	int records_cap;
	RedoJob *jobs; /* of this round */
	int njobs;
} Batch;

static void
batch_init(Batch *batch, const ReadView *view, XLogRecPtr lsn, PageWork *pages, int n)
{
	memset(batch, 0, sizeof(*batch));
	batch->view = view;
	batch->lsn = lsn;
	batch->pages = pages;
	batch->n = n;
	plan_init(&batch->plan, view);
	value_batch_init(&batch->values, view);
}

static void
batch_free(Batch *batch)
{
	value_batch_free(&batch->values);
	plan_free(&batch->plan);
	free(batch->records);
	free(batch->jobs);
}

/* Plans the versions of a page that are newer than the floor (relsize.h). */
static PsError *
plan_page(Batch *batch, PageWork *page, XLogRecPtr floor)
{
	Timeline *tl = batch->view->tl;

	if (!page->looked_up)
		page->has_base = page_store_get(tl->env->page_cache, tl->spec->cache_id, &page->key, floor + 1, batch->lsn,
										page->page, &page->base_lsn);
	page->looked_up = true;
	page->first = batch->plan.versions.n;
	PS_TRY(plan_key(&batch->plan, &page->key, page->has_base ? page->base_lsn + 1 : floor + 1, batch->lsn));
	page->next = batch->plan.versions.n - 1;
	return NULL;
}

/* The floor has become known after the plan was made: discards what is not above it. */
static void
apply_floor(Batch *batch, PageWork *page, XLogRecPtr floor)
{
	if (page->has_base && page->base_lsn <= floor)
		page->has_base = false;
	while (page->next >= page->first && batch->plan.versions.refs[page->next].lsn <= floor)
	{
		page->next--;
		if (page->nreads > 0)
		{
			ps_error_free(batch->values.reads[page->first_read].err);
			batch->values.reads[page->first_read++].err = NULL;
			page->nreads--;
		}
	}
}

/* Is there neither a base nor a version that needs no older one? */
static bool
is_open_ended(const Batch *batch, const PageWork *page)
{
	return !page->has_base && (page->next < page->first || !batch->plan.versions.refs[page->next].will_init);
}

/* Gives pages that have no other base the page at the origin of their fork (relsize.h). */
static PsError *
add_origins(Batch *batch, const RelSize *size)
{
	const RelSizeOrigin *origin = &size->origin;
	PageWork **pages;
	BlockNumber *blks;
	PsError **errors;
	char *bytes;
	int n = 0;
	PsError *err = NULL;

	if (origin->nblocks == 0)
		return NULL;
	pages = pg_malloc(batch->n * sizeof(PageWork *));
	blks = pg_malloc(batch->n * sizeof(BlockNumber));
	for (int i = 0; i < batch->n; i++)
		if (batch->pages[i].key.blk < origin->nblocks && is_open_ended(batch, &batch->pages[i]))
		{
			blks[n] = batch->pages[i].key.blk;
			pages[n++] = &batch->pages[i];
		}
	if (n > 0)
	{
		PsRel rel = {origin->spc, origin->db, pages[0]->key.rel};

		bytes = pg_malloc((size_t) n * BLCKSZ);
		errors = pg_malloc(n * sizeof(PsError *));
		err = reconstruct_pages(batch->view, rel, (ForkNumber) pages[0]->key.fork, blks, n,
								Min(origin->lsn, batch->lsn), bytes, errors);
		for (int i = 0; err == NULL && i < n; i++)
		{
			memcpy(pages[i]->page, bytes + (size_t) i * BLCKSZ, BLCKSZ);
			pages[i]->has_base = true;
			pages[i]->err = errors[i];
		}
		free(errors);
		free(bytes);
	}
	free(blks);
	free(pages);
	return err;
}

/* Adds the next values of the page to this round, up to the memory limit, but at least one to the round. */
static void
add_values(Batch *batch, PageWork *page)
{
	ValueBatch *values = &batch->values;

	page->first_read = values->n;
	for (int i = page->next; i >= page->first && (values->n == 0 || values->expected < VALUE_BATCH_BYTES); i--)
	{
		const ValueRef *ref = &batch->plan.versions.refs[i];

		value_batch_add(values, ref, ref->kind == VALUE_IMAGE ? page->page : NULL);
	}
	page->nreads = values->n - page->first_read;
}

/* Restores the record's image of the block if redo would only copy it, and sets *done. */
static PsError *
restore_image(PageWork *page, const WalRecord *rec, bool *done)
{
	const PsKey *key = &page->key;
	WalParsed parsed;

	*done = false;
	PS_TRY(wal_parse(rec, &parsed));
	for (int i = 0; i <= parsed.max_block_id; i++)
	{
		const WalBlockRef *b = &parsed.blocks[i];

		if (!b->in_use || !b->apply_image || b->blk != key->blk || b->fork != key->fork || b->rel.rel != key->rel ||
			b->rel.db != key->db || b->rel.spc != key->spc)
			continue;
		if (!wal_image_is_final(&parsed, i))
			return NULL;
		PS_TRY(wal_restore_image(rec, &parsed, i, page->page));
		if (!PageIsNew(page->page))
			PageSetLSN(page->page, rec->end);
		*done = true;
		return NULL;
	}
	return NULL;
}

/* Restores an image in the first record of a relation's block, and makes a job for a redo helper of the rest. */
static PsError *
prepare_block(Batch *batch, PageWork *page, WalRecord *records, int n)
{
	bool restored = false;

	PS_TRY(restore_image(page, &records[0], &restored));
	page->has_base = page->has_base || restored;
	if (n > restored)
		batch->jobs[batch->njobs++] = (RedoJob) {
			.rel = {page->key.spc, page->key.db, page->key.rel},
			.fork = (ForkNumber) page->key.fork,
			.blk = page->key.blk,
			.has_base = page->has_base,
			.page = page->page,
			.records = records + restored,
			.nrecords = n - restored,
			.err = &page->err};
	page->has_base = true;
	return NULL;
}

static PsError *
apply_to_slru(PageWork *page, const WalRecord *records, int n)
{
	if (!page->has_base)
		memset(page->page, 0, BLCKSZ);
	for (int i = 0; i < n; i++)
		PS_TRY(wal_slru_apply(&records[i], (PsSlru) page->key.spc, page->key.rel * 32 + page->key.blk, page->page));
	page->has_base = true;
	return NULL;
}

/* Applies the values of this round to a page, except records for redo helpers, which become a job. */
static PsError *
apply_values(Batch *batch, PageWork *page, WalRecord *records)
{
	int n = 0;

	for (int i = 0; i < page->nreads; i++)
	{
		ValueRead *read = &batch->values.reads[page->first_read + i];
		PsError *err = read->err;

		if (read->deferred)
			break;
		read->err = NULL;
		PS_TRY(err);
		page->next--;
		switch ((ValueKind) read->ref.kind)
		{
			case VALUE_TOMBSTONE:
				page->has_base = false;
				break;
			case VALUE_IMAGE:
				page->has_base = true;
				break;
			case VALUE_RECORD:
				if (read->len < SizeOfXLogRecord)
					return ps_error(PS_SQLSTATE_CORRUPTED, "record at %X/%X has only %u bytes",
									LSN_FORMAT_ARGS(read->record_start), read->len);
				records[n++] = (WalRecord) {
					.start = read->record_start, .end = read->ref.lsn, .len = read->len, .data = read->data};
				break;
		}
	}
	if (n == 0)
		return NULL;
	page->applied = true;
	if (page->key.kind == PS_KEY_RELBLOCK)
		return prepare_block(batch, page, records, n);
	return apply_to_slru(page, records, n);
}

/* Discards the values of a round, with errors that nobody has taken. */
static void
end_round(Batch *batch)
{
	for (int i = 0; i < batch->values.n; i++)
		ps_error_free(batch->values.reads[i].err);
	value_batch_reset(&batch->values);
}

/* Applies what was read in this round to all pages. */
static void
apply_round(Batch *batch)
{
	int nrecords = 0;

	if (batch->records_cap < batch->values.n)
	{
		batch->records_cap = batch->values.n;
		batch->records = pg_realloc(batch->records, batch->records_cap * sizeof(WalRecord));
	}
	if (batch->jobs == NULL)
		batch->jobs = pg_malloc(batch->n * sizeof(RedoJob));
	batch->njobs = 0;
	for (int i = 0; i < batch->n; i++)
	{
		PageWork *page = &batch->pages[i];

		if (page->err != NULL)
			continue;
		page->err = apply_values(batch, page, batch->records + nrecords);
		nrecords += page->nreads;
	}
	if (batch->njobs > 0)
		redo_pages(batch->view->tl->env->redo, batch->jobs, batch->njobs);
	end_round(batch);
}

/* Adds the next values of all pages; false if all pages are complete. */
static bool
add_round(Batch *batch)
{
	bool any = false;

	for (int i = 0; i < batch->n; i++)
	{
		PageWork *page = &batch->pages[i];

		page->nreads = 0;
		if (page->err == NULL && page->next >= page->first)
		{
			add_values(batch, page);
			any = true;
		}
	}
	return any;
}

/* Puts pages into the page cache, and adds branch, key and LSN to the errors of those that failed. */
static void
finish_pages(Batch *batch)
{
	Timeline *tl = batch->view->tl;

	for (int i = 0; i < batch->n; i++)
	{
		PageWork *page = &batch->pages[i];
		char text[PS_KEY_TEXT];

		if (page->err == NULL && !page->has_base)
			memset(page->page, 0, BLCKSZ);
		if (page->err != NULL)
		{
			page->err = ps_error_context(page->err, "branch \"%s\", %s at %X/%X", timeline_name(tl),
										 ps_key_format(&page->key, text), LSN_FORMAT_ARGS(batch->lsn));
			damage_note(tl, &page->key, page->err);
		}
		else if (page->applied)
			page_store_put(tl->env->page_cache, tl->spec->cache_id, &page->key,
						   batch->plan.versions.refs[page->first].lsn, page->page);
	}
}

/*
 * Plans the fork's size.  If its value is in memory, sets *known and *size, otherwise *ref
 * says where it is.  *exists is false if there is no such fork.
 */
static PsError *
plan_size(Batch *batch, const PsKey *key, ValueRef *ref, RelSize *size, bool *exists, bool *known)
{
	ValueList *list = &batch->plan.versions;

	PS_TRY(plan_key(&batch->plan, key, 0, batch->lsn));
	*exists = list->n > 0 && list->refs[0].kind != VALUE_TOMBSTONE;
	*known = *exists && list->refs[0].place == VALUE_IN_MEMORY;
	if (*exists)
		*ref = list->refs[0];
	list->n = 0;
	return *known ? relsize_decode(ref->at.memory, ref->len, size) : NULL;
}

static PsError *
size_error(const Batch *batch, const PsKey *key, PsError *err)
{
	char text[PS_KEY_TEXT];

	if (err == NULL)
		return NULL;
	return ps_error_context(err, "branch \"%s\", %s", timeline_name(batch->view->tl), ps_key_format(key, text));
}

/* Plans the size and all pages.  Whether the fork exists is certain only if no part of an index is missing. */
static PsError *
plan_batch(Batch *batch, const PsKey *size_key, ValueRef *size_ref, RelSize *size, bool *exists, bool *known)
{
	relsize_free(size);
	PS_TRY(size_error(batch, size_key, plan_size(batch, size_key, size_ref, size, exists, known)));
	if (!*exists && batch->plan.missing.n == 0)
		return NULL;
	for (int i = 0; i < batch->n; i++)
		PS_TRY(plan_page(batch, &batch->pages[i], relsize_floor(size, batch->pages[i].key.blk)));
	return NULL;
}

/* Decodes the fork's size, the first value of the round, and applies its floors. */
static PsError *
take_size(Batch *batch, RelSize *size)
{
	ValueRead *read = &batch->values.reads[0];
	PsError *err = read->err;

	read->err = NULL;
	PS_TRY(err);
	PS_TRY(relsize_decode(read->data, read->len, size));
	for (int i = 0; i < batch->n; i++)
		apply_floor(batch, &batch->pages[i], relsize_floor(size, batch->pages[i].key.blk));
	return NULL;
}

/*
 * Reconstructs all pages except that zeros are not filled in.  The fork's size determines
 * which versions count; if it is in a file, it is read together with the pages' values.
 */
static PsError *
make_pages(Batch *batch, const PsKey *size_key, bool *exists)
{
	RelSize size = {0};
	ValueRef size_ref;
	bool known = false;
	PsError *err;

	do
		err = plan_batch(batch, size_key, &size_ref, &size, exists, &known);
	while (plan_again(&batch->plan, &err));
	if (err != NULL || !*exists)
		goto done;
	if (!known)
		value_batch_add(&batch->values, &size_ref, NULL);
	else
		PS_GOTO(add_origins(batch, &size), done);
	while (add_round(batch) || !known)
	{
		value_batch_read(&batch->values);
		if (!known)
		{
			PS_GOTO(size_error(batch, size_key, take_size(batch, &size)), done);
			PS_GOTO(add_origins(batch, &size), done);
		}
		known = true;
		apply_round(batch);
	}
done:
	end_round(batch);
	relsize_free(&size);
	return err;
}

PsError *
reconstruct_pages(const ReadView *view, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr lsn,
				  char *pages, PsError **errors)
{
	PsKey size_key = ps_key_relsize(rel, fork);
	PageWork one;
	PageWork *states = n == 1 ? &one : pg_malloc(n * sizeof(PageWork));
	Batch batch;
	bool exists = false;
	PsError *err;

	batch_init(&batch, view, lsn, states, n);
	for (int i = 0; i < n; i++)
		states[i] = (PageWork) {.key = ps_key_block(rel, fork, blks[i]),
								.page = pages + (size_t) i * BLCKSZ,
								.next = -1};
	err = make_pages(&batch, &size_key, &exists);
	if (err == NULL && exists)
		finish_pages(&batch);
	else if (err == NULL)
		memset(pages, 0, (size_t) n * BLCKSZ);
	for (int i = 0; i < n; i++)
	{
		errors[i] = err == NULL ? states[i].err : NULL;
		if (err != NULL)
			ps_error_free(states[i].err);
	}
	batch_free(&batch);
	if (states != &one)
		free(states);
	return err;
}

PsError *
reconstruct_slru(const ReadView *view, const PsKey *key, XLogRecPtr lsn, char *page, bool *found)
{
	PageWork state = {.key = *key, .page = page, .next = -1};
	Batch batch;

	batch_init(&batch, view, lsn, &state, 1);
	*found = false;
	do
		state.err = plan_page(&batch, &state, InvalidXLogRecPtr);
	while (plan_again(&batch.plan, &state.err));
	if (state.err == NULL)
		*found = state.has_base || state.next >= 0;
	while (add_round(&batch))
	{
		value_batch_read(&batch.values);
		apply_round(&batch);
	}
	finish_pages(&batch);
	batch_free(&batch);
	return state.err;
}
