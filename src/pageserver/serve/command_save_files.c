/*
 * command_save_files.c
 *	  The command "save_files": files of a stopped compute that its successor
 *	  starts with (stop_files.h).
 */
#include "ps_fe.h"

#include "serve/commands.h"
#include "sqlstate.h"
#include "store/stop_files.h"

/* Reads the files of a copy.  Each message is one file: its name, a zero byte, its contents. */
static PsError *
read_stop_files(Session *session, StopFiles *files)
{
	for (;;)
	{
		Message msg;
		size_t name_len;

		PS_TRY(copy_read(session, &msg));
		if (msg.type == 'c')
			return NULL;
		if (msg.type != 'd')
			continue;
		name_len = strnlen(msg.body, msg.len);
		if (name_len == msg.len)
			return ps_error(PS_SQLSTATE_PROTOCOL, "file name in a copy is not terminated");
		PS_TRY(stop_files_add(files, msg.body, msg.body + name_len + 1, msg.len - name_len - 1));
	}
}

/* save_files TENANT TIMELINE GENERATION LSN */
PsError *
command_save_files(Session *session, char **args, int nargs)
{
	Conn *conn = &session->conn;
	Timeline *tl;
	uint64 generation;
	XLogRecPtr lsn;
	StopFiles files;
	PsError *err;

	PS_TRY(command_find_timeline(session, args, &tl, &generation));
	PS_TRY(command_parse_lsn(args[3], &lsn));
	PS_TRY(timeline_check_generation(tl, generation));
	stop_files_init(&files);
	conn->max_message = CONN_MAX_COPY;
	conn_send_copy_response(conn, 'G');
	err = read_stop_files(session, &files);
	if (err == NULL)
		err = stop_files_save(tl, &files, generation, lsn);
	stop_files_free(&files);
	if (err == NULL)
		conn_send_complete(conn, "SAVE_FILES");
	return err;
}
