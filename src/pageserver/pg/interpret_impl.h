/*
 * interpret_impl.h
 *	  The parts of interpret.c.  Each reports to the sink what records of some
 *	  resource managers change besides the blocks that they reference.
 */
#ifndef PS_PG_INTERPRET_IMPL_H
#define PS_PG_INTERPRET_IMPL_H

#include "pg/interpret.h"

/* interpret_xact.c */
extern PsError *interpret_xact(const WalRecord *rec, const WalParsed *parsed, bool track_commit_timestamp,
							   const WalSink *sink);
extern PsError *interpret_clog(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);
extern PsError *interpret_commit_ts(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);
extern PsError *interpret_multixact(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);
extern PsError *interpret_replorigin(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);

/* interpret_storage.c */
extern PsError *interpret_smgr(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);
extern PsError *interpret_dbase(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);
extern PsError *interpret_tblspc(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);
extern PsError *interpret_relmap(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);

/* Visibility map pages that a record of RM_HEAP_ID or RM_HEAP2_ID clears without a reference. */
extern PsError *interpret_heap(const WalRecord *rec, const WalParsed *parsed, const WalSink *sink);

#endif /* PS_PG_INTERPRET_IMPL_H */
