/*
 * client.c
 *	  The store as a client sees it: locating it, connections, results.
 */
#include "ps_fe.h"

#include <jansson.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "catalog/pg_type_d.h"

#include "ctl.h"
#include "sqlstate.h"
#include "store_hosts.h"

static int64
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

const char *
store_name(const Options *options)
{
	const char *env = getenv("PAGESERVER_STORE");

	if (options->store != NULL)
		return options->store;
	return env != NULL && *env != '\0' ? env : DEFAULT_STORE;
}

/* A name that begins with "/" or ".", or that exists as a path, is a directory, even if it contains "=". */
bool
store_is_conninfo(const char *name)
{
	if (name[0] == '/' || name[0] == '.' || access(name, F_OK) == 0)
		return false;
	return strchr(name, '=') != NULL || strncmp(name, "postgresql://", strlen("postgresql://")) == 0 ||
		   strncmp(name, "postgres://", strlen("postgres://")) == 0;
}

/* Appends a quoted value of a connection string. */
static void
append_quoted(StringInfo out, const char *value)
{
	appendStringInfoChar(out, '\'');
	for (const char *p = value; *p; p++)
	{
		if (*p == '\'' || *p == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, *p);
	}
	appendStringInfoChar(out, '\'');
}

char *
store_conninfo(const Options *options)
{
	const char *name = store_name(options);
	char *dir;
	PidFile file;
	StringInfoData conninfo;

	if (store_is_conninfo(name))
		return pg_strdup(name);
	dir = absolute_path(name);
	if (access(dir, X_OK) != 0)
	{
		pg_log_error("could not access store \"%s\": %m", dir);
		pg_log_error_hint("Specify the store with --store or the environment variable PAGESERVER_STORE, "
						  "or create one with \"pageserver_ctl init -D %s\".",
						  dir);
		exit(EXIT_NOT_FOUND);
	}
	store_kind.find(dir, &file);
	if (!file.alive)
	{
		pg_log_error("store \"%s\" is not running", dir);
		pg_log_error_hint("Start it with \"pageserver_ctl start -D %s\".", dir);
		exit(EXIT_UNREACHABLE);
	}
	initStringInfo(&conninfo);
	appendStringInfoString(&conninfo, "host=");
	append_quoted(&conninfo, file.socket_dir);
	appendStringInfo(&conninfo, " port=%d", file.port);
	free(dir);
	return conninfo.data;
}

/* Used for keywords that the connection string does not set. */
static const char *const connection_defaults[][2] = {
	{"dbname", "store"}, {"user", "pageserver"}, {"port", "5480"}, {"fallback_application_name", "pageserver_ctl"}};

#define MAX_CONNECTION_OPTIONS 100

/* Connects as the string says, or to one of its hosts.  The connection may have failed. */
static PGconn *
connect_to(const char *conninfo, const StoreHost *host)
{
	char *problem = NULL;
	PQconninfoOption *given = PQconninfoParse(conninfo, &problem);
	const char *keywords[MAX_CONNECTION_OPTIONS + lengthof(connection_defaults) + 1];
	const char *values[MAX_CONNECTION_OPTIONS + lengthof(connection_defaults) + 1];
	int n = 0;
	PGconn *conn;

	if (given == NULL)
	{
		pg_log_error("invalid connection string \"%s\" for the store: %s", conninfo,
					 problem ? problem : "out of memory");
		exit(EXIT_USAGE);
	}
	/* the last value of a keyword is used */
	for (int i = 0; i < lengthof(connection_defaults); i++)
	{
		keywords[n] = connection_defaults[i][0];
		values[n++] = connection_defaults[i][1];
	}
	for (PQconninfoOption *option = given; option->keyword != NULL && n < lengthof(keywords) - 1; option++)
	{
		const char *value = option->val;

		if (value == NULL)
			continue;
		if (host != NULL && strcmp(option->keyword, "host") == 0)
			value = host->host;
		else if (host != NULL && strcmp(option->keyword, "hostaddr") == 0)
			value = host->hostaddr;
		else if (host != NULL && strcmp(option->keyword, "port") == 0)
			value = host->port;
		keywords[n] = option->keyword;
		values[n++] = value;
	}
	keywords[n] = values[n] = NULL;
	conn = PQconnectdbParams(keywords, values, 0);
	PQconninfoFree(given);
	return conn;
}

