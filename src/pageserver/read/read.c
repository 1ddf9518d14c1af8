/*
 * read.c
 *	  Reads pages, sizes and other values of a timeline at an LSN.
 *
 * plan.c determines which versions are needed, values.c and io.c read them, and
 * reconstruct.c applies WAL records, those of relations in redo helpers.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "wal/reader.h"
#include "wire.h"
#include "read/reconstruct.h"
#include "read/read_impl.h"
#include "read/values.h"

PsError *
timeline_read_lsn(Timeline *tl, XLogRecPtr request_lsn, XLogRecPtr not_modified_since, const CancelCheck *cancel,
				  XLogRecPtr *lsn)
{
	XLogRecPtr flushed;

	if (request_lsn != PS_LSN_LATEST && request_lsn < not_modified_since)
		return ps_error(PS_SQLSTATE_INVALID, "requested LSN %X/%X is before the not-modified-since LSN %X/%X",
						LSN_FORMAT_ARGS(request_lsn), LSN_FORMAT_ARGS(not_modified_since));
	if (request_lsn < tl->spec->start_lsn)
		return ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" begins at %X/%X, but LSN %X/%X was requested",
						timeline_name(tl), LSN_FORMAT_ARGS(tl->spec->start_lsn), LSN_FORMAT_ARGS(request_lsn));
	pthread_mutex_lock(&tl->lock);
	*lsn = tl->ingested_lsn;
	flushed = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	if (not_modified_since > *lsn)
	{
		/* a compute cannot be 64 GB of WAL ahead of what it has sent */
		if (not_modified_since > flushed + (uint64) UINT32_MAX * 16)
			return ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" has WAL up to %X/%X, but the request depends on %X/%X",
							timeline_name(tl), LSN_FORMAT_ARGS(flushed), LSN_FORMAT_ARGS(not_modified_since));
		PS_TRY(timeline_wait_ingested(tl, not_modified_since, timeline_config(tl)->wait_timeout, cancel));
		pthread_mutex_lock(&tl->lock);
		*lsn = tl->ingested_lsn;
		pthread_mutex_unlock(&tl->lock);
	}
	if (request_lsn < *lsn)
		*lsn = request_lsn;
	return NULL;
}

PsError *
read_relsize(const ReadView *view, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists, RelSize *size)
{
	PsKey key = ps_key_relsize(rel, fork);
	Plan plan;
	StringInfoData buf;
	PsError *err;

	*exists = false;
	initStringInfo(&buf);
	err = plan_one_key(&plan, view, &key, 0, lsn);
	if (err == NULL && plan.versions.n > 0 && plan.versions.refs[0].kind != VALUE_TOMBSTONE)
	{
		err = read_ref(view, &plan.versions.refs[0], &buf, NULL);
		if (err == NULL)
			err = relsize_decode(buf.data, buf.len, size);
		if (err == NULL)
			*exists = true;
	}
	plan_free(&plan);
	pfree(buf.data);
	if (err != NULL)
	{
		char text[PS_KEY_TEXT];

		err = ps_error_context(err, "branch \"%s\", %s", timeline_name(view->tl), ps_key_format(&key, text));
	}
	return err;
}

PsError *
timeline_read_relsize(Timeline *tl, PsRel rel, ForkNumber fork, XLogRecPtr lsn, bool *exists, BlockNumber *nblocks)
{
	ReadView view;
	RelSize size = {0};
	PsError *err;

	PS_TRY(view_open(&view, tl, lsn));
	err = read_relsize(&view, rel, fork, lsn, exists, &size);
	view_close(&view);
	*nblocks = err == NULL && *exists ? size.nblocks : 0;
	relsize_free(&size);
	return err;
}

PsError *
timeline_read_each_page(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr lsn,
						char *pages, PsError **errors)
{
	ReadView view;
	PsError *err;

	PS_TRY(view_open(&view, tl, lsn));
	err = reconstruct_pages(&view, rel, fork, blks, n, lsn, pages, errors);
	view_close(&view);
	return err;
}

PsError *
timeline_read_pages(Timeline *tl, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr lsn,
					char *pages)
{
	PsError **errors = pg_malloc(n * sizeof(PsError *));
	PsError *err = timeline_read_each_page(tl, rel, fork, blks, n, lsn, pages, errors);

	for (int i = 0; err == NULL && i < n; i++)
	{
		err = errors[i];
		for (int k = i + 1; err != NULL && k < n; k++)
			ps_error_free(errors[k]);
	}
	free(errors);
	return err;
}

PsError *
timeline_read_value(Timeline *tl, const PsKey *key, XLogRecPtr lsn, StringInfo value, bool *found)
{
	ReadView view;
	PsError *err;

	PS_TRY(view_open(&view, tl, lsn));
	if (key->kind == PS_KEY_SLRU_BLOCK)
	{
		resetStringInfo(value);
		enlargeStringInfo(value, BLCKSZ);
		err = reconstruct_slru(&view, key, lsn, value->data, found);
		value->len = BLCKSZ;
	}
	else
	{
		Plan plan;

		err = plan_one_key(&plan, &view, key, 0, lsn);
		*found = err == NULL && plan.versions.n > 0 && plan.versions.refs[0].kind != VALUE_TOMBSTONE;
		if (*found)
			err = read_ref(&view, &plan.versions.refs[0], value, NULL);
		plan_free(&plan);
	}
	view_close(&view);
	return err;
}

/* ---- scans ---- */

typedef struct Found
{
	PsKey key;
	ValueRef ref;
} Found;

typedef struct FoundList
{
	Found *items;
	size_t n;
	size_t cap;
} FoundList;

/*
 * Callback of a layer's scan.  A layer reports the versions of a key newest first, and
 * only the newest is needed.
 */
