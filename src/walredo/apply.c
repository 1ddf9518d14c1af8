/*
 * apply.c
 *	  Serves one request: applies WAL records to one block, with PostgreSQL's own
 *	  redo functions.
 *
 * The target block comes from walredo_page.  Every other block that a record refers
 * to is made up so that redo skips it (smgr_memory.c).  Records are replayed as a
 * whole, with all their images, because some redo functions insist on these (GIN page
 * splits, XLOG_FPI).
 */
#include "postgres.h"

#include "access/heapam_xlog.h"
#include "access/rmgr.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "catalog/pg_control.h"
#include "catalog/storage_xlog.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "storage/smgr.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "pg_compat.h"
#include "walredo.h"

/*
 * smgropen() creates an entry for every relation, and entries stay.  They are
 * closed after this number of requests.
 */
#define REQUESTS_PER_SMGR_CLOSE 256

/* Initial size of the buffer for a decoded record. */
#define FIRST_DECODED_SIZE (256 * 1024)

static XLogReaderState *reader;
static MemoryContext request_context;
static DecodedXLogRecord *decoded;
static size_t decoded_size;
static uint32 current_record; /* its number in the request, for error reports */
static int requests_since_close;
static char error_text[REDO_MAX_TEXT];

void
walredo_apply_init(void)
{
	request_context = AllocSetContextCreate(TopMemoryContext, "WAL redo request", ALLOCSET_DEFAULT_SIZES);
	MessageContext = request_context;
	reader = XLogReaderAllocate(wal_segment_size, NULL, XL_ROUTINE(), NULL);
	if (reader == NULL)
		elog(FATAL, "out of memory");
	decoded_size = FIRST_DECODED_SIZE;
	decoded = MemoryContextAlloc(TopMemoryContext, decoded_size);
}

/*
 * Drops all buffers.  DropDatabaseBuffers() works on one database.  Usually a
 * request concerns only one, but a generic record may refer to two.
 */
static void
drop_all_buffers(void)
{
	for (int i = 0; i < NBuffers; i++)
	{
		BufferDesc *buf = GetBufferDescriptor(i);

		if (pg_atomic_read_u32(&buf->state) & BM_TAG_VALID)
			DropDatabaseBuffers(compat_buffer_db(buf));
	}
}

static Buffer
pin_target(void)
{
	return ReadBufferWithoutRelcache(compat_node(walredo_target.rel), walredo_target.fork, walredo_target.blk,
									 RBM_NORMAL, NULL, true);
}

static bool
block_is_target(const DecodedBkpBlock *block)
{
	return block->in_use && block->blkno == walredo_target.blk &&
		   block->forknum == walredo_target.fork && ps_rel_equal(compat_block_rel(block), walredo_target.rel);
}

/*
 * Does the record clear bits in the visibility map of the target's relation
 * without a reference to the map's page?  Heap records do that
 * (visibilitymap_clear() in heapam.c's redo functions), and so do truncations.
 */
static bool
may_change_visibility_map(const DecodedXLogRecord *record)
{
	uint8 info = record->header.xl_info & ~XLR_INFO_MASK;

	if (walredo_target.fork != VISIBILITYMAP_FORKNUM)
		return false;
	if (record->header.xl_rmid == RM_SMGR_ID)
	{
		xl_smgr_truncate truncate;

		if (info != XLOG_SMGR_TRUNCATE || record->main_data_len < sizeof(truncate))
			return false;
		memcpy(&truncate, record->main_data, sizeof(truncate));
		return ps_rel_equal(compat_truncated_rel(&truncate), walredo_target.rel);
	}
	if (record->header.xl_rmid != RM_HEAP_ID && record->header.xl_rmid != RM_HEAP2_ID)
		return false;
	for (int i = 0; i <= record->max_block_id; i++)
	{
		if (record->blocks[i].in_use && ps_rel_equal(compat_block_rel(&record->blocks[i]), walredo_target.rel))
			return true;
	}
	return false;
}

/*
 * Rejects a record that does not concern the target.  Its redo function might
 * need files, other processes or the state of a real recovery.
 */
static void
check_record(const DecodedXLogRecord *record)
{
	for (int i = 0; i <= record->max_block_id; i++)
	{
		if (block_is_target(&record->blocks[i]))
			return;
	}
	if (!may_change_visibility_map(record))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("WAL record does not change the requested block")));
}

