/*
 * log_pages.c
 *	  Logs pages that WAL does not describe completely: before a compute ends,
 *	  so that the next one continues with the same contents, and before a database
 *	  is copied, so that the copy has the same contents as its template.
 *
 * The free space map is logged when its pages are written out (smgr.c), so a
 * checkpoint while WAL can still be written is enough.  The page of a sequence is
 * behind its WAL record, which says that the next 32 values are taken
 * (nextval_internal()).  Here the page is logged as it is, with log_cnt 0, so that
 * the next nextval() writes a record before it returns a value.  That is correct
 * at any time, even if the server does not end afterwards.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/resowner.h"

#include "log_pages.h"
#include "page_cache.h"
#include "pg_compat.h"

/* Returns the only tuple of a sequence's page. */
static Form_pg_sequence_data
sequence_data(Page page)
{
	HeapTupleHeader tup = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));

	return (Form_pg_sequence_data) ((char *) tup + tup->t_hoff);
}

/* Logs the page of a relation if it belongs to a sequence and is behind its WAL record. */
static void
log_sequence(PsRel rel)
{
	Buffer buffer;
	Page page;

	/* the page is kept in the cache, so this does not ask the store */
	if (!page_cache_has(rel, MAIN_FORKNUM, 0))
		return;
	buffer = compat_read_buffer(rel, MAIN_FORKNUM, 0);
	page = BufferGetPage(buffer);
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (compat_is_sequence_page(page) && PageGetMaxOffsetNumber(page) == FirstOffsetNumber &&
		sequence_data(page)->log_cnt != 0)
	{
		START_CRIT_SECTION();
		sequence_data(page)->log_cnt = 0;
		MarkBufferDirty(buffer);
		log_newpage_buffer(buffer, true);
		END_CRIT_SECTION();
	}
	UnlockReleaseBuffer(buffer);
}

void
log_pages_of_sequences(Oid db)
{
	int nrels;
	PsRel *rels = page_cache_held_relations(&nrels);

	for (int i = 0; i < nrels; i++)
		if (!OidIsValid(db) || rels[i].db == db)
			log_sequence(rels[i]);
}

static void
release_resources(ResourceOwner owner, bool is_commit)
{
	CurrentResourceOwner = NULL;
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, is_commit, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, is_commit, true);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, is_commit, true);
	ResourceOwnerDelete(owner);
}

/*
 * If this fails, the error is logged, and in the next compute a sequence skips
 * some values, as after a crash.
 */
void
log_pages_before_shutdown(void)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = ResourceOwnerCreate(NULL, "pages logged at shutdown");

	CurrentResourceOwner = owner;
	PG_TRY();
	{
		RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE | CHECKPOINT_WAIT);
		log_pages_of_sequences(InvalidOid);
		release_resources(owner, true);
	}
	PG_CATCH();
	{
		/* the same cleanup as in auxiliary processes, for example BackgroundWriterMain() */
		MemoryContextSwitchTo(context);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		FlushErrorState();
		LWLockReleaseAll();
		ConditionVariableCancelSleep();
		compat_abort_buffer_io();
		UnlockBuffers();
		release_resources(owner, false);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}
