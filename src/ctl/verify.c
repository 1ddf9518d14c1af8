/*
 * verify.c
 *	  The command verify: has the store read and check the files of branches.
 */
#include "ps_fe.h"

#include <jansson.h>

#include "ctl.h"

typedef struct Verify
{
	const Options *options;
	PGconn *conn;
	json_t *rows; /* of all branches */
	int exit_code;
} Verify;

static void
add_row(Verify *verify, const char *branch, const char *file, const char *bytes, const char *error)
{
	json_t *row = json_object();

	json_object_set_new(row, "branch", json_string(branch));
	json_object_set_new(row, "file", json_string(file));
	json_object_set_new(row, "bytes", json_integer(strtoll(bytes, NULL, 10)));
	json_object_set_new(row, "error", json_string(error));
	json_array_append_new(verify->rows, row);
}

/* A branch of which the store cannot say more: it is not served. */
static void
note_failure(Verify *verify, const char *branch, PGresult *res)
{
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	if (verify->exit_code == 0)
		verify->exit_code = store_exit_code(verify->conn, res);
	add_row(verify, branch, "", "0", message != NULL ? message : PQerrorMessage(verify->conn));
	if (!verify->options->json)
		pg_log_error("branch \"%s\": %s", branch, message != NULL ? message : PQerrorMessage(verify->conn));
}

static void
verify_branch(Verify *verify, const char *branch)
{
	char *rate = verify->options->rate > 0 ? psprintf(" %d", verify->options->rate) : pg_strdup("");
	char *command = psprintf("verify %s%s", store_quote(branch), rate);
	PGresult *res = PQexec(verify->conn, command);
	double bytes = 0;
	int damaged = 0;

	pfree(command);
	pfree(rate);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		note_failure(verify, branch, res);
		PQclear(res);
		return;
	}
	for (int r = 0; r < PQntuples(res); r++)
	{
		const char *error = PQgetvalue(res, r, PQfnumber(res, "error"));

		add_row(verify, branch, PQgetvalue(res, r, PQfnumber(res, "file")), PQgetvalue(res, r, PQfnumber(res, "bytes")), error);
		bytes += strtod(PQgetvalue(res, r, PQfnumber(res, "bytes")), NULL);
		if (error[0] == '\0')
			continue;
		damaged++;
		if (!verify->options->json)
			pg_log_error("branch \"%s\": %s", branch, error);
	}
	if (damaged > 0)
		verify->exit_code = EXIT_DAMAGED;
	if (!verify->options->json && !verify->options->quiet && damaged == 0)
		printf("Branch \"%s\": %d files with %.0f MB are well.\n", branch, PQntuples(res), bytes / (1024 * 1024));
	else if (!verify->options->json && damaged > 0)
		printf("Branch \"%s\": %d of %d files are damaged.\n", branch, damaged, PQntuples(res));
	PQclear(res);
}

int
run_verify(const Options *options)
{
	Verify verify = {.options = options, .rows = json_array()};

	if (options->all == (options->nargs > 0))
	{
		pg_log_error(options->all ? "a branch was named, and --all given" : "no branch was named");
		pg_log_error_hint("Name a branch, or give --all.");
		return EXIT_USAGE;
	}
	verify.conn = store_connect(options);
	if (!options->all)
		verify_branch(&verify, options->args[0]);
	else
	{
		PGresult *list = store_query(verify.conn, "branch_list");

		for (int r = 0; r < PQntuples(list); r++)
		{
			const char *name = PQgetvalue(list, r, PQfnumber(list, "name"));

			if (name[0] != '\0')
				verify_branch(&verify, name);
			else
			{
				/* its manifest cannot be read */
				const char *timeline = PQgetvalue(list, r, PQfnumber(list, "timeline"));
				const char *error = PQgetvalue(list, r, PQfnumber(list, "error"));

				verify.exit_code = EXIT_DAMAGED;
				add_row(&verify, timeline, "timeline.json", "0", error);
				if (!options->json)
					pg_log_error("timeline %s: %s", timeline, error);
			}
		}
		PQclear(list);
	}
	if (options->json)
	{
		json_dumpf(verify.rows, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(verify.rows);
	PQfinish(verify.conn);
	return verify.exit_code;
}
