/*
 * layer_dict.h
 *	  Dictionaries: what the short records of a layer file have in common, kept
 *	  in the file once, so that each becomes shorter (README.md has figures).
 */
#ifndef PS_LAYER_DICT_H
#define PS_LAYER_DICT_H

#include <zstd.h>

#include "layer/layer_impl.h"

/* Longer records are compressed without it. */
#define LAYER_DICT_VALUE_MAX 1024

/*
 * Of a file that is read: immutable, any thread may use it.  Of one that is
 * written: the writer's.
 */
typedef struct LayerDict
{
	char *bytes; /* of a file that is written */
	uint32 size;
	ZSTD_DDict *decompress; /* of a file that is read */
	ZSTD_CDict *compress;   /* of a file that is written; */
	ZSTD_CCtx *context;     /* and what compresses with it */
} LayerDict;

/* Values to make a dictionary of; start with all zeros. */
typedef struct DictSample
{
	char *bytes;
	size_t used;
	size_t *lens;
	int n;
	int cap;
} DictSample;

/* How many bytes of values make a good sample. */
#define DICT_SAMPLE_BYTES (400 * 1024)

/* Adds a value, unless it is too long for a dictionary or there are enough. */
extern void dict_sample_add(DictSample *sample, const char *data, uint32 len);
extern bool dict_sample_is_full(const DictSample *sample);

/*
 * Adds a sample of the records that delta files have from the key on; bytes:
 * about how much of the files is of interest.
 */
extern PsError *dict_sample_layers(DictSample *sample, Layer *const *layers, int n, const PsKey *from, uint64 bytes);

extern void dict_sample_free(DictSample *sample);

/* Makes one for writing; NULL if there is too little to learn from, or it would save too little. */
extern LayerDict *layer_dict_train(const DictSample *sample);

/* Compresses a value into room; 0: it does not fit, or is too long for a dictionary. */
extern size_t layer_dict_compress(const LayerDict *dict, char *out, size_t room, const char *data, uint32 len);

/*
 * The dictionary of a file, for reading: read and checked at the first call,
 * then there until the file is closed; NULL: it has none.  Any thread.
 */
extern PsError *layer_dict_of_file(const LayerFile *file, const LayerDict **dict);

/* For who reads it himself: has it to be read?  summary.dict_size bytes after the first block, which set() takes. */
static inline bool
layer_dict_is_missing(const LayerFile *file)
{
	return file->summary.dict_size > 0 && atomic_load_explicit(&((LayerFile *) file)->dict, memory_order_relaxed) == NULL;
}

extern PsError *layer_dict_set(const LayerFile *file, const char *bytes);
extern void layer_dict_free(LayerDict *dict);

/* delta.c: the sample is what the writer's records are like. */
extern PsError *delta_writer_learn_sample(struct DeltaWriter *writer, DictSample *sample);

#endif /* PS_LAYER_DICT_H */
