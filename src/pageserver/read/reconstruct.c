/*
 * reconstruct.c
 *	  From the versions of a page to the page: see reconstruct.h.
 *
 * The page cache gives a base if it has one that is new enough; else the chain
 * begins with an image, a record that makes the page, or nothing (zeros).  A
 * record's own image is restored here where redo would do nothing more with
 * it; what remains goes to a redo helper.
 */
#include "ps_fe.h"

#include "storage/bufpage.h"

#include "ps_wire.h"
#include "read/reconstruct.h"

/* The versions of one page that are to be applied, oldest first, in one piece of memory. */
typedef struct Chain
{
	WalRecord  *records;
	size_t	   *offsets;		/* of each record's data in bytes */
	int			n;
	StringInfoData bytes;
	bool		has_base;		/* page holds what the records apply to */
} Chain;

static void
chain_free(Chain *chain)
{
	free(chain->records);
	free(chain->offsets);
	if (chain->bytes.data != NULL)
		pfree(chain->bytes.data);
}

static PsError *
wrong_length(const ValueRef *ref, int len)
{
	return ps_error(PS_SQLSTATE_CORRUPTED, "image at %X/%X has %d bytes, expected %d", LSN_FORMAT_ARGS(ref->lsn), len, BLCKSZ);
}

/*
 * Reads what the list (newest first) refers to: an image into page, records
 * into the chain.  On entry page holds the cached base if chain->has_base.
 */
static PsError *
load_chain(Timeline *tl, const ValueList *list, char *page, Chain *chain)
{
	int			i = list->n - 1;
	StringInfoData buf;
	PsError    *err = NULL;

	if (i < 0)
		return NULL;
	initStringInfo(&buf);
	if (list->refs[i].kind != VALUE_RECORD)
	{
		/* an image, or the end of an earlier life of the key */
		chain->has_base = list->refs[i].kind == VALUE_IMAGE;
		if (chain->has_base)
		{
			err = read_ref(tl, &list->refs[i], &buf, NULL);
			if (err == NULL && buf.len != BLCKSZ)
				err = wrong_length(&list->refs[i], buf.len);
			if (err == NULL)
				memcpy(page, buf.data, BLCKSZ);
		}
		i--;
	}
	if (err == NULL && i >= 0)
	{
		initStringInfo(&chain->bytes);
		chain->records = pg_malloc((i + 1) * sizeof(WalRecord));
		chain->offsets = pg_malloc((i + 1) * sizeof(size_t));
	}
	for (; i >= 0 && err == NULL; i--)
	{
		XLogRecPtr	start;
		static const char padding[MAXIMUM_ALIGNOF];

		err = read_ref(tl, &list->refs[i], &buf, &start);
		if (err == NULL && (uint32) buf.len < SizeOfXLogRecord)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "record at %X/%X has %d bytes", LSN_FORMAT_ARGS(start), buf.len);
		if (err != NULL)
			break;
		chain->offsets[chain->n] = chain->bytes.len;
		chain->records[chain->n++] = (WalRecord){.start = start, .end = list->refs[i].lsn, .len = buf.len};
		appendBinaryStringInfo(&chain->bytes, buf.data, buf.len);
		appendBinaryStringInfo(&chain->bytes, padding, MAXALIGN(chain->bytes.len) - chain->bytes.len);
	}
	for (int k = 0; k < chain->n; k++)
		chain->records[k].data = chain->bytes.data + chain->offsets[k];
	pfree(buf.data);
	return err;
}

/*
 * If the record holds an image of the block that redo would only copy, does
 * that: *done.
 */
static PsError *
restore_image(const WalRecord *rec, const PsKey *key, char *page, bool *done)
{
	WalParsed	parsed;

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
		PS_TRY(wal_restore_image(rec, &parsed, i, page));
		if (!PageIsNew(page))
			PageSetLSN(page, rec->end);
		*done = true;
		return NULL;
	}
	return NULL;
}

PsError *
reconstruct_page(Timeline *tl, const LayerSet *set, PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr floor,
				 XLogRecPtr lsn, char *page)
{
	PsKey		key = ps_key_block(rel, fork, blk);
	PageCache  *cache = tl->tenant->page_cache;
	uint64		cache_id = (uint64) (uintptr_t) tl;
	ValueList	list = {0};
	Chain		chain = {0};
	XLogRecPtr	cached_lsn = 0;
	int			first = 0;
	PsError    *err;

	chain.has_base = page_cache_get(cache, cache_id, &key, floor + 1, lsn, page, &cached_lsn);
	PS_GOTO(plan_key(set, &key, chain.has_base ? cached_lsn + 1 : floor + 1, lsn, &list), done);
	if (list.n == 0)
	{
		if (!chain.has_base)
			memset(page, 0, BLCKSZ);
		goto done;
	}
	PS_GOTO(load_chain(tl, &list, page, &chain), done);
	if (chain.n > 0)
	{
		bool		restored;

		PS_GOTO(restore_image(&chain.records[0], &key, page, &restored), done);
		if (restored)
		{
			chain.has_base = true;
			first = 1;
		}
	}
	if (chain.n > first)
	{
		PS_GOTO(redo_page(tl->tenant->redo, rel, fork, blk, chain.has_base ? page : NULL, chain.records + first,
						  chain.n - first, page),
				done);
	}
	else if (!chain.has_base)
		memset(page, 0, BLCKSZ);
	if (chain.n > 0)
		page_cache_put(cache, cache_id, &key, list.refs[0].lsn, page);

done:
	chain_free(&chain);
	free(list.refs);
	if (err != NULL)
	{
		char		text[PS_KEY_TEXT];

		err = ps_error_context(err, "branch \"%s\", %s at %X/%X", tl->name, ps_key_format(&key, text), LSN_FORMAT_ARGS(lsn));
	}
	return err;
}

PsError *
reconstruct_slru(Timeline *tl, const LayerSet *set, const PsKey *key, XLogRecPtr lsn, char *page, bool *found)
{
	PageCache  *cache = tl->tenant->page_cache;
	uint64		cache_id = (uint64) (uintptr_t) tl;
	uint32		pageno = key->rel * 32 + key->blk;
	ValueList	list = {0};
	Chain		chain = {0};
	XLogRecPtr	cached_lsn = 0;
	PsError    *err;

	chain.has_base = page_cache_get(cache, cache_id, key, 1, lsn, page, &cached_lsn);
	*found = chain.has_base;
	PS_GOTO(plan_key(set, key, chain.has_base ? cached_lsn + 1 : 0, lsn, &list), done);
	PS_GOTO(load_chain(tl, &list, page, &chain), done);
	if (!chain.has_base)
		memset(page, 0, BLCKSZ);
	*found = chain.has_base || chain.n > 0;
	for (int i = 0; i < chain.n; i++)
		PS_GOTO(wal_slru_apply(&chain.records[i], (PsSlru) key->spc, pageno, page), done);
	if (chain.n > 0)
		page_cache_put(cache, cache_id, key, list.refs[0].lsn, page);

done:
	chain_free(&chain);
	free(list.refs);
	if (err != NULL)
	{
		char		text[PS_KEY_TEXT];

		err = ps_error_context(err, "branch \"%s\", %s at %X/%X", tl->name, ps_key_format(key, text), LSN_FORMAT_ARGS(lsn));
	}
	return err;
}
