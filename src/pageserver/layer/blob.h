/*
 * blob.h
 *	  Values in a layer file.  Their form is described in layer_format.h.
 */
#ifndef PS_LAYER_BLOB_H
#define PS_LAYER_BLOB_H

#include "layer/layer_impl.h"

/* What values are compressed with where it pays; measured, see README.md. */
#define BLOB_IMAGE_CODEC  LAYER_CODEC_LZ4
#define BLOB_RECORD_CODEC LAYER_CODEC_LZ4

/* Records and images that are shorter than this are not compressed, unless with a dictionary. */
#define BLOB_COMPRESS_MIN 512

/* Appends a value, compressed if it pays; *offset is where it begins. */
extern PsError *blob_write(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len,
						   uint64 *offset);

/* The same with a codec of the caller's choice. */
extern PsError *blob_write_codec(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data,
								 uint32 len, LayerCodec codec, uint64 *offset);

/*
 * Copies a value from another file, having checked it: as it is stored there,
 * but for records that a dictionary, of either file, is for.  *offset is where it
 * begins.
 */
extern PsError *blob_copy(LayerOutput *out, const LayerFile *from, uint64 from_offset, ValueKind kind, uint64 *offset);

/* Reads the value at the offset, which the index says is of that kind; buf is emptied first.  Any thread. */
extern PsError *blob_read(const LayerFile *file, uint64 offset, ValueKind kind, StringInfo buf, StoredValue *stored);

/*
 * The same for who reads the bytes himself.  blob_first_read() says how many
 * from the offset on are most likely enough.  blob_check() looks at the "have"
 * bytes that there are: if stored->size is more, it has done no more than that;
 * else the value is right, and blob_unpack() puts stored->raw_len bytes of it
 * into out.
 */
extern PsError *blob_first_read(const LayerFile *file, uint64 offset, ValueKind kind, size_t *len);
extern PsError *blob_check(const LayerFile *file, uint64 offset, ValueKind kind, const char *bytes, size_t have,
						   StoredValue *stored);
extern PsError *blob_unpack(const LayerFile *file, uint64 offset, const char *bytes, const StoredValue *stored, char *out);

#endif /* PS_LAYER_BLOB_H */
