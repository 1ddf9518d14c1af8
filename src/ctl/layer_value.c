/*
 * layer_value.c
 *	  Decodes the values of a layer file for "layer dump".
 */
#include "ps_fe.h"

#include "storage/bufpage.h"

#include "layer_dump.h"
#include "bytes.h"
#include "sqlstate.h"

static PsError *
decode_record(const char *data, uint32 len, XLogRecPtr start, LayerValue *value)
{
	WalRecord rec = {.start = start, .len = len, .data = data};
	const XLogRecord *header = (const XLogRecord *) data;

	if (len < SizeOfXLogRecord)
		return ps_error(PS_SQLSTATE_CORRUPTED, "WAL record has %u bytes, less than its header", len);
	PS_TRY(wal_parse(&rec, &value->record.parsed));
	value->type = LAYER_VALUE_RECORD;
	value->record.start = start;
	if (wal_rmgr_name(header->xl_rmid) != NULL)
		strlcpy(value->record.rmgr, wal_rmgr_name(header->xl_rmid), sizeof(value->record.rmgr));
	else
		snprintf(value->record.rmgr, sizeof(value->record.rmgr), "custom%03u", header->xl_rmid);
	return NULL;
}

static PsError *
decode_page(uint32 len, LayerValue *value)
{
	if (len != BLCKSZ)
		return ps_error(PS_SQLSTATE_CORRUPTED, "page has %u bytes, expected %d", len, BLCKSZ);
	value->type = LAYER_VALUE_PAGE;
	return NULL;
}

static void
decode_control(const char *data, uint32 len, LayerValue *value)
{
	value->type = len < sizeof(value->control) ? LAYER_VALUE_CONTROL_SHORT : LAYER_VALUE_CONTROL;
	if (value->type == LAYER_VALUE_CONTROL)
		memcpy(&value->control, data, sizeof(value->control));
}

static void
decode_text(LayerValueType type, const char *what, const char *data, uint32 len, LayerValue *value)
{
	uint32 end = (uint32) strnlen(data, len);
	const char *newline = memchr(data, '\n', end);

	value->type = type;
	value->text.what = what;
	value->text.text = pnstrdup(data, newline != NULL ? newline - data : end);
	value->text.rest = len - Min(len, end + 1);
}

PsError *
layer_value_decode(const PsKey *key, ValueKind kind, const char *data, uint32 len, XLogRecPtr record_start,
				   LayerValue *value)
{
	value->type = LAYER_VALUE_NOTHING;
	value->data = data;
	value->len = len;
	if (kind == VALUE_TOMBSTONE)
		return NULL;
	if (kind == VALUE_RECORD)
		return decode_record(data, len, record_start, value);
	switch (key->kind)
	{
		case PS_KEY_RELBLOCK:
			return decode_page(len, value);
		case PS_KEY_RELSIZE:
		case PS_KEY_INITSIZE:
			memset(&value->relsize, 0, sizeof(value->relsize));
			PS_TRY(relsize_decode(data, len, &value->relsize));
			value->type = LAYER_VALUE_RELSIZE;
			break;
		case PS_KEY_STATE:
			PS_TRY(wal_state_decode(data, len, &value->state));
			value->type = LAYER_VALUE_STATE;
			break;
		case PS_KEY_CONTROL:
			decode_control(data, len, value);
			break;
		case PS_KEY_SLRU_SEGMENT:
			if (len != 4)
				break;
			value->type = LAYER_VALUE_SLRU_PAGES;
			value->slru_pages = ps_get32(data);
			break;
		case PS_KEY_ORIGIN:
			if (len != 8)
				break;
			value->type = LAYER_VALUE_REMOTE_LSN;
			value->remote_lsn = (XLogRecPtr) ps_get64(data);
			break;
		case PS_KEY_DATABASE:
			decode_text(LAYER_VALUE_TEXT, "version", data, len, value);
			break;
		case PS_KEY_TABLESPACE:
			decode_text(LAYER_VALUE_TEXT, "location", data, len, value);
			break;
		case PS_KEY_AUX:
			decode_text(LAYER_VALUE_FILE, "file", data, len, value);
			break;
		default:
			value->type = LAYER_VALUE_BYTES;
			break;
	}
	return NULL;
}

void
layer_value_free(LayerValue *value)
{
	if (value->type == LAYER_VALUE_RELSIZE)
		relsize_free(&value->relsize);
	else if (value->type == LAYER_VALUE_TEXT || value->type == LAYER_VALUE_FILE)
		free(value->text.text);
	value->type = LAYER_VALUE_NOTHING;
}

bool
layer_value_is_zeros(const char *data, uint32 len)
{
	return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}
