/*
 * purged.h
 *	  The timelines of a tenant that were removed for good here, and may still be in object
 *	  storage.
 *
 * The file TENANT/purged.json (base/json_file.h): format, version, crc32c, and
 *	  timelines		array of ids
 *
 * It tells a timeline that was removed on purpose from one that is missing because the
 * tenant's directory is an old copy.  Only tenants that have been in object storage have it.
 */
#ifndef PS_PURGED_H
#define PS_PURGED_H

#include "base/error.h"
#include "base/id.h"

/* Durable; before the timeline is removed.  Does nothing if the tenant has never been in object storage. */
extern PsError *purged_add(const char *tenant_dir, const PsId *timeline);

/* The list, malloc'd. */
extern PsError *purged_read(const char *tenant_dir, PsId **list, int *n);

/* Removes timelines that are not in object storage any more from the file. */
extern PsError *purged_forget(const char *tenant_dir, const PsId *list, int n);

#endif /* PS_PURGED_H */
