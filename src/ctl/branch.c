/*
 * branch.c
 *	  Commands for branches: create, list, import, export.
 */
#include "ps_fe.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/file_utils.h"

#include "ctl.h"

/* Notices of a long command; lines of progress replace one another on a terminal. */
static void
show_notice(void *arg, const PGresult *res)
{
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	bool		progress = message != NULL && strncmp(message, "imported ", strlen("imported ")) == 0;

	if (message == NULL)
		return;
	if (progress && isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s  ", message);
	else
		fprintf(stderr, "%s\n", message);
	*(bool *) arg = progress && isatty(STDERR_FILENO);
}

/* Runs a command that makes a branch, and tells of it. */
static int
make_branch(const Options *options, const char *command)
{
	PGconn	   *conn = store_connect(options);
	bool		line_open = false;
	PGresult   *res;

	PQsetNoticeReceiver(conn, show_notice, &line_open);
	res = PQexec(conn, command);
	if (line_open)
		fputc('\n', stderr);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		store_report_error(conn, res);
		return 1;
	}
	printf("Branch \"%s\" begins at %s.\n", PQgetvalue(res, 0, PQfnumber(res, "name")), PQgetvalue(res, 0, PQfnumber(res, "lsn")));
	PQclear(res);
	PQfinish(conn);
	return 0;
}

int
run_branch_create(const Options *options)
{
	return make_branch(options, psprintf("branch_create %s%s", store_quote(options->args[0]),
										 options->data_checksums ? " data_checksums" : ""));
}

int
run_branch_list(const Options *options)
{
	static const char *const columns[] = {"name", "connected", "flushed_lsn", "layer_bytes", "wal_bytes", "owner", "error"};
	PGconn	   *conn = store_connect(options);
	PGresult   *res = store_query(conn, "branch_list");

	if (options->json)
		print_json(res);
	else
		print_table(res, columns, lengthof(columns));
	PQclear(res);
	PQfinish(conn);
	return 0;
}

int
run_import(const Options *options)
{
	char	   *pgdata;

	if (options->pgdata == NULL)
	{
		pg_log_error("no data directory was given");
		pg_log_error_hint("Name it with --pgdata.");
		return 1;
	}
	/* links are followed here: the store may have another idea of them */
	pgdata = realpath(options->pgdata, NULL);
	if (pgdata == NULL)
		pg_fatal("could not find directory \"%s\": %m", options->pgdata);
	return make_branch(options, psprintf("import %s %s", store_quote(options->args[0]), store_quote(pgdata)));
}

int
run_export(const Options *options)
{
	char	   *branch = pg_strdup(options->args[0]);
	char	   *lsn = strchr(branch, '@');
	char	   *dir;
	char	   *command;
	PGconn	   *conn;
	bool		made;

	if (options->directory == NULL)
	{
		pg_log_error("no directory to write to was given");
		pg_log_error_hint("Name it with -D.");
		return 1;
	}
	if (lsn != NULL)
		*lsn++ = '\0';
	dir = absolute_path(options->directory);
	conn = store_connect(options);	/* before the directory is made */
	made = make_directory(options, dir);
	become_user(options, made ? dir : NULL);
	command = psprintf("fullbackup %s %s", store_quote(branch), lsn ? store_quote(lsn) : "");
	if (!unpack(conn, command, dir, NULL, "exported"))
	{
		empty_directory(dir, NULL, made);
		return 1;
	}
	PQfinish(conn);
	if (!options->no_sync)
		fsync_pgdata(dir, PG_VERSION_NUM);
	printf("Branch \"%s\" is in \"%s\". Stock PostgreSQL starts on it: %s -D %s start\n", branch, dir,
		   postgres_program(options, "pg_ctl"), dir);
	return 0;
}
