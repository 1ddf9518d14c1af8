/*
 * envelope.c
 *	  The frame of objects: see envelope.h.
 */
#include "ps_fe.h"

#include <zstd.h>

#include "base/crc.h"
#include "bucket/envelope.h"
#include "bytes.h"
#include "sqlstate.h"

/* WAL at 300 MB/s to a third of its size; higher levels take longer for little. */
#define ZSTD_LEVEL 1

#define AT_MAGIC        0
#define AT_CRC          4
#define AT_VERSION      8
#define AT_FIELDS_LEN   12
#define AT_CONTENTS_LEN 16
#define HEADER          24

PsError *
envelope_make(const EnvelopeFormat *format, const char *fields, const void *contents, size_t len, char **data,
			  size_t *data_len)
{
	size_t room = ZSTD_compressBound(len);
	char *object = malloc(HEADER + format->fields + room);
	size_t n;

	Assert(len <= format->contents);
	if (object == NULL)
		return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory for %s of %zu bytes", format->what, len);
	n = ZSTD_compress(object + HEADER + format->fields, room, contents, len, ZSTD_LEVEL);
	if (ZSTD_isError(n))
	{
		free(object);
		return ps_error(PS_SQLSTATE_INTERNAL, "could not compress %s: %s", format->what, ZSTD_getErrorName(n));
	}
	ps_put32(object + AT_MAGIC, format->magic);
	ps_put32(object + AT_VERSION, format->version);
	ps_put32(object + AT_FIELDS_LEN, format->fields);
	ps_put64(object + AT_CONTENTS_LEN, len);
	memcpy(object + HEADER, fields, format->fields);
	*data = object;
	*data_len = HEADER + format->fields + n;
	ps_put32(object + AT_CRC, crc_of(object + AT_VERSION, *data_len - AT_VERSION));
	return NULL;
}

size_t
envelope_max(const EnvelopeFormat *format)
{
	return HEADER + format->fields + ZSTD_compressBound(format->contents);
}

static PsError *
check_version(const EnvelopeFormat *format, const char *key, const char *data)
{
	if (ps_get32(data + AT_VERSION) != format->version)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "object \"%s\", %s, has format version %u, this pageserver reads version %u",
									  key, format->what, ps_get32(data + AT_VERSION), format->version),
							 "Use the version of the program that wrote it.");
	return NULL;
}

PsError *
envelope_open(const EnvelopeFormat *format, const char *key, const char *data, size_t data_len, char *fields,
			  char **contents, size_t *len)
{
	size_t before = HEADER + format->fields;
	size_t n;

	*contents = NULL;
	if (data_len < HEADER || ps_get32(data + AT_MAGIC) != format->magic)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" is not %s", key, format->what);
	if (ps_get32(data + AT_CRC) != crc_of(data + AT_VERSION, data_len - AT_VERSION))
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\", %s, has a wrong checksum", key, format->what);
	PS_TRY(check_version(format, key, data));
	*len = ps_get64(data + AT_CONTENTS_LEN);
	if (ps_get32(data + AT_FIELDS_LEN) != format->fields || data_len < before || *len > format->contents)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\", %s, has invalid lengths", key, format->what);
	*contents = malloc(Max(*len, 1));
	if (*contents == NULL)
		return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory for %zu bytes of object \"%s\"", *len, key);
	n = ZSTD_decompress(*contents, *len, data + before, data_len - before);
	if (ZSTD_isError(n) || n != *len)
	{
		free(*contents);
		*contents = NULL;
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\", %s, cannot be decompressed", key, format->what);
	}
	memcpy(fields, data + HEADER, format->fields);
	return NULL;
}

size_t
envelope_head(const EnvelopeFormat *format)
{
	return HEADER + format->fields;
}

PsError *
envelope_peek(const EnvelopeFormat *format, const char *key, const char *data, size_t data_len, char *fields)
{
	if (data_len < envelope_head(format) || ps_get32(data + AT_MAGIC) != format->magic)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" is not %s", key, format->what);
	PS_TRY(check_version(format, key, data));
	if (ps_get32(data + AT_FIELDS_LEN) != format->fields)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\", %s, has invalid lengths", key, format->what);
	memcpy(fields, data + HEADER, format->fields);
	return NULL;
}
