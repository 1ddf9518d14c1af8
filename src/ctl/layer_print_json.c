/*
 * layer_print_json.c
 *	  Prints the output of "layer dump" as one JSON object.
 *
 * A file may have millions of entries, so each entry is written as soon as it is
 * read, on a line of its own.  The object has these members, in this order:
 *
 *	  "file"      the path of the file
 *	  "summary"   the contents of block 0; missing if it cannot be read
 *	  "totals"    "values" by kind and codec, "entries" by kind of key, and sizes in
 *	              bytes; missing, like "entries", if the index cannot be found
 *	  "entries"   the entries to be shown; missing with a limit of 0
 *	  "problems"  damage, each with "message" and optionally "hint"; empty if the
 *	              file is not damaged
 *
 * LSNs and hexadecimal numbers are strings with the format of the text output.
 * Numbers greater than 2^63 - 1, which an undamaged summary does not contain, and
 * the system identifier are decimal strings, because many JSON readers would round
 * them.
 */
#include "ps_fe.h"

#include "storage/bufpage.h"

#include "ctl.h"
#include "json_text.h"
#include "layer_dump.h"
#include "bytes.h"

/* A temporary file with the elements of "problems" so far, of which there may be many. */
static FILE *problems;
static bool first_entry;

/* ---- members ---- */

static void
put(json_t *object, const char *name, json_t *value)
{
	if (json_object_set_new(object, name, value) != 0)
		pg_fatal("out of memory");
}

static void
put_number(json_t *object, const char *name, uint64 value)
{
	char digits[32];

	snprintf(digits, sizeof(digits), UINT64_FORMAT, value);
	put(object, name, value <= PG_INT64_MAX ? json_integer((json_int_t) value) : json_string(digits));
}

static void
put_text(json_t *object, const char *name, const char *text)
{
	put(object, name, json_text_encode(text));
}

static void
put_hex(json_t *object, const char *name, int digits, uint32 value)
{
	char text[16];

	snprintf(text, sizeof(text), "%0*X", digits, value);
	put_text(object, name, text);
}

static void
put_lsn(json_t *object, const char *name, XLogRecPtr lsn)
{
	char text[32];

	snprintf(text, sizeof(text), "%X/%08X", LSN_FORMAT_ARGS(lsn));
	put_text(object, name, text);
}

static void
put_relation(json_t *object, Oid spc, Oid db, uint32 rel, int fork)
{
	char text[64];

	snprintf(text, sizeof(text), "%u/%u/%u", spc, db, rel);
	put_text(object, "relation", text);
	put_text(object, "fork", fork <= MAX_FORKNUM ? forkNames[fork] : "?");
}

/* ---- the object ---- */

static void
print_and_free(FILE *out, json_t *value)
{
	json_dumpf(value, out, JSON_ENCODE_ANY);
	json_decref(value);
}

static void
print_begin(const char *path)
{
	printf("{\n  \"file\": ");
	print_and_free(stdout, json_text_encode(path));
}

static void
print_problem(const PsError *err)
{
	json_t *problem = json_object();

	if (problems == NULL && (problems = tmpfile()) == NULL)
		pg_fatal("could not create a temporary file: %m");
	put_text(problem, "message", err->message);
	if (err->hint != NULL)
		put_text(problem, "hint", err->hint);
	fprintf(problems, "%s\n    ", ftell(problems) > 0 ? "," : "");
	print_and_free(problems, problem);
	/* keep the order of the output and the message on standard error */
	fflush(stdout);
}

static void
print_end(void)
{
	printf(",\n  \"problems\": [");
	if (problems != NULL)
	{
		char buf[8192];
		size_t n;

		rewind(problems);
		while ((n = fread(buf, 1, sizeof(buf), problems)) > 0)
			fwrite(buf, 1, n, stdout);
		if (ferror(problems))
			pg_fatal("could not read a temporary file: %m");
		fclose(problems);
		problems = NULL;
		printf("\n  ");
	}
	printf("]\n}\n");
}

/* ---- the summary and totals ---- */

