/*
 * segments_read.c
 *	  Reading a timeline's WAL files: any bytes, or one record without the page
 *	  headers within it.
 */
#include "ps_fe.h"

#include <sys/uio.h>

#include "port/pg_crc32c.h"

#include "sqlstate.h"
#include "wal/packed.h"
#include "pg/decoder.h"
#include "pg/parse.h"
#include "wal/segments_impl.h"

/* Fragments of a record that one preadv() reads, page headers included. */
#define MAX_FRAGMENTS 512

/* So much is read at once of what only the checksum is wanted of. */
#define REST_SIZE ((uint32) (256 * 1024))

/* Reads n fragments that lie one after the other in one segment. */
static PsError *
read_fragments(const WalHold *hold, uint32 offset, struct iovec *iov, int n, size_t len)
{
	if (hold->packed != NULL)
		return packed_segment_read(hold->packed, offset, iov, len);
	while (len > 0)
	{
		ssize_t got = preadv(hold->fd, iov, n, offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
		{
			char path[MAXPGPATH];

			if (got == 0)
				errno = EIO;
			wal_segments_path(hold->segs, hold->segno, path);
			return ps_error(PS_SQLSTATE_IO, "could not read %zu bytes at offset %u of WAL file \"%s\": %m", len, offset,
							path);
		}
		len -= got;
		offset += got;
		while (len > 0 && got >= iov->iov_len)
		{
			got -= iov->iov_len;
			iov++;
			n--;
		}
		if (len > 0)
		{
			iov->iov_base = (char *) iov->iov_base + got;
			iov->iov_len -= got;
		}
	}
	return NULL;
}

PsError *
wal_segments_read(WalSegments *segs, XLogRecPtr lsn, char *buf, size_t len)
{
	uint32 segment_size = segs->segment_size;

	while (len > 0)
	{
		uint32 offset = XLogSegmentOffset(lsn, segment_size);
		size_t n = Min(len, segment_size - offset);
		struct iovec iov = {.iov_base = buf, .iov_len = n};
		WalHold hold;
		PsError *err;

		PS_TRY(wal_segments_hold(segs, lsn, &hold));
		err = read_fragments(&hold, offset, &iov, 1, n);
		wal_segments_release(&hold);
		if (err != NULL)
			return err;
		lsn += n;
		buf += n;
		len -= n;
	}
	return NULL;
}

/*
 * Reads the next len bytes of a record, which continues at *pos; advances *pos.
 */
static PsError *
read_record_bytes(WalSegments *segs, XLogRecPtr *pos, uint32 len, char *buf)
{
	uint32 segment_size = segs->segment_size;
	uint32 done = 0;

	/* Fragments are read to their place, page headers to a buffer that is ignored. */
	while (done < len)
	{
		struct iovec iov[MAX_FRAGMENTS];
		XLogLongPageHeaderData header;
		uint32 offset = XLogSegmentOffset(*pos, segment_size);
		size_t total = 0;
		int n = 0;
		WalHold hold;
		PsError *err;

		PS_TRY(wal_segments_hold(segs, *pos, &hold));
		do
		{
			XLogRecPtr data = wal_record_start_after(*pos, segment_size);
			uint32 in_page = Min(len - done, XLOG_BLCKSZ - data % XLOG_BLCKSZ);

			if (data > *pos)
			{
				iov[n++] = (struct iovec) {.iov_base = &header, .iov_len = data - *pos};
				total += data - *pos;
			}
			iov[n++] = (struct iovec) {.iov_base = buf + done, .iov_len = in_page};
			total += in_page;
			done += in_page;
			*pos = data + in_page;
		} while (done < len && n + 2 <= MAX_FRAGMENTS && XLogSegmentOffset(*pos, segment_size) != 0);

		err = read_fragments(&hold, offset, iov, n, total);
		wal_segments_release(&hold);
		if (err != NULL)
			return err;
	}
	return NULL;
}

/* Adds what follows, len bytes of a record, to its checksum; they are not kept. */
static PsError *
add_to_checksum(WalSegments *segs, XLogRecPtr pos, uint32 len, pg_crc32c *crc)
{
	char *buf = pg_malloc(REST_SIZE);
	PsError *err = NULL;

	while (len > 0 && err == NULL)
	{
		uint32 n = Min(len, REST_SIZE);

		err = read_record_bytes(segs, &pos, n, buf);
		COMP_CRC32C(*crc, buf, n);
		len -= n;
	}
	free(buf);
	return err;
}

/* Where the byte of a record is that has "done" before it, or the header of its page. */
static XLogRecPtr
record_position(const WalSegments *segs, XLogRecPtr start, uint32 done)
{
	uint32 segment_size = segs->segment_size;
	XLogRecPtr pos = start;

	while (done > 0)
	{
		XLogRecPtr data = wal_record_start_after(pos, segment_size);
		uint32 in_page = Min(done, XLOG_BLCKSZ - data % XLOG_BLCKSZ);

		pos = data + in_page;
		done -= in_page;
	}
	return pos;
}

/*
 * Are these the bytes of a record of that length?  Of a longer one that can be
 * cut, its beginning: then the rest is read, too.
 */
static PsError *
check_record(WalSegments *segs, XLogRecPtr start, uint32 len, char *buf)
{
	const XLogRecord *hdr = (const XLogRecord *) buf;
	pg_crc32c crc;
	uint32 tot_len;
	pg_crc32c expected;
	bool is_cut;

	memcpy(&tot_len, &hdr->xl_tot_len, sizeof(tot_len));
	memcpy(&expected, &hdr->xl_crc, sizeof(expected));
	is_cut = len == WAL_CUT_LEN && tot_len > len && tot_len <= WAL_MAX_RECORD && wal_record_can_be_cut(hdr);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, buf + SizeOfXLogRecord, len - SizeOfXLogRecord);
	if (is_cut)
		PS_TRY(add_to_checksum(segs, record_position(segs, start, len), tot_len - len, &crc));
	COMP_CRC32C(crc, buf, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	if ((tot_len != len && !is_cut) || !EQ_CRC32C(crc, expected))
	{
		char path[MAXPGPATH];
		XLogSegNo segno;

		XLByteToSeg(start, segno, segs->segment_size);
		wal_segments_path(segs, segno, path);
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"WAL record at %X/%X in file \"%s\" has %u bytes and checksum %08X, expected %u and %08X",
						LSN_FORMAT_ARGS(start), path, tot_len, expected, len, crc);
	}
	return is_cut ? wal_record_cut(start, buf) : NULL;
}

