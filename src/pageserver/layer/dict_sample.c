/*
 * dict_sample.c
 *	  Samples of records, from which dictionaries are trained: see dict_sample.h.
 */
#include "ps_fe.h"

#include "layer/blob.h"
#include "layer/dict_sample.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"

/* A sample is taken from this many index pages of a file ... */
#define SAMPLE_PAGES 64

/* ... assuming this length for the records on them. */
#define SAMPLE_RECORD_BYTES 80

bool
dict_sample_is_full(const DictSample *sample)
{
	return sample->used + LAYER_DICT_VALUE_MAX > DICT_SAMPLE_BYTES;
}

void
dict_sample_add(DictSample *sample, const char *data, uint32 len)
{
	if (len > LAYER_DICT_VALUE_MAX || len == 0 || dict_sample_is_full(sample))
		return;
	if (sample->bytes == NULL)
		sample->bytes = pg_malloc(DICT_SAMPLE_BYTES);
	if (sample->n == sample->cap)
	{
		sample->cap = Max(1024, sample->cap * 2);
		sample->lens = pg_realloc(sample->lens, sample->cap * sizeof(size_t));
	}
	memcpy(sample->bytes + sample->used, data, len);
	sample->used += len;
	sample->lens[sample->n++] = len;
}

void
dict_sample_free(DictSample *sample)
{
	free(sample->bytes);
	free(sample->lens);
}

/*
 * Adds records of one file: some of the entries of some leaf pages, evenly
 * spread over npages from the first on.  Caller has acquired the layer.
 */
static PsError *
sample_pages(DictSample *sample, const Layer *layer, uint32 first, uint32 npages, size_t bytes)
{
	const LayerFile *file = layer_file_of(layer);
	uint32 nsampled = Min(npages, SAMPLE_PAGES);
	size_t upto = sample->used;
	StringInfoData value;
	PsError *err = NULL;

	initStringInfo(&value);
	for (uint32 i = 0; i < nsampled; i++)
	{
		BtreePos pos;
		int step;

		PS_GOTO(btree_load_page(&file->index, first + (uint32) ((uint64) npages * i / nsampled), 0, &pos), done);
		upto += bytes / nsampled;
		step = Max(1, pos.count / Max(1, (int) (bytes / nsampled / SAMPLE_RECORD_BYTES)));
		for (; pos.entry < pos.count && sample->used < upto; pos.entry += step)
		{
			ValueRef ref;
			StoredValue stored;

			PS_GOTO(layer_entry_ref(layer, &pos, InvalidXLogRecPtr, &ref), done);
			if (ref.kind != VALUE_RECORD)
				continue;
			PS_GOTO(blob_read(file, ref.at.offset, ref.kind, &value, &stored), done);
			dict_sample_add(sample, value.data, value.len);
		}
	}
done:
	free(value.data);
	return err;
}

/*
 * Finds the leaf page with the first entry from the key on.  *npages is the number
 * of leaf pages from there on, or 0 if there is no such entry.
 */
static PsError *
find_pages(const LayerFile *file, const PsKey *from, uint32 *first, uint32 *npages)
{
	uint8 target[DELTA_KEY_SIZE] = {0};
	BtreePos pos;
	bool found;

	ps_key_encode(from, target);
	PS_TRY(btree_seek_ge(&file->index, target, &pos, &found));
	*first = found ? pos.page : 0;
	*npages = found ? file->summary.leaf_pages - pos.page : 0;
	return NULL;
}

PsError *
dict_sample_layers(DictSample *sample, Layer *const *layers, int n, const PsKey *from, uint64 bytes)
{
	uint32 *first = pg_malloc0(Max(n, 1) * sizeof(uint32));
	uint32 *npages = pg_malloc0(Max(n, 1) * sizeof(uint32));
	uint64 pages = 0; /* leaf pages of all files, from the key on */
	double rest = 0;  /* bytes of all files from the key on, values included */
	double part;
	PsError *err = NULL;

	for (int i = 0; i < n && err == NULL; i++)
	{
		PS_GOTO(layer_acquire(layers[i]), done);
		err = find_pages(layer_file_of(layers[i]), from, &first[i], &npages[i]);
		if (err == NULL && npages[i] > 0)
		{
			pages += npages[i];
			rest += (double) layers[i]->info.file_size * npages[i] / layer_file_of(layers[i])->summary.leaf_pages;
		}
		layer_release(layers[i]);
	}
	part = rest > bytes ? bytes / rest : 1;
	for (int i = 0; i < n && err == NULL; i++)
		if (npages[i] > 0)
		{
			PS_GOTO(layer_acquire(layers[i]), done);
			err = sample_pages(sample, layers[i], first[i], Max(1, (uint32) (npages[i] * part)),
							   (size_t) ((double) DICT_SAMPLE_BYTES * npages[i] / pages));
			layer_release(layers[i]);
		}
done:
	free(first);
	free(npages);
	return err;
}
