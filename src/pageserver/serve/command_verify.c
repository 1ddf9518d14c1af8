/*
 * command_verify.c
 *	  The command "verify": checks all files of a branch, also of one in the trash.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "serve/commands.h"
#include "sqlstate.h"

/* Rate unless the command names one, MB/s. */
#define VERIFY_RATE 100

static void
send_verified_file(void *arg, const char *file, uint64 bytes, const char *damage)
{
	Session *session = arg;
	char *values[] = {pg_strdup(file), psprintf(UINT64_FORMAT, bytes), pg_strdup(damage != NULL ? damage : "")};

	command_send_row(&session->conn, values, lengthof(values));
	ps_error_free(conn_flush(&session->conn)); /* the next check for a cancel notices a closed connection */
}

/* Holds a branch in the trash.  Returns false if there is none of that name or id. */
static bool
hold_deleted(Session *session, const char *name, Branch **branch)
{
	PsError *err = store_hold_deleted(session->server->store, name, &session->cancel, branch);
	bool found = err == NULL;

	ps_error_free(err);
	return found;
}

/*
 * verify BRANCH [MEGABYTES_PER_SECOND]: one row for each file.  BRANCH is a branch
 * or, if there is none of that name, a branch in the trash, by name or id.
 */
PsError *
command_verify(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"file", TEXTOID}, {"bytes", INT8OID}, {"error", TEXTOID}};
	int rate = nargs > 1 ? atoi(args[1]) : VERIFY_RATE;
	Timeline *tl;
	Branch *deleted;
	PsId id;
	PsError *err;

	if (rate < 1 || rate > 1000000)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid rate \"%s\": expected 1 to 1000000 megabytes per second", args[1]);
	err = command_find_branch(session, args[0], &tl);
	if (err == NULL)
	{
		conn_send_row_description(&session->conn, columns, lengthof(columns));
		err = verify_timeline(tl, rate, &session->cancel, send_verified_file, session);
	}
	else if (ps_error_is(err, PS_SQLSTATE_NOT_FOUND) && hold_deleted(session, args[0], &deleted))
	{
		ps_error_free(err);
		if (!ps_id_parse(args[0], &id))
			conn_send_notice(&session->conn, "the branch is in the trash");
		conn_send_row_description(&session->conn, columns, lengthof(columns));
		err = store_verify_deleted(deleted, rate, &session->cancel, send_verified_file, session);
		store_release_deleted(deleted);
	}
	PS_TRY(err);
	conn_send_complete(&session->conn, "VERIFY");
	return NULL;
}
