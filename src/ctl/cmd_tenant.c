/*
 * cmd_tenant.c
 *	  The commands tenant detach, attach, delete, undelete and list.
 */
#include "ps_fe.h"

#include "ctl.h"

static int
execute(const Options *options, const char *command, const char *done)
{
	const char *tenant = options->args[0];
	PGconn *conn = store_connect(options);

	store_execute(conn, psprintf("%s %s%s%s", command, store_quote(tenant), options->force ? " force" : "",
								 options->purge ? " purge" : ""));
	PQfinish(conn);
	print_done(options, psprintf("Tenant \"%s\" was %s.", tenant, done), done, tenant, NULL);
	return 0;
}

int
cmd_tenant_detach(const Options *options)
{
	return execute(options, "tenant_detach", "detached");
}

int
cmd_tenant_attach(const Options *options)
{
	return execute(options, "tenant_attach", "attached");
}

int
cmd_tenant_delete(const Options *options)
{
	return execute(options, "tenant_delete", "deleted");
}

int
cmd_tenant_undelete(const Options *options)
{
	return execute(options, "tenant_undelete", "undeleted");
}

/* Is something wrong with one of the tenants?  False also if the store is too old to say so. */
static bool
has_error(const PGresult *res)
{
	int field = PQfnumber(res, "error");

	for (int i = 0; i < PQntuples(res) && field >= 0; i++)
		if (!PQgetisnull(res, i, field))
			return true;
	return false;
}

int
cmd_tenant_list(const Options *options)
{
	static const char *const columns[] = {"tenant", "state", "branches", "system_identifier", "name", "error"};
	static const char *const deleted_columns[] = {"tenant", "deleted", "seconds_left", "branches",
												  "system_identifier", "name", "by"};
	PGconn *conn = store_connect(options);
	PGresult *res = store_query(conn, options->deleted ? "tenant_list deleted" : "tenant_list");

	if (options->json)
		print_json(res);
	else if (options->deleted)
		print_table(res, deleted_columns, lengthof(deleted_columns), NULL, NULL);
	else
		print_table(res, columns, lengthof(columns) - !has_error(res), NULL, NULL);
	PQclear(res);
	PQfinish(conn);
	return 0;
}
