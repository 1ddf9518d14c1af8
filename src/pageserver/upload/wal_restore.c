/*
 * wal_restore.c
 *	  From a timeline's chain to its WAL files: see wal_restore.h.
 *
 * What one object of the chain says may be replaced by a later one: a chunk may contain the
 * beginning of a record that was cut off.  In files that exist, the bytes of such a record
 * must not overwrite what was written there later.  So where these files differ from a chunk,
 * that is only noted, and they are changed after the whole chain was read.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "common/file_utils.h"

#include "base/fs.h"
#include "ingest/ingest.h"
#include "pg/walstate.h"
#include "sqlstate.h"
#include "upload/wal_restore.h"
#include "wal/reader.h"

#define NEW_DIR "wal.restored"

/* WAL of the chain that the files do not have. */
typedef struct Difference
{
	XLogRecPtr start;
	XLogRecPtr end;
	char *wal;
} Difference;

typedef struct Restore
{
	const WalPlace *place;
	WalSegments *segs;
	bool is_new; /* there were no WAL files: they are written in NEW_DIR, which becomes wal/ when it is complete */

	/* if is_new: the first page that was written, and the end of what was; InvalidXLogRecPtr: nothing was */
	XLogRecPtr start;
	XLogRecPtr end;

	/* else */
	Difference *differences; /* in the order of their LSNs; they do not overlap */
	int n;
} Restore;

/* ---- new files ---- */

/* The chain ends at "end" for now: overwrites what was written after it. */
static PsError *
cut_new(Restore *r, XLogRecPtr end)
{
	static const PGAlignedXLogBlock zeros;

	while (r->end > end)
	{
		size_t len = Min(r->end - end, sizeof(zeros));

		PS_TRY(wal_segments_write(r->segs, r->end - len, zeros.data, len));
		r->end -= len;
	}
	return NULL;
}

static PsError *
write_new(Restore *r, const ChainChunk *chunk, const char *wal)
{
	PS_TRY(cut_new(r, chunk->start));
	if (chunk->end == chunk->start)
		return NULL;
	PS_TRY(wal_segments_write(r->segs, chunk->start, wal, chunk->end - chunk->start));
	if (r->start == InvalidXLogRecPtr)
		r->start = chunk->start;
	r->end = chunk->end;
	return NULL;
}

static PsError *
write_header(Restore *r, XLogRecPtr page)
{
	StringInfoData header;
	PsError *err;

	initStringInfo(&header);
	wal_append_page_header(&header, page, 0, r->place->system_identifier, r->place->segment_size);
	err = wal_segments_write(r->segs, page, header.data, header.len);
	pfree(header.data);
	return err;
}

/*
 * PostgreSQL and our own readers check the header of the page that they read, and of the
 * first page of its segment.  Writes these if no chunk has them.
 */
static PsError *
write_headers(Restore *r)
{
	XLogRecPtr lsn = r->place->lsn;
	XLogRecPtr page = lsn - lsn % XLOG_BLCKSZ;
	XLogRecPtr first = r->start != InvalidXLogRecPtr ? r->start : PG_UINT64_MAX;
	XLogRecPtr segment;

	if (first > page && lsn > page)
	{
		PS_TRY(write_header(r, page));
		first = page;
	}
	first = Min(first, lsn);
	segment = first - XLogSegmentOffset(first, r->place->segment_size);
	return first > segment ? write_header(r, segment) : NULL;
}

