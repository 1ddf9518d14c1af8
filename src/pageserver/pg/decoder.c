/*
 * decoder.c
 *	  From the bytes of a WAL stream to whole, checked records.
 *
 * Like XLogReadRecord() of xlogreader.c, except that bytes are pushed in as they arrive,
 * in pieces of any size, and records come out when they are complete.
 *
 * Fed bytes are in "buf": the byte with LSN L at buf[L - buf_lsn], with buf_lsn
 * MAXALIGNed, so that a record has the same alignment as in the stream.  A record within
 * one page is checked and returned in place.  One that crosses pages is assembled in
 * "rec", fragment by fragment; so buf never has more than what was fed since the last
 * call of wal_decoder_next() plus less than a page.  The checksum is computed as
 * fragments arrive, so that parts that are not needed are not kept: a record may have a
 * gigabyte.
 */
#include "ps_fe.h"

#include "catalog/pg_control.h"
#include "port/pg_crc32c.h"

#include "sqlstate.h"
#include "pg/decoder.h"
#include "pg/parse.h"

/* Initial size of the buffer in which records are assembled, and the size above which it is freed. */
#define MIN_ASSEMBLY_SIZE  ((uint32) (64 * 1024))
#define KEEP_ASSEMBLY_SIZE WAL_CUT_LEN

struct WalDecoder
{
	uint64 system_identifier; /* 0: not known yet */
	uint32 segment_size;

	/* fed bytes */
	char *buf;
	size_t buf_size;
	XLogRecPtr buf_lsn; /* of buf[0] */
	XLogRecPtr fed;     /* end of the fed bytes */
	XLogRecPtr pos;     /* next byte to examine; may be beyond fed (padding, rest of a segment after a switch) */

	/* the record that is being assembled */
	char *rec;
	uint32 rec_size; /* allocated */
	uint32 rec_len;  /* xl_tot_len, 0: none */
	uint32 rec_got;
	uint32 rec_keep;   /* number of its bytes that are kept in rec */
	pg_crc32c rec_crc; /* of the bytes so far after its header */
	XLogRecPtr rec_start;
	WalContents contents;

	bool skip_contrecord;   /* the first page may begin with the rest of a record to skip */
	uint32 skip_len;        /* bytes of it on later pages */
	XLogRecPtr overwritten; /* start of the record whose rest was overwritten; 0 after the record that says so */

	XLogRecPtr end;  /* of the last record */
	XLogRecPtr prev; /* its start, or InvalidXLogRecPtr */
	PsError *error;  /* once set, stays */
};

WalDecoder *
wal_decoder_create(XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier, uint32 segment_size,
				   bool skip_contrecord)
{
	WalDecoder *dec = pg_malloc0(sizeof(WalDecoder));

	dec->system_identifier = system_identifier;
	dec->segment_size = segment_size;
	dec->buf_lsn = start - start % MAXIMUM_ALIGNOF;
	dec->fed = dec->pos = dec->end = start;
	dec->prev = prev;
	dec->skip_contrecord = skip_contrecord;
	return dec;
}

void
wal_decoder_free(WalDecoder *dec)
{
	if (dec == NULL)
		return;
	ps_error_free(dec->error);
	free(dec->buf);
	free(dec->rec);
	free(dec);
}

void
wal_decoder_set_contents(WalDecoder *dec, WalContents contents)
{
	dec->contents = contents;
}

