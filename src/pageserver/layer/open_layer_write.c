/*
 * open_layer_write.c
 *	  Writes a frozen layer as a delta file.
 *
 * Records are read from the WAL and written in LSN order; then the values in
 * memory are written; then the index, sorted by key.  The layer itself must not
 * change, because readers use it at the same time.  So the offsets in the file
 * are kept in separate arrays: 24 bytes per record, 8 per value.
 *
 * Short records are not compressed here, so that ingest does not wait for it:
 * they will be when the file is merged (docs/performance.md).
 */
#include "ps_fe.h"

#include "layer/layer_writer.h"
#include "layer/open_layer_impl.h"
#include "sqlstate.h"

/* A WAL record of the layer, and where it is in the file. */
typedef struct Record
{
	XLogRecPtr start;
	uint64 offset;
	uint32 len;
	bool shared; /* several keys have it */
} Record;

typedef struct Flush
{
	DeltaWriter *writer;
	const Entry **entries; /* sorted by key */
	size_t nentries;
	Record *records; /* sorted by start, without duplicates */
	size_t nrecords;
	uint64 *value_offsets; /* of values other than records, in the order of entries and their versions */
	size_t nvalues;
} Flush;

static int
cmp_entries(const void *a, const void *b)
{
	return ps_key_cmp(&(*(const Entry *const *) a)->key, &(*(const Entry *const *) b)->key);
}

static int
cmp_records(const void *a, const void *b)
{
	XLogRecPtr x = ((const Record *) a)->start;
	XLogRecPtr y = ((const Record *) b)->start;

	return x < y ? -1 : x > y;
}

/* Lists the layer's entries by key, its records by LSN, and counts its values. */
static PsError *
collect(const OpenLayer *open, Flush *flush)
{
	size_t nkeys = 0;
	size_t n = 0;
	size_t distinct = 0;

	for (int i = 0; i < NSHARDS; i++)
		nkeys += open->shards[i].nkeys;
	flush->entries = pg_malloc((nkeys + 1) * sizeof(Entry *));
	for (int i = 0; i < NSHARDS; i++)
		for (uint32 k = 0; k < open->shards[i].nslots; k++)
			if (open->shards[i].slots[k].entry != NULL)
				flush->entries[flush->nentries++] = open->shards[i].slots[k].entry;
	qsort(flush->entries, flush->nentries, sizeof(Entry *), cmp_entries);

	for (size_t e = 0; e < flush->nentries; e++)
		for (uint32 v = 0; v < flush->entries[e]->count; v++)
		{
			if (entry_versions(flush->entries[e])[v].kind == VALUE_RECORD)
				flush->nrecords++;
			else
				flush->nvalues++;
		}
	flush->records = pg_malloc((flush->nrecords + 1) * sizeof(Record));
	flush->value_offsets = pg_malloc((flush->nvalues + 1) * sizeof(uint64));
	for (size_t e = 0; e < flush->nentries; e++)
		for (uint32 v = 0; v < flush->entries[e]->count; v++)
		{
			const Version *version = &entry_versions(flush->entries[e])[v];

			if (version->kind == VALUE_RECORD)
				flush->records[n++] = (Record) {.start = version->at.record_start, .len = version->len};
		}
	qsort(flush->records, flush->nrecords, sizeof(Record), cmp_records);
	for (size_t i = 0; i < flush->nrecords; i++)
	{
		Record *record = &flush->records[i];

		if (distinct > 0 && flush->records[distinct - 1].start == record->start)
		{
			if (flush->records[distinct - 1].len != record->len)
				return ps_error(PS_SQLSTATE_INTERNAL, "record at LSN %X/%X was added with lengths %u and %u",
								LSN_FORMAT_ARGS(record->start), flush->records[distinct - 1].len, record->len);
			flush->records[distinct - 1].shared = true;
			continue;
		}
		flush->records[distinct++] = *record;
	}
	flush->nrecords = distinct;
	return NULL;
}

