/*
 * layer_dict.h
 *	  Dictionaries: a file stores once what its short records have in common, so
 *	  that each record becomes shorter.
 */
#ifndef PS_LAYER_DICT_H
#define PS_LAYER_DICT_H

#include <zstd.h>

#include "layer/dict_sample.h"
#include "layer/layer_file.h"

/*
 * The dictionary of a file that is read is immutable: any thread may use it.
 * That of a file that is being written belongs to the writer.
 */
typedef struct LayerDict
{
	char *bytes; /* writing only */
	uint32 size;
	ZSTD_DDict *decompress; /* reading only */
	ZSTD_CDict *compress;   /* writing only, as is: */
	ZSTD_CCtx *context;
} LayerDict;

/* Creates one for writing.  Returns NULL if the sample is too small, or would not become shorter by an eighth. */
extern LayerDict *layer_dict_train(const DictSample *sample);

/* Compresses a value; returns the length, or 0 if it does not fit into "room" or is too long for a dictionary. */
extern size_t layer_dict_compress(const LayerDict *dict, char *out, size_t room, const char *data, uint32 len);

/*
 * Returns the dictionary of a file for reading; NULL if it has none.  The first
 * call reads and checks it; after that it stays until the file is closed.  Any
 * thread.
 */
extern PsError *layer_dict_of_file(const LayerFile *file, const LayerDict **dict);

/*
 * For callers that read it themselves: whether it must be read, which is
 * summary.dict_size bytes after the first block.  layer_dict_set() checks them
 * and sets the dictionary.  Any thread.
 */
static inline bool
layer_dict_is_missing(const LayerFile *file)
{
	return file->summary.dict_size > 0 &&
		   atomic_load_explicit(&((LayerFile *) file)->dict, memory_order_relaxed) == NULL;
}

extern PsError *layer_dict_set(const LayerFile *file, const char *bytes);

/* NULL is accepted. */
extern void layer_dict_free(LayerDict *dict);

#endif /* PS_LAYER_DICT_H */
