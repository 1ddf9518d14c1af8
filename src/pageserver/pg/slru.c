/*
 * slru.c
 *	  WAL records applied to pages of SLRUs: transaction status, commit
 *	  timestamps, multixact offsets and members.
 *
 * The arithmetic is that of clog.c, commit_ts.c and multixact.c of PostgreSQL,
 * where it is private.
 */
#include "ps_fe.h"

#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/multixact.h"
#include "access/transam.h"

#include "pg/slru.h"
#include "pg/xact.h"

/* slru.h, which is closed to frontend programs */
#define SLRU_PAGES_PER_SEGMENT 32

/* clog.c */
#define CLOG_BITS_PER_XACT  2
#define CLOG_XACTS_PER_BYTE 4
#define CLOG_XACTS_PER_PAGE (BLCKSZ * CLOG_XACTS_PER_BYTE)
#define CLOG_XACT_BITMASK   ((1 << CLOG_BITS_PER_XACT) - 1)

/* commit_ts.c: an entry is a TimestampTz and a RepOriginId, packed */
#define COMMIT_TS_ENTRY_SIZE     (sizeof(TimestampTz) + sizeof(RepOriginId))
#define COMMIT_TS_XACTS_PER_PAGE (BLCKSZ / COMMIT_TS_ENTRY_SIZE)

/* multixact.c: members lie in groups of four flag bytes and four xids */
#define MULTIXACT_OFFSETS_PER_PAGE  (BLCKSZ / sizeof(MultiXactOffset))
#define MULTIXACT_MEMBERS_PER_GROUP 4
#define MULTIXACT_GROUP_SIZE        (MULTIXACT_MEMBERS_PER_GROUP * (1 + sizeof(TransactionId)))
#define MULTIXACT_GROUPS_PER_PAGE   (BLCKSZ / MULTIXACT_GROUP_SIZE)
#define MULTIXACT_MEMBERS_PER_PAGE  (MULTIXACT_GROUPS_PER_PAGE * MULTIXACT_MEMBERS_PER_GROUP)

uint32
clog_page(TransactionId xid)
{
	return xid / CLOG_XACTS_PER_PAGE;
}

uint32
commit_ts_page(TransactionId xid)
{
	return xid / COMMIT_TS_XACTS_PER_PAGE;
}

uint32
multixact_offsets_page(MultiXactId multi)
{
	return multi / MULTIXACT_OFFSETS_PER_PAGE;
}

uint32
multixact_members_page(MultiXactOffset offset)
{
	return offset / MULTIXACT_MEMBERS_PER_PAGE;
}

MultiXactId
multixact_next(MultiXactId multi)
{
	MultiXactId next = multi + 1;

	return next < FirstMultiXactId ? FirstMultiXactId : next;
}

/* clog.c, TransactionIdSetStatusBit() */
static void
set_clog_status(char *page, TransactionId xid, XidStatus status)
{
	char *byte = page + xid % CLOG_XACTS_PER_PAGE / CLOG_XACTS_PER_BYTE;
	int shift = xid % CLOG_XACTS_PER_BYTE * CLOG_BITS_PER_XACT;

	*byte = (*byte & ~(CLOG_XACT_BITMASK << shift)) | (status << shift);
}

/* The end of a transaction on one page of clog: TransactionIdSetTreeStatus(). */
static void
apply_clog(const XactRecord *xact, uint32 pageno, char *page)
{
	XidStatus status = xact->commit ? TRANSACTION_STATUS_COMMITTED : TRANSACTION_STATUS_ABORTED;

	if (clog_page(xact->xid) == pageno)
		set_clog_status(page, xact->xid, status);
	for (uint32 i = 0; i < xact->nsubxacts; i++)
	{
		TransactionId subxid = xact_subxid(xact, i);

		if (clog_page(subxid) == pageno)
			set_clog_status(page, subxid, status);
	}
}

static void
set_commit_ts(char *page, TransactionId xid, TimestampTz time, RepOriginId origin)
{
	char *entry = page + xid % COMMIT_TS_XACTS_PER_PAGE * COMMIT_TS_ENTRY_SIZE;

	memcpy(entry, &time, sizeof(time));
	memcpy(entry + sizeof(time), &origin, sizeof(origin));
}

