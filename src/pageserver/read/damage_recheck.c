/*
 * damage_recheck.c
 *	  Checks whether pages that could not be read can be read again.
 */
#include "ps_fe.h"

#include "read/read_impl.h"

/* Can the page be read in the newest state?  A page of a dropped relation can: it is zeros. */
static bool
can_be_read(Timeline *tl, const PsKey *key)
{
	StringInfoData page;
	PsError *err;
	PsError *page_err = NULL;
	XLogRecPtr lsn;
	bool found;
	bool result;

	pthread_mutex_lock(&tl->lock);
	lsn = tl->ingested_lsn;
	pthread_mutex_unlock(&tl->lock);
	initStringInfo(&page);
	enlargeStringInfo(&page, BLCKSZ);
	if (key->kind == PS_KEY_RELBLOCK)
		err = timeline_read_each_page(tl, (PsRel) {key->spc, key->db, key->rel}, (ForkNumber) key->fork, &key->blk, 1,
									  lsn, page.data, &page_err);
	else
		err = timeline_read_value(tl, key, lsn, &page, &found);
	result = err == NULL && page_err == NULL;
	ps_error_free(err);
	ps_error_free(page_err);
	pfree(page.data);
	return result;
}

void
damage_recheck(Timeline *tl)
{
	PsKey keys[DAMAGE_MAX];
	int n = damage_list(tl, keys);

	for (int i = 0; i < n && !timeline_is_stopping(tl); i++)
		if (can_be_read(tl, &keys[i]))
			damage_forget(tl, &keys[i]);
}
