/*
 * blob.h
 *	  Values in a layer file.  Their form is described in layer_format.h.
 */
#ifndef PS_LAYER_BLOB_H
#define PS_LAYER_BLOB_H

#include "layer_impl.h"

/* What values are compressed with where it pays; measured, see README.md. */
#define BLOB_IMAGE_CODEC LAYER_CODEC_LZ4
#define BLOB_RECORD_CODEC LAYER_CODEC_LZ4

/* Records and images that are shorter than this are not compressed. */
#define BLOB_COMPRESS_MIN 512

/* Appends a value, compressed if it pays; *offset is where it begins. */
extern PsError *blob_write(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data, uint32 len,
						   uint64 *offset);

/* The same with a codec of the caller's choice. */
extern PsError *blob_write_codec(LayerOutput *out, ValueKind kind, XLogRecPtr record_start, const char *data,
								 uint32 len, LayerCodec codec, uint64 *offset);

/*
 * Copies a value from another file as it is stored there, having checked it;
 * *offset is where it begins.
 */
extern PsError *blob_copy(LayerOutput *out, const LayerFile *from, uint64 from_offset, ValueKind kind, uint64 *offset);

/*
 * Reads the value at the offset, which the index says is of that kind; buf is
 * emptied first.  *record_start is set of records, else 0.  Any thread.
 */
extern PsError *blob_read(const LayerFile *file, uint64 offset, ValueKind kind, StringInfo buf,
						  XLogRecPtr *record_start);

#endif							/* PS_LAYER_BLOB_H */
