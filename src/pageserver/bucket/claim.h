/*
 * claim.h
 *	  Who owns a tenant in a bucket.
 *
 * A store owns a tenant from when it has created the claim of a generation, until
 * there is a claim of the next one.  Claims are numbered from 1, without gaps, and are
 * never deleted while the tenant exists.  A store makes a new claim whenever it starts
 * and whenever it attaches the tenant, so of a copied disk or machine only the one
 * that started last owns the tenant.
 *
 * An owner that a newer claim has replaced may not know that yet, and may have
 * requests under way; tenant_log.h and chain.h keep it from doing harm.
 *
 * A claim is a JSON object (base/json_file.h):
 *	  format, version, crc32c, tenant, generation (as text),
 *	  id			random
 *	  took_over		id of the claim of the generation before; "" in the first one
 *	  store			id of the process that claimed, random at each start
 *	  host, path	its machine and STORE directory, for people
 *	  time			seconds since 1970
 *
 * All functions may be called by any thread.
 */
#ifndef PS_CLAIM_H
#define PS_CLAIM_H

#include <jansson.h>

#include "base/id.h"
#include "remote/object.h"

/* Who claims. */
typedef struct StoreIdentity
{
	PsId id;          /* random at each start */
	const char *host; /* for people, like path */
	const char *path;
} StoreIdentity;

#define CLAIM_HOST_SIZE 256

typedef struct Claim
{
	uint64 generation;
	PsId id;
	bool has_took_over;
	PsId took_over;
	PsId store;
	char host[CLAIM_HOST_SIZE];
	char path[MAXPGPATH];
	int64 time; /* s */
} Claim;

/* A tenant in a bucket, and the generation in which this process owns it.  Does not change. */
typedef struct TenantOwner
{
	ObjectStore *store;
	PsId tenant;
	uint64 generation;
} TenantOwner;

/* The newest claim.  *found is false if the bucket has no such tenant. */
extern PsError *claim_newest(ObjectStore *store, const PsId *tenant, const ObjectWait *wait, Claim *claim, bool *found);

/* Makes the claim of the generation after "newest", or the first one if that is NULL.  Writes nothing. */
extern void claim_make(Claim *claim, const Claim *newest, const StoreIdentity *who);

/*
 * Claims the tenant.  After an error other than PS_SQLSTATE_FENCED the claim may have
 * been written, or may be written later; a repeated call with the same claim is safe.
 * PS_SQLSTATE_FENCED: somebody else has made this claim.
 */
extern PsError *claim_put(ObjectStore *store, const PsId *tenant, const Claim *claim, const ObjectWait *wait,
						  TenantOwner *owner);

/* A claim as JSON, which the caller owns, and back.  False: a member is missing or invalid, or of another tenant. */
extern json_t *claim_to_json(const PsId *tenant, const Claim *claim);
extern bool claim_from_json(const json_t *root, const PsId *tenant, Claim *claim);

/* PS_SQLSTATE_FENCED if there is a newer claim: the error names it. */
extern PsError *claim_check(const TenantOwner *owner, const ObjectWait *wait);

/*
 * The error of an owner that found out, by another way than claim_check(), that it
 * is not the only one.  Always PS_SQLSTATE_FENCED; names the newer owner if
 * that can be read.
 */
extern PsError *claim_fenced(const TenantOwner *owner, const ObjectWait *wait);

/*
 * The error of an owner of a generation, or of one that has never been owner (0), that
 * names the claim of somebody else, unless that is NULL.
 */
extern PsError *claim_fenced_by(const PsId *tenant, uint64 generation, const Claim *theirs);

/*
 * For an owner that has found an object missing or not as it must be: returns the
 * error, or the one of claim_check() instead if a newer owner is the reason.
 */
extern PsError *claim_explain(const TenantOwner *owner, PsError *err, const ObjectWait *wait);

#endif /* PS_CLAIM_H */
