/*
 * reconstruct.c
 *	  From the versions of a page to the page: see reconstruct.h.
 *
 * The page cache gives a base if it has one that is new enough; else the chain
 * begins with an image, a record that makes the page, or nothing (zeros).  A
 * record's own image is restored here where redo would do nothing more with
 * it; what remains goes to a redo helper.  A long chain is applied in pieces,
 * so that memory is bounded.
 */
#include "ps_fe.h"

#include "storage/bufpage.h"

#include "ps_wire.h"
#include "read/reconstruct.h"

/* Bytes of records that are read before they are applied. */
#define PIECE_BYTES (4 * 1024 * 1024)

/* A page being made from its versions. */
typedef struct Chain
{
	const ReadView *view;
	PsKey		key;
	ValueList	list;			/* newest first */
	int			next;			/* index of the oldest version that is not applied yet; -1: all are */
	bool		has_base;		/* page holds what has been applied so far; else it is all zeros */
	char	   *page;
	/* the piece that is being applied, oldest first */
	WalRecord  *records;
	size_t	   *offsets;		/* of each record's data in bytes */
	int			n;
	int			cap;
	StringInfoData bytes;
	StringInfoData value;
	XLogRecPtr	held_start;		/* value is the next record, which starts there; 0: it has not been read */
} Chain;

static void
chain_init(Chain *chain, const ReadView *view, const PsKey *key, char *page)
{
	memset(chain, 0, sizeof(*chain));
	chain->view = view;
	chain->key = *key;
	chain->page = page;
	initStringInfo(&chain->bytes);
	initStringInfo(&chain->value);
}

static void
chain_free(Chain *chain)
{
	free(chain->list.refs);
	free(chain->records);
	free(chain->offsets);
	pfree(chain->bytes.data);
	pfree(chain->value.data);
}

/*
 * Finds the versions; the oldest, if it is no record, becomes the base.  floor
 * as for reconstruct_page().
 */
static PsError *
chain_begin(Chain *chain, XLogRecPtr floor, XLogRecPtr lsn)
{
	Timeline   *tl = chain->view->tl;
	XLogRecPtr	cached_lsn = 0;
	const ValueRef *oldest;

	chain->has_base = page_cache_get(tl->tenant->page_cache, tl->cache_id, &chain->key, floor + 1, lsn, chain->page,
									 &cached_lsn);
	PS_TRY(plan_key(chain->view, &chain->key, chain->has_base ? cached_lsn + 1 : floor + 1, lsn, &chain->list));
	if (!chain->has_base)
		memset(chain->page, 0, BLCKSZ);
	chain->next = chain->list.n - 1;
	if (chain->next < 0)
		return NULL;
	oldest = &chain->list.refs[chain->next];
	if (oldest->kind == VALUE_RECORD)
		return NULL;
	chain->next--;
	chain->has_base = oldest->kind == VALUE_IMAGE;
	if (!chain->has_base)
	{
		memset(chain->page, 0, BLCKSZ);
		return NULL;
	}
	PS_TRY(read_ref(chain->view, oldest, &chain->value, NULL));
	if (chain->value.len != BLCKSZ)
		return ps_error(PS_SQLSTATE_CORRUPTED, "image at %X/%X has %d bytes, expected %d", LSN_FORMAT_ARGS(oldest->lsn),
						chain->value.len, BLCKSZ);
	memcpy(chain->page, chain->value.data, BLCKSZ);
	return NULL;
}

/*
 * Reads the next records, one at least, about PIECE_BYTES at most.  A record may
 * have nearly as many bytes as a StringInfo can (WAL_MAX_RECORD): a long one
 * comes alone and stays where it was read to.
 */