static void
print_summary(const LayerFile *file, const uint8 *block)
{
	const LayerSummary *s = &file->summary;
	json_t *summary = json_object();
	LayerInfo info;
	char name[LAYER_NAME_MAX];
	char key[PS_KEY_TEXT];
	char id[PS_ID_TEXT];

	layer_summary_info(s, &info);
	layer_name_format(&info, name);
	put_text(summary, "name", name);
	put_text(summary, "kind", s->type == LAYER_IMAGE ? "image" : "delta");
	put_number(summary, "format_version", ps_get32(block + SUMMARY_VERSION));
	put_number(summary, "block_size", ps_get32(block + SUMMARY_BLOCK_SIZE));
	put_text(summary, "tenant", ps_id_format(&s->tenant, id));
	put_text(summary, "timeline", ps_id_format(&s->timeline, id));
	put_number(summary, "number", s->number);
	if (s->type == LAYER_IMAGE)
		put_lsn(summary, "lsn", s->lsn_start);
	else
	{
		put_number(summary, "level", s->level);
		put_lsn(summary, "first_lsn", s->lsn_start);
		put_lsn(summary, "lsns_below", s->lsn_end);
	}
	put(summary, "smallest_key", s->entries ? json_string(ps_key_format(&s->key_min, key)) : json_null());
	put(summary, "greatest_key", s->entries ? json_string(ps_key_format(&s->key_max, key)) : json_null());
	put_number(summary, "entries", s->entries);
	put_text(summary, "image_codec", dump_codec_names[Min(s->image_codec, DUMP_CODECS)]);
	put_text(summary, "record_codec", dump_codec_names[Min(s->record_codec, DUMP_CODECS)]);
	put_number(summary, "dictionary_bytes", s->dict_size);
	put_hex(summary, "dictionary_checksum", 8, s->dict_crc);
	put_number(summary, "values_start", layer_values_start(s));
	put_number(summary, "values_end", s->values_end);
	put_number(summary, "index_start", s->index_start);
	put_number(summary, "index_pages", s->index_pages);
	put_number(summary, "index_leaf_pages", s->leaf_pages);
	put_number(summary, "index_levels", s->levels);
	put_number(summary, "index_root", s->root);
	put_number(summary, "file_length", s->file_size);
	put_hex(summary, "checksum", 8, ps_get32(block + SUMMARY_CRC));
	printf(",\n  \"summary\": ");
	print_and_free(stdout, summary);
}

static json_t *
value_totals(const DumpTotals *totals)
{
	json_t *list = json_array();

	for (int kind = DUMP_KINDS - 1; kind >= 0; kind--)
		for (int codec = 0; codec < DUMP_CODECS; codec++)
		{
			const DumpTotal *t = &totals->values[kind][codec];
			json_t *row;

			if (t->values == 0)
				continue;
			row = json_object();
			put_text(row, "kind", dump_kind_names[kind]);
			put_text(row, "codec", dump_codec_names[codec]);
			put_number(row, "number", t->values);
			put_number(row, "bytes", t->raw);
			put_number(row, "stored_bytes", t->stored);
			json_array_append_new(list, row);
		}
	return list;
}

static json_t *
entry_totals(const DumpTotals *totals)
{
	json_t *list = json_array();

	for (int i = 0; i < DUMP_KEY_KINDS; i++)
	{
		const DumpEntryTotal *t = &totals->entries[i];
		json_t *row;

		if (t->of_kind[VALUE_RECORD] + t->of_kind[VALUE_IMAGE] + t->of_kind[VALUE_TOMBSTONE] == 0)
			continue;
		row = json_object();
		put_text(row, "of", dump_key_names[i]);
		put_number(row, "records", t->of_kind[VALUE_RECORD]);
		put_number(row, "will_init", t->will_init);
		put_number(row, "images", t->of_kind[VALUE_IMAGE]);
		put_number(row, "tombstones", t->of_kind[VALUE_TOMBSTONE]);
		put_number(row, "shared", t->shared);
		json_array_append_new(list, row);
	}
	return list;
}

static void
print_totals(const LayerSummary *s, const DumpTotals *totals)
{
	json_t *object = json_object();

	put(object, "values", value_totals(totals));
	put(object, "entries", entry_totals(totals));
	put_number(object, "header_bytes", totals->headers);
	put_number(object, "unnamed_bytes", totals->unnamed);
	put_number(object, "index_bytes", (uint64) s->index_pages * LAYER_BLOCK_SIZE);
	put_number(object, "file_bytes", totals->length);
	printf(",\n  \"totals\": ");
	print_and_free(stdout, object);
}

/* ---- values ---- */