/*
 * Has the record initialized a page other than the target?  That page is no
 * longer made up: its LSN is that of the record, so a later record would be
 * applied to it, and fail.
 */
static bool
made_other_page(const DecodedXLogRecord *record)
{
	for (int i = 0; i <= record->max_block_id; i++)
	{
		const DecodedBkpBlock *block = &record->blocks[i];

		if (block->in_use && !block_is_target(block) &&
			((block->flags & BKPBLOCK_WILL_INIT) != 0 || block->apply_image))
			return true;
	}
	return false;
}

/*
 * Is the block's data in a generic record a delta to a page of zeros?  Then
 * computeDelta() (generic_xlog.c) has written everything up to pd_lower as the
 * first fragment, and everything after pd_upper that is not zero.  A delta to
 * any other page starts after pd_lsn, which only redo changes.
 */
static bool
is_delta_to_zeros(const DecodedBkpBlock *block)
{
	OffsetNumber fragment[2]; /* offset and length */
	PageHeaderData header;

	if (block->data_len < sizeof(fragment) + SizeOfPageHeaderData)
		return false;
	memcpy(fragment, block->data, sizeof(fragment));
	memcpy(&header, block->data + sizeof(fragment), SizeOfPageHeaderData);
	return fragment[0] == 0 && fragment[1] >= SizeOfPageHeaderData && fragment[1] == header.pd_lower;
}

/*
 * An extension may register a page that it has only extended without requesting
 * a full image.  A compute runs with full_page_writes off, so its record then
 * contains a delta to zeros, and generic_redo() does not touch a page that is
 * new.  So the page is initialized here; the delta overwrites all of it.
 */
static void
prepare_generic(const DecodedXLogRecord *record)
{
	for (int i = 0; i <= record->max_block_id; i++)
	{
		Buffer buffer;

		if (!block_is_target(&record->blocks[i]) || record->blocks[i].apply_image ||
			!is_delta_to_zeros(&record->blocks[i]))
			continue;
		buffer = pin_target();
		LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
		if (PageIsNew(BufferGetPage(buffer)))
		{
			PageInit(BufferGetPage(buffer), BLCKSZ, 0);
			MarkBufferDirty(buffer);
		}
		UnlockReleaseBuffer(buffer);
	}
}

static void
apply_record(XLogRecord *record, const RedoRecordHeader *header, bool last)
{
	size_t need = DecodeXLogRecordRequiredSpace(record->xl_tot_len);
	char *errormsg;

	if (need > decoded_size)
	{
		DecodedXLogRecord *bigger = MemoryContextAllocHuge(TopMemoryContext, need);

		pfree(decoded);
		decoded = bigger;
		decoded_size = need;
	}
	reader->record = NULL;
	reader->ReadRecPtr = header->start;
	reader->EndRecPtr = header->end;
	if (!DecodeXLogRecord(reader, decoded, record, header->start, &errormsg))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("could not decode WAL record: %s", errormsg)));
	decoded->next_lsn = header->end;
	reader->record = decoded;

	check_record(decoded);
	if (record->xl_rmid == RM_GENERIC_ID)
		prepare_generic(decoded);
	GetRmgr(record->xl_rmid).rm_redo(reader);

	/* for a page of zeros that a record refers to, xlogutils.c only makes a note and continues */
	if (XLogHaveInvalidPages())
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("WAL record modifies a page that is all zeros"),
				 record->xl_rmid == RM_GENERIC_ID ? errdetail("The record is a delta to a page that an extension has "
															  "initialized without logging it.")
												  : errdetail("The page should have been "
															  "initialized by an earlier record.")));

	/* smgrtruncate() caches a size that is not the one of memory_nblocks() */
	if (record->xl_rmid == RM_SMGR_ID)
		compat_smgr_close_all();

	if (!last && made_other_page(decoded))
	{
		Buffer buffer = pin_target();

		memcpy(walredo_page.data, BufferGetPage(buffer), BLCKSZ);
		ReleaseBuffer(buffer);
		drop_all_buffers();
	}
}

/* Names the record in error messages, and in the log when PostgreSQL panics. */
static void
apply_error_callback(void *arg)
{
	const RedoRequest *request = arg;
	const char *name = NULL;
	RmgrId rmid;

	if (reader->record == NULL)
		return;
	rmid = reader->record->header.xl_rmid;
	if (RmgrIdExists(rmid))
		name = GetRmgr(rmid).rm_identify(reader->record->header.xl_info);
	errcontext("redo of WAL record at %X/%X (%s/%s) for relation %u/%u/%u fork %u block %u",
			   LSN_FORMAT_ARGS(reader->ReadRecPtr), RmgrIdExists(rmid) ? GetRmgr(rmid).rm_name : "?",
			   name ? name : "?", request->rel.spc, request->rel.db, request->rel.rel, request->fork, request->blk);
}

