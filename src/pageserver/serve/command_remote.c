/*
 * command_remote.c
 *	  The command "remote_check": checks tenants in object storage.
 */
#include "ps_fe.h"

#include "catalog/pg_type_d.h"

#include "serve/commands.h"
#include "sqlstate.h"

static const char *
kind_name(AuditKind kind)
{
	switch (kind)
	{
		case AUDIT_MISSING:
			return "missing";
		case AUDIT_DAMAGED:
			return "damaged";
		case AUDIT_ORPHAN:
			return "orphan";
		case AUDIT_FOREIGN:
			break;
	}
	return "foreign";
}

static void
send_row(Session *session, const PsId *tenant, const char *finding, const char *object, int64 bytes, char *message)
{
	char id[PS_ID_TEXT];
	char *values[] = {pg_strdup(ps_id_format(tenant, id)), pg_strdup(finding), pg_strdup(object),
					  bytes >= 0 ? psprintf(INT64_FORMAT, bytes) : NULL, message};

	command_send_row(&session->conn, values, lengthof(values));
	ps_error_free(conn_flush(&session->conn)); /* the next check for a cancel notices a closed connection */
}

/* One row for each finding, then one for the tenant: how many objects its log names. */
static PsError *
check_tenant(Session *session, const PsId *tenant, bool read)
{
	AuditResult result;
	char entry[64];
	PsError *err = store_audit(session->server->store, tenant, read, &session->cancel, &result);

	for (int i = 0; i < result.nfindings && err == NULL; i++)
	{
		const AuditFinding *finding = &result.findings[i];

		send_row(session, tenant, kind_name(finding->kind), finding->object, finding->bytes,
				 finding->message != NULL ? pg_strdup(finding->message) : NULL);
	}
	if (err == NULL)
	{
		snprintf(entry, sizeof(entry), "entry " UINT64_FORMAT "-" UINT64_FORMAT, result.entry.generation,
				 result.entry.number);
		send_row(session, tenant, "checked", entry, result.bytes, psprintf(UINT64_FORMAT " objects", result.objects));
	}
	audit_free(&result);
	return err;
}

/*
 * remote_check [TENANT] [read]: TENANT is an id; the default is all that have objects.
 * read: the contents of layer files are checked, too.
 */
PsError *
command_remote_check(Session *session, char **args, int nargs)
{
	static const Column columns[] = {
		{"tenant", TEXTOID}, {"finding", TEXTOID}, {"object", TEXTOID}, {"bytes", INT8OID}, {"message", TEXTOID}};
	bool read = nargs > 0 && pg_strcasecmp(args[nargs - 1], "read") == 0;
	PsId *tenants = NULL;
	PsId tenant;
	int n = 0;
	PsError *err = NULL;

	if (nargs - read > 1 || (nargs - read == 1 && !ps_id_parse(args[0], &tenant)))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid tenant id \"%s\": expected 32 hexadecimal digits", args[0]);
	PS_TRY(store_audit_tenants(session->server->store, &session->cancel, &tenants, &n));
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	if (nargs - read == 1)
		err = check_tenant(session, &tenant, read);
	else
		for (int i = 0; i < n && err == NULL; i++)
			err = check_tenant(session, &tenants[i], read);
	free(tenants);
	PS_TRY(err);
	conn_send_complete(&session->conn, "REMOTE CHECK");
	return NULL;
}
