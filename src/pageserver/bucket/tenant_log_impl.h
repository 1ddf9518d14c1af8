/*
 * tenant_log_impl.h
 *	  Private header of tenant_log.c and tenant_log_read.c.
 */
#ifndef PS_TENANT_LOG_IMPL_H
#define PS_TENANT_LOG_IMPL_H

#include "bucket/envelope.h"
#include "bucket/tenant_log.h"

#define LOG_FIELDS 52

typedef struct LogEntryFields
{
	PsId tenant;
	LogEntryInfo info;
	uint64 builds_on; /* the entry's own number if it is full */
} LogEntryFields;

extern const EnvelopeFormat log_entry_format;

extern BucketKey log_entry_key(const PsId *tenant, uint64 generation, uint64 number);
extern void log_entry_put_fields(const LogEntryFields *fields, char out[LOG_FIELDS]);

/* The most entries that a state is read from: the digits of LOG_FULL_AFTER in base 4, and the full one. */
#define LOG_MAX_PATH 8

/* Where a state has been read from: the numbers of the entries, full one first. */
typedef struct LogPath
{
	uint64 numbers[LOG_MAX_PATH];
	int n;
} LogPath;

/* tenant_log_read(), which also reports the entries. */
extern PsError *log_read_path(ObjectStore *store, const PsId *tenant, uint64 below, const ObjectWait *wait,
							  LogEntryInfo *newest, LogChange *state, LogPath *path);

#endif /* PS_TENANT_LOG_IMPL_H */
