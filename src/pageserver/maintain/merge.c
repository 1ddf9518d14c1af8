/*
 * merge.c
 *	  Merges delta files into delta files: see merge.h.
 *
 * The entries of each key are visited twice, in all files together: first to determine
 * which are needed (retention.h), then to copy those.  Values are copied as they are
 * stored.  A record with several keys is copied once for each output file; where it was
 * copied to is remembered as far as memory allows.
 *
 * An output file that is large enough ends after a key.  A key whose versions alone are
 * larger than a file gets files of its own, divided by LSN.
 */
#include "ps_fe.h"

#include "common/hashfn.h"
#include "common/logging.h"

#include "layer/layer_merge.h"
#include "layer/layer_writer.h"
#include "maintain/merge.h"
#include "sqlstate.h"

/* Entries between two checks whether to stop. */
#define ENTRIES_PER_CHECK 4096

/* Where a value that several entries share was copied to. */
typedef struct SharedKey
{
	const Layer *layer;
	uint64 offset;
} SharedKey;

typedef struct SharedEntry
{
	SharedKey key;
	uint64 copied_to;
	char status;
} SharedEntry;

#define SH_PREFIX          shared
#define SH_ELEMENT_TYPE    SharedEntry
#define SH_KEY_TYPE        SharedKey
#define SH_KEY             key
#define SH_HASH_KEY(tb, k) hash_bytes((const unsigned char *) &(k), sizeof(k))
#define SH_EQUAL(tb, a, b) ((a).layer == (b).layer && (a).offset == (b).offset)
#define SH_SCOPE           static inline
#define SH_RAW_ALLOCATOR   pg_malloc0
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

typedef struct Merge
{
	const MergeJob *job;
	MergeResult *result;
	const Layer **inputs; /* sorted by address */
	XLogRecPtr lsn_start; /* of all inputs together */
	XLogRecPtr lsn_end;
	double entry_bytes; /* of the inputs, on average */
	LayerMerge *entries;
	uint64 visited;             /* entries; those visited twice count twice */
	DeltaWriter *writer;        /* NULL: no file is being written */
	struct shared_hash *shared; /* values copied to that file */
} Merge;

/* What the first pass over a key found. */
typedef struct KeyVersions
{
	uint64 needed;            /* entries of the inputs */
	XLogRecPtr oldest;        /* LSN of the oldest version in any file */
	bool oldest_is_tombstone; /* and whether that is a tombstone */
} KeyVersions;

static int
cmp_pointers(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t) * (const Layer *const *) a;
	uintptr_t y = (uintptr_t) * (const Layer *const *) b;

	return x < y ? -1 : x > y;
}

static bool
is_input(const Merge *merge, const Layer *layer)
{
	return bsearch(&layer, merge->inputs, merge->job->ninputs, sizeof(Layer *), cmp_pointers) != NULL;
}

static PsError *
check_canceled(const Merge *merge)
{
	return merge->job->cancel.check != NULL ? cancel_check(&merge->job->cancel) : NULL;
}

/* Gets the next entry of all files, unless the merge is canceled. */
static PsError *
next_entry(Merge *merge, PsKey *key, ValueRef *ref, bool *found)
{
	if (++merge->visited % ENTRIES_PER_CHECK == 0)
		PS_TRY(check_canceled(merge));
	return layer_merge_next(merge->entries, key, ref, found);
}

/* ---- outputs ---- */

/* Begins an output file whose first entry will have the key. */
static PsError *
begin_file(Merge *merge, const PsKey *key)
{
	const MergeJob *job = merge->job;

	shared_reset(merge->shared);
	PS_TRY(delta_writer_create(job->space, job->level, merge->lsn_start, merge->lsn_end, &merge->writer));
	return delta_writer_learn(merge->writer, job->inputs, job->ninputs, key, job->target_size);
}

