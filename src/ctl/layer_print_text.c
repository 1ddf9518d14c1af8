/*
 * layer_print_text.c
 *	  Prints the output of "layer dump" as text.  WAL records are formatted like
 *	  the output of pg_waldump.
 */
#include "ps_fe.h"

#include "storage/bufpage.h"

#include "layer_dump.h"
#include "bytes.h"

static double
ratio(uint64 raw, uint64 stored)
{
	return stored > 0 ? (double) raw / stored : 1;
}

static void
print_nothing(void)
{
}

static void
print_begin(const char *path)
{
}

static void
print_problem(const PsError *err)
{
	/* keep the order of the output and the message on standard error */
	fflush(stdout);
}

static void
print_summary(const LayerFile *file, const uint8 *block)
{
	const LayerSummary *s = &file->summary;
	char key[PS_KEY_TEXT];
	char id[PS_ID_TEXT];

	printf("Layer file:           %s\n", file->path);
	printf("Kind:                 %s\n", s->type == LAYER_IMAGE ? "image" : "delta");
	printf("Format version:       %u\n", ps_get32(block + SUMMARY_VERSION));
	printf("Block size:           %u\n", ps_get32(block + SUMMARY_BLOCK_SIZE));
	printf("Tenant:               %s\n", ps_id_format(&s->tenant, id));
	printf("Timeline:             %s\n", ps_id_format(&s->timeline, id));
	printf("Number:               %llu\n", (unsigned long long) s->number);
	if (s->type == LAYER_IMAGE)
		printf("LSN:                  %X/%08X\n", LSN_FORMAT_ARGS(s->lsn_start));
	else
	{
		printf("Level:                %u\n", s->level);
		printf("First LSN:            %X/%08X\n", LSN_FORMAT_ARGS(s->lsn_start));
		printf("All LSNs are below:   %X/%08X\n", LSN_FORMAT_ARGS(s->lsn_end));
	}
	printf("Smallest key:         %s\n", s->entries ? ps_key_format(&s->key_min, key) : "none");
	printf("Greatest key:         %s\n", s->entries ? ps_key_format(&s->key_max, key) : "none");
	printf("Entries:              %llu\n", (unsigned long long) s->entries);
	printf("Codec of images:      %s\n", dump_codec_names[Min(s->image_codec, DUMP_CODECS)]);
	printf("Codec of records:     %s\n", dump_codec_names[Min(s->record_codec, DUMP_CODECS)]);
	printf("Dictionary:           %u bytes, checksum %08X\n", s->dict_size, s->dict_crc);
	printf("Values:               from offset %llu to %llu\n", (unsigned long long) layer_values_start(s),
		   (unsigned long long) s->values_end);
	printf("Index:                from offset %llu, %u pages, %u of them leaves, %u levels, root is page %u\n",
		   (unsigned long long) s->index_start, s->index_pages, s->leaf_pages, s->levels, s->root);
	printf("File length:          %llu\n", (unsigned long long) s->file_size);
	printf("Checksum:             %08X\n", ps_get32(block + SUMMARY_CRC));
}

