/*
 * layer_dump.h
 *	  What the files of layer dump know of each other: the walk over a layer
 *	  file (layer_dump.c) finds what is in it, and hands that to a printer.
 */
#ifndef PS_LAYER_DUMP_H
#define PS_LAYER_DUMP_H

#include "layer/blob.h"
#include "layer/layer_dict.h"
#include "layer/layer_file.h"
#include "pg/relsize.h"
#include "pg/walstate.h"

#define DUMP_KINDS     (VALUE_RECORD + 1)
#define DUMP_CODECS    (LAYER_CODEC_DICT + 1)
#define DUMP_KEY_KINDS (PS_KEY_AUX + 1)

/* Names by ValueKind; by codec, with "?" for one that is none; by PsKeyKind, [0] for kinds that are none. */
extern const char *const dump_kind_names[DUMP_KINDS];
extern const char *const dump_codec_names[DUMP_CODECS + 1];
extern const char *const dump_key_names[DUMP_KEY_KINDS];

/* ---- layer_value.c: what is in a value ---- */

typedef enum LayerValueType
{
	LAYER_VALUE_NOTHING, /* a tombstone, or what has no form that is known */
	LAYER_VALUE_RECORD,
	LAYER_VALUE_PAGE,
	LAYER_VALUE_RELSIZE,
	LAYER_VALUE_STATE,
	LAYER_VALUE_CONTROL,
	LAYER_VALUE_CONTROL_SHORT, /* a control file that is too short */
	LAYER_VALUE_SLRU_PAGES,
	LAYER_VALUE_REMOTE_LSN,
	LAYER_VALUE_TEXT,
	LAYER_VALUE_FILE, /* its name, then its bytes */
	LAYER_VALUE_BYTES
} LayerValueType;

/* A value taken apart; it points into the bytes that it was made of. */
typedef struct LayerValue
{
	LayerValueType type;
	const char *data;
	uint32 len;
	union
	{
		struct
		{
			XLogRecPtr start;
			char rmgr[32];
			WalParsed parsed;
		} record;
		RelSize relsize;
		WalState state;
		ControlFileData control;
		uint32 slru_pages;
		XLogRecPtr remote_lsn;
		struct
		{
			const char *what;
			char *text;  /* malloc'd: as far as a zero byte or the line's end */
			uint32 rest; /* bytes behind its zero byte */
		} text;
	};
} LayerValue;

/* An error if the bytes cannot be what the key says; there is nothing to free then. */
extern PsError *layer_value_decode(const PsKey *key, ValueKind kind, const char *data, uint32 len, XLogRecPtr record_start,
								   LayerValue *value);
extern void layer_value_free(LayerValue *value);

/* All bytes are zero. */
extern bool layer_value_is_zeros(const char *data, uint32 len);

/* ---- printers ---- */

typedef struct DumpTotal
{
	uint64 values;
	uint64 raw;
	uint64 stored;
} DumpTotal;

typedef struct DumpEntryTotal
{
	uint64 of_kind[DUMP_KINDS];
	uint64 will_init;
	uint64 shared;
} DumpEntryTotal;

typedef struct DumpTotals
{
	DumpEntryTotal entries[DUMP_KEY_KINDS];
	DumpTotal values[DUMP_KINDS][DUMP_CODECS];
	uint64 headers; /* bytes of the headers of values */
	uint64 unnamed; /* bytes among the values that no entry names */
	uint64 length;  /* of the file as it is */
} DumpTotals;

typedef struct DumpEntry
{
	const PsKey *key;
	const ValueRef *ref;
	bool damaged; /* the value cannot be read: nothing of it follows */
	StoredValue stored;
	const char *data;
	uint32 len;
	const LayerValue *value; /* NULL: not wanted, or the bytes cannot be what the key says */
	bool hexdump;            /* the bytes are wanted */
} DumpEntry;

/*
 * All on standard output, in the order of the members, as far as the file can
 * be read; problems come at any time.  Damage is told on standard error by the
 * caller.
 */
typedef struct DumpPrinter
{
	void (*begin)(const char *path);
	void (*summary)(const LayerFile *file, const uint8 *block);
	void (*totals)(const LayerSummary *summary, const DumpTotals *totals);
	void (*begin_entries)(void);
	void (*entry)(const DumpEntry *entry);
	void (*damaged_page)(uint32 page); /* among the entries */
	void (*end_entries)(void);
	void (*problem)(const PsError *err);
	void (*end)(void);
} DumpPrinter;

extern const DumpPrinter dump_text_printer;
extern const DumpPrinter dump_json_printer;

#endif /* PS_LAYER_DUMP_H */