static PsError *
end_file(Merge *merge)
{
	MergeResult *result = merge->result;
	Layer *layer;

	if (merge->writer == NULL)
		return NULL;
	PS_TRY(check_canceled(merge));
	PS_TRY(delta_writer_finish(merge->writer, &layer));
	merge->writer = NULL;
	result->layers = pg_realloc(result->layers, (result->nlayers + 1) * sizeof(Layer *));
	result->layers[result->nlayers++] = layer;
	return NULL;
}

static bool
file_is_full(const Merge *merge)
{
	return merge->writer != NULL &&
		   (delta_writer_size(merge->writer) >= merge->job->target_size ||
			delta_writer_memory(merge->writer) >= merge->job->memory / 2);
}

/* Copies a value, unless the file has it already; *offset is where it is. */
static PsError *
copy_value(Merge *merge, const ValueRef *ref, uint64 *offset)
{
	SharedKey key = {ref->layer, ref->at.offset};
	SharedEntry *entry;
	bool found;

	if (!ref->shared)
		return delta_writer_copy(merge->writer, ref, offset);
	entry = shared_lookup(merge->shared, key);
	if (entry != NULL)
	{
		*offset = entry->copied_to;
		return NULL;
	}
	PS_TRY(delta_writer_copy(merge->writer, ref, offset));
	/* the table doubles when it is 90 % full */
	if (merge->shared->size * sizeof(SharedEntry) * 2 > merge->job->memory / 2 &&
		merge->shared->members >= merge->shared->grow_threshold)
		shared_reset(merge->shared);
	shared_insert(merge->shared, key, &found)->copied_to = *offset;
	return NULL;
}

static PsError *
copy_entry(Merge *merge, const PsKey *key, const ValueRef *ref)
{
	uint64 offset;

	if (merge->writer == NULL)
		PS_TRY(begin_file(merge, key));
	PS_TRY(copy_value(merge, ref, &offset));
	merge->result->kept++;
	return delta_writer_add(merge->writer, key, ref->lsn, ref->kind, ref->will_init, ref->shared, offset);
}

/* ---- one key ---- */

/* First pass: determines what is needed of the key whose first version is *ref; *ref becomes its last. */
static PsError *
find_needed(Merge *merge, KeyRetention *kr, PsKey *key, ValueRef *ref, KeyVersions *versions)
{
	bool found;

	versions->oldest = ref->lsn;
	versions->oldest_is_tombstone = ref->kind == VALUE_TOMBSTONE;
	PS_TRY(key_retention_begin(kr, key));
	key_retention_add(kr, ref->lsn, ref->will_init);
	while (!layer_merge_key_ends(merge->entries))
	{
		PS_TRY(next_entry(merge, key, ref, &found));
		key_retention_add(kr, ref->lsn, ref->will_init);
	}
	return NULL;
}

/*
 * Second pass over the key: copies the needed entries of the inputs, or only counts them if
 * !copy.  "alone": the key has files of its own.
 */
static PsError *
copy_or_count_needed(Merge *merge, const KeyRetention *kr, KeyVersions *versions, bool copy, bool alone)
{
	PsKey key;
	ValueRef ref;
	bool found;

	layer_merge_rewind_key(merge->entries);
	do
	{
		PS_TRY(next_entry(merge, &key, &ref, &found));
		if (!is_input(merge, ref.layer))
			continue;
		if (!key_retention_needs(kr, ref.lsn) ||
			(merge->job->drop_oldest_tombstones && versions->oldest_is_tombstone && key.kind != PS_KEY_RELBLOCK &&
			 ref.lsn == versions->oldest && ref.lsn <= merge->job->retention->horizon))
		{
			merge->result->dropped += copy;
			continue;
		}
		versions->needed += !copy;
		if (!copy)
			continue;
		if (alone && file_is_full(merge))
			PS_TRY(end_file(merge));
		PS_TRY(copy_entry(merge, &key, &ref));
	} while (!layer_merge_key_ends(merge->entries));
	return NULL;
}

