/*
 * command_rows.c
 *	  Rows of the results of commands.
 */
#include "ps_fe.h"

#include "serve/commands.h"

void
command_send_row(Conn *conn, char **values, int n)
{
	conn_send_row(conn, (const char *const *) values, n);
	for (int i = 0; i < n; i++)
		free(values[i]);
}

char *
command_time_text(bool known, TimestampTz when)
{
	return known ? timestamp_text(when) : NULL;
}

char *
command_lsn_text(XLogRecPtr lsn)
{
	return lsn == InvalidXLogRecPtr ? NULL : psprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}

char *
command_id_text(const PsId *id)
{
	char text[PS_ID_TEXT];

	return pg_strdup(ps_id_format(id, text));
}
