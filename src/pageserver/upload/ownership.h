/*
 * ownership.h
 *	  Which directory may own a tenant in a bucket.
 *
 * The file TENANT/remote.json (base/json_file.h) has the claim that was last made for
 * this directory:
 *	  format, version, crc32c,
 *	  bucket	id of the bucket with its prefix (bucket/bucket.h)
 *	  claim		the members of the claim (bucket/claim.h)
 *
 * It is written before the claim is put.
 */
#ifndef PS_OWNERSHIP_H
#define PS_OWNERSHIP_H

#include "bucket/claim.h"

#define OWNERSHIP_FILE "remote.json"

/*
 * Makes this process the owner of a tenant, if the newest claim in the bucket is that
 * of the tenant's directory, dir, or if there is no claim.  Called by
 * one thread for each tenant; after an error it may be called again.
 *
 * PS_SQLSTATE_FENCED: somebody else owns the tenant.  PS_SQLSTATE_CORRUPTED:
 * the file is damaged, or claims are missing in the bucket.
 */
extern PsError *ownership_take(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *dir,
							   const StoreIdentity *who, const ObjectWait *wait, TenantOwner *owner);

#endif /* PS_OWNERSHIP_H */
