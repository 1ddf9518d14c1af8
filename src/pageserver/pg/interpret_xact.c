/*
 * interpret_xact.c
 *	  What records of transactions change: SLRU pages, two-phase state, dropped
 *	  relations, progress of replication origins.
 */
#include "ps_fe.h"

#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/multixact.h"
#include "port/pg_crc32c.h"

#include "pg/interpret_impl.h"
#include "pg/slru.h"
#include "pg/xact.h"

/* Each page that holds the transaction or one of its subtransactions, which are ascending. */
static PsError *
pages_of_xact(const WalRecord *rec, const XactRecord *xact, PsSlru slru, uint32 (*page_of)(TransactionId),
			  const WalSink *sink)
{
	uint32 top = page_of(xact->xid);
	uint32 last = top;

	PS_TRY(sink->slru(sink->arg, rec, slru, top, false));
	for (uint32 i = 0; i < xact->nsubxacts; i++)
	{
		uint32 page = page_of(xact_subxid(xact, i));

		if (page == last || page == top)
			continue;
		PS_TRY(sink->slru(sink->arg, rec, slru, page, false));
		last = page;
	}
	return NULL;
}

/* origin.c, replorigin_advance() */
static PsError *
advance_origin(const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force, const WalSink *sink)
{
	if (id == InvalidRepOriginId || id == DoNotReplicateId)
		return NULL;
	return sink->origin(sink->arg, rec, id, remote_lsn, force);
}

/* xact.c, xact_redo_commit() and xact_redo_abort() */
static PsError *
interpret_end(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp, bool prepared,
			  const WalSink *sink)
{
	XactRecord xact;

	PS_TRY(xact_parse(rec, parsed, &xact));
	if (xact.commit && track_commit_timestamp)
		PS_TRY(pages_of_xact(rec, &xact, PS_SLRU_COMMIT_TS, commit_ts_page, sink));
	PS_TRY(pages_of_xact(rec, &xact, PS_SLRU_CLOG, clog_page, sink));
	if ((xact.xinfo & XACT_XINFO_HAS_ORIGIN) != 0)
		PS_TRY(advance_origin(rec, parsed->origin, xact.origin_lsn, false, sink));
	for (uint32 i = 0; i < xact.nrels; i++)
		PS_TRY(sink->rel_drop(sink->arg, rec, xact_rel(&xact, i)));
	if (prepared)
	{
		PsKey key = ps_key_simple(PS_KEY_TWOPHASE, 0, 0, xact.xid);

		PS_TRY(sink->del(sink->arg, rec, &key));
	}
	return NULL;
}

/*
 * The state file as twophase.c, RecreateTwoPhaseFile() writes it at a
 * checkpoint: the record's main data and its CRC.
 */
static PsError *
interpret_prepare(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	XactRecord xact;
	pg_crc32c crc;
	PsKey key;
	uint32 len = parsed->main_data_len;
	char *file;
	PsError *err;

	PS_TRY(xact_parse_prepare(rec, parsed, &xact));
	if (xact_prepare_total_len(parsed) != (uint64) len + sizeof(crc))
		return wal_bad_contents(rec, "two-phase state has %u bytes, expected %u", len + (uint32) sizeof(crc),
								xact_prepare_total_len(parsed));

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, parsed->main_data, len);
	FIN_CRC32C(crc);
	file = pg_malloc(len + sizeof(crc));
	memcpy(file, parsed->main_data, len);
	memcpy(file + len, &crc, sizeof(crc));
	key = ps_key_simple(PS_KEY_TWOPHASE, 0, 0, xact.xid);
	err = sink->put(sink->arg, rec, &key, file, len + sizeof(crc));
	free(file);
	if (err != NULL)
		return err;
	return advance_origin(rec, parsed->origin, xact.origin_lsn, false, sink);
}

/* xact.c, xact_redo() */
PsError *
interpret_xact(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp, const WalSink *sink)
{
	switch (parsed->header->xl_info & XLOG_XACT_OPMASK)
	{
		case XLOG_XACT_COMMIT:
		case XLOG_XACT_ABORT:
			return interpret_end(rec, parsed, track_commit_timestamp, false, sink);
		case XLOG_XACT_COMMIT_PREPARED:
		case XLOG_XACT_ABORT_PREPARED:
			return interpret_end(rec, parsed, track_commit_timestamp, true, sink);
		case XLOG_XACT_PREPARE:
			return interpret_prepare(rec, parsed, sink);
		default:
			/* assignments of subtransactions and invalidations are for standbys and logical decoding */
			return NULL;
	}
}

/* A page number in the main data, which PostgreSQL has as an int. */
static PsError *
get_pageno(const WalRecord *rec, const WalParsed *parsed, uint32 *pageno)
{
	int page;

	PS_TRY(wal_get_struct(rec, parsed, &page, sizeof(page)));
	if (page < 0)
		return wal_bad_contents(rec, "page number %d", page);
	*pageno = page;
	return NULL;
}