char *
wal_decoder_room(WalDecoder *dec, size_t len)
{
	/* Where the buffer would begin if all that is done with were dropped; up to 7 bytes before it, for alignment. */
	XLogRecPtr keep = Min(dec->pos, dec->fed);
	XLogRecPtr base = keep - keep % MAXIMUM_ALIGNOF;
	size_t left = dec->fed - base;
	bool empty = keep == dec->fed;

	if (left + len > dec->buf_size)
	{
		size_t size = Max(left + len, Max(2 * dec->buf_size, 8 * XLOG_BLCKSZ));
		char *buf = pg_malloc(size);

		if (!empty)
			memcpy(buf, dec->buf + (base - dec->buf_lsn), left);
		free(dec->buf);
		dec->buf = buf;
		dec->buf_size = size;
		dec->buf_lsn = base;
	}
	else if (empty)
		dec->buf_lsn = base;
	else if (dec->fed - dec->buf_lsn + len > dec->buf_size)
	{
		memmove(dec->buf, dec->buf + (base - dec->buf_lsn), left);
		dec->buf_lsn = base;
	}
	return dec->buf + (dec->fed - dec->buf_lsn);
}

void
wal_decoder_fed(WalDecoder *dec, size_t len)
{
	dec->fed += len;
}

void
wal_decoder_feed(WalDecoder *dec, const char *data, size_t len)
{
	/* What is skipped anyway (after XLOG_SWITCH up to a segment) need not be copied. */
	if (dec->pos > dec->fed)
	{
		size_t skip = Min(len, dec->pos - dec->fed);

		dec->fed += skip;
		data += skip;
		len -= skip;
		if (len == 0)
			return;
	}
	memcpy(wal_decoder_room(dec, len), data, len);
	wal_decoder_fed(dec, len);
}

XLogRecPtr
wal_decoder_record_end(const WalDecoder *dec)
{
	return dec->end;
}

XLogRecPtr
wal_decoder_record_prev(const WalDecoder *dec)
{
	return dec->prev;
}

XLogRecPtr
wal_decoder_position(const WalDecoder *dec)
{
	return dec->pos;
}

XLogRecPtr
wal_decoder_feed_position(const WalDecoder *dec)
{
	return dec->fed;
}

static uint32
page_header_size(XLogRecPtr page, uint32 segment_size)
{
	return XLogSegmentOffset(page, segment_size) == 0 ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
}

XLogRecPtr
wal_record_start_after(XLogRecPtr end, uint32 segment_size)
{
	return end % XLOG_BLCKSZ == 0 ? end + page_header_size(end, segment_size) : end;
}

static PsError *bad_wal(XLogRecPtr lsn, const char *fmt, ...) pg_attribute_printf(2, 3);

/* The error of WAL that is not as it must be at an LSN. */
static PsError *
bad_wal(XLogRecPtr lsn, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return ps_error(PS_SQLSTATE_CORRUPTED, "invalid WAL at %X/%X: %s", LSN_FORMAT_ARGS(lsn), text);
}

/*
 * Checks the header of the page at dec->pos (xlogreader.c,
 * XLogReaderValidatePageHeader()) and steps over it.  *complete is false if it
 * has not all arrived.
 */
