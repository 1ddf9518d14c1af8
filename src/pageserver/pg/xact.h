/*
 * xact.h
 *	  The contents of commit, abort and prepare records, for interpret_xact.c,
 *	  slru.c and walstate.c.
 */
#ifndef PS_PG_XACT_H
#define PS_PG_XACT_H

#include "access/xact.h"
#include "datatype/timestamp.h"

#include "pg/parse.h"

/*
 * What redo needs of a record that ends or prepares a transaction.  The arrays are not
 * aligned: read them with xact_subxid() and xact_rel().
 */
typedef struct XactRecord
{
	TransactionId xid; /* the transaction, also of COMMIT/ABORT PREPARED */
	bool commit;       /* false: abort; undefined for PREPARE */
	TimestampTz time;
	uint32 xinfo; /* XACT_XINFO_*; 0 for PREPARE */
	uint32 nsubxacts;
	const char *subxacts;
	uint32 nrels; /* dropped relations; not set for PREPARE */
	const char *rels;
	XLogRecPtr origin_lsn; /* if the record has an origin */
	TimestampTz origin_timestamp;
} XactRecord;

static inline TransactionId
xact_subxid(const XactRecord *xact, uint32 i)
{
	TransactionId xid;

	memcpy(&xid, xact->subxacts + i * sizeof(TransactionId), sizeof(TransactionId));
	return xid;
}

static inline PsRel
xact_rel(const XactRecord *xact, uint32 i)
{
	RelFileNode node;

	memcpy(&node, xact->rels + i * sizeof(RelFileNode), sizeof(RelFileNode));
	return (PsRel) {.spc = node.spcNode, .db = node.dbNode, .rel = node.relNode};
}

/*
 * Mirrors ParseCommitRecord() and ParseAbortRecord() of xactdesc.c for COMMIT,
 * COMMIT_PREPARED, ABORT and ABORT_PREPARED, with bounds.
 */
extern PsError *xact_parse(const WalRecord *rec, const WalParsed *parsed, XactRecord *xact);

/* Mirrors ParsePrepareRecord(). */
extern PsError *xact_parse_prepare(const WalRecord *rec, const WalParsed *parsed, XactRecord *xact);

/* The size in the header of a PREPARE record, which is that of the state file. */
extern uint32 xact_prepare_total_len(const WalParsed *parsed);

#endif /* PS_PG_XACT_H */