static void
put_record(json_t *object, const LayerValue *value)
{
	const WalParsed *parsed = &value->record.parsed;
	json_t *blocks = json_array();

	put_text(object, "rmgr", value->record.rmgr);
	put_hex(object, "info", 2, parsed->header->xl_info);
	put_number(object, "length", value->len);
	put_number(object, "xid", parsed->header->xl_xid);
	put_lsn(object, "lsn", value->record.start);
	put_lsn(object, "prev", parsed->header->xl_prev);
	for (int i = 0; i <= parsed->max_block_id; i++)
	{
		const WalBlockRef *ref = &parsed->blocks[i];
		json_t *block;

		if (!ref->in_use)
			continue;
		block = json_object();
		put_number(block, "id", i);
		put_relation(block, ref->rel.spc, ref->rel.db, ref->rel.rel, ref->fork);
		put_number(block, "block", ref->blk);
		if (ref->has_image)
		{
			put_number(block, "image_bytes", ref->bimg_len);
			put(block, "image_is_applied", json_boolean(ref->apply_image));
		}
		json_array_append_new(blocks, block);
	}
	put(object, "blocks", blocks);
}

static void
put_page(json_t *object, const LayerValue *value)
{
	const PageHeaderData *page = (const PageHeaderData *) value->data;
	bool is_new = PageIsNew((Page) page);

	put(object, "new", json_boolean(is_new));
	if (is_new)
	{
		put(object, "zeros", json_boolean(layer_value_is_zeros(value->data, value->len)));
		return;
	}
	put_lsn(object, "lsn", PageXLogRecPtrGet(page->pd_lsn));
	put_hex(object, "checksum", 4, page->pd_checksum);
	put_hex(object, "flags", 4, page->pd_flags);
	put_number(object, "lower", page->pd_lower);
	put_number(object, "upper", page->pd_upper);
	put_number(object, "special", page->pd_special);
	put_number(object, "version", PageGetPageLayoutVersion((Page) page));
	put_number(object, "line_pointers", PageGetMaxOffsetNumber((Page) page));
	put_number(object, "prune_xid", page->pd_prune_xid);
}

static void
put_relsize(json_t *object, const RelSize *size)
{
	json_t *floors = json_array();

	put_number(object, "blocks", size->nblocks);
	for (uint32 i = 0; i < size->nfloors; i++)
	{
		json_t *floor = json_object();

		put_number(floor, "from_block", size->floors[i].blk);
		put_lsn(floor, "new_since", size->floors[i].lsn);
		json_array_append_new(floors, floor);
	}
	put(object, "floors", floors);
	if (size->origin.nblocks > 0)
	{
		json_t *origin = json_object();

		put_number(origin, "blocks", size->origin.nblocks);
		put_number(origin, "tablespace", size->origin.spc);
		put_number(origin, "database", size->origin.db);
		put_lsn(origin, "lsn", size->origin.lsn);
		put(object, "origin", origin);
	}
}

static void
put_state(json_t *object, const WalState *state)
{
	put_lsn(object, "lsn", state->end);
	put_lsn(object, "last_record", state->prev);
	put_lsn(object, "last_checkpoint", state->last_checkpoint);
	put_number(object, "next_xid_epoch", EpochFromFullTransactionId(state->checkpoint.nextXid));
	put_number(object, "next_xid", XidFromFullTransactionId(state->checkpoint.nextXid));
	put_number(object, "oldest_xid", state->checkpoint.oldestXid);
	put_number(object, "next_oid", state->checkpoint.nextOid);
	put_number(object, "next_multixact", state->checkpoint.nextMulti);
	put_number(object, "next_multixact_offset", state->checkpoint.nextMultiOffset);
}

