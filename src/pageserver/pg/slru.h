/*
 * slru.h
 *	  SLRU pages: what a record does to one, and where things are stored.
 */
#ifndef PS_PG_SLRU_H
#define PS_PG_SLRU_H

#include "base/error.h"
#include "key.h"
#include "pg/parse.h"

/*
 * Applies a record for which wal_interpret() called sink->slru to one page, with the
 * pageno of that call; page has BLCKSZ bytes, zeros if the page is new.
 */
extern PsError *wal_slru_apply(const WalRecord *rec, PsSlru slru, uint32 pageno, char *page);

/*
 * Does a record for which wal_interpret() called sink->slru_truncate remove this
 * segment?  Mirrors SimpleLruTruncate() with the SLRU's PagePrecedes, and
 * PerformMembersTruncation() of multixact.c.
 */
extern bool wal_slru_truncates(const WalRecord *rec, PsSlru slru, uint32 cutoff_page, uint32 segno);

/* The page that holds a transaction's status, and so on; pages count from the beginning of the SLRU. */
extern uint32 clog_page(TransactionId xid);
extern uint32 commit_ts_page(TransactionId xid);
extern uint32 multixact_offsets_page(MultiXactId multi);
extern uint32 multixact_members_page(MultiXactOffset offset);

/* The multixact after this one (RecordNewMultiXact() of multixact.c skips 0). */
extern MultiXactId multixact_next(MultiXactId multi);

#endif /* PS_PG_SLRU_H */