/* Sets the marker to the end of the last whole record, unless it is further on. */
static PsError *
set_marker(Restore *r)
{
	XLogRecPtr end = r->place->lsn;
	XLogRecPtr marker = receiver_read_marker(r->place->dir);

	if (r->end > end)
	{
		WalReader *reader = wal_reader_create(r->segs, end, InvalidXLogRecPtr, r->place->system_identifier);
		WalRecord rec;
		bool found;
		PsError *err;

		while ((err = wal_reader_next(reader, r->end, &rec, &found)) == NULL && found)
			end = rec.end;
		wal_reader_free(reader);
		/* an incomplete record */
		if (err != NULL && !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
			return err;
		ps_error_free(err);
	}
	return receiver_replace_marker(r->place->dir, Max(end, marker));
}

/* wal/ is empty or does not exist. */
static PsError *
finish_new(Restore *r)
{
	char *from = psprintf("%s/" NEW_DIR, r->place->dir);
	char *to = psprintf("%s/wal", r->place->dir);
	PsError *err;

	PS_GOTO(write_headers(r), done);
	PS_GOTO(wal_segments_sync(r->segs), done);
	PS_GOTO(fs_sync(from), done);
	PS_GOTO(set_marker(r), done);
	if (rename(from, to) != 0)
		err = ps_error(ps_errno_state(), "could not rename \"%s\" to \"%s\": %m", from, to);
	else
		err = fs_sync(r->place->dir);
	if (err == NULL)
		ps_log(PS_LOG, "restored WAL of \"%s\" from object storage, from %X/%X to %X/%X", r->place->dir,
			   LSN_FORMAT_ARGS(r->place->lsn), LSN_FORMAT_ARGS(Max(r->end, r->place->lsn)));
done:
	pfree(from);
	pfree(to);
	return err;
}

/* ---- files that exist ---- */

/* The chain ends at "end" for now: forgets differences after it. */
static void
cut_differences(Restore *r, XLogRecPtr end)
{
	for (; r->n > 0 && r->differences[r->n - 1].end > end; r->n--)
	{
		Difference *last = &r->differences[r->n - 1];

		if (last->start < end)
		{
			last->end = end;
			return;
		}
		free(last->wal);
	}
}

static void
add_difference(Restore *r, XLogRecPtr start, XLogRecPtr end, const char *wal)
{
	Difference *added;

	r->differences = pg_realloc(r->differences, (r->n + 1) * sizeof(Difference));
	added = &r->differences[r->n++];
	*added = (Difference) {start, end, pg_malloc(end - start)};
	memcpy(added->wal, wal, end - start);
}

/* Notes in which pages the files differ from a chunk. */
static PsError *
compare(Restore *r, const ChainChunk *chunk, const char *wal)
{
	XLogRecPtr lsn = Max(chunk->start, r->place->lsn - r->place->lsn % XLOG_BLCKSZ);
	XLogSegNo oldest;
	XLogSegNo newest;
	bool any = wal_segments_range(r->segs, &oldest, &newest);

	cut_differences(r, chunk->start);
	while (lsn < chunk->end)
	{
		size_t len = Min(XLOG_BLCKSZ - lsn % XLOG_BLCKSZ, chunk->end - lsn);
		const char *expected = wal + (lsn - chunk->start);
		PGAlignedXLogBlock page;
		XLogSegNo segno;

		XLByteToSeg(lsn, segno, r->place->segment_size);
		if (any && segno >= oldest && segno <= newest)
			PS_TRY(wal_segments_read(r->segs, lsn, page.data, len));
		if (!any || segno < oldest || segno > newest || memcmp(page.data, expected, len) != 0)
			add_difference(r, lsn, lsn + len, expected);
		lsn += len;
	}
	return NULL;
}

static PsError *
repair(Restore *r)
{
	if (r->n == 0)
		return NULL;
	if (r->place->segs != NULL)
		return ps_error(PS_SQLSTATE_CORRUPTED, "WAL in \"%s\" from %X/%X on is not what object storage has",
						r->place->dir, LSN_FORMAT_ARGS(r->differences[0].start));
	ps_log(PS_WARNING, "WAL in \"%s\" from %X/%X to %X/%X is not complete; it is restored from object storage",
		   r->place->dir, LSN_FORMAT_ARGS(r->differences[0].start), LSN_FORMAT_ARGS(r->differences[r->n - 1].end));
	for (int i = 0; i < r->n; i++)
	{
		const Difference *d = &r->differences[i];

		PS_TRY(wal_segments_write(r->segs, d->start, d->wal, d->end - d->start));
	}
	return wal_segments_sync(r->segs);
}

/* ---- both ---- */

static PsError *
receive(void *arg, const ChainChunk *chunk, const char *wal)
{
	Restore *r = arg;

	return r->is_new ? write_new(r, chunk, wal) : compare(r, chunk, wal);
}

/* Are there WAL files? */
static PsError *
has_files(const WalPlace *place, bool *has)
{
	char *dir = psprintf("%s/wal", place->dir);
	WalSegments *segs;
	XLogSegNo oldest;
	XLogSegNo newest;
	PsError *err = NULL;

	*has = false;
	if (access(dir, F_OK) == 0)
	{
		err = wal_segments_open(dir, place->segment_size, &segs);
		if (err == NULL)
		{
			*has = wal_segments_range(segs, &oldest, &newest);
			wal_segments_close(segs);
		}
	}
	pfree(dir);
	return err;
}

static PsError *
open_segments(Restore *r)
{
	char *dir;
	bool has;
	PsError *err = NULL;

	r->segs = r->place->segs;
	if (r->segs != NULL)
		return NULL;
	PS_TRY(has_files(r->place, &has));
	r->is_new = !has;
	dir = psprintf("%s/%s", r->place->dir, has ? "wal" : NEW_DIR);
	if (!has)
	{
		/* of an attempt that a crash has ended */
		if (access(dir, F_OK) == 0 && !rmtree(dir, true))
			err = ps_error(PS_SQLSTATE_IO, "could not remove directory \"%s\"", dir);
		if (err == NULL)
			err = fs_make_dir(dir);
	}
	if (err == NULL)
		err = wal_segments_open(dir, r->place->segment_size, &r->segs);
	pfree(dir);
	return err;
}

PsError *
wal_restore(const TenantOwner *owner, const PsId *timeline, const WalPlace *place, uint64 number, XLogRecPtr chain_lsn,
			const ObjectWait *wait, Chain **chain)
{
	Restore r = {.place = place};
	ChainSink sink = {receive, &r};
	PsError *err;

	*chain = NULL;
	err = open_segments(&r);
	if (err == NULL)
		err = chain_open(owner, timeline, r.is_new ? place->kept : number, chain_lsn, &sink, wait, chain);
	if (err == NULL)
		err = r.is_new ? finish_new(&r) : repair(&r);
	if (err != NULL)
	{
		chain_close(*chain);
		*chain = NULL;
	}
	cut_differences(&r, 0);
	free(r.differences);
	if (place->segs == NULL)
		wal_segments_close(r.segs);
	return err;
}