/* The member "type" determines which other members there are. */
static json_t *
value_object(const LayerValue *value)
{
	static const char *const types[] = {
		[LAYER_VALUE_NOTHING] = "none",
		[LAYER_VALUE_RECORD] = "record",
		[LAYER_VALUE_PAGE] = "page",
		[LAYER_VALUE_RELSIZE] = "size",
		[LAYER_VALUE_STATE] = "state",
		[LAYER_VALUE_CONTROL] = "control",
		[LAYER_VALUE_CONTROL_SHORT] = "bytes",
		[LAYER_VALUE_SLRU_PAGES] = "slru_segment",
		[LAYER_VALUE_REMOTE_LSN] = "origin",
		[LAYER_VALUE_TEXT] = "text",
		[LAYER_VALUE_FILE] = "file",
		[LAYER_VALUE_BYTES] = "bytes",
	};
	json_t *object = json_object();
	char digits[32];

	put_text(object, "type", types[value->type]);
	switch (value->type)
	{
		case LAYER_VALUE_NOTHING:
		case LAYER_VALUE_BYTES:
		case LAYER_VALUE_CONTROL_SHORT:
			break;
		case LAYER_VALUE_RECORD:
			put_record(object, value);
			break;
		case LAYER_VALUE_PAGE:
			put_page(object, value);
			break;
		case LAYER_VALUE_RELSIZE:
			put_relsize(object, &value->relsize);
			break;
		case LAYER_VALUE_STATE:
			put_state(object, &value->state);
			break;
		case LAYER_VALUE_CONTROL:
			snprintf(digits, sizeof(digits), UINT64_FORMAT, value->control.system_identifier);
			put_text(object, "system_identifier", digits);
			put_lsn(object, "checkpoint", value->control.checkPoint);
			break;
		case LAYER_VALUE_SLRU_PAGES:
			put_number(object, "pages", value->slru_pages);
			break;
		case LAYER_VALUE_REMOTE_LSN:
			put_lsn(object, "remote_lsn", value->remote_lsn);
			break;
		case LAYER_VALUE_TEXT:
		case LAYER_VALUE_FILE:
			put_text(object, value->text.what, value->text.text);
			if (value->type == LAYER_VALUE_FILE)
				put_number(object, "file_bytes", value->text.rest);
			break;
	}
	return object;
}

/* ---- entries ---- */

static void
print_begin_entries(void)
{
	printf(",\n  \"entries\": [");
	first_entry = true;
}

static json_t *
bytes_text(const char *data, uint32 len)
{
	char *text = pg_malloc(2 * (size_t) len + 1);
	json_t *value;

	for (uint32 i = 0; i < len; i++)
		snprintf(text + 2 * (size_t) i, 3, "%02x", (unsigned char) data[i]);
	value = json_stringn(text, 2 * (size_t) len);
	free(text);
	return value;
}

/* For a damaged value, size and contents are omitted. */
static void
print_entry(const DumpEntry *entry)
{
	const PsKey *key = entry->key;
	const ValueRef *ref = entry->ref;
	json_t *object = json_object();
	char text[PS_KEY_TEXT];

	put_text(object, "key", ps_key_format(key, text));
	if (key->kind == PS_KEY_RELBLOCK || key->kind == PS_KEY_RELSIZE || key->kind == PS_KEY_INITSIZE)
		put_relation(object, key->spc, key->db, key->rel, key->fork);
	if (key->kind == PS_KEY_RELBLOCK)
		put_number(object, "block", key->blk);
	put_lsn(object, "lsn", ref->lsn);
	put_text(object, "kind", dump_kind_names[ref->kind]);
	if (ref->kind == VALUE_RECORD)
		put(object, "will_init", json_boolean(ref->will_init));
	put(object, "shared", json_boolean(ref->shared));
	put_number(object, "offset", ref->at.offset);
	put(object, "damaged", json_boolean(entry->damaged));
	if (!entry->damaged)
	{
		put_text(object, "codec", dump_codec_names[entry->stored.codec]);
		put_number(object, "bytes", entry->stored.raw_len);
		put_number(object, "stored_bytes", entry->stored.stored_len);
		if (entry->value != NULL)
			put(object, "value", value_object(entry->value));
		if (entry->hexdump)
			put(object, "hex", bytes_text(entry->data, entry->len));
	}
	printf("%s\n    ", first_entry ? "" : ",");
	first_entry = false;
	print_and_free(stdout, object);
}

/* "problems" contains it. */
static void
print_damaged_page(uint32 page)
{
}

static void
print_end_entries(void)
{
	printf("%s]", first_entry ? "" : "\n  ");
}

const DumpPrinter dump_json_printer = {
	.begin = print_begin,
	.summary = print_summary,
	.totals = print_totals,
	.begin_entries = print_begin_entries,
	.entry = print_entry,
	.damaged_page = print_damaged_page,
	.end_entries = print_end_entries,
	.problem = print_problem,
	.end = print_end,
};