static PsError *
merge_key(Merge *merge, KeyRetention *kr, PsKey *key, ValueRef *ref)
{
	KeyVersions versions = {0};
	bool alone;

	PS_TRY(find_needed(merge, kr, key, ref, &versions));
	PS_TRY(copy_or_count_needed(merge, kr, &versions, false, false));
	alone = versions.needed * merge->entry_bytes > merge->job->target_size;
	if (alone || file_is_full(merge))
		PS_TRY(end_file(merge));
	PS_TRY(copy_or_count_needed(merge, kr, &versions, true, alone));
	return alone ? end_file(merge) : NULL;
}

/* ---- all keys ---- */

static void
prepare(Merge *merge)
{
	const MergeJob *job = merge->job;
	uint64 entries = 0;
	uint64 bytes = 0;

	merge->inputs = pg_malloc(Max(job->ninputs, 1) * sizeof(Layer *));
	merge->lsn_start = PG_UINT64_MAX;
	for (int i = 0; i < job->ninputs; i++)
	{
		const LayerInfo *info = layer_info(job->inputs[i]);

		merge->inputs[i] = job->inputs[i];
		merge->lsn_start = Min(merge->lsn_start, info->lsn_start);
		merge->lsn_end = Max(merge->lsn_end, info->lsn_end);
		entries += info->entries;
		bytes += info->file_size;
	}
	qsort(merge->inputs, job->ninputs, sizeof(Layer *), cmp_pointers);
	merge->entry_bytes = entries > 0 ? (double) bytes / entries : 0;
	merge->shared = shared_create(1024, NULL);
}

/* Finds the range of the inputs' keys. */
static void
key_range(const MergeJob *job, PsKey *lo, PsKey *hi)
{
	*lo = layer_info(job->inputs[0])->key_min;
	*hi = layer_info(job->inputs[0])->key_max;
	for (int i = 1; i < job->ninputs; i++)
	{
		const LayerInfo *info = layer_info(job->inputs[i]);

		if (ps_key_cmp(&info->key_min, lo) < 0)
			*lo = info->key_min;
		if (ps_key_cmp(&info->key_max, hi) > 0)
			*hi = info->key_max;
	}
}

PsError *
merge_layers(const MergeJob *job, MergeResult *result)
{
	Merge merge = {.job = job, .result = result};
	KeyRetention kr;
	Layer **all = pg_malloc((job->ninputs + job->ncontext) * sizeof(Layer *));
	PsKey lo;
	PsKey hi;
	PsKey key;
	ValueRef ref;
	bool found;
	PsError *err;

	memset(result, 0, sizeof(*result));
	memcpy(all, job->inputs, job->ninputs * sizeof(Layer *));
	if (job->ncontext > 0)
		memcpy(all + job->ninputs, job->context, job->ncontext * sizeof(Layer *));
	prepare(&merge);
	key_retention_init(&kr, job->retention);
	key_range(job, &lo, &hi);
	PS_GOTO(layer_merge_open(all, job->ninputs + job->ncontext, &lo, &hi, &merge.entries), done);
	while ((err = next_entry(&merge, &key, &ref, &found)) == NULL && found)
		PS_GOTO(merge_key(&merge, &kr, &key, &ref), done);
	if (err == NULL)
		err = end_file(&merge);

done:
	layer_merge_close(merge.entries);
	delta_writer_abort(merge.writer);
	if (err != NULL)
	{
		for (int i = 0; i < result->nlayers; i++)
			layer_remove(result->layers[i]);
		merge_result_free(result);
	}
	shared_destroy(merge.shared);
	key_retention_free(&kr);
	free(merge.inputs);
	free(all);
	return err;
}

void
merge_result_free(MergeResult *result)
{
	for (int i = 0; i < result->nlayers; i++)
		layer_unref(result->layers[i]);
	free(result->layers);
	memset(result, 0, sizeof(*result));
}
