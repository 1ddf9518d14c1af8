/*
 * envelope.h
 *	  The frame of the objects that are not files: fields of a fixed length, and
 *	  compressed contents.
 *
 *	   4	magic of the kind of object
 *	   4	CRC-32C of all that follows
 *	   4	version of the format
 *	   4	length of the fields
 *	   8	length of the contents before compression
 *	   n	fields
 *	   n	contents, one zstd frame
 *
 * Integers are big-endian.
 */
#ifndef PS_ENVELOPE_H
#define PS_ENVELOPE_H

#include "base/error.h"

typedef struct EnvelopeFormat
{
	const char *what; /* for messages */
	uint32 magic;
	uint32 version;
	size_t fields;   /* bytes */
	size_t contents; /* bytes at most, before compression */
} EnvelopeFormat;

/* Makes an object, malloc'd. */
extern PsError *envelope_make(const EnvelopeFormat *format, const char *fields, const void *contents, size_t len,
							  char **data, size_t *data_len);

/* The most bytes that an object of the format has, for object_get(). */
extern size_t envelope_max(const EnvelopeFormat *format);

/*
 * Checks an object and takes it apart; *contents is malloc'd.  key is for messages.
 * PS_SQLSTATE_CORRUPTED: it is damaged or something else; PS_SQLSTATE_STATE: a newer
 * program has written it.
 */
extern PsError *envelope_open(const EnvelopeFormat *format, const char *key, const char *data, size_t data_len,
							  char *fields, char **contents, size_t *len);

/* Bytes of an object up to the end of its fields. */
extern size_t envelope_head(const EnvelopeFormat *format);

/*
 * Copies the fields from the first envelope_head() bytes of an object, without the
 * check of its checksum, which needs all of it.  Errors as of envelope_open().
 */
extern PsError *envelope_peek(const EnvelopeFormat *format, const char *key, const char *data, size_t data_len,
							  char *fields);

#endif /* PS_ENVELOPE_H */
