/*
 * cmd_layer_dump.c
 *	  The command layer dump, which shows the contents of a layer file.  The
 *	  store need not be running.
 *
 * The whole file is read in three passes: the index, the values in file order and,
 * for the entries to be shown, the entries by key.  So all damage is found, whatever
 * is shown.  Damage is reported on standard error, and the command continues after
 * it.  A printer shows the contents as text or as JSON.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "layer_dump.h"
#include "bytes.h"

/* A value to which an entry points. */
typedef struct DumpPlace
{
	uint64 offset;
	uint8 kind;
	bool shared;
} DumpPlace;

typedef struct Dump
{
	const Options *options;
	const DumpPrinter *printer;
	LayerFile file;
	uint64 problems;

	/* what is shown */
	bool has_rel;
	PsRel rel;
	int fork; /* -1: all forks */
	bool has_block;
	BlockNumber block;
	uint64 limit;

	/* what was found */
	DumpPlace *places;
	size_t nplaces;
	size_t places_cap;
	DumpTotals totals;
} Dump;

/* Reports damage (NULL: there is none) and frees the error. */
static void
report(Dump *dump, PsError *err)
{
	if (err == NULL)
		return;
	dump->printer->problem(err);
	pg_log_error("%s", err->message);
	/* all errors about damage have the same hint */
	if (err->hint != NULL && dump->problems == 0)
		pg_log_error_hint("%s", err->hint);
	dump->problems++;
	ps_error_free(err);
}

/* ---- the summary ---- */

/* Reads and shows the summary in block 0; returns false if the rest of the file cannot be read by it. */
static bool
dump_summary(Dump *dump)
{
	LayerFile *file = &dump->file;
	LayerSummary *s = &file->summary;
	uint8 block[LAYER_BLOCK_SIZE];
	PsError *err = layer_file_read(file, 0, block, sizeof(block));

	if (err == NULL)
		err = layer_summary_decode(file->path, block, s);
	report(dump, err);
	if (s->type == LAYER_OPEN)
		return false;
	dump->printer->summary(file, block);
	return layer_summary_is_sane(s);
}

/* Checks name and length of the file, its padding and its dictionary against the summary. */
static void
check_file(Dump *dump)
{
	LayerFile *file = &dump->file;
	const char *slash = strrchr(file->path, '/');
	LayerInfo info;
	char name[LAYER_NAME_MAX];
	const LayerDict *dict;

	layer_summary_info(&file->summary, &info);
	layer_name_format(&info, name);
	if (strcmp(slash ? slash + 1 : file->path, name) != 0)
		pg_log_warning("according to its summary, the name of the file should be \"%s\"", name);
	if (dump->totals.length != file->summary.file_size)
		report(dump, layer_damaged(file->path, dump->totals.length,
								   "the file ends here, expected it to have %llu bytes",
								   (unsigned long long) file->summary.file_size));
	if (dump->totals.length >= file->summary.index_start)
		report(dump, layer_file_check_padding(file));
	report(dump, layer_dict_of_file(file, &dict));
}

/* ---- first pass: the index ---- */

/* Returns key and LSN of an entry, encoded so that memcmp() orders them. */
static void
entry_key(const BtreePos *pos, uint8 bytes[DELTA_KEY_SIZE])
{
	memset(bytes, 0, DELTA_KEY_SIZE);
	btree_key(pos, bytes);
}

static XLogRecPtr
entry_lsn(const Dump *dump, const uint8 bytes[DELTA_KEY_SIZE])
{
	return dump->file.summary.type == LAYER_DELTA ? ps_get64(bytes + PS_KEY_SIZE) : dump->file.summary.lsn_start;
}

static PsError *
check_entry(Dump *dump, const BtreePos *pos, const PsKey *key, XLogRecPtr lsn)
{
	const LayerSummary *s = &dump->file.summary;
	char text[PS_KEY_TEXT];

	if (ps_key_cmp(key, &s->key_min) < 0 || ps_key_cmp(key, &s->key_max) > 0 || lsn < s->lsn_start || lsn >= s->lsn_end)
		return layer_damaged(dump->file.path, btree_pos_offset(pos),
							 "entry %d of index page %u is for %s at LSN %X/%X, outside the range of the summary",
							 pos->entry, pos->page, ps_key_format(key, text), LSN_FORMAT_ARGS(lsn));
	return NULL;
}

