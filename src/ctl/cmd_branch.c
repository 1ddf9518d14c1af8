/*
 * cmd_branch.c
 *	  The commands branch create, list, rename, delete, undelete, protect,
 *	  unprotect, reset, restore and compact, and export.
 */
#include "ps_fe.h"

#include <stdlib.h>
#include <unistd.h>

#include "common/file_utils.h"

#include "ctl.h"

/* On a terminal, each progress line overwrites the one before. */
static void
show_notice(void *arg, const PGresult *res)
{
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	bool progress = message != NULL && strncmp(message, "imported ", strlen("imported ")) == 0;

	if (message == NULL)
		return;
	if (progress && isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s  ", message);
	else
		fprintf(stderr, "%s\n", message);
	*(bool *) arg = progress && isatty(STDERR_FILENO);
}

/* Prints the last commit before the branch point and the first one after it, if they are known. */
static void
show_commits(const PGresult *res)
{
	int last = PQfnumber(res, "last_commit");
	int next = PQfnumber(res, "next_commit");

	if (last < 0 || next < 0 || (PQgetisnull(res, 0, last) && PQgetisnull(res, 0, next)))
		return;
	if (!PQgetisnull(res, 0, last))
		printf("Its last commit is from %s.\n", PQgetvalue(res, 0, last));
	if (strcmp(PQgetvalue(res, 0, next), "none") == 0)
		printf("The parent has no later commit.\n");
	else if (!PQgetisnull(res, 0, next))
		printf("The next commit of the parent, from %s, is not included.\n", PQgetvalue(res, 0, next));
}

static bool notice_line_open;

void
cmd_branch_show_notices(PGconn *conn)
{
	PQsetNoticeReceiver(conn, show_notice, &notice_line_open);
}

int
cmd_branch_report_created(const Options *options, PGconn *conn, PGresult *res)
{
	if (notice_line_open)
		fputc('\n', stderr);
	notice_line_open = false;
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		return store_report_error(conn, res);
	if (options->json)
		print_json(res);
	else if (!options->quiet)
	{
		printf("Branch \"%s\" starts at %s.\n", PQgetvalue(res, 0, PQfnumber(res, "name")),
			   PQgetvalue(res, 0, PQfnumber(res, "lsn")));
		show_commits(res);
	}
	return 0;
}

static int
create_branch(const Options *options, const char *command)
{
	PGconn *conn = store_connect(options);
	PGresult *res;
	int rc;

	cmd_branch_show_notices(conn);
	res = PQexec(conn, command);
	rc = cmd_branch_report_created(options, conn, res);
	PQclear(res);
	PQfinish(conn);
	return rc;
}

int
cmd_branch_create(const Options *options)
{
	const char *name = store_quote(options->args[0]);
	char *point;
	char *parent;

	if (options->from == NULL)
		return create_branch(options, psprintf("branch_create %s%s", name,
											   options->data_checksums ? " data_checksums" : ""));
	if (options->data_checksums)
		pg_fatal("options --from and --data-checksums cannot be used together");
	parent = point_in_time_split(options->from, &point);
	return create_branch(options, psprintf("branch_create %s from %s %s", name, store_quote(parent),
										   point ? point_in_time_words(point) : ""));
}

int
cmd_branch_reset(const Options *options)
{
	return create_branch(options, psprintf("branch_reset %s %s", store_quote(options->args[0]),
										   options->force ? "force" : ""));
}

int
cmd_branch_restore(const Options *options)
{
	char *point;
	char *branch = point_in_time_split(options->args[0], &point);

	if (point == NULL)
	{
		pg_log_error("no point in time specified");
		pg_log_error_hint("Specify it after the name of the branch: %s@LSN or %s@TIME.", branch, branch);
		return 1;
	}
	return create_branch(options, psprintf("branch_restore %s %s %s", store_quote(branch), point_in_time_words(point),
										   options->force ? "force" : ""));
}

static void
execute(const Options *options, const char *command)
{
	PGconn *conn = store_connect(options);

	store_execute(conn, command);
	PQfinish(conn);
}

int
cmd_branch_delete(const Options *options)
{
	const char *name = options->args[0];

	execute(options, psprintf("branch_delete %s %s %s", store_quote(name), options->force ? "force" : "",
							  options->purge ? "purge" : ""));
	print_done(options, psprintf("Branch \"%s\" was %s.", name, options->purge ? "purged" : "deleted"),
			   "deleted", name, NULL);
	return 0;
}

int
cmd_branch_undelete(const Options *options)
{
	return create_branch(options, psprintf("branch_undelete %s %s", store_quote(options->args[0]),
										   options->nargs > 1 ? store_quote(options->args[1]) : ""));
}

int
cmd_branch_protect(const Options *options)
{
	const char *name = options->args[0];

	execute(options, psprintf("branch_protect %s", store_quote(name)));
	print_done(options, psprintf("Branch \"%s\" is now protected.", name), "protected", name, NULL);
	return 0;
}

int
cmd_branch_unprotect(const Options *options)
{
	const char *name = options->args[0];

	execute(options, psprintf("branch_unprotect %s", store_quote(name)));
	print_done(options, psprintf("Branch \"%s\" is no longer protected.", name), "unprotected", name, NULL);
	return 0;
}

int
cmd_branch_rename(const Options *options)
{
	const char *name = options->args[0];
	const char *new_name = options->args[1];

	execute(options, psprintf("branch_rename %s %s", store_quote(name), store_quote(new_name)));
	print_done(options, psprintf("Branch \"%s\" was renamed to \"%s\".", name, new_name),
			   "renamed", name, "name", new_name, NULL);
	return 0;
}

int
cmd_branch_compact(const Options *options)
{
	const char *name = options->args[0];

	execute(options, psprintf("branch_compact %s", store_quote(name)));
	print_done(options, psprintf("Branch \"%s\" was compacted.", name), "compacted", name, NULL);
	return 0;
}

/*
 * Appends the children of a branch to order[], each followed by its own
 * children, which are indented.  parent is "" for the branches without a parent;
 * n is the number of rows in order[] so far.  Returns the new number.
 */
static int
order_tree(PGresult *res, const char *parent, int depth, int n, int *order, int *indent)
{
	int name = PQfnumber(res, "name");
	int of = PQfnumber(res, "parent");

	for (int r = 0; r < PQntuples(res); r++)
	{
		if (strcmp(PQgetvalue(res, r, of), parent) != 0)
			continue;
		order[n++] = r;
		indent[r] = 2 * depth;
		/* a branch that cannot be read has an empty name, like the parent of the top level */
		if (PQgetvalue(res, r, name)[0] != '\0')
			n = order_tree(res, PQgetvalue(res, r, name), depth + 1, n, order, indent);
	}
	return n;
}

int
cmd_branch_list(const Options *options)
{
	static const char *const columns[] = {"name", "connected", "protected", "start_lsn", "oldest_lsn", "flushed_lsn",
										  "layer_bytes", "wal_bytes", "owner", "error", "waits_for",
										  /* only in a store with object storage */
										  "bucket_lsn", "bucket_lag_bytes", "bucket_lag_seconds"};
	static const char *const deleted_columns[] = {"name", "timeline", "deleted", "seconds_left", "layer_bytes",
												  "wal_bytes", "parent", "by"};
	PGconn *conn = store_connect(options);
	PGresult *res = store_query(conn, options->deleted ? "branch_list deleted" : "branch_list");
	int n = PQntuples(res);
	int *order = pg_malloc((n + 1) * sizeof(int));
	int *indent = pg_malloc0((n + 1) * sizeof(int));

	if (options->json)
		print_json(res);
	else if (options->deleted)
		print_table(res, deleted_columns, lengthof(deleted_columns), NULL, NULL);
	else
	{
		bool is_tree = order_tree(res, "", 0, 0, order, indent) == n;
		int bucket = PQfnumber(res, "bucket_lsn");
		bool has_bucket = false;

		for (int r = 0; r < n && bucket >= 0; r++)
			has_bucket = has_bucket || !PQgetisnull(res, r, bucket);
		print_table(res, columns, lengthof(columns) - (has_bucket ? 0 : 3), is_tree ? order : NULL,
					is_tree ? indent : NULL);
	}
	free(order);
	free(indent);
	PQclear(res);
	PQfinish(conn);
	return 0;
}

/* The store sends the point in time of the export, then a warning for each page that could not be read. */
static void
show_export_notice(void *arg, const PGresult *res)
{
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	if (severity == NULL || strcmp(severity, "WARNING") != 0)
	{
		pg_log_info("%s", message);
		return;
	}
	++*(int *) arg;
	pg_log_warning("%s", message);
}

int
cmd_export(const Options *options)
{
	int damaged = 0;
	char *point;
	char *branch = point_in_time_split(options->args[0], &point);
	char *dir;
	char *command;
	PGconn *conn;
	bool made;

	if (options->directory == NULL)
	{
		pg_log_error("no directory specified");
		pg_log_error_hint("Specify it with -D.");
		return 1;
	}
	dir = absolute_path(options->directory);
	conn = store_connect(options); /* before the directory is created */
	made = make_directory(options, dir);
	become_user(options, made ? dir : NULL);
	command = psprintf("fullbackup %s %s%s", store_quote(branch), point ? point_in_time_words(point) : "",
					   options->zero_damaged_pages ? " zero_damaged_pages" : "");
	PQsetNoticeReceiver(conn, show_export_notice, &damaged);
	if (!unpack(conn, command, dir, NULL, "exported", NULL))
	{
		empty_directory(dir, made);
		return store_error_exit_code();
	}
	PQfinish(conn);
	if (!options->no_sync)
		fsync_pgdata(dir, PG_VERSION_NUM);
	if (damaged > 0)
		pg_log_warning("%d damaged pages, listed above, were replaced with zeros in the export", damaged);
	print_done(options,
			   psprintf("Branch \"%s\" was exported to \"%s\". Start PostgreSQL on it with: %s -D %s start", branch,
						dir, postgres_program(options, "pg_ctl"), dir),
			   "exported", branch, "directory", dir, NULL);
	return 0;
}