static PsError *
write_records(Flush *flush, ReadRecord read_record, void *arg)
{
	char *buf = NULL;
	uint32 size = 0;
	PsError *err = NULL;

	for (size_t i = 0; i < flush->nrecords && err == NULL; i++)
	{
		Record *record = &flush->records[i];

		if (record->len > size)
		{
			size = Max(record->len, 64 * 1024);
			free(buf);
			buf = pg_malloc(size);
		}
		err = read_record(arg, record->start, record->len, buf);
		if (err == NULL)
			err = delta_writer_value(flush->writer, VALUE_RECORD, record->start, buf, record->len, &record->offset);
	}
	free(buf);
	return err;
}

static PsError *
write_values(Flush *flush)
{
	size_t n = 0;

	for (size_t e = 0; e < flush->nentries; e++)
		for (uint32 v = 0; v < flush->entries[e]->count; v++)
		{
			const Version *version = &entry_versions(flush->entries[e])[v];

			if (version->kind != VALUE_RECORD)
				PS_TRY(delta_writer_value(flush->writer, version->kind, InvalidXLogRecPtr, version->at.data,
										  version->len, &flush->value_offsets[n++]));
		}
	return NULL;
}

/*
 * Returns the record that starts there, which must exist.  Records are spread
 * nearly evenly over the WAL, so the search begins at an interpolated position:
 * bisection over millions of records would miss the CPU cache 20 times.
 */
static const Record *
find_record(const Flush *flush, XLogRecPtr start)
{
	const Record *records = flush->records;
	XLogRecPtr first = records[0].start;
	XLogRecPtr last = records[flush->nrecords - 1].start;
	double part = last == first ? 0 : (double) (start - first) / (double) (last - first);
	size_t guess = (size_t) (part * (double) (flush->nrecords - 1));
	size_t lo = guess;     /* records[lo].start <= start */
	size_t hi = guess + 1; /* hi is the end, or records[hi].start > start */

	for (size_t step = 16; records[lo].start > start; step *= 2)
	{
		hi = lo;
		lo -= Min(lo, step);
	}
	for (size_t step = 16; hi < flush->nrecords && records[hi].start <= start; step *= 2)
	{
		lo = hi;
		hi += Min(flush->nrecords - hi, step);
	}
	while (hi - lo > 1)
	{
		size_t mid = lo + (hi - lo) / 2;

		if (records[mid].start <= start)
			lo = mid;
		else
			hi = mid;
	}
	return &records[lo];
}

static PsError *
write_index(Flush *flush)
{
	size_t n = 0;

	for (size_t e = 0; e < flush->nentries; e++)
		for (uint32 v = 0; v < flush->entries[e]->count; v++)
		{
			const Entry *entry = flush->entries[e];
			const Version *version = &entry_versions(entry)[v];
			const Record *record = version->kind == VALUE_RECORD ? find_record(flush, version->at.record_start) : NULL;

			PS_TRY(delta_writer_add(flush->writer, &entry->key, version->lsn, version->kind, version->will_init,
									record != NULL && record->shared,
									record != NULL ? record->offset : flush->value_offsets[n++]));
		}
	return NULL;
}

PsError *
open_layer_write(Layer *frozen, LayerSpace *space, ReadRecord read_record, void *arg, Layer **delta)
{
	Flush flush = {0};
	PsError *err;

	if (!atomic_load_explicit(&frozen->open->frozen, memory_order_acquire))
		return ps_error(PS_SQLSTATE_INTERNAL, "open layer from LSN %X/%X must be frozen before it is written",
						LSN_FORMAT_ARGS(frozen->info.lsn_start));
	PS_GOTO(collect(frozen->open, &flush), done);
	PS_GOTO(delta_writer_create(space, 0, frozen->info.lsn_start, frozen->info.lsn_end, &flush.writer), done);
	PS_GOTO(write_records(&flush, read_record, arg), done);
	PS_GOTO(write_values(&flush), done);
	PS_GOTO(delta_writer_end_values(flush.writer), done);
	PS_GOTO(write_index(&flush), done);
	PS_GOTO(delta_writer_finish(flush.writer, delta), done);
	flush.writer = NULL;

done:
	delta_writer_abort(flush.writer);
	free(flush.entries);
	free(flush.records);
	free(flush.value_offsets);
	return err;
}
