/*
 * layer_value.c
 *	  Values of a layer file for a person: what a record, a page or a small
 *	  thing of the store has in it, on one line.
 */
#include "ps_fe.h"

#include "access/rmgr.h"
#include "common/relpath.h"
#include "storage/bufpage.h"

#include "layer_dump.h"
#include "bytes.h"
#include "sqlstate.h"
#include "pg/relsize.h"
#include "wal/wal.h"

#define PG_RMGR(symname, name, ...) name,
static const char *const rmgr_names[] = {
#include "access/rmgrlist.h"
};

#undef PG_RMGR

/* In the manner of pg_waldump. */
static PsError *
describe_record(const char *data, uint32 len, XLogRecPtr start)
{
	WalRecord rec = {.start = start, .len = len, .data = data};
	WalParsed parsed;
	const XLogRecord *header = (const XLogRecord *) data;

	if (len < SizeOfXLogRecord)
		return ps_error(PS_SQLSTATE_CORRUPTED, "a WAL record has %u bytes, less than its header", len);
	PS_TRY(wal_parse(&rec, &parsed));
	if (header->xl_rmid < lengthof(rmgr_names))
		printf("    rmgr: %s", rmgr_names[header->xl_rmid]);
	else
		printf("    rmgr: custom%03u", header->xl_rmid);
	printf(", info: %02X, len: %u, tx: %u, lsn: %X/%08X, prev: %X/%08X", header->xl_info, len, header->xl_xid,
		   LSN_FORMAT_ARGS(start), LSN_FORMAT_ARGS(header->xl_prev));
	for (int i = 0; i <= parsed.max_block_id; i++)
	{
		const WalBlockRef *block = &parsed.blocks[i];

		if (!block->in_use)
			continue;
		printf(", blkref #%d: rel %u/%u/%u fork %s blk %u", i, block->rel.spc, block->rel.db, block->rel.rel,
			   block->fork <= MAX_FORKNUM ? forkNames[block->fork] : "?", block->blk);
		if (block->has_image)
			printf(" (FPW%s), %u bytes", block->apply_image ? "" : " for WAL verification", block->bimg_len);
	}
	printf("\n");
	return NULL;
}

static PsError *
describe_page(const char *data, uint32 len)
{
	const PageHeaderData *page = (const PageHeaderData *) data;

	if (len != BLCKSZ)
		return ps_error(PS_SQLSTATE_CORRUPTED, "a page has %u bytes, expected %d", len, BLCKSZ);
	if (PageIsNew((Page) page))
		printf("    page: new, %s\n", data[0] == 0 && memcmp(data, data + 1, BLCKSZ - 1) == 0 ? "zeros" : "but not zeros");
	else
		printf("    page: LSN %X/%08X, checksum %04X, flags %04X, lower %u, upper %u, special %u, version %u, line pointers %d, prune xid %u\n",
			   LSN_FORMAT_ARGS(PageXLogRecPtrGet(page->pd_lsn)), page->pd_checksum, page->pd_flags, page->pd_lower,
			   page->pd_upper, page->pd_special, PageGetPageLayoutVersion((Page) page),
			   (int) PageGetMaxOffsetNumber((Page) page), page->pd_prune_xid);
	return NULL;
}

static PsError *
describe_relsize(const char *data, uint32 len)
{
	RelSize size = {0};

	PS_TRY(relsize_decode(data, len, &size));
	printf("    blocks: %u", size.nblocks);
	for (uint32 i = 0; i < size.nfloors; i++)
		printf(", from block %u new since %X/%08X", size.floors[i].blk, LSN_FORMAT_ARGS(size.floors[i].lsn));
	if (size.origin.nblocks > 0)
		printf(", %u blocks begin as in %u/%u at %X/%08X", size.origin.nblocks, size.origin.spc, size.origin.db,
			   LSN_FORMAT_ARGS(size.origin.lsn));
	printf("\n");
	relsize_free(&size);
	return NULL;
}

