/*
 * layer_dump.h
 *	  Declarations shared by the files of "layer dump": cmd_layer_dump.c reads
 *	  a layer file and passes what it finds to a printer.
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

/*
 * Names by ValueKind; by codec, with "?" for an invalid one; by PsKeyKind, with [0]
 * for an invalid one.
 */
extern const char *const dump_kind_names[DUMP_KINDS];
extern const char *const dump_codec_names[DUMP_CODECS + 1];
extern const char *const dump_key_names[DUMP_KEY_KINDS];

/* ---- layer_value.c: decoding a value ---- */

typedef enum LayerValueType
{
	LAYER_VALUE_NOTHING, /* a tombstone, or a value of unknown format */
	LAYER_VALUE_RECORD,
	LAYER_VALUE_PAGE,
	LAYER_VALUE_RELSIZE,
	LAYER_VALUE_STATE,
	LAYER_VALUE_CONTROL,
	LAYER_VALUE_CONTROL_SHORT, /* a control file that is too short */
	LAYER_VALUE_SLRU_PAGES,
	LAYER_VALUE_REMOTE_LSN,
	LAYER_VALUE_TEXT,
	LAYER_VALUE_FILE, /* the name of a file, then its contents */
	LAYER_VALUE_BYTES
} LayerValueType;

/* A decoded value.  It points into the bytes from which it was decoded. */
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
			char *text;  /* malloc'd: up to the first zero byte or newline */
			uint32 rest; /* number of bytes after the zero byte */
		} text;
	};
} LayerValue;

/*
 * Decodes a value.  Returns an error if the bytes are not valid for the kind of the
 * key; there is nothing to free then.
 */
extern PsError *layer_value_decode(const PsKey *key, ValueKind kind, const char *data, uint32 len,
								   XLogRecPtr record_start, LayerValue *value);

/* Frees what layer_value_decode() allocated. */
extern void layer_value_free(LayerValue *value);

/* Are all bytes zero? */
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
	uint64 headers; /* bytes used by the headers of values */
	uint64 unnamed; /* bytes between values to which no entry points */
	uint64 length;  /* actual length of the file */
} DumpTotals;

typedef struct DumpEntry
{
	const PsKey *key;
	const ValueRef *ref;
	bool damaged; /* the value cannot be read; the members below are not set */
	StoredValue stored;
	const char *data;
	uint32 len;
	const LayerValue *value; /* NULL if not requested or not valid for the key */
	bool hexdump;            /* the bytes are to be shown */
} DumpEntry;

/*
 * A printer writes to standard output.  Its functions are called in the order of the
 * members, as far as the file can be read; problem() is called at any time.  The
 * caller also reports damage on standard error.
 */
typedef struct DumpPrinter
{
	void (*begin)(const char *path);
	void (*summary)(const LayerFile *file, const uint8 *block);
	void (*totals)(const LayerSummary *summary, const DumpTotals *totals);
	void (*begin_entries)(void);
	void (*entry)(const DumpEntry *entry);
	void (*damaged_page)(uint32 page); /* called between entries */
	void (*end_entries)(void);
	void (*problem)(const PsError *err);
	void (*end)(void);
} DumpPrinter;

extern const DumpPrinter dump_text_printer;
extern const DumpPrinter dump_json_printer;

#endif /* PS_LAYER_DUMP_H */