PGconn *
store_connect(const Options *options)
{
	char *conninfo = store_conninfo(options);
	PGconn *conn = connect_to(conninfo, NULL);

	if (PQstatus(conn) != CONNECTION_OK)
	{
		pg_log_error("%s", PQerrorMessage(conn));
		exit(EXIT_UNREACHABLE);
	}
	pfree(conninfo);
	return conn;
}

/* Does the list of branches have the value in the column? */
static bool
has_branch(PGconn *conn, const char *column, const char *value)
{
	PGresult *res = PQexec(conn, "branch_list");
	bool found = false;

	if (PQresultStatus(res) == PGRES_TUPLES_OK)
		for (int r = 0; r < PQntuples(res) && !found; r++)
			found = strcmp(PQgetvalue(res, r, PQfnumber(res, column)), value) == 0;
	PQclear(res);
	return found;
}

PGconn *
store_connect_having(const Options *options, const char *column, const char *value)
{
	char *conninfo = store_conninfo(options);
	PGconn *conn = NULL;
	StoreHosts hosts;

	store_hosts_parse(&hosts, conninfo);
	for (int i = 0; i < hosts.n && hosts.n > 1 && conn == NULL; i++)
	{
		StoreHost host;

		store_hosts_get(&hosts, i, &host);
		conn = connect_to(conninfo, &host);
		if (PQstatus(conn) == CONNECTION_OK && has_branch(conn, column, value))
			break;
		PQfinish(conn);
		conn = NULL;
	}
	store_hosts_free(&hosts);
	pfree(conninfo);
	return conn != NULL ? conn : store_connect(options);
}

/* Waits until the socket is ready; returns false at the time "until". */
static bool
wait_for_socket(PGconn *conn, bool to_write, int64 until)
{
	struct pollfd pfd = {PQsocket(conn), to_write ? POLLOUT : POLLIN, 0};
	int64 left;

	do
	{
		left = until - now_ms();
		if (left <= 0)
			return false;
	} while (poll(&pfd, 1, (int) left) < 0 && errno == EINTR);
	return now_ms() < until;
}

PGresult *
store_ask(const PidFile *file, const char *command, int timeout_ms)
{
	char port[16];
	const char *keys[] = {"host", "port", "dbname", "user", "fallback_application_name", NULL};
	const char *values[] = {file->socket_dir, port, "store", "pageserver", "pageserver_ctl", NULL};
	int64 until = now_ms() + timeout_ms;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	PGresult *res = NULL;
	PGconn *conn;

	snprintf(port, sizeof(port), "%d", file->port);
	conn = PQconnectStartParams(keys, values, false);
	while (PQstatus(conn) != CONNECTION_BAD && status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		if (!wait_for_socket(conn, status == PGRES_POLLING_WRITING, until))
			break;
		status = PQconnectPoll(conn);
	}
	if (status == PGRES_POLLING_OK && PQsendQuery(conn, command))
	{
		while (PQisBusy(conn) && wait_for_socket(conn, false, until) && PQconsumeInput(conn))
			;
		if (!PQisBusy(conn))
			res = PQgetResult(conn);
	}
	PQfinish(conn);
	if (res == NULL || PQresultStatus(res) == PGRES_TUPLES_OK)
		return res;
	PQclear(res);
	return NULL;
}

bool
store_answers(const char *conninfo)
{
	const char *keywords[] = {"dbname", "connect_timeout", NULL};
	const char *values[] = {conninfo, "2", NULL};

	return PQpingParams(keywords, values, 1) == PQPING_OK;
}

char *
store_branch_of_timeline(PGconn *conn, const char *timeline)
{
	PGresult *res = store_query(conn, "branch_list");
	char *name = NULL;

	for (int r = 0; r < PQntuples(res) && name == NULL; r++)
		if (strcmp(PQgetvalue(res, r, PQfnumber(res, "timeline")), timeline) == 0)
			name = pg_strdup(PQgetvalue(res, r, PQfnumber(res, "name")));
	PQclear(res);
	return name;
}

/* ---- errors ---- */

static int error_exit_code = 1;

int
store_exit_code(PGconn *conn, PGresult *res)
{
#define EXIT_CODE(name, code, store, compute, exit_code) EXIT_##exit_code,
	static const int exit_codes[] = {PS_SQLSTATES(EXIT_CODE)};
#undef EXIT_CODE
	const char *sqlstate = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	int i;

	if (sqlstate == NULL)
		return PQstatus(conn) != CONNECTION_OK ? EXIT_UNREACHABLE : EXIT_FAILURE;
	i = ps_sqlstate_find(sqlstate);
	return i >= 0 ? exit_codes[i] : EXIT_FAILURE;
}

