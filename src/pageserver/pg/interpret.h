/*
 * interpret.h
 *	  From a record to the keys that it changes.
 */
#ifndef PS_PG_INTERPRET_H
#define PS_PG_INTERPRET_H

#include "base/error.h"
#include "key.h"
#include "pg/parse.h"

/*
 * What a record does to the keys.  Each member may fail; the record is then
 * not ingested.  All are called in the order in which redo would act.
 */
typedef struct WalSink
{
	void *arg;

	/*
	 * Redo of this record changes the block (once per block and record).
	 * will_init: the record alone makes the page (WILL_INIT, or an image that
	 * is applied), nothing older is needed.  Extends the relation if need be,
	 * but for a record of RM_SMGR_ID (a truncation that leaves part of a
	 * visibility map page): there a block that does not exist is left alone.
	 */
	PsError *(*block)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init);

	/* The same for a page of an SLRU: wal_slru_apply() applies the record. */
	PsError *(*slru)(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init);

	/*
	 * Every existing segment of which wal_slru_truncates() says so goes: in
	 * most cases those wholly before cutoff_page.
	 */
	PsError *(*slru_truncate)(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page);

	/* A fork that is shorter than nblocks, or does not exist, is left alone by rel_truncate. */
	PsError *(*rel_create)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork);
	PsError *(*rel_truncate)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks);
	PsError *(*rel_drop)(void *arg, const WalRecord *rec, PsRel rel); /* all forks */

	/*
	 * Whole directories (a database in one tablespace): DATABASE, RELMAP, and
	 * all relations.  What the destination of a copy held before goes.
	 */
	PsError *(*db_copy)(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db);
	PsError *(*db_drop)(void *arg, const WalRecord *rec, Oid spc, Oid db);

	/*
	 * Progress of a replication origin (key ORIGIN).  Unless force is set, a
	 * remote_lsn that is not greater than the stored one changes nothing
	 * (origin.c, replorigin_advance()).  Its end is told by del.
	 */
	PsError *(*origin)(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force);

	/* A whole small value (relation map, two-phase state, tablespace, database), or its end. */
	PsError *(*put)(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len);
	PsError *(*del)(void *arg, const WalRecord *rec, const PsKey *key);
} WalSink;

/*
 * Tells the sink what the record changes.  A record of an unknown rmgr, or of
 * a known rmgr with an info that PostgreSQL 15 does not write, is an error
 * that names both.  track_commit_timestamp as the WalState before the record has it.
 */
extern PsError *wal_interpret(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp,
							  const WalSink *sink);

#endif /* PS_PG_INTERPRET_H */