PsError *
wal_segments_read_record(WalSegments *segs, XLogRecPtr start, uint32 len, char *buf)
{
	XLogRecPtr pos = start;

	if (len < SizeOfXLogRecord)
		return ps_error(PS_SQLSTATE_INVALID, "WAL record at %X/%X cannot have %u bytes", LSN_FORMAT_ARGS(start), len);
	PS_TRY(read_record_bytes(segs, &pos, len, buf));
	return check_record(segs, start, len, buf);
}

size_t
wal_segments_record_extent(const WalSegments *segs, XLogRecPtr start, uint32 len)
{
	uint32 segment_size = segs->segment_size;
	XLogRecPtr pos = start;

	for (uint32 done = 0; done < len;)
	{
		XLogRecPtr data = wal_record_start_after(pos, segment_size);
		uint32 in_page = Min(len - done, XLOG_BLCKSZ - data % XLOG_BLCKSZ);

		if (done > 0 && XLogSegmentOffset(pos, segment_size) == 0)
			return 0;
		pos = data + in_page;
		done += in_page;
	}
	return pos - start;
}

PsError *
wal_segments_unpack_record(WalSegments *segs, XLogRecPtr start, uint32 len, const char *bytes, char *out)
{
	uint32 segment_size = segs->segment_size;
	XLogRecPtr pos = start;

	for (uint32 done = 0; done < len;)
	{
		XLogRecPtr data = wal_record_start_after(pos, segment_size);
		uint32 in_page = Min(len - done, XLOG_BLCKSZ - data % XLOG_BLCKSZ);

		memcpy(out + done, bytes + (data - start), in_page);
		pos = data + in_page;
		done += in_page;
	}
	return check_record(segs, start, len, out);
}

PsError *
wal_segments_unread(const WalSegments *segs, XLogRecPtr start, size_t wanted, int read_errno)
{
	char path[MAXPGPATH];
	XLogSegNo segno;

	XLByteToSeg(start, segno, segs->segment_size);
	wal_segments_path(segs, segno, path);
	errno = read_errno != 0 ? read_errno : EIO;
	return ps_error(PS_SQLSTATE_IO, "could not read %zu bytes at offset %u of WAL file \"%s\": %m", wanted,
					(uint32) XLogSegmentOffset(start, segs->segment_size), path);
}