/* Reads the leaf pages: counts the entries and collects the values to which they point. */
static void
scan_leaves(Dump *dump)
{
	const LayerSummary *s = &dump->file.summary;
	uint8 last[DELTA_KEY_SIZE] = {0};
	uint64 count = 0;
	bool complete = true;

	for (uint32 page = 0; page < s->leaf_pages; page++)
	{
		BtreePos pos;
		PsError *err = btree_load_page(&dump->file.index, page, 0, &pos);

		if (err != NULL)
		{
			report(dump, err);
			complete = false;
			continue;
		}
		for (; pos.entry < pos.count; pos.entry++)
		{
			uint8 bytes[DELTA_KEY_SIZE];
			PsKey key;
			ValueRef ref;
			DumpEntryTotal *total;

			entry_key(&pos, bytes);
			ps_key_decode(bytes, &key);
			count++;
			if (memcmp(last, bytes, DELTA_KEY_SIZE) >= 0)
				report(dump, layer_damaged(dump->file.path, btree_pos_offset(&pos),
										   "entry %d of index page %u is not greater than the previous entry",
										   pos.entry, page));
			memcpy(last, bytes, DELTA_KEY_SIZE);
			report(dump, check_entry(dump, &pos, &key, entry_lsn(dump, bytes)));
			err = btree_entry_ref(&pos, entry_lsn(dump, bytes), &ref);
			if (err != NULL)
			{
				report(dump, err);
				continue;
			}
			total = &dump->totals.entries[key.kind <= PS_KEY_AUX ? key.kind : 0];
			total->of_kind[ref.kind]++;
			total->will_init += ref.kind == VALUE_RECORD && ref.will_init;
			total->shared += ref.shared;
			if (dump->nplaces == dump->places_cap)
			{
				dump->places_cap = Max(1024, dump->places_cap * 2);
				dump->places = pg_realloc(dump->places, dump->places_cap * sizeof(DumpPlace));
			}
			dump->places[dump->nplaces].offset = ref.at.offset;
			dump->places[dump->nplaces].kind = ref.kind;
			dump->places[dump->nplaces++].shared = ref.shared;
		}
	}
	if (complete && count != s->entries)
		report(dump, layer_damaged(dump->file.path, s->index_start,
								   "the index has %llu entries, expected %llu according to the summary",
								   (unsigned long long) count, (unsigned long long) s->entries));
}

/*
 * Checks a page above the leaves.  Each level is a run of pages, whose entries point
 * to all pages of the level below in order, each with the first key of that page.
 */
static PsError *
check_inner_page(Dump *dump, uint32 page, int level, uint32 *next_child)
{
	const Btree *tree = &dump->file.index;
	BtreePos pos;

	PS_TRY(btree_load_page(tree, page, level, &pos));
	for (; pos.entry < pos.count; pos.entry++, (*next_child)++)
	{
		uint8 key[DELTA_KEY_SIZE];
		uint8 first[DELTA_KEY_SIZE];
		BtreePos child;

		if (btree_value(&pos) != *next_child)
			return layer_damaged(tree->file->path, btree_pos_offset(&pos),
								 "entry %d of index page %u points to page %llu, expected %u", pos.entry, page,
								 (unsigned long long) btree_value(&pos), *next_child);
		PS_TRY(btree_load_page(tree, *next_child, level - 1, &child));
		entry_key(&pos, key);
		entry_key(&child, first);
		if (memcmp(key, first, DELTA_KEY_SIZE) != 0)
			return layer_damaged(tree->file->path, btree_pos_offset(&pos),
								 "entry %d of index page %u does not have the first key of page %u",
								 pos.entry, page, *next_child);
	}
	return NULL;
}