/* commit_ts.c, TransactionTreeSetCommitTsData(), with the time that xact_redo_commit() chooses */
static void
apply_commit_ts(const XactRecord *xact, RepOriginId origin, uint32 pageno, char *page)
{
	TimestampTz time = (xact->xinfo & XACT_XINFO_HAS_ORIGIN) != 0 ? xact->origin_timestamp : xact->time;

	if (commit_ts_page(xact->xid) == pageno)
		set_commit_ts(page, xact->xid, time, origin);
	for (uint32 i = 0; i < xact->nsubxacts; i++)
	{
		TransactionId subxid = xact_subxid(xact, i);

		if (commit_ts_page(subxid) == pageno)
			set_commit_ts(page, subxid, time, origin);
	}
}

/*
 * multixact.c, RecordNewMultiXact(): the offset of the multixact, and the end
 * of its members as the offset of the next one.
 */
static void
apply_multixact_offsets(const xl_multixact_create *create, uint32 pageno, char *page)
{
	MultiXactOffset *offsets = (MultiXactOffset *) page;
	MultiXactId next = multixact_next(create->mid);

	if (multixact_offsets_page(create->mid) == pageno)
		offsets[create->mid % MULTIXACT_OFFSETS_PER_PAGE] = create->moff;
	if (multixact_offsets_page(next) == pageno)
	{
		MultiXactOffset end = create->moff + create->nmembers;

		/* offset 0 is never used */
		offsets[next % MULTIXACT_OFFSETS_PER_PAGE] = end == 0 ? 1 : end;
	}
}

static void
apply_multixact_members(const WalParsed *parsed, const xl_multixact_create *create, uint32 pageno, char *page)
{
	for (int32 i = 0; i < create->nmembers; i++)
	{
		MultiXactOffset offset = create->moff + i;
		uint32 index = offset % MULTIXACT_MEMBERS_PER_PAGE;
		char *group = page + index / MULTIXACT_MEMBERS_PER_GROUP * MULTIXACT_GROUP_SIZE;
		uint32 slot = index % MULTIXACT_MEMBERS_PER_GROUP;
		MultiXactMember member;
		uint32 flags;

		if (multixact_members_page(offset) != pageno)
			continue;
		memcpy(&member, parsed->main_data + SizeOfMultiXactCreate + i * sizeof(member), sizeof(member));
		memcpy(group + MULTIXACT_MEMBERS_PER_GROUP + slot * sizeof(TransactionId), &member.xid, sizeof(TransactionId));
		/* the flags are one 32-bit word, in the machine's byte order */
		memcpy(&flags, group, sizeof(flags));
		flags &= ~((uint32) 0xff << (slot * 8));
		flags |= (uint32) member.status << (slot * 8);
		memcpy(group, &flags, sizeof(flags));
	}
}

