/*
 * ownership.h
 *	  Which directory may own a tenant in a bucket.
 *
 * The file TENANT/remote.json (base/json_file.h) has the claims that were made for this
 * directory:
 *	  format, version, crc32c,
 *	  bucket	id of the bucket with its prefix (bucket/bucket.h); "": not known yet
 *	  url		its URL, for people
 *	  claims	array of claims (bucket/claim.h), each the one after its predecessor
 *	  first_put	whether the first claim is known to be in the bucket; if not, it is claim 1
 *
 * The other claims follow the first one in the bucket, as far as they are there.  A claim
 * is in the file, durably, before it is put, and before a file or a generation of a
 * compute gets a number of its generation.  So of a directory and its copies, none
 * uses a number that another one uses in the bucket, and only that one can go on there
 * which is first to put its claim.
 *
 * These functions are called by one thread at a time for each tenant.
 */
#ifndef PS_OWNERSHIP_H
#define PS_OWNERSHIP_H

#include "bucket/claim.h"

#define OWNERSHIP_FILE "remote.json"

/* Does the directory of a tenant have a claim? */
extern bool ownership_exists(const char *dir);

/*
 * Makes a claim and writes it to the file, without the bucket: for a tenant that is to
 * be served before the bucket can be asked.  ownership_take() puts it later.
 */
extern PsError *ownership_prepare(const PsId *tenant, const char *dir, const StoreIdentity *who, uint64 *generation);

/*
 * Makes this process the owner of a tenant, if the newest claim in the bucket is one of
 * those in the file, or if there is none: with the claim that ownership_prepare() made,
 * of the generation "prepared", or, if that is 0, with a new one.  After an error it may
 * be called again.
 *
 * A directory that belongs to another bucket is refused, unless move_here.
 *
 * PS_SQLSTATE_FENCED: somebody else owns the tenant.  PS_SQLSTATE_CORRUPTED: the file is
 * damaged, or claims are missing in the bucket.  PS_SQLSTATE_STATE: another bucket.
 */
extern PsError *ownership_take(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *dir,
							   const StoreIdentity *who, uint64 prepared, bool move_here, const ObjectWait *wait,
							   TenantOwner *owner);

/*
 * For a new directory, which has no file yet: writes the file with the newest claim that the
 * bucket has, somebody else's, and with one that follows it, and puts that.  The caller has
 * decided that the owner may be replaced.  Errors: those of claim_put(); the directory is to be
 * removed then.
 */
extern PsError *ownership_take_over(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *dir,
									const StoreIdentity *who, const Claim *newest, const ObjectWait *wait,
									TenantOwner *owner);

#endif /* PS_OWNERSHIP_H */