static void
check_inner_pages(Dump *dump)
{
	const LayerSummary *s = &dump->file.summary;
	uint32 next_child = 0;
	uint32 level_start = s->leaf_pages;
	int level = 1;
	uint64 problems = dump->problems;

	for (uint32 page = s->leaf_pages; page < s->index_pages && dump->problems == problems; page++)
	{
		if (next_child == level_start)
		{
			level_start = page;
			level++;
		}
		report(dump, check_inner_page(dump, page, level, &next_child));
	}
	if (dump->problems == problems && s->levels > 1 && (level != (int) s->levels - 1 || next_child != s->root))
		report(dump, layer_damaged(dump->file.path, s->index_start,
								   "the last page of the index is not its root, page %u at level %u",
								   s->root, s->levels - 1));
}

/* ---- second pass: the values ---- */

static int
compare_places(const void *a, const void *b)
{
	const DumpPlace *p = a;
	const DumpPlace *q = b;

	return p->offset < q->offset ? -1 : p->offset > q->offset;
}

static void
scan_values(Dump *dump)
{
	const char *path = dump->file.path;
	uint64 end = layer_values_start(&dump->file.summary); /* of the previous value */
	bool damaged = false;                                 /* the previous value is damaged, so its end is unknown */
	StringInfoData buf;

	initStringInfo(&buf);
	qsort(dump->places, dump->nplaces, sizeof(DumpPlace), compare_places);
	for (size_t i = 0; i < dump->nplaces; i++)
	{
		DumpPlace *place = &dump->places[i];
		StoredValue stored = {0};
		DumpTotal *total;
		PsError *err;

		if (i > 0 && place->offset == place[-1].offset)
		{
			if (!place->shared || !place[-1].shared || place->kind != place[-1].kind)
				report(dump, layer_damaged(path, place->offset,
										   "several entries point to the value, but not all as a shared value "
										   "of the same kind"));
			continue;
		}
		if (!damaged && place->offset < end)
			report(dump, layer_damaged(path, place->offset, "a value begins here, within the previous value"));
		if (!damaged && place->offset > end)
			dump->totals.unnamed += place->offset - end;
		err = blob_read(&dump->file, place->offset, place->kind, &buf, &stored);
		damaged = err != NULL;
		if (err != NULL)
		{
			report(dump, err);
			continue;
		}
		end = place->offset + stored.size;
		dump->totals.headers += stored.header_size;
		total = &dump->totals.values[place->kind][stored.codec];
		total->values++;
		total->raw += stored.raw_len;
		total->stored += stored.stored_len;
	}
	if (!damaged && end < dump->file.summary.values_end)
		dump->totals.unnamed += dump->file.summary.values_end - end;
	free(buf.data);
}

/* ---- third pass: the entries to be shown ---- */

static bool
is_shown(const Dump *dump, const PsKey *key)
{
	if (dump->has_rel &&
		((key->kind != PS_KEY_RELBLOCK && key->kind != PS_KEY_RELSIZE && key->kind != PS_KEY_INITSIZE) ||
		 key->spc != dump->rel.spc || key->db != dump->rel.db || key->rel != dump->rel.rel))
		return false;
	if (dump->fork >= 0 && key->fork != dump->fork)
		return false;
	return !dump->has_block || (key->kind == PS_KEY_RELBLOCK && key->blk == dump->block);
}

/* Shows one entry and, if requested, its value.  Damage was reported by the previous passes. */
static void
show_entry(Dump *dump, const PsKey *key, const ValueRef *ref, StringInfo buf)
{
	DumpEntry entry = {.key = key, .ref = ref, .hexdump = dump->options->hexdump};
	LayerValue value;
	PsError *err = blob_read(&dump->file, ref->at.offset, ref->kind, buf, &entry.stored);

	value.type = LAYER_VALUE_NOTHING;
	entry.damaged = err != NULL;
	ps_error_free(err);
	err = NULL;
	if (!entry.damaged)
	{
		entry.data = buf->data;
		entry.len = buf->len;
		if (dump->options->values)
		{
			err = layer_value_decode(key, ref->kind, buf->data, buf->len, entry.stored.record_start, &value);
			entry.value = err == NULL ? &value : NULL;
		}
	}
	dump->printer->entry(&entry);
	layer_value_free(&value);
	if (err != NULL)
		report(dump, ps_error_context(err, "value at offset %llu of layer file \"%s\"",
									  (unsigned long long) ref->at.offset, dump->file.path));
}

