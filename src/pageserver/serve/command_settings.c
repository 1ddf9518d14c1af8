/*
 * command_settings.c
 *	  Commands for the settings that the computes of a branch start with.
 */
#include "ps_fe.h"

#include <jansson.h>

#include "catalog/pg_type_d.h"

#include "backup/basebackup.h"
#include "json_text.h"
#include "sqlstate.h"
#include "serve/commands.h"

/* settings_list BRANCH: the versions, oldest first. */
PsError *
command_settings_list(Session *session, char **args, int nargs)
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

		/* it has been removed because there are newer versions */
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
 * settings_read BRANCH [VERSION]: one row for each file and one for "options".
 * Without VERSION these are the settings of the next base backup; version 0 is
 * what the import brought.
 */
PsError *
command_settings_read(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"version", INT8OID}, {"name", TEXTOID}, {"text", TEXTOID}};
	BranchSettings settings;
	Timeline *tl;
	TimelineInfo info;
	uint64 version;

	PS_TRY(command_find_branch(session, args[0], &tl));
	if (nargs > 1)
	{
		PS_TRY(command_parse_number("settings version", args[1], &version));
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

/* Decodes a member of the client's object; *text is unchanged if it is missing or null. */
static PsError *
parse_text(json_t *object, const char *name, char **text)
{
	json_t *value = json_object_get(object, name);

	if (value == NULL || json_is_null(value))
		return NULL;
	*text = json_text_decode(value);
	return *text != NULL ? NULL : ps_error(PS_SQLSTATE_PROTOCOL, "member \"%s\" of the settings is not a string", name);
}

static PsError *
parse_settings(const StringInfoData *body, BranchSettings *settings)
{
	json_error_t jerr;
	json_t *root = json_loadb(body->data, body->len, JSON_REJECT_DUPLICATES, &jerr);
	PsError *err = NULL;

	if (root == NULL)
		return ps_error(PS_SQLSTATE_PROTOCOL, "the settings are not valid JSON: line %d: %s", jerr.line, jerr.text);
	for (int i = 0; i < SETTINGS_FILES && err == NULL; i++)
		err = parse_text(root, settings_file_names[i], &settings->files[i]);
	if (err == NULL)
		err = parse_text(root, "options", &settings->options);
	json_decref(root);
	return err;
}

/*
 * settings_write BRANCH EXPECTED_VERSION: the client sends, in a copy, a JSON
 * object with a member for each file and one for "options".  EXPECTED_VERSION is
 * the version that the client has edited, 0 if there was none.
 */
PsError *
command_settings_write(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"version", INT8OID}};
	BranchSettings settings = {0};
	ByteSource source = copy_source(session);
	StringInfoData body;
	Timeline *tl;
	uint64 expected;
	const char *data;
	size_t len;
	char *value;
	PsError *err = NULL;

	PS_TRY(command_parse_number("settings version", args[1], &expected));
	PS_TRY(command_find_branch(session, args[0], &tl));
	session->conn.max_message = CONN_MAX_COPY;
	conn_send_copy_response(&session->conn, 'G');
	initStringInfo(&body);
	for (;;)
	{
		err = source.read(source.arg, &data, &len);
		if (err != NULL || len == 0)
			break;
		/* JSON may use six bytes for one */
		if (body.len + len > 6 * SETTINGS_MAX_BYTES)
		{
			err = ps_error(PS_SQLSTATE_INVALID, "the settings are larger than %d bytes", SETTINGS_MAX_BYTES);
			break;
		}
		appendBinaryStringInfo(&body, data, len);
	}
	if (err == NULL)
		err = parse_settings(&body, &settings);
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
