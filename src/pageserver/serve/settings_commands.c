/*
 * settings_commands.c
 *	  The commands for the settings of a branch's computes.
 */
#include "ps_fe.h"

#include <jansson.h>

#include "catalog/pg_type_d.h"

#include "backup/backup.h"
#include "json_text.h"
#include "sqlstate.h"
#include "serve/audit.h"
#include "serve/commands.h"

static PsError *
parse_version(const char *text, uint64 *version)
{
	char *end;

	errno = 0;
	*version = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "\"%s\" is not the number of a version", text);
	return NULL;
}

/* BRANCH: its versions, oldest first. */
PsError *
run_settings_list(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"version", INT8OID}, {"time", INT8OID}, {"by", TEXTOID}, {"error", TEXTOID}};
	Timeline *tl;
	uint64 *versions;
	int n;

	PS_TRY(command_find_branch(session, args[0], &tl));
	PS_TRY(timeline_settings_versions(tl, &versions, &n));
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		BranchSettings settings;
		PsError *err = timeline_read_settings(tl, versions[i], &settings);
		char *values[lengthof(columns)];

		/* it went meanwhile: there are newer ones */
		if (err != NULL && ps_error_is(err, PS_SQLSTATE_NOT_FOUND))
		{
			ps_error_free(err);
			continue;
		}
		values[0] = psprintf(UINT64_FORMAT, versions[i]);
		values[1] = err ? NULL : psprintf(INT64_FORMAT, settings.time);
		values[2] = err ? NULL : pg_strdup(settings.by);
		values[3] = pg_strdup(err ? err->message : "");
		command_send_row(&session->conn, values, lengthof(columns));
		if (err == NULL)
			branch_settings_free(&settings);
		ps_error_free(err);
	}
	free(versions);
	conn_send_complete(&session->conn, "SETTINGS");
	return NULL;
}

/*
 * BRANCH [VERSION]: each file, and "options", in a row of its own.  Without
 * VERSION what the next base backup has; version 0: of the import.
 */
PsError *
run_settings_read(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"version", INT8OID}, {"name", TEXTOID}, {"text", TEXTOID}};
	BranchSettings settings;
	Timeline *tl;
	TimelineInfo info;
	uint64 version;

	PS_TRY(command_find_branch(session, args[0], &tl));
	if (nargs > 1)
	{
		PS_TRY(parse_version(args[1], &version));
		PS_TRY(timeline_read_settings(tl, version, &settings));
	}
	else
	{
		timeline_info(tl, &info);
		PS_TRY(backup_read_settings(tl, info.ingested_lsn, &settings));
	}
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	for (int i = 0; i <= SETTINGS_FILES; i++)
	{
		const char *text = i < SETTINGS_FILES ? settings.files[i] : settings.options;
		char *values[lengthof(columns)];

		values[0] = psprintf(UINT64_FORMAT, settings.version);
		values[1] = pg_strdup(i < SETTINGS_FILES ? settings_file_names[i] : "options");
		values[2] = text != NULL ? pg_strdup(text) : NULL;
		command_send_row(&session->conn, values, lengthof(columns));
	}
	branch_settings_free(&settings);
	conn_send_complete(&session->conn, "SETTINGS");
	return NULL;
}

/* A member of the object that came, as branch_settings.h has texts; null or nothing: NULL. */
static PsError *
take_text(json_t *object, const char *name, char **text)
{
	json_t *value = json_object_get(object, name);

	if (value == NULL || json_is_null(value))
		return NULL;
	*text = json_text_decode(value);
	return *text != NULL ? NULL : ps_error(PS_SQLSTATE_PROTOCOL, "\"%s\" of the settings is not a text", name);
}

static PsError *
take_settings(const StringInfoData *body, BranchSettings *settings)
{
	json_error_t jerr;
	json_t *root = json_loadb(body->data, body->len, JSON_REJECT_DUPLICATES, &jerr);
	PsError *err = NULL;

	if (root == NULL)
		return ps_error(PS_SQLSTATE_PROTOCOL, "the settings are not JSON: line %d: %s", jerr.line, jerr.text);
	for (int i = 0; i < SETTINGS_FILES && err == NULL; i++)
		err = take_text(root, settings_file_names[i], &settings->files[i]);
	if (err == NULL)
		err = take_text(root, "options", &settings->options);
	json_decref(root);
	return err;
}

/*
 * BRANCH EXPECTED, then a COPY of a JSON object with a member for each file and
 * "options".  EXPECTED: the version that it was made from, 0 for none.
 */
PsError *
run_settings_write(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"version", INT8OID}};
	BranchSettings settings = {0};
	ByteSource source = command_copy_source(session);
	StringInfoData body;
	Timeline *tl;
	uint64 expected;
	const char *data;
	size_t len;
	char *value;
	PsError *err = NULL;

	PS_TRY(parse_version(args[1], &expected));
	PS_TRY(command_find_branch(session, args[0], &tl));
	session->conn.max_message = CONN_MAX_COPY;
	conn_send_copy_response(&session->conn, 'G');
	initStringInfo(&body);
	for (;;)
	{
		err = source.read(source.arg, &data, &len);
		if (err != NULL || len == 0)
			break;
		/* in JSON a byte takes up to six */
		if (body.len + len > 6 * SETTINGS_MAX_BYTES)
		{
			err = ps_error(PS_SQLSTATE_INVALID, "the settings have more than %d bytes", SETTINGS_MAX_BYTES);
			break;
		}
		appendBinaryStringInfo(&body, data, len);
	}
	if (err == NULL)
		err = take_settings(&body, &settings);
	settings.by = pg_strdup(session->who);
	if (err == NULL)
		err = timeline_write_settings(tl, &settings, expected);
	if (err == NULL)
	{
		audit_log(session->who, "settings of branch \"%s\" changed: version " UINT64_FORMAT, args[0], settings.version);
		value = psprintf(UINT64_FORMAT, settings.version);
		conn_send_row_description(&session->conn, columns, lengthof(columns));
		command_send_row(&session->conn, &value, 1);
		conn_send_complete(&session->conn, "SETTINGS");
	}
	branch_settings_free(&settings);
	pfree(body.data);
	return err;
}