static PsError *
gather(void *arg, const PsKey *key, const ValueRef *ref)
{
	FoundList *list = arg;

	if (list->n > 0 && list->items[list->n - 1].ref.lsn >= ref->lsn &&
		ps_key_cmp(&list->items[list->n - 1].key, key) == 0)
		return NULL;
	if (list->n == list->cap)
	{
		list->cap = list->cap ? list->cap * 2 : 256;
		list->items = pg_realloc(list->items, list->cap * sizeof(Found));
	}
	list->items[list->n++] = (Found) {*key, *ref};
	return NULL;
}

/* Scans the layers of one timeline, in memory and in files. */
static PsError *
gather_level(const ReadLevel *level, int number, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn, FoundList *list)
{
	size_t first = list->n;

	PS_TRY(layer_scan(level->set->open, lo, hi, lsn, gather, list));
	for (int i = 0; i < level->set->nfrozen; i++)
		PS_TRY(layer_scan(level->set->frozen[i], lo, hi, lsn, gather, list));
	PS_TRY(layer_map_scan(level->set->map, lo, hi, lsn, gather, list));
	for (size_t i = first; i < list->n; i++)
		list->items[i].ref.source = (uint16) number;
	return NULL;
}

/* By key, then newest first. */
static int
by_key_and_lsn(const void *a, const void *b)
{
	const Found *x = a;
	const Found *y = b;
	int cmp = ps_key_cmp(&x->key, &y->key);

	if (cmp != 0)
		return cmp;
	return x->ref.lsn < y->ref.lsn ? 1 : x->ref.lsn > y->ref.lsn ? -1
																 : 0;
}

/* Is it the newest version of its key, and not a deletion? */
static bool
is_newest(const FoundList *list, size_t i)
{
	const Found *f = &list->items[i];

	return (i == 0 || ps_key_cmp(&f[-1].key, &f->key) != 0) && f->ref.kind != VALUE_TOMBSTONE;
}

/* Fetches the values of a scan together.  A failure is not reported: the value is read again. */
static void
fetch_values(const ReadView *view, const FoundList *list)
{
	ValueBatch batch;

	value_batch_init(&batch, view);
	for (size_t i = 0; i <= list->n; i++)
	{
		if (batch.n > 0 && (i == list->n || batch.expected >= VALUE_BATCH_BYTES))
		{
			value_batch_read(&batch);
			for (int k = 0; k < batch.n; k++)
				ps_error_free(batch.reads[k].err);
			value_batch_reset(&batch);
		}
		if (i < list->n && is_newest(list, i) && list->items[i].ref.place == VALUE_IN_LAYER)
			value_batch_add(&batch, &list->items[i].ref, NULL);
	}
	value_batch_free(&batch);
}

PsError *
timeline_scan(Timeline *tl, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn, KeyCallback cb, void *arg)
{
	ReadView view;
	FoundList list = {0};
	StringInfoData buf;
	PsError *err;

	PS_TRY(view_open(&view, tl, lsn));
	initStringInfo(&buf);
	err = NULL;
	for (int i = 0; i < view.n && err == NULL; i++)
		err = gather_level(&view.levels[i], i, lo, hi, Min(lsn, view.levels[i].lsn), &list);
	if (list.n > 0)
		qsort(list.items, list.n, sizeof(Found), by_key_and_lsn);
	if (err == NULL && view_fetches(&view))
		fetch_values(&view, &list);
	for (size_t i = 0; i < list.n && err == NULL; i++)
	{
		const Found *f = &list.items[i];

		if (!is_newest(&list, i))
			continue;
		if (f->key.kind == PS_KEY_SLRU_BLOCK)
		{
			bool found;

			enlargeStringInfo(&buf, BLCKSZ);
			err = reconstruct_slru(&view, &f->key, lsn, buf.data, &found);
			buf.len = BLCKSZ;
		}
		else
			err = read_ref(&view, &f->ref, &buf, NULL);
		if (err == NULL)
			err = cb(arg, &f->key, buf.data, buf.len);
	}
	free(list.items);
	pfree(buf.data);
	view_close(&view);
	return err;
}

/* ---- the state at an LSN ---- */

PsError *
timeline_state_at(Timeline *tl, XLogRecPtr lsn, WalState *state)
{
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	StringInfoData buf;
	bool found;
	WalReader *reader = NULL;
	WalRecord rec;
	WalParsed parsed;
	PsError *err;

	pthread_mutex_lock(&tl->lock);
	*state = tl->state;
	pthread_mutex_unlock(&tl->lock);
	if (lsn >= state->end)
		return NULL;

	initStringInfo(&buf);
	PS_GOTO(timeline_read_value(tl, &key, lsn, &buf, &found), done);
	if (!found)
	{
		err = ps_error(PS_SQLSTATE_INVALID, "branch \"%s\" begins at %X/%X, but LSN %X/%X was requested",
					   timeline_name(tl), LSN_FORMAT_ARGS(tl->spec->start_lsn), LSN_FORMAT_ARGS(lsn));
		goto done;
	}
	PS_GOTO(wal_state_decode(buf.data, buf.len, state), done);
	reader = wal_reader_create(tl->wal, state->end, state->prev, tl->spec->system_identifier);
	while ((err = wal_reader_next(reader, lsn, &rec, &found)) == NULL && found)
	{
		PS_GOTO(wal_parse(&rec, &parsed), done);
		PS_GOTO(wal_state_apply(state, &rec, &parsed), done);
	}
done:
	wal_reader_free(reader);
	pfree(buf.data);
	if (err == NULL)
		return NULL;
	return ps_error_context(err, "branch \"%s\", state at %X/%X", timeline_name(tl), LSN_FORMAT_ARGS(lsn));
}
