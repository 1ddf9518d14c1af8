/*
 * io.c
 *	  Reads the value of one reference, from memory, WAL or a layer file.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "read/read_impl.h"

PsError *
read_ref(const ReadView *view, const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start)
{
	switch ((ValuePlace) ref->place)
	{
		case VALUE_IN_MEMORY:
			resetStringInfo(buf);
			appendBinaryStringInfo(buf, ref->at.memory, ref->len);
			return NULL;
		case VALUE_IN_WAL:
			resetStringInfo(buf);
			enlargeStringInfo(buf, ref->len);
			PS_TRY(wal_segments_read_record(view->levels[ref->source].tl->wal, ref->at.record_start, ref->len,
											buf->data));
			buf->len = ref->len;
			if (record_start != NULL)
				*record_start = ref->at.record_start;
			return NULL;
		case VALUE_IN_LAYER:
		{
			XLogRecPtr start;

			return layer_read_value(ref, buf, record_start ? record_start : &start);
		}
	}
	return ps_error(PS_SQLSTATE_INTERNAL, "value has unknown place %d", ref->place);
}
