/*
 * import_wal.c
 *	  Copies the WAL that a timeline begins with: the segment, or the two segments,
 *	  of the shutdown checkpoint of the imported cluster.
 *
 * A recycled segment contains old data after the end of WAL, which is replaced by
 * zeros.  The segment may have pages of zeros before the checkpoint, after its
 * first page: it does if the cluster is an export of a branch that began in the
 * middle of a segment.
 *
 * WAL in the store belongs to timeline 1.  The page headers of a cluster that was
 * promoted are changed accordingly.  Nothing else in a page contains a timeline
 * number, and the CRCs of records do not cover page headers.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "backup/backup_impl.h"
#include "sqlstate.h"
#include "base/fs.h"

/* Length of the record of CreateCheckPoint(): a CheckPoint as main data with a short header. */
#define CHECKPOINT_RECORD_LEN (SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint))

/* The end of the checkpoint record that begins at start. */
static XLogRecPtr
checkpoint_end(XLogRecPtr start, uint32 segment_size)
{
	XLogRecPtr at = start;
	uint32 left = CHECKPOINT_RECORD_LEN;

	for (;;)
	{
		uint32 room = XLOG_BLCKSZ - at % XLOG_BLCKSZ;

		if (left <= room)
			return MAXALIGN(at + left);
		left -= room;
		at += room;
		at += XLogSegmentOffset(at, segment_size) == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
	}
}

/* Checks the header of a page and changes its timeline to 1. */
static PsError *
convert_page(char *page, XLogRecPtr address, const ControlFileData *control, const char *path)
{
	XLogLongPageHeader header = (XLogLongPageHeader) page;

	if (header->std.xlp_magic != XLOG_PAGE_MAGIC || header->std.xlp_pageaddr != address)
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"WAL file \"%s\" has magic number %04X and address %X/%X at offset %u, expected %04X and %X/%X",
						path, header->std.xlp_magic, LSN_FORMAT_ARGS(header->std.xlp_pageaddr),
						(uint32) XLogSegmentOffset(address, control->xlog_seg_size), XLOG_PAGE_MAGIC,
						LSN_FORMAT_ARGS(address));
	if (XLogSegmentOffset(address, control->xlog_seg_size) == 0 &&
		(header->xlp_sysid != control->system_identifier || header->xlp_seg_size != control->xlog_seg_size))
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"WAL file \"%s\" has system identifier " UINT64_FORMAT
						" and segment size %u, expected " UINT64_FORMAT " and %u",
						path, header->xlp_sysid, header->xlp_seg_size, control->system_identifier,
						control->xlog_seg_size);
	header->std.xlp_tli = 1;
	return NULL;
}

/* Copies one segment up to "end", if that is in the segment, followed by zeros. */
static PsError *
copy_segment(const char *pgdata, const char *wal_dir, const ControlFileData *control, XLogSegNo segno, XLogRecPtr end)
{
	uint32 segment_size = control->xlog_seg_size;
	XLogRecPtr start = segno * (uint64) segment_size;
	char name[MAXFNAMELEN];
	char *from;
	char *to;
	int in;
	int out;
	PGAlignedXLogBlock page;
	PsError *err = NULL;

	XLogFileName(name, control->checkPointCopy.ThisTimeLineID, segno, segment_size);
	from = psprintf("%s/pg_wal/%s", pgdata, name);
	XLogFileName(name, 1, segno, segment_size);
	to = psprintf("%s/%s", wal_dir, name);
	in = open(from, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (in < 0)
	{
		err = ps_error_hint(ps_error(ps_errno_state(), "could not open WAL file \"%s\": %m", from),
							"This file contains the cluster's last checkpoint; the import needs it.");
		goto done;
	}
	if (out < 0 || (errno = posix_fallocate(out, 0, segment_size)) != 0)
	{
		err = ps_error(ps_errno_state(), "could not create file \"%s\": %m", to);
		goto done;
	}
	for (XLogRecPtr at = start; at < end && at < start + segment_size; at += XLOG_BLCKSZ)
	{
		ssize_t len = pg_pread(in, page.data, XLOG_BLCKSZ, at - start);

		if (len != XLOG_BLCKSZ)
		{
			if (len >= 0)
				errno = EIO;
			err = ps_error(PS_SQLSTATE_IO, "could not read WAL file \"%s\" at offset " UINT64_FORMAT ": %m", from,
						   (uint64) (at - start));
			goto done;
		}
		if (at > start && at + XLOG_BLCKSZ <= control->checkPoint && page_is_zero(page.data))
			continue; /* the new file has zeros there */
		PS_GOTO(convert_page(page.data, at, control, from), done);
		if (end - at < XLOG_BLCKSZ)
			memset(page.data + (end - at), 0, XLOG_BLCKSZ - (end - at));
		PS_GOTO(fs_write_at(out, to, page.data, XLOG_BLCKSZ, at - start), done);
	}
	if (fsync(out) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not fsync file \"%s\": %m", to);

done:
	if (in >= 0)
		close(in);
	if (out >= 0)
		close(out);
	pfree(from);
	pfree(to);
	return err;
}

/* Checks that the copied record is the shutdown checkpoint in the control file. */
static PsError *
check_checkpoint(const char *wal_dir, const char *pgdata, const ControlFileData *control)
{
	char record[MAXALIGN(CHECKPOINT_RECORD_LEN)];
	XLogRecord header;
	CheckPoint checkpoint;
	WalSegments *segs;
	PsError *err;

	PS_TRY(wal_segments_open(wal_dir, control->xlog_seg_size, &segs));
	err = wal_segments_read_record(segs, control->checkPoint, CHECKPOINT_RECORD_LEN, record);
	wal_segments_close(segs);
	if (err != NULL)
		return ps_error_context(err, "the shutdown checkpoint of the cluster in \"%s\"", pgdata);
	memcpy(&header, record, sizeof(header));
	memcpy(&checkpoint, record + CHECKPOINT_RECORD_LEN - sizeof(CheckPoint), sizeof(CheckPoint));
	if (header.xl_rmid != RM_XLOG_ID || (header.xl_info & ~XLR_INFO_MASK) != XLOG_CHECKPOINT_SHUTDOWN ||
		checkpoint.redo != control->checkPoint ||
		checkpoint.nextXid.value != control->checkPointCopy.nextXid.value)
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"the WAL record at %X/%X in \"%s\" is not the shutdown checkpoint named in pg_control",
						LSN_FORMAT_ARGS(control->checkPoint), pgdata);
	return NULL;
}

PsError *
import_wal(const char *pgdata, const char *wal_dir, const ControlFileData *control, XLogRecPtr *end)
{
	uint32 segment_size = control->xlog_seg_size;

	*end = checkpoint_end(control->checkPoint, segment_size);
	for (XLogSegNo segno = control->checkPoint / segment_size; segno <= (*end - 1) / segment_size; segno++)
		PS_TRY(copy_segment(pgdata, wal_dir, control, segno, *end));
	PS_TRY(fs_sync(wal_dir));
	return check_checkpoint(wal_dir, pgdata, control);
}