static void
print_totals(const LayerSummary *s, const DumpTotals *totals)
{
	DumpTotal all = {0};

	printf("\n%-10s %-6s %12s %15s %15s %8s\n", "Values", "codec", "number", "bytes", "in the file", "ratio");
	for (int kind = DUMP_KINDS - 1; kind >= 0; kind--)
		for (int codec = 0; codec < DUMP_CODECS; codec++)
		{
			const DumpTotal *t = &totals->values[kind][codec];

			if (t->values == 0)
				continue;
			printf("%-10s %-6s %12llu %15llu %15llu %8.2f\n", dump_kind_names[kind], dump_codec_names[codec],
				   (unsigned long long) t->values, (unsigned long long) t->raw, (unsigned long long) t->stored,
				   ratio(t->raw, t->stored));
			all.values += t->values;
			all.raw += t->raw;
			all.stored += t->stored;
		}
	printf("%-10s %-6s %12llu %15llu %15llu %8.2f\n", "all", "", (unsigned long long) all.values,
		   (unsigned long long) all.raw, (unsigned long long) all.stored, ratio(all.raw, all.stored));
	printf("their headers: %llu bytes; not referenced by any entry: %llu bytes\n", (unsigned long long) totals->headers,
		   (unsigned long long) totals->unnamed);
	printf("index: %llu bytes, %.1f for each entry\n", (unsigned long long) s->index_pages * LAYER_BLOCK_SIZE,
		   s->entries ? (double) s->index_pages * LAYER_BLOCK_SIZE / s->entries : 0);
	printf("file: %llu bytes, ratio %.2f\n", (unsigned long long) totals->length, ratio(all.raw, totals->length));

	printf("\n%-22s %12s %12s %12s %12s %12s\n", "Entries of", "records", "will_init", "images",
		   "tombstones", "shared");
	for (int i = 0; i < DUMP_KEY_KINDS; i++)
	{
		const DumpEntryTotal *t = &totals->entries[i];

		if (t->of_kind[VALUE_RECORD] + t->of_kind[VALUE_IMAGE] + t->of_kind[VALUE_TOMBSTONE] > 0)
			printf("%-22s %12llu %12llu %12llu %12llu %12llu\n", dump_key_names[i],
				   (unsigned long long) t->of_kind[VALUE_RECORD], (unsigned long long) t->will_init,
				   (unsigned long long) t->of_kind[VALUE_IMAGE],
				   (unsigned long long) t->of_kind[VALUE_TOMBSTONE], (unsigned long long) t->shared);
	}
}

/* ---- values, each on an indented line ---- */

static void
print_record(const LayerValue *value)
{
	const WalParsed *parsed = &value->record.parsed;
	const XLogRecord *header = parsed->header;

	printf("    rmgr: %s, info: %02X, len: %u, tx: %u, lsn: %X/%08X, prev: %X/%08X", value->record.rmgr,
		   header->xl_info, value->len, header->xl_xid, LSN_FORMAT_ARGS(value->record.start),
		   LSN_FORMAT_ARGS(header->xl_prev));
	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		const WalBlockRef *block = &parsed->blocks[i];

		if (!block->in_use)
			continue;
		printf(", blkref #%d: rel %u/%u/%u fork %s blk %u", i, block->rel.spc, block->rel.db, block->rel.rel,
			   block->fork <= MAX_FORKNUM ? forkNames[block->fork] : "?", block->blk);
		if (block->has_image)
			printf(" (FPW%s), %u bytes", block->apply_image ? "" : " for WAL verification", block->bimg_len);
	}
	printf("\n");
}

static void
print_page(const LayerValue *value)
{
	const PageHeaderData *page = (const PageHeaderData *) value->data;

	if (PageIsNew((Page) page))
		printf("    page: new, %s\n", layer_value_is_zeros(value->data, value->len) ? "zeros" : "but not zeros");
	else
		printf("    page: LSN %X/%08X, checksum %04X, flags %04X, lower %u, upper %u, special %u, version %u, "
			   "line pointers %d, prune xid %u\n",
			   LSN_FORMAT_ARGS(PageXLogRecPtrGet(page->pd_lsn)), page->pd_checksum, page->pd_flags, page->pd_lower,
			   page->pd_upper, page->pd_special, PageGetPageLayoutVersion((Page) page),
			   (int) PageGetMaxOffsetNumber((Page) page), page->pd_prune_xid);
}

static void
print_relsize(const RelSize *size)
{
	printf("    blocks: %u", size->nblocks);
	for (uint32 i = 0; i < size->nfloors; i++)
		printf(", from block %u new since %X/%08X", size->floors[i].blk, LSN_FORMAT_ARGS(size->floors[i].lsn));
	if (size->origin.nblocks > 0)
		printf(", %u blocks begin as in %u/%u at %X/%08X", size->origin.nblocks, size->origin.spc, size->origin.db,
			   LSN_FORMAT_ARGS(size->origin.lsn));
	printf("\n");
}

