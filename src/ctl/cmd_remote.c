/*
 * cmd_remote.c
 *	  The command "remote check": the store checks tenants in object storage.
 */
#include "ps_fe.h"

#include "ctl.h"

static bool
is_loss(const char *finding)
{
	return strcmp(finding, "missing") == 0 || strcmp(finding, "damaged") == 0;
}

static void
print_finding(const PGresult *res, int row)
{
	const char *finding = PQgetvalue(res, row, PQfnumber(res, "finding"));
	const char *object = PQgetvalue(res, row, PQfnumber(res, "object"));
	const char *message = PQgetvalue(res, row, PQfnumber(res, "message"));

	if (is_loss(finding))
		pg_log_error("object \"%s\" is %s%s%s", object, finding, *message != '\0' ? ": " : "", message);
	else if (strcmp(finding, "foreign") == 0)
		pg_log_warning("object \"%s\" was not written by pageserver", object);
}

/* Prints the line of a tenant, after its findings. */
static void
print_tenant(const PGresult *res, int row, int losses, int orphans, double orphan_bytes)
{
	const char *tenant = PQgetvalue(res, row, PQfnumber(res, "tenant"));
	double bytes = strtod(PQgetvalue(res, row, PQfnumber(res, "bytes")), NULL);

	printf("Tenant %s: %s (%.0f MB) at %s", tenant, PQgetvalue(res, row, PQfnumber(res, "message")),
		   bytes / (1024 * 1024), PQgetvalue(res, row, PQfnumber(res, "object")));
	if (losses > 0)
		printf(", %d missing or damaged", losses);
	else
		printf(", all there");
	if (orphans > 0)
		printf("; %d orphans (%.0f MB)", orphans, orphan_bytes / (1024 * 1024));
	printf(".\n");
}

int
cmd_remote_check(const Options *options)
{
	PGconn *conn = store_connect(options);
	char *command = psprintf("remote_check%s%s%s", options->nargs > 0 ? " " : "",
							 options->nargs > 0 ? store_quote(options->args[0]) : "", options->read ? " read" : "");
	PGresult *res = store_query(conn, command);
	int all_losses = 0;
	int losses = 0;
	int orphans = 0;
	double orphan_bytes = 0;

	for (int r = 0; r < PQntuples(res); r++)
	{
		const char *finding = PQgetvalue(res, r, PQfnumber(res, "finding"));

		all_losses += is_loss(finding);
		if (options->json)
			continue;
		losses += is_loss(finding);
		if (strcmp(finding, "orphan") == 0)
		{
			orphans++;
			orphan_bytes += strtod(PQgetvalue(res, r, PQfnumber(res, "bytes")), NULL);
		}
		if (strcmp(finding, "checked") != 0)
			print_finding(res, r);
		else
		{
			if (!options->quiet)
				print_tenant(res, r, losses, orphans, orphan_bytes);
			losses = orphans = 0;
			orphan_bytes = 0;
		}
	}
	if (options->json)
		print_json(res);
	PQclear(res);
	PQfinish(conn);
	return all_losses > 0 ? EXIT_DAMAGED : 0;
}