Buffer
walredo_apply(const RedoRequest *request, char *payload)
{
	char *end = payload + request->length;
	ErrorContextCallback errcallback;
	Buffer buffer;

	current_record = request->nrecords;
	MemoryContextSwitchTo(request_context);
	reader->record = NULL;
	errcallback.callback = apply_error_callback;
	errcallback.arg = unconstify(RedoRequest *, request);
	errcallback.previous = NULL;
	error_context_stack = &errcallback;

	if (request->fork > MAX_FORKNUM)
		elog(ERROR, "invalid fork number %u", request->fork);
	walredo_target.rel = request->rel;
	walredo_target.fork = request->fork;
	walredo_target.blk = request->blk;
	if (request->has_base)
	{
		if (end - payload < BLCKSZ)
			elog(ERROR, "request ends inside the base page");
		memcpy(walredo_page.data, payload, BLCKSZ);
		payload += BLCKSZ;

		/* bufmgr.c would replace an invalid page of a visibility map by zeros, with only a warning */
		if (!compat_page_is_valid(walredo_page.data, request->blk))
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("base page has an invalid header")));
	}
	else
		memset(walredo_page.data, 0, BLCKSZ);

	for (current_record = 0; current_record < request->nrecords; current_record++)
	{
		const RedoRecordHeader *header = (const RedoRecordHeader *) payload;
		XLogRecord *record;

		if (end - payload < (ptrdiff_t) (sizeof(RedoRecordHeader) + SizeOfXLogRecord) ||
			header->len < SizeOfXLogRecord ||
			header->len > end - payload - (ptrdiff_t) sizeof(RedoRecordHeader))
			elog(ERROR, "request ends within record %u of %u", current_record, request->nrecords);
		record = (XLogRecord *) (payload + sizeof(RedoRecordHeader));
		if (record->xl_tot_len != header->len)
			elog(ERROR, "WAL record of %u bytes claims to have %u bytes", header->len, record->xl_tot_len);
		apply_record(record, header, current_record == request->nrecords - 1);
		payload += sizeof(RedoRecordHeader) + TYPEALIGN(REDO_ALIGN, header->len);
	}
	reader->record = NULL;

	buffer = pin_target();
	error_context_stack = NULL;
	return buffer;
}

static void
end_request(void)
{
	drop_all_buffers();
	if (decoded_size > REDO_KEEP_REQUEST)
	{
		pfree(decoded);
		decoded_size = FIRST_DECODED_SIZE;
		decoded = MemoryContextAlloc(TopMemoryContext, decoded_size);
	}
	if (++requests_since_close >= REQUESTS_PER_SMGR_CLOSE)
	{
		compat_smgr_close_all();
		requests_since_close = 0;
	}
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(request_context);
}

void
walredo_reset(Buffer buffer)
{
	ReleaseBuffer(buffer);
	end_request();
}

const char *
walredo_recover(const RedoRequest *request, RedoAnswer *answer)
{
	ErrorData *edata;

	error_context_stack = NULL;
	MemoryContextSwitchTo(request_context);
	edata = CopyErrorData();
	FlushErrorState();

	/* in the order of AbortTransaction() (xact.c) */
	LWLockReleaseAll();
	compat_abort_buffer_io();
	UnlockBuffers();
	ResourceOwnerRelease(CurrentResourceOwner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);

	for (ForkNumber forknum = 0; forknum <= MAX_FORKNUM; forknum++)
		XLogDropRelation(compat_node(walredo_target.rel), forknum);

	snprintf(error_text, sizeof(error_text), "%s%s%s", edata->message, edata->detail ? ": " : "",
			 edata->detail ? edata->detail : "");
	answer->magic = REDO_MAGIC;
	answer->status = REDO_FAILED;
	answer->length = strlen(error_text);
	answer->failed_record = current_record;
	answer->number = request->number;

	/* before the memory context is reset, because an entry may be owned by a fake relcache entry in it */
	compat_smgr_close_all();
	requests_since_close = 0;
	end_request();
	return error_text;
}