static PsError *
read_page_header(WalDecoder *dec, bool *complete)
{
	XLogRecPtr page = dec->pos;
	uint32 size = page_header_size(page, dec->segment_size);
	const XLogPageHeaderData *hdr = (const XLogPageHeaderData *) (dec->buf + (page - dec->buf_lsn));
	bool is_long = size == SizeOfXLogLongPHD;
	bool is_cont;

	*complete = false;
	if (dec->fed < page + size)
		return NULL;
	if (hdr->xlp_magic != XLOG_PAGE_MAGIC)
		return bad_wal(page, "page header has magic number %04X, expected %04X (PostgreSQL %s)", hdr->xlp_magic,
					   XLOG_PAGE_MAGIC, PG_MAJORVERSION);
	if ((hdr->xlp_info & ~XLP_ALL_FLAGS) != 0)
		return bad_wal(page, "page header has unknown flags %04X", hdr->xlp_info);
	if (((hdr->xlp_info & XLP_LONG_HEADER) != 0) != is_long)
		return bad_wal(page,
					   is_long ? "the first page of a segment has no long page header"
							   : "long page header in the middle of a segment of %u bytes",
					   dec->segment_size);
	if (hdr->xlp_pageaddr != page)
		return bad_wal(page, "page header has address %X/%X", LSN_FORMAT_ARGS(hdr->xlp_pageaddr));
	if (hdr->xlp_tli != 1)
		return bad_wal(page, "page header has timeline %u, expected 1", hdr->xlp_tli);
	if (is_long)
	{
		const XLogLongPageHeaderData *longhdr = (const XLogLongPageHeaderData *) hdr;

		if (dec->system_identifier != 0 && longhdr->xlp_sysid != dec->system_identifier)
			return bad_wal(page, "system identifier is " UINT64_FORMAT ", expected " UINT64_FORMAT,
						   longhdr->xlp_sysid, dec->system_identifier);
		if (longhdr->xlp_seg_size != dec->segment_size)
			return bad_wal(page, "segment size is %u, expected %u", longhdr->xlp_seg_size, dec->segment_size);
		if (longhdr->xlp_xlog_blcksz != XLOG_BLCKSZ)
			return bad_wal(page, "WAL block size is %u, expected %u", longhdr->xlp_xlog_blcksz, XLOG_BLCKSZ);
		dec->system_identifier = longhdr->xlp_sysid;
	}

	is_cont = (hdr->xlp_info & XLP_FIRST_IS_CONTRECORD) != 0;
	if (is_cont != (hdr->xlp_rem_len != 0))
		return bad_wal(page, "page header has flags %04X, but %u bytes of a continued record", hdr->xlp_info,
					   hdr->xlp_rem_len);
	if (is_cont && (hdr->xlp_info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
		return bad_wal(page, "page header has contradictory flags %04X", hdr->xlp_info);

	dec->pos += size;
	*complete = true;

	if (dec->rec_len != 0)
	{
		uint32 left = dec->rec_len - dec->rec_got;

		if ((hdr->xlp_info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
		{
			dec->overwritten = dec->rec_start;
			dec->rec_len = 0;
		}
		else if (!is_cont)
			return bad_wal(page, "page does not continue the record at %X/%X", LSN_FORMAT_ARGS(dec->rec_start));
		else if (hdr->xlp_rem_len != left)
			return bad_wal(page, "page continues a record with %u bytes, expected %u of the record at %X/%X",
						   hdr->xlp_rem_len, left, LSN_FORMAT_ARGS(dec->rec_start));
	}
	else if (dec->skip_len != 0)
	{
		if ((hdr->xlp_info & XLP_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
			dec->skip_len = 0;
		else if (hdr->xlp_rem_len != dec->skip_len)
			return bad_wal(page, "page continues a record with %u bytes, expected %u", hdr->xlp_rem_len, dec->skip_len);
	}
	else if (is_cont)
	{
		if (!dec->skip_contrecord)
			return bad_wal(page, "page continues a record, expected a new one");
		dec->skip_len = hdr->xlp_rem_len;
	}
	dec->skip_contrecord = false;
	return NULL;
}

/* The checks of ValidXLogRecordHeader() of xlogreader.c. */
static PsError *
check_record_header(const WalDecoder *dec, XLogRecPtr start, const XLogRecord *hdr)
{
	if (!RmgrIdIsValid(hdr->xl_rmid))
		return bad_wal(start, "record of invalid resource manager %u", hdr->xl_rmid);
	if (dec->prev != InvalidXLogRecPtr ? hdr->xl_prev != dec->prev : hdr->xl_prev >= start)
		return bad_wal(start, "record follows one at %X/%X, expected %X/%X", LSN_FORMAT_ARGS(hdr->xl_prev),
					   LSN_FORMAT_ARGS(dec->prev));
	return NULL;
}

/* The length of the record at "start", of which at least four bytes have arrived. */
static PsError *
check_record_len(XLogRecPtr start, uint32 len)
{
	if (len < SizeOfXLogRecord || len > WAL_MAX_RECORD)
		return bad_wal(start, "record of %u bytes, expected %u to %u", len, (uint32) SizeOfXLogRecord, WAL_MAX_RECORD);
	return NULL;
}

/*
 * Checks the header and the CRC of a whole record; crc is the sum of all bytes after its
 * header.  The record that follows an overwritten one must name it (xlogrecovery.c,
 * VerifyOverwriteContrecord()).
 */
static PsError *
check_record(WalDecoder *dec, WalRecord *rec, pg_crc32c crc)
{
	const XLogRecord *hdr = (const XLogRecord *) rec->data;

	PS_TRY(check_record_header(dec, rec->start, hdr));
	COMP_CRC32C(crc, rec->data, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	if (!EQ_CRC32C(crc, hdr->xl_crc))
		return bad_wal(rec->start, "record has checksum %08X, expected %08X", hdr->xl_crc, crc);

	if (dec->overwritten != InvalidXLogRecPtr)
	{
		WalParsed parsed;
		xl_overwrite_contrecord xlrec;

		PS_TRY(wal_parse(rec, &parsed));
		if (hdr->xl_rmid != RM_XLOG_ID || (hdr->xl_info & ~XLR_INFO_MASK) != XLOG_OVERWRITE_CONTRECORD ||
			parsed.main_data_len != sizeof(xlrec))
			return bad_wal(rec->start, "expected an overwrite-contrecord record for the incomplete record at %X/%X",
						   LSN_FORMAT_ARGS(dec->overwritten));
		memcpy(&xlrec, parsed.main_data, sizeof(xlrec));
		if (xlrec.overwritten_lsn != dec->overwritten)
			return bad_wal(rec->start, "overwrite-contrecord record is for %X/%X, expected %X/%X",
						   LSN_FORMAT_ARGS(xlrec.overwritten_lsn), LSN_FORMAT_ARGS(dec->overwritten));
		dec->overwritten = InvalidXLogRecPtr;
	}
	return NULL;
}

/* Sets what follows from a record that ends (unaligned) at "end". */
static void
finish_record(WalDecoder *dec, WalRecord *rec, XLogRecPtr end)
{
	const XLogRecord *hdr = (const XLogRecord *) rec->data;

	end = MAXALIGN64(end);
	if (hdr->xl_rmid == RM_XLOG_ID && (hdr->xl_info & ~XLR_INFO_MASK) == XLOG_SWITCH &&
		XLogSegmentOffset(end, dec->segment_size) != 0)
		end += dec->segment_size - XLogSegmentOffset(end, dec->segment_size);
	rec->end = end;
	dec->pos = dec->end = end;
	dec->prev = rec->start;
}

/* Room for "need" bytes of the record that is assembled, of at most its length. */
static void
grow_assembly(WalDecoder *dec, uint32 need)
{
	if (need <= dec->rec_size)
		return;
	/* The length is not to be believed until the CRC is checked: follow what has arrived. */
	dec->rec_size = Max(Max(need, MIN_ASSEMBLY_SIZE), (uint32) Min((uint64) dec->rec_size * 2, WAL_MAX_RECORD));
	dec->rec = pg_realloc(dec->rec, dec->rec_size);
}

/* A record begins that crosses pages. */
static void
begin_assembly(WalDecoder *dec, XLogRecPtr start, uint32 len)
{
	dec->rec_start = start;
	dec->rec_len = len;
	dec->rec_got = 0;
	dec->rec_keep = dec->contents == WAL_HEADERS ? Min(len, MIN_ASSEMBLY_SIZE) : len;
	INIT_CRC32C(dec->rec_crc);
}

/* The next n bytes of it. */
static PsError *
assemble(WalDecoder *dec, const char *data, uint32 n)
{
	uint32 header_left = dec->rec_got < SizeOfXLogRecord ? Min(n, SizeOfXLogRecord - dec->rec_got) : 0;

	if (dec->rec_got < dec->rec_keep)
	{
		uint32 kept = Min(n, dec->rec_keep - dec->rec_got);

		grow_assembly(dec, dec->rec_got + kept);
		memcpy(dec->rec + dec->rec_got, data, kept);
	}
	COMP_CRC32C(dec->rec_crc, data + header_left, n - header_left);
	dec->rec_got += n;
	if (header_left > 0 && dec->rec_got >= SizeOfXLogRecord)
	{
		const XLogRecord *header = (const XLogRecord *) dec->rec;

		PS_TRY(check_record_header(dec, dec->rec_start, header));
		if (dec->contents == WAL_NEEDED && wal_record_can_be_cut(header))
			dec->rec_keep = Min(dec->rec_len, WAL_CUT_LEN);
	}
	return NULL;
}

static PsError *
decode(WalDecoder *dec, WalRecord *rec, bool *found)
{
	for (;;)
	{
		XLogRecPtr pos;
		uint32 page_left;
		uint32 avail;
		char *data;

		if (dec->pos >= dec->fed)
			return NULL;
		if (dec->pos % XLOG_BLCKSZ == 0)
		{
			bool complete;

			PS_TRY(read_page_header(dec, &complete));
			if (!complete)
				return NULL;
			continue;
		}

		pos = dec->pos;
		page_left = XLOG_BLCKSZ - pos % XLOG_BLCKSZ;
		avail = Min(page_left, dec->fed - pos);
		data = dec->buf + (pos - dec->buf_lsn);

		if (dec->skip_len != 0)
		{
			if (dec->skip_len < page_left)
			{
				dec->pos = dec->end = MAXALIGN64(pos + dec->skip_len);
				dec->skip_len = 0;
			}
			else
			{
				dec->pos += page_left;
				dec->skip_len -= page_left;
				if (dec->skip_len == 0)
					dec->end = dec->pos;
			}
		}
		else if (dec->rec_len != 0)
		{
			/* the next fragment, as much of it as is there */
			uint32 n = Min(dec->rec_len - dec->rec_got, avail);

			PS_TRY(assemble(dec, data, n));
			dec->pos += n;
			if (dec->rec_got < dec->rec_len)
				continue;
			rec->start = dec->rec_start;
			rec->len = dec->rec_len;
			rec->cut = dec->rec_len - dec->rec_keep;
			rec->data = dec->rec;
			dec->rec_len = 0;
			PS_TRY(check_record(dec, rec, dec->rec_crc));
			finish_record(dec, rec, dec->pos);
			*found = true;
			return NULL;
		}
		else
		{
			uint32 len;
			pg_crc32c crc;

			if (avail < sizeof(uint32))
				return NULL;
			memcpy(&len, data, sizeof(uint32));
			PS_TRY(check_record_len(pos, len));
			if (len > page_left)
			{
				begin_assembly(dec, pos, len);
				continue;
			}
			if (avail < len)
				return NULL;
			rec->start = pos;
			rec->len = len;
			rec->cut = 0;
			rec->data = data;
			INIT_CRC32C(crc);
			COMP_CRC32C(crc, data + SizeOfXLogRecord, len - SizeOfXLogRecord);
			PS_TRY(check_record(dec, rec, crc));
			finish_record(dec, rec, pos + len);
			*found = true;
			return NULL;
		}
	}
}

PsError *
wal_decoder_next(WalDecoder *dec, WalRecord *rec, bool *found)
{
	*found = false;
	/* the last record is no longer in use */
	if (dec->rec_len == 0 && dec->rec_size > KEEP_ASSEMBLY_SIZE)
	{
		free(dec->rec);
		dec->rec = NULL;
		dec->rec_size = 0;
	}
	if (dec->error == NULL)
	{
		dec->error = decode(dec, rec, found);
		if (dec->error == NULL)
			return NULL;
		*found = false;
	}
	return ps_error(dec->error->sqlstate, "%s", dec->error->message);
}
