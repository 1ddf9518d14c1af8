/*
 * cmd_verify.c
 *	  The command verify, which makes the store read and check the files of
 *	  branches.
 */
#include "ps_fe.h"

#include <jansson.h>

#include "ctl.h"

typedef struct VerifyRun
{
	const Options *options;
	PGconn *conn;
	json_t *rows; /* of all branches */
	int exit_code;
} VerifyRun;

/*
 * A branch.  If it is in the trash, where several branches may have the same name,
 * deleted is its timeline id; otherwise NULL.
 */
typedef struct VerifyBranch
{
	const char *name;
	const char *deleted;
} VerifyBranch;

/* Describes the branch for a message; psprintf'd. */
static char *
branch_text(const VerifyBranch *branch)
{
	if (branch->deleted == NULL)
		return psprintf("branch \"%s\"", branch->name);
	return psprintf("deleted branch \"%s\" (%s)", branch->name, branch->deleted);
}

static void
add_row(VerifyRun *verify, const VerifyBranch *branch, const char *file, const char *bytes, const char *error)
{
	json_t *row = json_object();

	json_object_set_new(row, "branch", json_string(branch->name));
	json_object_set_new(row, "file", json_string(file));
	json_object_set_new(row, "bytes", json_integer(strtoll(bytes, NULL, 10)));
	json_object_set_new(row, "error", json_string(error));
	json_object_set_new(row, "deleted", branch->deleted ? json_string(branch->deleted) : json_null());
	json_array_append_new(verify->rows, row);
}

/* Records that the store could not check the branch at all. */
static void
note_failure(VerifyRun *verify, const VerifyBranch *branch, PGresult *res)
{
	const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

	if (verify->exit_code == 0)
		verify->exit_code = store_exit_code(verify->conn, res);
	add_row(verify, branch, "", "0", message != NULL ? message : PQerrorMessage(verify->conn));
	if (!verify->options->json)
		pg_log_error("%s: %s", branch_text(branch), message != NULL ? message : PQerrorMessage(verify->conn));
}

static void
verify_branch(VerifyRun *verify, const VerifyBranch *branch)
{
	char *rate = verify->options->rate > 0 ? psprintf(" %d", verify->options->rate) : pg_strdup("");
	const char *id = branch->deleted != NULL ? branch->deleted : branch->name;
	char *command = psprintf("verify %s%s", store_quote(id), rate);
	PGresult *res = PQexec(verify->conn, command);
	double bytes = 0;
	int damaged = 0;
	char *text;

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

		add_row(verify, branch, PQgetvalue(res, r, PQfnumber(res, "file")),
				PQgetvalue(res, r, PQfnumber(res, "bytes")), error);
		bytes += strtod(PQgetvalue(res, r, PQfnumber(res, "bytes")), NULL);
		if (error[0] == '\0')
			continue;
		damaged++;
		if (!verify->options->json)
			pg_log_error("%s: %s", branch_text(branch), error);
	}
	if (damaged > 0)
		verify->exit_code = EXIT_DAMAGED;
	text = branch_text(branch);
	text[0] = pg_toupper(text[0]);
	if (!verify->options->json && !verify->options->quiet && damaged == 0)
		printf("%s: %d files (%.0f MB), no damage found.\n", text, PQntuples(res), bytes / (1024 * 1024));
	else if (!verify->options->json && damaged > 0)
		printf("%s: %d of %d files are damaged.\n", text, damaged, PQntuples(res));
	pfree(text);
	PQclear(res);
}

static void
verify_served(VerifyRun *verify)
{
	PGresult *list = store_query(verify->conn, "branch_list");

	for (int r = 0; r < PQntuples(list); r++)
	{
		VerifyBranch branch = {.name = PQgetvalue(list, r, PQfnumber(list, "name"))};

		if (branch.name[0] != '\0')
			verify_branch(verify, &branch);
		else
		{
			/* its manifest cannot be read */
			const char *error = PQgetvalue(list, r, PQfnumber(list, "error"));

			branch.name = PQgetvalue(list, r, PQfnumber(list, "timeline"));
			verify->exit_code = EXIT_DAMAGED;
			add_row(verify, &branch, "timeline.log", "0", error);
			if (!verify->options->json)
				pg_log_error("timeline %s: %s", branch.name, error);
		}
	}
	PQclear(list);
}

/* Deleted branches may be brought back, so they are checked as well. */
static void
verify_trash(VerifyRun *verify)
{
	PGresult *list = store_query(verify->conn, "branch_list deleted");

	for (int r = 0; r < PQntuples(list); r++)
	{
		VerifyBranch branch = {.name = PQgetvalue(list, r, PQfnumber(list, "name")),
							   .deleted = PQgetvalue(list, r, PQfnumber(list, "timeline"))};

		verify_branch(verify, &branch);
	}
	PQclear(list);
}

int
cmd_verify(const Options *options)
{
	VerifyRun verify = {.options = options, .rows = json_array()};

	if (options->all == (options->nargs > 0))
	{
		pg_log_error(options->all ? "a branch and --all cannot be specified together" : "no branch specified");
		pg_log_error_hint("Specify a branch or --all.");
		return EXIT_USAGE;
	}
	verify.conn = store_connect(options);
	cmd_branch_show_notices(verify.conn);
	if (!options->all)
		verify_branch(&verify, &(VerifyBranch) {.name = options->args[0]});
	else
	{
		verify_served(&verify);
		verify_trash(&verify);
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