PsError *
wal_slru_apply(const WalRecord *rec, PsSlru slru, uint32 pageno, char *page)
{
	WalParsed parsed;
	XactRecord xact;
	xl_multixact_create create;
	uint8 info;

	PS_TRY(wal_parse(rec, &parsed));
	info = parsed.header->xl_info & ~XLR_INFO_MASK;

	switch (parsed.header->xl_rmid)
	{
		case RM_XACT_ID:
			PS_TRY(xact_parse(rec, &parsed, &xact));
			if (slru == PS_SLRU_CLOG)
				apply_clog(&xact, pageno, page);
			else if (slru == PS_SLRU_COMMIT_TS)
				apply_commit_ts(&xact, parsed.origin, pageno, page);
			else
				break;
			return NULL;

		case RM_CLOG_ID:
			if (slru != PS_SLRU_CLOG || info != CLOG_ZEROPAGE)
				break;
			memset(page, 0, BLCKSZ);
			return NULL;

		case RM_COMMIT_TS_ID:
			if (slru != PS_SLRU_COMMIT_TS || info != COMMIT_TS_ZEROPAGE)
				break;
			memset(page, 0, BLCKSZ);
			return NULL;

		case RM_MULTIXACT_ID:
			if (info == XLOG_MULTIXACT_ZERO_OFF_PAGE || info == XLOG_MULTIXACT_ZERO_MEM_PAGE)
			{
				memset(page, 0, BLCKSZ);
				return NULL;
			}
			if (info != XLOG_MULTIXACT_CREATE_ID)
				break;
			PS_TRY(wal_get_struct(rec, &parsed, &create, SizeOfMultiXactCreate));
			if (create.nmembers < 0 ||
				parsed.main_data_len < SizeOfMultiXactCreate + (uint64) create.nmembers * sizeof(MultiXactMember))
				return wal_bad_contents(rec, "its main data is too short");
			if (slru == PS_SLRU_MULTIXACT_OFFSETS)
				apply_multixact_offsets(&create, pageno, page);
			else if (slru == PS_SLRU_MULTIXACT_MEMBERS)
				apply_multixact_members(&parsed, &create, pageno, page);
			else
				break;
			return NULL;
	}
	return wal_bad_contents(rec, "it does not change page %u of %s", pageno, ps_slru_dir[slru]);
}

/*
 * The PagePrecedes functions of clog.c, commit_ts.c and multixact.c: page 1
 * holds only ids that precede all those of page 2.  "first" is the first id
 * that is compared of a page, counted from the page's beginning.
 */
static bool
page_precedes(uint32 page1, uint32 page2, uint32 per_page, uint32 first)
{
	uint32 id1 = page1 * per_page + first;
	uint32 id2 = page2 * per_page + first;

	return (int32) (id1 - id2) < 0 && (int32) (id1 - (id2 + per_page - 1)) < 0;
}

/* As slru.c, SlruMayDeleteSegment(). */
static bool
segment_precedes(uint32 segno, uint32 cutoff_page, uint32 per_page, uint32 first)
{
	uint32 page = segno * SLRU_PAGES_PER_SEGMENT;

	return page_precedes(page, cutoff_page, per_page, first) &&
		   page_precedes(page + SLRU_PAGES_PER_SEGMENT - 1, cutoff_page, per_page, first);
}

bool
wal_slru_truncates(const WalRecord *rec, PsSlru slru, uint32 cutoff_page, uint32 segno)
{
	const XLogRecord *hdr = (const XLogRecord *) rec->data;
	WalParsed parsed;
	xl_multixact_truncate trunc;
	uint32 start;
	uint32 end;
	PsError *err;

	/* commit timestamps were switched off: all segments are removed (DeactivateCommitTs() of commit_ts.c) */
	if (hdr->xl_rmid == RM_XLOG_ID)
		return true;

	switch (slru)
	{
		case PS_SLRU_CLOG:
			return segment_precedes(segno, cutoff_page, CLOG_XACTS_PER_PAGE, FirstNormalTransactionId + 1);
		case PS_SLRU_COMMIT_TS:
			return segment_precedes(segno, cutoff_page, COMMIT_TS_XACTS_PER_PAGE, FirstNormalTransactionId + 1);
		case PS_SLRU_MULTIXACT_OFFSETS:
			return segment_precedes(segno, cutoff_page, MULTIXACT_OFFSETS_PER_PAGE, FirstMultiXactId + 1);
		case PS_SLRU_MULTIXACT_MEMBERS:
			break;
	}

	/* PerformMembersTruncation(): from one segment up to another, for members may span more than half of all offsets */
	err = wal_parse(rec, &parsed);
	if (err == NULL)
		err = wal_get_struct(rec, &parsed, &trunc, sizeof(trunc));
	if (err != NULL)
	{
		/* wal_interpret() has refused such a record */
		ps_error_free(err);
		return false;
	}
	start = multixact_members_page(trunc.startTruncMemb) / SLRU_PAGES_PER_SEGMENT;
	end = multixact_members_page(trunc.endTruncMemb) / SLRU_PAGES_PER_SEGMENT;
	return start <= end ? segno >= start && segno < end : segno >= start || segno < end;
}