static PsError *
describe_state(const char *data, uint32 len)
{
	WalState state;

	PS_TRY(wal_state_decode(data, len, &state));
	printf("    state at: %X/%08X, last record: %X/%08X, last checkpoint: %X/%08X, next xid: %u:%u, oldest xid: %u, next oid: %u, next multixact: %u, next multixact offset: %u\n",
		   LSN_FORMAT_ARGS(state.end), LSN_FORMAT_ARGS(state.prev), LSN_FORMAT_ARGS(state.last_checkpoint),
		   EpochFromFullTransactionId(state.checkpoint.nextXid), XidFromFullTransactionId(state.checkpoint.nextXid),
		   state.checkpoint.oldestXid, state.checkpoint.nextOid, state.checkpoint.nextMulti,
		   state.checkpoint.nextMultiOffset);
	return NULL;
}

static void
describe_control(const char *data, uint32 len)
{
	ControlFileData control;

	if (len < sizeof(control))
	{
		printf("    control file: %u bytes, too short\n", len);
		return;
	}
	memcpy(&control, data, sizeof(control));
	printf("    system identifier: %llu, checkpoint: %X/%08X\n", (unsigned long long) control.system_identifier,
		   LSN_FORMAT_ARGS(control.checkPoint));
}

/* A text that came from a file: nothing of it reaches a terminal but letters. */
static void
print_text(const char *what, const char *data, uint32 len)
{
	printf("    %s: \"", what);
	for (uint32 i = 0; i < len && data[i] != '\0' && data[i] != '\n'; i++)
		putchar((unsigned char) data[i] >= ' ' && data[i] != 0x7f ? data[i] : '?');
	printf("\"");
}

PsError *
describe_value(const PsKey *key, ValueKind kind, const char *data, uint32 len, XLogRecPtr record_start)
{
	if (kind == VALUE_TOMBSTONE)
		return NULL;
	if (kind == VALUE_RECORD)
		return describe_record(data, len, record_start);
	switch (key->kind)
	{
		case PS_KEY_RELBLOCK:
			return describe_page(data, len);
		case PS_KEY_RELSIZE:
		case PS_KEY_INITSIZE:
			return describe_relsize(data, len);
		case PS_KEY_STATE:
			return describe_state(data, len);
		case PS_KEY_CONTROL:
			describe_control(data, len);
			return NULL;
		case PS_KEY_SLRU_SEGMENT:
			if (len == 4)
				printf("    pages: %u\n", ps_get32(data));
			return NULL;
		case PS_KEY_ORIGIN:
			if (len == 8)
				printf("    remote LSN: %X/%08X\n", LSN_FORMAT_ARGS((XLogRecPtr) ps_get64(data)));
			return NULL;
		case PS_KEY_DATABASE:
			print_text("version", data, len);
			break;
		case PS_KEY_TABLESPACE:
			print_text("location", data, len);
			break;
		case PS_KEY_AUX:
			print_text("file", data, len);
			printf(", %u bytes", len - (uint32) Min(len, strnlen(data, len) + 1));
			break;
		default:
			printf("    %u bytes", len);
			break;
	}
	printf("\n");
	return NULL;
}

/* Lines that repeat the one before are left out, as hexdump -C does. */
void
hexdump_value(const char *data, uint32 len)
{
	bool skipping = false;

	for (uint32 at = 0; at < len; at += 16)
	{
		uint32 n = Min(16, len - at);

		if (at > 0 && n == 16 && memcmp(data + at, data + at - 16, 16) == 0)
		{
			if (!skipping)
				printf("    *\n");
			skipping = true;
			continue;
		}
		skipping = false;
		printf("    %06x ", at);
		for (uint32 i = 0; i < 16; i++)
			if (i < n)
				printf(" %02x", (unsigned char) data[at + i]);
			else
				printf("   ");
		printf("  |");
		for (uint32 i = 0; i < n; i++)
			putchar(data[at + i] >= ' ' && data[at + i] < 0x7f ? data[at + i] : '.');
		printf("|\n");
	}
}
