/*
 * audit.h
 *	  Checks the objects of a tenant from the bucket alone, whoever owns it, and writes
 *	  nothing to the bucket.
 *
 * Every object that the tenant's log names must exist with its size, and the WAL chain
 * of each timeline must have no gap.  With a scratch directory the contents of layer
 * files are checked, too.
 */
#ifndef PS_AUDIT_H
#define PS_AUDIT_H

#include "bucket/inventory.h"

typedef enum AuditKind
{
	AUDIT_MISSING, /* the log names it, and it does not exist */
	AUDIT_DAMAGED, /* it is not what the log says, or its contents are damaged */
	AUDIT_ORPHAN,  /* the log does not name it: not yet, or not any more */
	AUDIT_FOREIGN  /* no key of this program's */
} AuditKind;

typedef struct AuditFinding
{
	AuditKind kind;
	char object[OBJECT_KEY_MAX + 1];
	int64 bytes;   /* -1: missing */
	char *message; /* NULL: the kind says it */
} AuditFinding;

typedef struct AuditResult
{
	LogEntryInfo entry; /* of the tenant's log, with which the objects were compared */
	uint64 objects;     /* all that the log names, claims and fences included */
	int64 bytes;
	AuditFinding *findings;
	int nfindings;
} AuditResult;

/*
 * Checks a tenant.  scratch: a directory for one layer file at a time; NULL: their
 * contents are not read.  The caller frees the result with audit_free(), also after an
 * error.  PS_SQLSTATE_NOT_FOUND: the bucket has no such tenant.
 */
extern PsError *audit_tenant(ObjectStore *store, const PsId *tenant, const char *scratch, const ObjectWait *wait,
							 AuditResult *result);
extern void audit_free(AuditResult *result);

/* The tenants that have objects in the bucket, malloc'd. */
extern PsError *audit_tenants(ObjectStore *store, const ObjectWait *wait, PsId **tenants, int *n);

#endif /* PS_AUDIT_H */