static PsError *
chain_next_piece(Chain *chain)
{
	static const char padding[MAXIMUM_ALIGNOF];

	chain->n = 0;
	resetStringInfo(&chain->bytes);
	do
	{
		const ValueRef *ref = &chain->list.refs[chain->next];
		XLogRecPtr	start = chain->held_start;

		if (start == InvalidXLogRecPtr)
			PS_TRY(read_ref(chain->view, ref, &chain->value, &start));
		if ((uint32) chain->value.len < SizeOfXLogRecord)
			return ps_error(PS_SQLSTATE_CORRUPTED, "record at %X/%X has %d bytes", LSN_FORMAT_ARGS(start), chain->value.len);
		if (chain->n > 0 && chain->value.len > PIECE_BYTES)
		{
			chain->held_start = start;
			break;
		}
		chain->held_start = InvalidXLogRecPtr;
		if (chain->n == chain->cap)
		{
			chain->cap = chain->cap ? chain->cap * 2 : 32;
			chain->records = pg_realloc(chain->records, chain->cap * sizeof(WalRecord));
			chain->offsets = pg_realloc(chain->offsets, chain->cap * sizeof(size_t));
		}
		chain->records[chain->n++] = (WalRecord){.start = start, .end = ref->lsn, .len = chain->value.len};
		chain->next--;
		if (chain->value.len > PIECE_BYTES)
		{
			chain->records[0].data = chain->value.data;
			return NULL;
		}
		chain->offsets[chain->n - 1] = chain->bytes.len;
		appendBinaryStringInfo(&chain->bytes, chain->value.data, chain->value.len);
		appendBinaryStringInfo(&chain->bytes, padding, MAXALIGN(chain->bytes.len) - chain->bytes.len);
	} while (chain->next >= 0 && chain->bytes.len < PIECE_BYTES);
	for (int i = 0; i < chain->n; i++)
		chain->records[i].data = chain->bytes.data + chain->offsets[i];
	return NULL;
}

/* If the record holds an image of the block that redo would only copy, restores it: *done. */
static PsError *
restore_image(Chain *chain, const WalRecord *rec, bool *done)
{
	const PsKey *key = &chain->key;
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
		PS_TRY(wal_restore_image(rec, &parsed, i, chain->page));
		if (!PageIsNew(chain->page))
			PageSetLSN(chain->page, rec->end);
		*done = true;
		return NULL;
	}
	return NULL;
}

static PsError *
apply_to_block(Chain *chain)
{
	PsRel		rel = {chain->key.spc, chain->key.db, chain->key.rel};
	bool		restored = false;

	PS_TRY(restore_image(chain, &chain->records[0], &restored));
	if (chain->n > restored)
		PS_TRY(redo_page(chain->view->tl->tenant->redo, rel, (ForkNumber) chain->key.fork, chain->key.blk,
						 chain->has_base || restored ? chain->page : NULL, chain->records + restored, chain->n - restored,
						 chain->page));
	return NULL;
}

static PsError *
apply_to_slru(Chain *chain)
{
	for (int i = 0; i < chain->n; i++)
		PS_TRY(wal_slru_apply(&chain->records[i], (PsSlru) chain->key.spc, chain->key.rel * 32 + chain->key.blk, chain->page));
	return NULL;
}

/* What both kinds of pages have in common; *found: there was a version. */
static PsError *
reconstruct(const ReadView *view, const PsKey *key, XLogRecPtr floor, XLogRecPtr lsn, char *page, bool *found)
{
	Timeline   *tl = view->tl;
	Chain		chain;
	bool		applied = false;
	PsError    *err;

	chain_init(&chain, view, key, page);
	PS_GOTO(chain_begin(&chain, floor, lsn), done);
	*found = chain.has_base || chain.next >= 0;
	while (chain.next >= 0)
	{
		PS_GOTO(chain_next_piece(&chain), done);
		PS_GOTO(key->kind == PS_KEY_RELBLOCK ? apply_to_block(&chain) : apply_to_slru(&chain), done);
		chain.has_base = applied = true;
	}
	if (applied)
		page_cache_put(tl->tenant->page_cache, tl->cache_id, key, chain.list.refs[0].lsn, page);
done:
	chain_free(&chain);
	if (err != NULL)
	{
		char		text[PS_KEY_TEXT];

		err = ps_error_context(err, "branch \"%s\", %s at %X/%X", tl->name, ps_key_format(key, text), LSN_FORMAT_ARGS(lsn));
	}
	return err;
}

PsError *
reconstruct_page(const ReadView *view, PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr floor, XLogRecPtr lsn, char *page)
{
	PsKey		key = ps_key_block(rel, fork, blk);
	bool		found;

	return reconstruct(view, &key, floor, lsn, page, &found);
}

PsError *
reconstruct_slru(const ReadView *view, const PsKey *key, XLogRecPtr lsn, char *page, bool *found)
{
	return reconstruct(view, key, InvalidXLogRecPtr, lsn, page, found);
}
