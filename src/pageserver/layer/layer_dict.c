/*
 * layer_dict.c
 *	  Dictionaries of layer files: see layer_dict.h.
 */
#include "ps_fe.h"

#include <zdict.h>

#include "layer/blob.h"
#include "layer/layer_dict.h"
#include "port/pg_crc32c.h"

/* A larger one saves no more, see README.md. */
#define DICT_SIZE 4096

/* With less than this there is little to learn, and little to save. */
#define DICT_SAMPLE_LEAST (128 * 1024)

#define DICT_LEVEL 1

/* A sample is of so many index pages of a file, on which records are taken to be that long. */
#define SAMPLE_PAGES        64
#define SAMPLE_RECORD_BYTES 80

/* With so many of its values a dictionary is tried. */
#define SAMPLE_TRIES 500

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

/* Adds records of one file: of some of its leaf pages from the first on, evenly spread, some of the entries. */
static PsError *
sample_pages(DictSample *sample, const Layer *layer, uint32 first, uint32 npages, size_t bytes)
{
	uint32 nlooks = Min(npages, SAMPLE_PAGES);
	size_t upto = sample->used;
	StringInfoData value;
	PsError *err = NULL;

	initStringInfo(&value);
	for (uint32 i = 0; i < nlooks; i++)
	{
		BtreePos pos;
		int step;

		PS_GOTO(btree_load_page(&layer->file->index, first + (uint32) ((uint64) npages * i / nlooks), 0, &pos), done);
		upto += bytes / nlooks;
		step = Max(1, pos.count / Max(1, (int) (bytes / nlooks / SAMPLE_RECORD_BYTES)));
		for (; pos.entry < pos.count && sample->used < upto; pos.entry += step)
		{
			ValueRef ref;
			StoredValue stored;

			PS_GOTO(layer_entry_ref(layer, &pos, InvalidXLogRecPtr, &ref), done);
			if (ref.kind != VALUE_RECORD)
				continue;
			PS_GOTO(blob_read(layer->file, ref.at.offset, ref.kind, &value, &stored), done);
			dict_sample_add(sample, value.data, value.len);
		}
	}
done:
	free(value.data);
	return err;
}

/* The leaf page with the first entry from the key on, and how many follow it; 0: no entry does. */
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
	uint64 pages = 0; /* of all files, from the key on */
	double rest = 0;  /* their bytes, values included */
	double part;
	PsError *err = NULL;

	for (int i = 0; i < n && err == NULL; i++)
	{
		PS_GOTO(layer_acquire(layers[i]), done);
		err = find_pages(layers[i]->file, from, &first[i], &npages[i]);
		if (err == NULL && npages[i] > 0)
		{
			pages += npages[i];
			rest += (double) layers[i]->info.file_size * npages[i] / layers[i]->file->summary.leaf_pages;
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

/* Of given bytes; NULL if zstd refuses them. */
static LayerDict *
create(const char *bytes, uint32 size)
{
	LayerDict *dict = pg_malloc0(sizeof(LayerDict));

	dict->bytes = pg_malloc(size);
	memcpy(dict->bytes, bytes, size);
	dict->size = size;
	dict->compress = ZSTD_createCDict(bytes, size, DICT_LEVEL);
	dict->context = ZSTD_createCCtx();
	if (dict->compress != NULL && dict->context != NULL &&
		!ZSTD_isError(ZSTD_CCtx_setParameter(dict->context, ZSTD_c_dictIDFlag, 0)) &&
		!ZSTD_isError(ZSTD_CCtx_refCDict(dict->context, dict->compress)))
		return dict;
	layer_dict_free(dict);
	return NULL;
}

size_t
layer_dict_compress(const LayerDict *dict, char *out, size_t room, const char *data, uint32 len)
{
	size_t n;

	if (len > LAYER_DICT_VALUE_MAX)
		return 0;
	/* after an error, too, it begins a new frame */
	n = ZSTD_compress2(dict->context, out, room, data, len);
	return ZSTD_isError(n) ? 0 : n;
}

/* Does it make the first values of the sample shorter by an eighth? */
static bool
saves_enough(const LayerDict *dict, const DictSample *sample)
{
	const char *data = sample->bytes;
	size_t raw = 0;
	size_t stored = 0;

	for (int i = 0; i < Min(sample->n, SAMPLE_TRIES); i++)
	{
		char out[LAYER_DICT_VALUE_MAX];
		size_t n = layer_dict_compress(dict, out, sizeof(out), data, (uint32) sample->lens[i]);

		raw += sample->lens[i];
		stored += n > 0 ? Min(n, sample->lens[i]) : sample->lens[i];
		data += sample->lens[i];
	}
	return stored <= raw - raw / 8;
}

LayerDict *
layer_dict_train(const DictSample *sample)
{
	char bytes[DICT_SIZE];
	size_t size;
	LayerDict *dict;

	if (sample->used < DICT_SAMPLE_LEAST)
		return NULL;
	size = ZDICT_trainFromBuffer(bytes, DICT_SIZE, sample->bytes, sample->lens, sample->n);
	dict = ZDICT_isError(size) ? NULL : create(bytes, (uint32) size);
	if (dict == NULL || saves_enough(dict, sample))
		return dict;
	layer_dict_free(dict);
	return NULL;
}

/* The one part of a file that is filled in later. */
static _Atomic(LayerDict *) *
place_of(const LayerFile *file)
{
	return &((LayerFile *) file)->dict;
}

PsError *
layer_dict_set(const LayerFile *file, const char *bytes)
{
	uint32 size = file->summary.dict_size;
	LayerDict *dict;
	LayerDict *others = NULL;
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, bytes, size);
	FIN_CRC32C(crc);
	if (crc != file->summary.dict_crc)
		return layer_damaged(file->path, LAYER_BLOCK_SIZE, "checksum of the dictionary is %08X, expected %08X", crc,
							 file->summary.dict_crc);
	dict = pg_malloc0(sizeof(LayerDict));
	dict->size = size;
	dict->decompress = ZSTD_createDDict(bytes, size);
	if (dict->decompress == NULL)
	{
		layer_dict_free(dict);
		return layer_damaged(file->path, LAYER_BLOCK_SIZE, "these %u bytes are no dictionary", size);
	}
	if (!atomic_compare_exchange_strong(place_of(file), &others, dict))
		layer_dict_free(dict); /* another thread was faster */
	return NULL;
}

PsError *
layer_dict_of_file(const LayerFile *file, const LayerDict **result)
{
	if (layer_dict_is_missing(file))
	{
		char *bytes = pg_malloc(file->summary.dict_size);
		PsError *err = layer_file_read(file, LAYER_BLOCK_SIZE, bytes, file->summary.dict_size);

		if (err == NULL)
			err = layer_dict_set(file, bytes);
		free(bytes);
		PS_TRY(err);
	}
	*result = atomic_load_explicit(place_of(file), memory_order_acquire);
	return NULL;
}

void
layer_dict_free(LayerDict *dict)
{
	if (dict == NULL)
		return;
	ZSTD_freeCCtx(dict->context);
	ZSTD_freeCDict(dict->compress);
	ZSTD_freeDDict(dict->decompress);
	free(dict->bytes);
	free(dict);
}
