/*
 * wal_gen.c
 *	  Generates a WAL stream: see wal_gen.h.
 */
#include "ps_fe.h"

#include "wal_gen.h"

void
gen_init(Gen *gen, XLogRecPtr start, uint32 segment_size)
{
	gen->segment_size = segment_size;
	gen->start = gen->pos = start;
	gen->prev = InvalidXLogRecPtr;
	gen->n = 0;
	gen->records = pg_malloc(GEN_MAX_RECORDS * sizeof(WalRecord));
	initStringInfo(&gen->bytes);
}

void
gen_free(Gen *gen)
{
	for (int i = 0; i < gen->n; i++)
		free((char *) gen->records[i].data);
	free(gen->records);
	pfree(gen->bytes.data);
}

void
gen_page_header(Gen *gen, uint16 info, uint32 rem_len)
{
	XLogLongPageHeaderData hdr = {0};
	bool is_long = gen->pos % gen->segment_size == 0;

	hdr.std.xlp_magic = XLOG_PAGE_MAGIC;
	hdr.std.xlp_info = info | (is_long ? XLP_LONG_HEADER : 0) | (rem_len > 0 ? XLP_FIRST_IS_CONTRECORD : 0);
	hdr.std.xlp_tli = 1;
	hdr.std.xlp_pageaddr = gen->pos;
	hdr.std.xlp_rem_len = rem_len;
	hdr.xlp_sysid = GEN_SYSID;
	hdr.xlp_seg_size = gen->segment_size;
	hdr.xlp_xlog_blcksz = XLOG_BLCKSZ;
	appendBinaryStringInfo(&gen->bytes, (char *) &hdr, is_long ? SizeOfXLogLongPHD : SizeOfXLogShortPHD);
	gen->pos += is_long ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
}

void
gen_zeros(Gen *gen, size_t n)
{
	enlargeStringInfo(&gen->bytes, n);
	memset(gen->bytes.data + gen->bytes.len, 0, n);
	gen->bytes.len += n;
	gen->pos += n;
}

/* A whole record: header, then "body" (block headers, data headers, data); malloc'd. */
char *
gen_make_record(XLogRecPtr prev, RmgrId rmid, uint8 info, TransactionId xid, const void *body, uint32 len)
{
	char *rec = pg_malloc0(SizeOfXLogRecord + len);
	XLogRecord *hdr = (XLogRecord *) rec;
	pg_crc32c crc;

	hdr->xl_tot_len = SizeOfXLogRecord + len;
	hdr->xl_xid = xid;
	hdr->xl_prev = prev;
	hdr->xl_info = info;
	hdr->xl_rmid = rmid;
	if (len > 0)
		memcpy(rec + SizeOfXLogRecord, body, len);
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, rec + SizeOfXLogRecord, len);
	COMP_CRC32C(crc, rec, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	hdr->xl_crc = crc;
	return rec;
}

/* Appends a record; of it only the first "keep" bytes (a page boundary must follow) if that is less. */
void
gen_append(Gen *gen, const char *rec, uint32 len, uint32 keep)
{
	uint32 done = 0;

	while (done < Min(len, keep))
	{
		uint32 n;

		if (gen->pos % XLOG_BLCKSZ == 0)
			gen_page_header(gen, 0, done == 0 ? 0 : len - done);
		n = Min(len - done, XLOG_BLCKSZ - gen->pos % XLOG_BLCKSZ);
		appendBinaryStringInfo(&gen->bytes, rec + done, n);
		gen->pos += n;
		done += n;
	}
	gen_zeros(gen, MAXALIGN64(gen->pos) - gen->pos);
}

void
gen_record(Gen *gen, RmgrId rmid, uint8 info, TransactionId xid, const void *body, uint32 len)
{
	XLogRecPtr start = wal_record_start_after(gen->pos, gen->segment_size);
	char *rec = gen_make_record(gen->prev, rmid, info, xid, body, len);

	gen_append(gen, rec, SizeOfXLogRecord + len, UINT32_MAX);
	if (rmid == RM_XLOG_ID && info == XLOG_SWITCH)
	{
		while (gen->pos % gen->segment_size != 0)
			gen_zeros(gen, Min(XLOG_BLCKSZ, gen->segment_size - gen->pos % gen->segment_size));
	}
	gen->records[gen->n++] = (WalRecord) {.start = start, .end = gen->pos, .len = SizeOfXLogRecord + len, .data = rec};
	gen->prev = start;
}

/* A body that is nothing but main data; malloc'd. */
char *
gen_main_data(const void *data, uint32 len, uint32 *body_len)
{
	char *body = pg_malloc(len + 5);
	int head;

	if (len < 256)
	{
		body[0] = (char) XLR_BLOCK_ID_DATA_SHORT;
		body[1] = len;
		head = 2;
	}
	else
	{
		body[0] = (char) XLR_BLOCK_ID_DATA_LONG;
		memcpy(body + 1, &len, 4);
		head = 5;
	}
	memcpy(body + head, data, len);
	*body_len = head + len;
	return body;
}

/* A record with len bytes of random main data, which no redo would understand. */
void
gen_random_record(Gen *gen, uint32 len)
{
	char *data = pg_malloc(len + 1);
	uint32 body_len;
	char *body;

	for (uint32 i = 0; i < len; i++)
		data[i] = random();
	body = gen_main_data(data, len, &body_len);
	gen_record(gen, RM_LOGICALMSG_ID, 0, random(), body, body_len);
	free(data);
	free(body);
}

/* Seeds random() and prints the seed; TEST_SEED in the environment repeats a run. */
void
gen_seed(void)
{
	const char *env = getenv("TEST_SEED");
	unsigned seed = env != NULL ? strtoul(env, NULL, 10) : (unsigned) time(NULL) ^ (getpid() << 16);

	srandom(seed);
	print_message("TEST_SEED=%u\n", seed);
}