static void
show_entries(Dump *dump)
{
	uint64 shown = 0;
	StringInfoData buf;

	initStringInfo(&buf);
	dump->printer->begin_entries();
	for (uint32 page = 0; page < dump->file.summary.leaf_pages; page++)
	{
		BtreePos pos;
		PsError *err = btree_load_page(&dump->file.index, page, 0, &pos);

		if (err != NULL)
		{
			dump->printer->damaged_page(page);
			ps_error_free(err);
			continue;
		}
		for (; pos.entry < pos.count; pos.entry++)
		{
			uint8 bytes[DELTA_KEY_SIZE];
			PsKey key;
			ValueRef ref;

			entry_key(&pos, bytes);
			ps_key_decode(bytes, &key);
			err = btree_entry_ref(&pos, entry_lsn(dump, bytes), &ref);
			if (err != NULL || !is_shown(dump, &key))
			{
				ps_error_free(err);
				continue;
			}
			if (shown++ >= dump->limit)
				goto done;
			show_entry(dump, &key, &ref, &buf);
		}
	}
done:
	dump->printer->end_entries();
	free(buf.data);
}

/* ---- the command ---- */

static uint64
parse_number(const char *what, const char *text, uint64 max)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (strspn(text, "0123456789") != strlen(text) || end == text || errno != 0 || value > max)
		pg_fatal("invalid %s \"%s\": must be a number from 0 to %llu", what, text, (unsigned long long) max);
	return value;
}

static void
parse_filters(Dump *dump, const Options *options)
{
	char rest;

	dump->options = options;
	dump->printer = options->json ? &dump_json_printer : &dump_text_printer;
	dump->fork = -1;
	dump->limit = options->limit ? parse_number("limit", options->limit, PG_UINT64_MAX - 1) : PG_UINT64_MAX;
	if (options->relation != NULL)
	{
		dump->has_rel = true;
		if (sscanf(options->relation, "%u/%u/%u%c", &dump->rel.spc, &dump->rel.db, &dump->rel.rel, &rest) != 3)
			pg_fatal("invalid relation \"%s\": must be TABLESPACE/DATABASE/RELFILENODE, for example 1663/5/16384",
					 options->relation);
	}
	if (options->fork != NULL)
	{
		dump->fork = forkname_to_number(options->fork);
		if (dump->fork == InvalidForkNumber)
			pg_fatal("invalid fork \"%s\": must be main, fsm, vm or init", options->fork);
	}
	if (options->block != NULL)
	{
		dump->has_block = true;
		dump->block = (BlockNumber) parse_number("block", options->block, MaxBlockNumber);
	}
	if ((dump->fork >= 0 || dump->has_block) && !dump->has_rel)
	{
		pg_log_error("options --fork and --block require --relation");
		pg_log_error_hint("Specify the relation with --relation=TABLESPACE/DATABASE/RELFILENODE.");
		exit(1);
	}
}

int
cmd_layer_dump(const Options *options)
{
	Dump dump = {0};
	LayerFile *file = &dump.file;
	struct stat st;
	PsError *err;

	parse_filters(&dump, options);
	file->path = options->args[0];
	file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
	if (file->fd < 0 || fstat(file->fd, &st) != 0)
		pg_fatal("could not open layer file \"%s\": %m", file->path);
	if (!S_ISREG(st.st_mode))
		pg_fatal("\"%s\" is not a regular file", file->path);
	dump.totals.length = (uint64) st.st_size;
	dump.printer->begin(file->path);
	if (dump_summary(&dump))
	{
		check_file(&dump);
		err = btree_open(&file->index, file);
		report(&dump, err);
		if (err == NULL)
		{
			scan_leaves(&dump);
			check_inner_pages(&dump);
			scan_values(&dump);
			dump.printer->totals(&file->summary, &dump.totals);
			if (dump.limit > 0)
				show_entries(&dump);
		}
		btree_close(&file->index);
		free(dump.places);
	}
	close(file->fd);
	dump.printer->end();
	if (dump.problems > 0)
	{
		fflush(stdout);
		pg_log_error("layer file \"%s\" is damaged in %llu places", file->path, (unsigned long long) dump.problems);
	}
	return dump.problems > 0 ? 1 : 0;
}
