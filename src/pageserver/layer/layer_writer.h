/*
 * layer_writer.h
 *	  Writing layer files: delta files (delta.c) and image files (image.c).
 *
 * A writer belongs to one thread.  A file gets its name only when it is finished
 * and durable; until then it has a temporary name, which ends in ".tmp".  Every
 * writer must be ended with finish or abort.
 */
#ifndef PS_LAYER_WRITER_H
#define PS_LAYER_WRITER_H

#include "layer/layer.h"

/*
 * Writes a delta file.  First its values, in any order, with
 * delta_writer_value() or delta_writer_copy(), then its entries, with
 * delta_writer_add().  The two may alternate, but then the index is kept in
 * memory: see delta_writer_end_values().
 */
typedef struct DeltaWriter DeltaWriter;

/* Creates the temporary file. */
extern PsError *delta_writer_create(LayerSpace *space, int level, XLogRecPtr lsn_start, XLogRecPtr lsn_end,
									DeltaWriter **writer);

/*
 * Before the first value: trains a dictionary, to compress records with, on a
 * sample of the records that these delta files have from the key on.  There is
 * none if they have too few records or would not become shorter.  bytes: roughly
 * how much of these files will be written to the new one.
 */
extern PsError *delta_writer_learn(DeltaWriter *writer, Layer *const *layers, int n, const PsKey *from, uint64 bytes);

/* Appends a value; *offset is where it is, for delta_writer_add().  record_start: 0 if it is not a record. */
extern PsError *delta_writer_value(DeltaWriter *writer, ValueKind kind, XLogRecPtr record_start, const char *data,
								   uint32 len, uint64 *offset);

/* Appends a value of another layer file, which is checked first. */
extern PsError *delta_writer_copy(DeltaWriter *writer, const ValueRef *ref, uint64 *offset);

/* No more values will come, only entries.  From now on index pages are written as they are filled. */
extern PsError *delta_writer_end_values(DeltaWriter *writer);

/*
 * Adds an entry that refers to a value that was written.  Keys ascend, and LSNs
 * within a key.  shared: the value has, or may get, other entries.
 */
extern PsError *delta_writer_add(DeltaWriter *writer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, bool will_init,
								 bool shared, uint64 offset);

/* Bytes of the file so far, and of its index in memory. */
extern uint64 delta_writer_size(const DeltaWriter *writer);
extern size_t delta_writer_memory(const DeltaWriter *writer);

/*
 * Completes the file, makes it durable under its final name, and opens it.
 * After a success, the writer is freed; after an error, no file is left, but
 * delta_writer_abort() must still be called.
 */
extern PsError *delta_writer_finish(DeltaWriter *writer, Layer **layer);

/* Removes the temporary file and frees the writer; NULL is accepted. */
extern void delta_writer_abort(DeltaWriter *writer);

/*
 * Writes an image file: keys ascending, each with its whole value at the LSN.
 * Keeps 32 bytes per key in memory.
 */
typedef struct ImageWriter ImageWriter;

extern PsError *image_writer_create(LayerSpace *space, XLogRecPtr lsn, ImageWriter **writer);
extern PsError *image_writer_put(ImageWriter *writer, const PsKey *key, const char *data, uint32 len);

/* As delta_writer_finish() and delta_writer_abort(). */
extern PsError *image_writer_finish(ImageWriter *writer, Layer **layer);
extern void image_writer_abort(ImageWriter *writer);

#endif /* PS_LAYER_WRITER_H */
