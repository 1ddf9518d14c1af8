/*
 * reader.c
 *	  Records out of a timeline's WAL files, in order.
 */
#include "ps_fe.h"

#include "pg/decoder.h"
#include "wal/reader.h"

/* Bytes that are read at once. */
#define READ_SIZE (256 * 1024)

struct WalReader
{
	WalSegments *segs;
	WalDecoder *decoder;
	WalRecord held; /* a record that ends beyond what the caller may see yet */
	bool is_held;
};

WalReader *
wal_reader_create(WalSegments *segs, XLogRecPtr start, XLogRecPtr prev, uint64 system_identifier)
{
	WalReader *reader = pg_malloc0(sizeof(WalReader));

	reader->segs = segs;
	reader->decoder = wal_decoder_create(start, prev, system_identifier, wal_segments_segment_size(segs), false);
	wal_decoder_set_contents(reader->decoder, WAL_NEEDED);
	return reader;
}

void
wal_reader_free(WalReader *reader)
{
	if (reader == NULL)
		return;
	wal_decoder_free(reader->decoder);
	free(reader);
}

/* Puts before the decoder's error in which file it is: that of the bad record's beginning, up to where it was read. */
static PsError *
name_file(const WalReader *reader, PsError *err)
{
	uint32 segment_size = wal_segments_segment_size(reader->segs);
	char path[MAXPGPATH];
	char last[MAXFNAMELEN];
	XLogSegNo from,
		to;

	if (err == NULL)
		return NULL;
	XLByteToSeg(wal_decoder_record_end(reader->decoder), from, segment_size);
	XLByteToSeg(wal_decoder_position(reader->decoder), to, segment_size);
	wal_segments_path(reader->segs, from, path);
	XLogFileName(last, 1, to, segment_size);
	if (from == to)
		return ps_error_context(err, "WAL file \"%s\"", path);
	return ps_error_context(err, "WAL files \"%s\" to \"%s\"", path, last);
}

PsError *
wal_reader_next(WalReader *reader, XLogRecPtr upto, WalRecord *rec, bool *found)
{
	*found = false;
	while (!reader->is_held)
	{
		XLogRecPtr pos;
		size_t len;

		PS_TRY(name_file(reader, wal_decoder_next(reader->decoder, &reader->held, &reader->is_held)));
		if (reader->is_held)
			break;
		pos = wal_decoder_feed_position(reader->decoder);
		if (pos >= upto)
			return NULL;
		/* up to a multiple of the size: later reads are aligned to it */
		len = Min(upto - pos, READ_SIZE - pos % READ_SIZE);
		PS_TRY(wal_segments_read(reader->segs, pos, wal_decoder_room(reader->decoder, len), len));
		wal_decoder_fed(reader->decoder, len);
	}
	/* only a switch of segments ends beyond bytes that were read */
	if (reader->held.end > upto)
		return NULL;
	*rec = reader->held;
	*found = true;
	reader->is_held = false;
	return NULL;
}