/* clog.c, clog_redo() */
PsError *
interpret_clog(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	uint32 pageno = 0;

	/* xl_clog_truncate begins with the page number too */
	PS_TRY(get_pageno(rec, parsed, &pageno));
	if ((parsed->header->xl_info & ~XLR_INFO_MASK) == CLOG_ZEROPAGE)
		return sink->slru(sink->arg, rec, PS_SLRU_CLOG, pageno, true);
	return sink->slru_truncate(sink->arg, rec, PS_SLRU_CLOG, pageno);
}

/* commit_ts.c, commit_ts_redo() */
PsError *
interpret_commit_ts(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	uint32 pageno = 0;

	/* xl_commit_ts_truncate begins with the page number too */
	PS_TRY(get_pageno(rec, parsed, &pageno));
	if ((parsed->header->xl_info & ~XLR_INFO_MASK) == COMMIT_TS_ZEROPAGE)
		return sink->slru(sink->arg, rec, PS_SLRU_COMMIT_TS, pageno, true);
	return sink->slru_truncate(sink->arg, rec, PS_SLRU_COMMIT_TS, pageno);
}

/*
 * multixact.c, RecordNewMultiXact().  The offsets page of the next multixact
 * may be one that its ZERO_OFF_PAGE record has not made yet, if the WAL is
 * that of an older minor version: then it is made by this record, and
 * made empty again by the other, where stock redo would skip that.  What is
 * lost is what the next CREATE_ID writes again, or TrimMultiXact() at a start.
 */
static PsError *
interpret_create_id(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	xl_multixact_create create;
	uint32 page;
	uint32 next_page;

	PS_TRY(wal_get_struct(rec, parsed, &create, SizeOfMultiXactCreate));
	if (create.nmembers < 0 ||
		parsed->main_data_len != SizeOfMultiXactCreate + (uint64) create.nmembers * sizeof(MultiXactMember))
		return wal_bad_contents(rec, "multixact of %d members in %u bytes", create.nmembers, parsed->main_data_len);

	page = multixact_offsets_page(create.mid);
	next_page = multixact_offsets_page(multixact_next(create.mid));
	PS_TRY(sink->slru(sink->arg, rec, PS_SLRU_MULTIXACT_OFFSETS, page, false));
	if (next_page != page)
		PS_TRY(sink->slru(sink->arg, rec, PS_SLRU_MULTIXACT_OFFSETS, next_page, false));

	for (int32 i = 0; i < create.nmembers; i++)
	{
		uint32 member_page = multixact_members_page(create.moff + i);

		if (i == 0 || member_page != multixact_members_page(create.moff + i - 1))
			PS_TRY(sink->slru(sink->arg, rec, PS_SLRU_MULTIXACT_MEMBERS, member_page, false));
	}
	return NULL;
}

/* multixact.c, multixact_redo() */
PsError *
interpret_multixact(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	uint32 pageno = 0;
	xl_multixact_truncate trunc;
	MultiXactId last;

	switch (parsed->header->xl_info & ~XLR_INFO_MASK)
	{
		case XLOG_MULTIXACT_ZERO_OFF_PAGE:
			PS_TRY(get_pageno(rec, parsed, &pageno));
			return sink->slru(sink->arg, rec, PS_SLRU_MULTIXACT_OFFSETS, pageno, true);
		case XLOG_MULTIXACT_ZERO_MEM_PAGE:
			PS_TRY(get_pageno(rec, parsed, &pageno));
			return sink->slru(sink->arg, rec, PS_SLRU_MULTIXACT_MEMBERS, pageno, true);
		case XLOG_MULTIXACT_CREATE_ID:
			return interpret_create_id(rec, parsed, sink);
		default:
			/* PerformMembersTruncation(), PerformOffsetsTruncation() */
			PS_TRY(wal_get_struct(rec, parsed, &trunc, SizeOfMultiXactTruncate));
			last = trunc.endTruncOff == FirstMultiXactId ? MaxMultiXactId : trunc.endTruncOff - 1;
			PS_TRY(sink->slru_truncate(sink->arg, rec, PS_SLRU_MULTIXACT_MEMBERS,
									   multixact_members_page(trunc.endTruncMemb)));
			return sink->slru_truncate(sink->arg, rec, PS_SLRU_MULTIXACT_OFFSETS, multixact_offsets_page(last));
	}
}

/* origin.c, replorigin_redo() */
PsError *
interpret_replorigin(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink)
{
	if ((parsed->header->xl_info & ~XLR_INFO_MASK) == XLOG_REPLORIGIN_SET)
	{
		xl_replorigin_set set;

		PS_TRY(wal_get_struct(rec, parsed, &set, sizeof(set)));
		return advance_origin(rec, set.node_id, set.remote_lsn, wal_bool(&set.force), sink);
	}
	else
	{
		xl_replorigin_drop drop;
		PsKey key;

		PS_TRY(wal_get_struct(rec, parsed, &drop, sizeof(drop)));
		key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, drop.node_id);
		return sink->del(sink->arg, rec, &key);
	}
}
