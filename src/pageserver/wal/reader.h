/*
 * reader.h
 *	  Records out of the WAL files of a timeline, in order.
 *
 * A reader belongs to one thread at a time.
 */
#ifndef PS_WAL_READER_H
#define PS_WAL_READER_H

#include "wal/segments.h"

typedef struct WalReader WalReader;

/* Reads records from "start", the end of a record, on.  prev as for wal_decoder_create(). */
extern WalReader *wal_reader_create(WalSegments *segs, XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier);
extern void wal_reader_free(WalReader *reader);

/*
 * Returns the next record that ends at or before "upto", cut if possible (WAL_NEEDED).
 * *found is false if there is none yet; call again with a later upto.
 */
extern PsError *wal_reader_next(WalReader *reader, XLogRecPtr upto, WalRecord *rec, bool *found);

#endif /* PS_WAL_READER_H */
