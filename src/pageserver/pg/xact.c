/*
 * xact.c
 *	  The contents of records that end or prepare a transaction.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "pg/xact.h"

PsError *
wal_bad_contents(const WalRecord *rec, const char *fmt, ...)
{
	const XLogRecord *hdr = (const XLogRecord *) rec->data;
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return ps_error(PS_SQLSTATE_CORRUPTED, "invalid WAL record at %X/%X (resource manager %u, info %02X): %s",
					LSN_FORMAT_ARGS(rec->start), hdr->xl_rmid, hdr->xl_info, text);
}

PsError *
wal_get_struct(const WalRecord *rec, const WalParsed *parsed, void *dst, uint32 size)
{
	if (parsed->main_data_len < size)
		return wal_bad_contents(rec, "its main data is too short");
	memcpy(dst, parsed->main_data, size);
	return NULL;
}

/* What is left of the main data while it is taken apart. */
typedef struct Cursor
{
	const char *ptr;
	uint64 left;
} Cursor;

static bool
take(Cursor *cur, void *dst, uint64 size)
{
	if (cur->left < size)
		return false;
	if (dst != NULL)
		memcpy(dst, cur->ptr, size);
	cur->ptr += size;
	cur->left -= size;
	return true;
}

/* An array with its count (an int) before it; *array may be NULL. */
static bool
take_array(Cursor *cur, size_t element, uint32 *count, const char **array)
{
	int32 n;

	if (!take(cur, &n, sizeof(n)) || n < 0)
		return false;
	if (array != NULL)
	{
		*count = n;
		*array = cur->ptr;
	}
	return take(cur, NULL, (uint64) n * element);
}

PsError *
xact_parse(const WalRecord *rec, const WalParsed *parsed, XactRecord *xact)
{
	uint8 info = parsed->header->xl_info;
	uint8 op = info & XLOG_XACT_OPMASK;
	Cursor cur = {parsed->main_data, parsed->main_data_len};
	uint32 xinfo = 0;

	memset(xact, 0, sizeof(*xact));
	xact->xid = parsed->header->xl_xid;
	xact->commit = op == XLOG_XACT_COMMIT || op == XLOG_XACT_COMMIT_PREPARED;

	if (!take(&cur, &xact->time, sizeof(TimestampTz)))
		goto too_short;
	if ((info & XLOG_XACT_HAS_INFO) != 0 && !take(&cur, &xinfo, sizeof(xl_xact_xinfo)))
		goto too_short;
	xact->xinfo = xinfo;
	if ((xinfo & XACT_XINFO_HAS_DBINFO) != 0 && !take(&cur, NULL, sizeof(xl_xact_dbinfo)))
		goto too_short;
	if ((xinfo & XACT_XINFO_HAS_SUBXACTS) != 0 &&
		!take_array(&cur, sizeof(TransactionId), &xact->nsubxacts, &xact->subxacts))
		goto too_short;
	if ((xinfo & XACT_XINFO_HAS_RELFILENODES) != 0 &&
		!take_array(&cur, sizeof(RelFileNode), &xact->nrels, &xact->rels))
		goto too_short;
	if ((xinfo & XACT_XINFO_HAS_DROPPED_STATS) != 0 && !take_array(&cur, sizeof(xl_xact_stats_item), NULL, NULL))
		goto too_short;
	if (xact->commit && (xinfo & XACT_XINFO_HAS_INVALS) != 0 &&
		!take_array(&cur, sizeof(SharedInvalidationMessage), NULL, NULL))
		goto too_short;
	if ((xinfo & XACT_XINFO_HAS_TWOPHASE) != 0)
	{
		if (!take(&cur, &xact->xid, sizeof(xl_xact_twophase)))
			goto too_short;
		if ((xinfo & XACT_XINFO_HAS_GID) != 0)
		{
			const char *nul = memchr(cur.ptr, 0, cur.left);

			if (nul == NULL)
				goto too_short;
			take(&cur, NULL, nul + 1 - cur.ptr);
		}
	}
	else if (op == XLOG_XACT_COMMIT_PREPARED || op == XLOG_XACT_ABORT_PREPARED)
		return wal_bad_contents(rec, "it does not name the prepared transaction");
	if ((xinfo & XACT_XINFO_HAS_ORIGIN) != 0)
	{
		xl_xact_origin origin;

		if (!take(&cur, &origin, sizeof(origin)))
			goto too_short;
		xact->origin_lsn = origin.origin_lsn;
		xact->origin_timestamp = origin.origin_timestamp;
	}
	if (!TransactionIdIsNormal(xact->xid))
		return wal_bad_contents(rec, "it ends no normal transaction");
	return NULL;

too_short:
	return wal_bad_contents(rec, "its main data is too short");
}

PsError *
xact_parse_prepare(const WalRecord *rec, const WalParsed *parsed, XactRecord *xact)
{
	Cursor cur = {parsed->main_data, parsed->main_data_len};
	xl_xact_prepare hdr;

	memset(xact, 0, sizeof(*xact));
	PS_TRY(wal_get_struct(rec, parsed, &hdr, sizeof(hdr)));
	if (hdr.nsubxacts < 0 || !take(&cur, NULL, MAXALIGN(sizeof(hdr))) || !take(&cur, NULL, MAXALIGN(hdr.gidlen)))
		return wal_bad_contents(rec, "its main data is too short");
	xact->subxacts = cur.ptr;
	if (!take(&cur, NULL, (uint64) hdr.nsubxacts * sizeof(TransactionId)))
		return wal_bad_contents(rec, "its main data is too short");
	if (!TransactionIdIsNormal(hdr.xid))
		return wal_bad_contents(rec, "it prepares no normal transaction");
	xact->xid = hdr.xid;
	xact->time = hdr.prepared_at;
	xact->nsubxacts = hdr.nsubxacts;
	xact->origin_lsn = hdr.origin_lsn;
	xact->origin_timestamp = hdr.origin_timestamp;
	return NULL;
}

uint32
xact_prepare_total_len(const WalParsed *parsed)
{
	uint32 total_len;

	memcpy(&total_len, parsed->main_data + offsetof(xl_xact_prepare, total_len), sizeof(uint32));
	return total_len;
}
