/*
 * decoder.h
 *	  From bytes of the WAL stream to whole and checked records.
 *
 * A decoder belongs to one thread at a time.
 */
#ifndef PS_PG_DECODER_H
#define PS_PG_DECODER_H

#include "base/error.h"
#include "pg/record.h"

typedef struct WalDecoder WalDecoder;

/* How much of each record a decoder returns.  It checks the whole record in any case. */
typedef enum WalContents
{
	WAL_WHOLE,
	WAL_NEEDED, /* what wal_interpret() and wal_state_apply() need: at least WAL_CUT_LEN */
	WAL_HEADERS /* at least the header */
} WalContents;

/*
 * Creates a decoder whose first byte is the one at "start": the end of a record
 * (WalRecord.end), or the start of a segment.  With skip_contrecord, the rest of a
 * record at the start is skipped.  system_identifier 0: the one in the first long page
 * header.  prev: start of the previous record, with which xl_prev is compared, or
 * InvalidXLogRecPtr if it is unknown.
 */
extern WalDecoder *wal_decoder_create(XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier, uint32 segment_size,
									  bool skip_contrecord);
extern void wal_decoder_free(WalDecoder *dec);

/* To be called before the first record; the default is WAL_WHOLE. */
extern void wal_decoder_set_contents(WalDecoder *dec, WalContents contents);

/* Adds the next bytes of the stream; copies them. */
extern void wal_decoder_feed(WalDecoder *dec, const char *data, size_t len);

/*
 * Like wal_decoder_feed(), without a copy: returns room for len bytes; the caller
 * writes to it and says how many.  The pointer is valid until the next call.
 */
extern char *wal_decoder_room(WalDecoder *dec, size_t len);
extern void wal_decoder_fed(WalDecoder *dec, size_t len);

/*
 * Returns the next whole record, if the bytes so far contain one (*found).  Checks
 * page headers (magic, address, system identifier, continuation length), xl_prev,
 * length, resource manager and CRC.  An error (PS_SQLSTATE_CORRUPTED) names the LSN and
 * what was expected; every later call returns it again.
 */
extern PsError *wal_decoder_next(WalDecoder *dec, WalRecord *rec, bool *found);

/* The end of the last whole record; its start; how far the bytes were examined; the LSN of the next byte to be fed. */
extern XLogRecPtr wal_decoder_record_end(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_record_prev(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_position(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_feed_position(const WalDecoder *dec);

/* Where a record that follows "end" begins: after the page header if end is at a page boundary. */
extern XLogRecPtr wal_record_start_after(XLogRecPtr end, uint32 segment_size);

#endif /* PS_PG_DECODER_H */
