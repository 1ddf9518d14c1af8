/*
 * layer_output.h
 *	  A layer file that is being written: temporary name, buffer, durability.
 *	  For this folder; others write files with layer_writer.h.
 */
#ifndef PS_LAYER_OUTPUT_H
#define PS_LAYER_OUTPUT_H

#include "layer/layer_file.h"

/* Codecs that values are compressed with if that saves enough. */
#define LAYER_IMAGE_CODEC  LAYER_CODEC_LZ4
#define LAYER_RECORD_CODEC LAYER_CODEC_LZ4

/* Belongs to one thread. */
typedef struct LayerOutput LayerOutput;

/* Creates the temporary file, and leaves room for the summary. */
extern PsError *layer_output_create(LayerSpace *space, LayerType type, int level, XLogRecPtr lsn_start,
									XLogRecPtr lsn_end, LayerOutput **out);

/* The summary, which the writers of keys and index fill in. */
extern LayerSummary *layer_output_summary(LayerOutput *out);
extern LayerSpace *layer_output_space(const LayerOutput *out);
extern const char *layer_output_path(const LayerOutput *out); /* for messages */

/* Offset of the next byte that is appended. */
extern uint64 layer_output_position(const LayerOutput *out);
extern PsError *layer_output_append(LayerOutput *out, const void *data, size_t len);

/* Sets the dictionary that records are compressed with, before the first value.  The output will free it. */
extern PsError *layer_output_set_dict(LayerOutput *out, struct LayerDict *dict);
extern const struct LayerDict *layer_output_dict(const LayerOutput *out); /* NULL: none */

/* Ends the values: appends zeros up to a whole block, and records in the summary where the index begins. */
extern PsError *layer_output_begin_index(LayerOutput *out);

/*
 * Writes the summary and makes the file durable under its final name, which the
 * summary determines.  After an error no file is left.  layer_output_free() must
 * be called in either case.
 */
extern PsError *layer_output_finish(LayerOutput *out);

/* Frees it, and removes a file that was not finished; NULL is accepted. */
extern void layer_output_free(LayerOutput *out);

#endif /* PS_LAYER_OUTPUT_H */
