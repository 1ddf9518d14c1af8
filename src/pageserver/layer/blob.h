/*
 * blob.h
 *	  Values in a layer file.  Their form is described in layer_format.h.
 */
#ifndef PS_LAYER_BLOB_H
#define PS_LAYER_BLOB_H

#include "layer/layer_file.h"
#include "layer/layer_output.h"

/* Records and images that are shorter than this are compressed only with a dictionary. */
#define BLOB_COMPRESS_MIN 512

/* Appends a value, compressed if that saves enough; *offset is where it begins.  record_start: 0 if not a record. */
extern PsError *blob_write(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len,
						   uint64 *offset);

/* Like blob_write(), with a codec of the caller's choice. */
extern PsError *blob_write_codec(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data,
								 uint32 len, LayerCodec codec, uint64 *offset);

/*
 * Checks a value of another file and appends it: in its stored form, except for
 * records that the dictionary of either file applies to, which are recompressed.
 * *offset is where it begins.
 */
extern PsError *blob_copy(LayerOutput *out, const LayerFile *from, uint64 from_offset, ValueKind kind, uint64 *offset);

/* Reads the value at the offset, which must be of that kind, into buf, which is emptied first.  Any thread. */
extern PsError *blob_read(const LayerFile *file, uint64 offset, ValueKind kind, StringInfo buf, StoredValue *stored);

/*
 * For callers that read the bytes themselves.  blob_first_read() returns how
 * many bytes from the offset on will most likely suffice.  blob_check() checks
 * the "have" bytes that were read: if stored->size > have, nothing else was
 * checked, and more must be read.  Otherwise the value is valid, and
 * blob_unpack() stores its stored->raw_len bytes in out.  Any thread.
 */
extern PsError *blob_first_read(const LayerFile *file, uint64 offset, ValueKind kind, size_t *len);
extern PsError *blob_check(const LayerFile *file, uint64 offset, ValueKind kind, const char *bytes, size_t have,
						   StoredValue *stored);
extern PsError *blob_unpack(const LayerFile *file, uint64 offset, const char *bytes, const StoredValue *stored,
							char *out);

#endif /* PS_LAYER_BLOB_H */
