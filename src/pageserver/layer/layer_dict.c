/*
 * layer_dict.c
 *	  Dictionaries of layer files: see layer_dict.h.
 */
#include "ps_fe.h"

#include <zdict.h>

#include "port/pg_crc32c.h"

#include "layer/layer_cache.h"
#include "layer/layer_dict.h"

/* A larger dictionary saves no more: see docs/performance.md. */
#define DICT_SIZE 4096

/* With a smaller sample a dictionary is not worth it. */
#define DICT_SAMPLE_LEAST (128 * 1024)

#define DICT_LEVEL 1

/* A dictionary is tried out on this many values of the sample. */
#define SAMPLE_TRIES 500

/* Creates a dictionary for writing; returns NULL if zstd rejects the bytes. */
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
	/* begins a new frame, even after an error */
	n = ZSTD_compress2(dict->context, out, room, data, len);
	return ZSTD_isError(n) ? 0 : n;
}

/* Does it make the first values of the sample shorter by at least an eighth? */
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

/* The only field of an open file that is set later. */
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
		return layer_damaged(file->path, LAYER_BLOCK_SIZE, "these %u bytes are not a dictionary", size);
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
		size_t size = file->summary.dict_size;
		char *bytes = pg_malloc(size);
		PsError *err;
		int tries = 0;

		while ((err = layer_file_read(file, LAYER_BLOCK_SIZE, bytes, size)) == NULL)
		{
			err = layer_dict_set(file, bytes);
			if (!layer_fetch_again(file, LAYER_BLOCK_SIZE, size, tries++, &err))
				break;
		}
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