int
store_report_error(PGconn *conn, PGresult *res)
{
	const char *message = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *hint = res ? PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;

	if (message == NULL)
		pg_log_error("%s", PQerrorMessage(conn));
	else
		pg_log_error("%s", message);
	if (detail != NULL)
		pg_log_error_detail("%s", detail);
	if (hint != NULL)
		pg_log_error_hint("%s", hint);

	error_exit_code = store_exit_code(conn, res);
	return error_exit_code;
}

int
store_error_exit_code(void)
{
	return error_exit_code;
}

PGresult *
store_query(PGconn *conn, const char *command)
{
	PGresult *res = PQexec(conn, command);

	if (PQresultStatus(res) != PGRES_TUPLES_OK && PQresultStatus(res) != PGRES_COMMAND_OK)
		exit(store_report_error(conn, res));
	return res;
}

void
store_execute(PGconn *conn, const char *command)
{
	PQclear(store_query(conn, command));
}

char *
store_quote(const char *text)
{
	StringInfoData word;

	initStringInfo(&word);
	appendStringInfoChar(&word, '\'');
	for (const char *p = text; *p; p++)
	{
		if (*p == '\'')
			appendStringInfoChar(&word, '\'');
		appendStringInfoChar(&word, *p);
	}
	appendStringInfoChar(&word, '\'');
	return word.data;
}

/* ---- tables ---- */

static int
display_width(const char *text)
{
	int width = 0;

	for (; *text; text++)
		width += ((unsigned char) *text & 0xC0) != 0x80; /* count UTF-8 characters */
	return width;
}

void
print_table(PGresult *res, const char *const *columns, int ncolumns, const int *order, const int *indent)
{
	int *width = pg_malloc0(ncolumns * sizeof(int));
	int *field = pg_malloc0(ncolumns * sizeof(int));

	for (int c = 0; c < ncolumns; c++)
	{
		field[c] = PQfnumber(res, columns[c]);
		width[c] = display_width(columns[c]);
		for (int r = 0; r < PQntuples(res) && field[c] >= 0; r++)
			width[c] = Max(width[c], display_width(PQgetvalue(res, r, field[c])) + (c == 0 && indent ? indent[r] : 0));
	}
	for (int r = -1; r < PQntuples(res); r++)
	{
		for (int c = 0; c < ncolumns; c++)
		{
			int row = r >= 0 && order != NULL ? order[r] : r;
			int before = r >= 0 && c == 0 && indent != NULL ? indent[row] : 0;
			const char *text = r < 0 ? columns[c] : field[c] < 0 ? ""
																 : PQgetvalue(res, row, field[c]);
			int pad = c == ncolumns - 1 ? 0 : width[c] - before - display_width(text) + 2;

			printf("%*s%s%*s", before, "", text, pad, "");
		}
		printf("\n");
	}
	free(width);
	free(field);
}

void
print_json(PGresult *res)
{
	json_t *rows = json_array();

	for (int r = 0; r < PQntuples(res); r++)
	{
		json_t *row = json_object();

		for (int c = 0; c < PQnfields(res); c++)
		{
			const char *text = PQgetvalue(res, r, c);
			json_t *value;

			if (PQgetisnull(res, r, c))
				value = json_null();
			else if (PQftype(res, c) == BOOLOID)
				value = json_boolean(text[0] == 't');
			else if (PQftype(res, c) == INT8OID && strcmp(PQfname(res, c), "system_identifier") != 0)
				value = json_integer(strtoll(text, NULL, 10));
			else
				value = json_string(text); /* many JSON readers round 64-bit identifiers */
			json_object_set_new(row, PQfname(res, c), value ? value : json_null());
		}
		json_array_append_new(rows, row);
	}
	json_dumpf(rows, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(rows);
}

void
print_done(const Options *options, const char *line, ...)
{
	va_list members;
	const char *name;
	json_t *object;

	if (options->quiet)
		return;
	if (!options->json)
	{
		printf("%s\n", line);
		return;
	}
	object = json_object();
	va_start(members, line);
	while ((name = va_arg(members, const char *)) != NULL)
	{
		const char *value = va_arg(members, const char *);
		json_t *text = value ? json_string(value) : NULL;

		/* json_string() fails if a path is not valid UTF-8 */
		json_object_set_new(object, name, text ? text : json_null());
	}
	va_end(members);
	json_dumpf(object, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(object);
}