static void
print_state(const WalState *state)
{
	printf("    state at: %X/%08X, last record: %X/%08X, last checkpoint: %X/%08X, "
		   "next xid: %u:%u, oldest xid: %u, next oid: %u, next multixact: %u, next multixact offset: %u\n",
		   LSN_FORMAT_ARGS(state->end), LSN_FORMAT_ARGS(state->prev), LSN_FORMAT_ARGS(state->last_checkpoint),
		   EpochFromFullTransactionId(state->checkpoint.nextXid), XidFromFullTransactionId(state->checkpoint.nextXid),
		   state->checkpoint.oldestXid, state->checkpoint.nextOid, state->checkpoint.nextMulti,
		   state->checkpoint.nextMultiOffset);
}

/* The text comes from a file; control characters must not reach the terminal. */
static void
print_text(const LayerValue *value)
{
	printf("    %s: \"", value->text.what);
	for (const char *p = value->text.text; *p != '\0'; p++)
		putchar((unsigned char) *p >= ' ' && *p != 0x7f ? *p : '?');
	printf("\"");
	if (value->type == LAYER_VALUE_FILE)
		printf(", %u bytes", value->text.rest);
	printf("\n");
}

static void
print_value(const LayerValue *value)
{
	switch (value->type)
	{
		case LAYER_VALUE_NOTHING:
			break;
		case LAYER_VALUE_RECORD:
			print_record(value);
			break;
		case LAYER_VALUE_PAGE:
			print_page(value);
			break;
		case LAYER_VALUE_RELSIZE:
			print_relsize(&value->relsize);
			break;
		case LAYER_VALUE_STATE:
			print_state(&value->state);
			break;
		case LAYER_VALUE_CONTROL:
			printf("    system identifier: %llu, checkpoint: %X/%08X\n",
				   (unsigned long long) value->control.system_identifier, LSN_FORMAT_ARGS(value->control.checkPoint));
			break;
		case LAYER_VALUE_CONTROL_SHORT:
			printf("    control file: %u bytes, too short\n", value->len);
			break;
		case LAYER_VALUE_SLRU_PAGES:
			printf("    pages: %u\n", value->slru_pages);
			break;
		case LAYER_VALUE_REMOTE_LSN:
			printf("    remote LSN: %X/%08X\n", LSN_FORMAT_ARGS(value->remote_lsn));
			break;
		case LAYER_VALUE_TEXT:
		case LAYER_VALUE_FILE:
			print_text(value);
			break;
		case LAYER_VALUE_BYTES:
			printf("    %u bytes\n", value->len);
			break;
	}
}

/* Repeated lines are replaced with "*", like hexdump -C does. */
static void
print_hexdump(const char *data, uint32 len)
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

/* ---- entries ---- */

static void
begin_entries(void)
{
	printf("\n");
}

static void
print_entry(const DumpEntry *entry)
{
	const ValueRef *ref = entry->ref;
	char text[PS_KEY_TEXT];

	printf("%s, lsn: %X/%08X, %s%s%s, offset: %llu, ", ps_key_format(entry->key, text), LSN_FORMAT_ARGS(ref->lsn),
		   dump_kind_names[ref->kind], ref->kind == VALUE_RECORD && ref->will_init ? ", will_init" : "",
		   ref->shared ? ", shared" : "", (unsigned long long) ref->at.offset);
	if (entry->damaged)
	{
		printf("DAMAGED\n");
		return;
	}
	printf("stored: %u", entry->stored.stored_len);
	if (entry->stored.codec != LAYER_CODEC_NONE)
		printf(" (%s of %u)", dump_codec_names[entry->stored.codec], entry->stored.raw_len);
	printf("\n");
	if (entry->value != NULL)
		print_value(entry->value);
	if (entry->hexdump)
		print_hexdump(entry->data, entry->len);
}

static void
print_damaged_page(uint32 page)
{
	printf("(index page %u is DAMAGED)\n", page);
}

const DumpPrinter dump_text_printer = {
	.begin = print_begin,
	.summary = print_summary,
	.totals = print_totals,
	.begin_entries = begin_entries,
	.entry = print_entry,
	.damaged_page = print_damaged_page,
	.end_entries = print_nothing,
	.problem = print_problem,
	.end = print_nothing,
};
