/*
 * shutdown.c
 *	  What WAL does not yet say of pages, logged before a compute ends, so that
 *	  the next one goes on where this one was stopped, and before a database is
 *	  copied, so that the copy goes on where its template is.
 *
 * The free space map is logged when its pages are written out (smgr.c): a
 * checkpoint sees to that, while WAL can still be written.  A sequence's page
 * is behind its WAL record, which says that the next 32 values are taken
 * (nextval_internal()): here it is logged as it is, with log_cnt 0, so that the
 * next nextval() writes a record before it gives out a value.  That makes it
 * right at any time, also if this was not the end after all.
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

/* The one tuple of a sequence's page. */
static Form_pg_sequence_data
sequence_data(Page page)
{
	HeapTupleHeader tup = (HeapTupleHeader) PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));

	return (Form_pg_sequence_data) ((char *) tup + tup->t_hoff);
}

/* Brings the WAL of a relation up to its page, if that is a sequence's and says less than the WAL. */
static void
log_sequence(PsRel rel)
{
	Buffer buffer;
	Page page;

	/* kept, so this does not ask the store */
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
 * To be called by the WAL worker when no backend is left that writes WAL.
 * What fails is logged: then the next compute finds a sequence some values
 * further on, as after a crash.
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
		/* as AuxiliaryProcesses do it, BackgroundWriterMain() for one */
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
