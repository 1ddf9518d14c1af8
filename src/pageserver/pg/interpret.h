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
 * What a record does to the keys.  The functions are called in the order in which
 * redo would act.  An error of one ends wal_interpret(), which returns it.
 */
typedef struct WalSink
{
	void *arg;

	/*
	 * Redo of this record changes the block (once per block and record).
	 * will_init: the record alone makes the page (WILL_INIT, or an image that
	 * is applied); nothing older is needed.  Extends the relation if necessary,
	 * except for a record of RM_SMGR_ID (a truncation that leaves part of a
	 * visibility map page), which ignores a block that does not exist.
	 */
	PsError *(*block)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber blk, bool will_init);

	/* Redo of this record changes a page of an SLRU; wal_slru_apply() applies the record. */
	PsError *(*slru)(void *arg, const WalRecord *rec, PsSlru slru, uint32 pageno, bool will_init);

	/*
	 * Removes every existing segment for which wal_slru_truncates() is true: in
	 * most cases those wholly before cutoff_page.
	 */
	PsError *(*slru_truncate)(void *arg, const WalRecord *rec, PsSlru slru, uint32 cutoff_page);

	/* rel_truncate ignores a fork that is shorter than nblocks or does not exist. */
	PsError *(*rel_create)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork);
	PsError *(*rel_truncate)(void *arg, const WalRecord *rec, PsRel rel, ForkNumber fork, BlockNumber nblocks);
	PsError *(*rel_drop)(void *arg, const WalRecord *rec, PsRel rel); /* all forks */

	/*
	 * Whole directories (a database in one tablespace): DATABASE, RELMAP, and
	 * all relations.  A copy replaces what the destination contained.
	 */
	PsError *(*db_copy)(void *arg, const WalRecord *rec, Oid src_spc, Oid src_db, Oid spc, Oid db);
	PsError *(*db_drop)(void *arg, const WalRecord *rec, Oid spc, Oid db);

	/*
	 * Progress of a replication origin (key ORIGIN).  Unless force is set, a
	 * remote_lsn that is not greater than the stored one changes nothing
	 * (origin.c, replorigin_advance()).  A dropped origin is reported by del.
	 */
	PsError *(*origin)(void *arg, const WalRecord *rec, RepOriginId id, XLogRecPtr remote_lsn, bool force);

	/* Sets or removes a whole small value (relation map, two-phase state, tablespace, database). */
	PsError *(*put)(void *arg, const WalRecord *rec, const PsKey *key, const char *data, uint32 len);
	PsError *(*del)(void *arg, const WalRecord *rec, const PsKey *key);
} WalSink;

/*
 * Reports to the sink what the record changes.  An unknown resource manager, or an
 * info that PostgreSQL 15 does not write, is an error (PS_SQLSTATE_CORRUPTED) that names
 * both.  track_commit_timestamp is that of the WalState before the record.  Keeps
 * nothing; any thread.
 */
extern PsError *wal_interpret(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp,
							  const WalSink *sink);

#endif /* PS_PG_INTERPRET_H */
