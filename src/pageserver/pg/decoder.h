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

/* What a decoder gives of records.  All of each is checked in any case. */
typedef enum WalContents
{
	WAL_WHOLE,
	WAL_NEEDED, /* what wal_interpret() and wal_state_apply() look at: WAL_CUT_LEN at least */
	WAL_HEADERS /* the header at least */
} WalContents;

/*
 * A decoder whose next byte is the one at "start", which is the end of a
 * record (WalRecord.end) or a segment's start followed by the rest of a record
 * that is to be skipped only if skip_contrecord is true.  system_identifier 0:
 * take the one of the first long page header.  prev: start of the record
 * before, or InvalidXLogRecPtr when unknown; xl_prev of each record is
 * compared with it.
 */
extern WalDecoder *wal_decoder_create(XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier, uint32 segment_size,
									  bool skip_contrecord);
extern void wal_decoder_free(WalDecoder *dec);

/* Before the first record; without it, WAL_WHOLE. */
extern void wal_decoder_set_contents(WalDecoder *dec, WalContents contents);

/* Takes in the next bytes of the stream; copies them. */
extern void wal_decoder_feed(WalDecoder *dec, const char *data, size_t len);

/*
 * The same without a copy: room for len bytes of the stream, then how many of
 * them were put there.  The pointer is valid until the next call.
 */
extern char *wal_decoder_room(WalDecoder *dec, size_t len);
extern void wal_decoder_fed(WalDecoder *dec, size_t len);

/*
 * The next whole record, if the bytes so far hold one (*found).  Page headers
 * (magic, address, system identifier, continuation length), xl_prev, length,
 * rmgr id and CRC are checked; an error names the LSN and what was expected,
 * and the decoder stays in error.
 */
extern PsError *wal_decoder_next(WalDecoder *dec, WalRecord *rec, bool *found);

/* End of the last whole record, its start, up to where it has looked, and where the next fed byte belongs. */
extern XLogRecPtr wal_decoder_record_end(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_record_prev(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_position(const WalDecoder *dec);
extern XLogRecPtr wal_decoder_feed_position(const WalDecoder *dec);

/* Where a record that would follow "end" begins: past the page header if end is at a page boundary. */
extern XLogRecPtr wal_record_start_after(XLogRecPtr end, uint32 segment_size);

#endif /* PS_PG_DECODER_H */
