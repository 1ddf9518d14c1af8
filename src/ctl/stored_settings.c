/*
 * stored_settings.c
 *	  Reads and writes the settings of a branch's computes in the store.
 */
#include "ps_fe.h"

#include <jansson.h>

#include "stored_settings.h"
#include "json_text.h"

const char *const stored_settings_names[SETTINGS_TEXTS] = {
	"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf", "options"};

void
stored_settings_free(StoredSettings *settings)
{
	for (int i = 0; i < SETTINGS_TEXTS; i++)
		free(settings->texts[i]);
	memset(settings, 0, sizeof(*settings));
}

static void
take_rows(PGresult *res, StoredSettings *settings)
{
	memset(settings, 0, sizeof(*settings));
	for (int r = 0; r < PQntuples(res); r++)
	{
		settings->version = strtoull(PQgetvalue(res, r, 0), NULL, 10);
		for (int i = 0; i < SETTINGS_TEXTS; i++)
			if (strcmp(PQgetvalue(res, r, 1), stored_settings_names[i]) == 0 && !PQgetisnull(res, r, 2))
				settings->texts[i] = pg_strdup(PQgetvalue(res, r, 2));
	}
}

static char *
read_command(const char *branch, uint64 version)
{
	if (version == 0)
		return psprintf("settings_read %s", store_quote(branch));
	return psprintf("settings_read %s " UINT64_FORMAT, store_quote(branch), version);
}

void
stored_settings_read(PGconn *conn, const char *branch, uint64 version, StoredSettings *settings)
{
	PGresult *res = store_query(conn, read_command(branch, version));

	take_rows(res, settings);
	PQclear(res);
}

bool
stored_settings_try_read(PGconn *conn, const char *branch, uint64 version, StoredSettings *settings)
{
	PGresult *res = PQexec(conn, read_command(branch, version));
	bool ok = PQresultStatus(res) == PGRES_TUPLES_OK;

	if (ok)
		take_rows(res, settings);
	PQclear(res);
	return ok;
}

uint64
stored_settings_newest(PGconn *conn, const char *branch)
{
	PGresult *res = store_query(conn, psprintf("settings_list %s", store_quote(branch)));
	int n = PQntuples(res);
	uint64 newest = n > 0 ? strtoull(PQgetvalue(res, n - 1, 0), NULL, 10) : 0;

	PQclear(res);
	return newest;
}

int
stored_settings_write(PGconn *conn, const char *branch, StoredSettings *settings)
{
	json_t *root = json_object();
	char *text;
	PGresult *res;
	int rc = 0;

	for (int i = 0; i < SETTINGS_TEXTS; i++)
		if (settings->texts[i] != NULL)
			json_object_set_new(root, stored_settings_names[i], json_text_encode(settings->texts[i]));
	text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	if (text == NULL)
		pg_fatal("could not convert the settings to JSON");
	res = PQexec(conn, psprintf("settings_write %s " UINT64_FORMAT, store_quote(branch), settings->version));
	if (PQresultStatus(res) == PGRES_COPY_IN)
	{
		PQclear(res);
		(void) PQputCopyData(conn, text, strlen(text));
		(void) PQputCopyEnd(conn, NULL);
		res = PQgetResult(conn);
	}
	free(text);
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
		rc = store_report_error(conn, res);
	else
		settings->version = strtoull(PQgetvalue(res, 0, 0), NULL, 10);
	PQclear(res);
	while ((res = PQgetResult(conn)) != NULL)
		PQclear(res);
	return rc;
}
