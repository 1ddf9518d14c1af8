/*
 * commands.c
 *	  The commands of a connection, as psql would type them.
 */
#include "ps_fe.h"

#include <ctype.h>
#include <unistd.h>

#include "catalog/pg_type_d.h"

#include "backup/backup.h"
#include "serve/session.h"
#include "version.h"

#define MAX_WORDS 8

/* Portion of a base backup in one CopyData message. */
#define COPY_CHUNK (64 * 1024)

typedef struct Command
{
	const char *name;
	const char *arguments;		/* for messages */
	int			least;			/* number of arguments */
	int			most;
	PsError    *(*run) (Session *session, char **args, int nargs);
} Command;

static PsError *run_branch_list(Session *session, char **args, int nargs);
static PsError *run_branch_create(Session *session, char **args, int nargs);
static PsError *run_branch_compact(Session *session, char **args, int nargs);
static PsError *run_branch_delete(Session *session, char **args, int nargs);
static PsError *run_branch_rename(Session *session, char **args, int nargs);
static PsError *run_branch_reset(Session *session, char **args, int nargs);
static PsError *run_branch_restore(Session *session, char **args, int nargs);
static PsError *run_import(Session *session, char **args, int nargs);
static PsError *run_basebackup(Session *session, char **args, int nargs);
static PsError *run_fullbackup(Session *session, char **args, int nargs);
static PsError *run_pagestream(Session *session, char **args, int nargs);
static PsError *run_wal_push(Session *session, char **args, int nargs);
static PsError *run_status(Session *session, char **args, int nargs);

static const Command commands[] = {
	{"basebackup", "BRANCH OWNER", 2, 2, run_basebackup},
	{"branch_create", "NAME [data_checksums | FROM PARENT [LSN lsn | TIME microseconds]]", 1, 5, run_branch_create},
	{"branch_compact", "NAME", 1, 1, run_branch_compact},
	{"branch_delete", "NAME [force]", 1, 2, run_branch_delete},
	{"branch_list", "", 0, 0, run_branch_list},
	{"branch_rename", "NAME NEW_NAME", 2, 2, run_branch_rename},
	{"branch_reset", "NAME [force]", 1, 2, run_branch_reset},
	{"branch_restore", "NAME LSN lsn | TIME microseconds [force]", 3, 4, run_branch_restore},
	{"fullbackup", "BRANCH [LSN lsn | TIME microseconds]", 1, 3, run_fullbackup},
	{"import", "NAME 'PGDATA'", 2, 2, run_import},
	{"pagestream", "TENANT TIMELINE GENERATION", 3, 3, run_pagestream},
	{"status", "", 0, 0, run_status},
	{"tenant_attach", "TENANT", 1, 1, run_tenant_attach},
	{"tenant_detach", "TENANT", 1, 1, run_tenant_detach},
	{"tenant_list", "", 0, 0, run_tenant_list},
	{"wal_push", "TENANT TIMELINE GENERATION", 3, 3, run_wal_push},
};

int
command_split(char *text, char **words, int max)
{
	char	   *end = text + strlen(text);
	int			n = 0;

	while (end > text && (isspace((unsigned char) end[-1]) || end[-1] == ';'))
		*--end = '\0';
	for (char *p = text;;)
	{
		char	   *out;

		while (isspace((unsigned char) *p))
			p++;
		if (*p == '\0')
			return n;
		if (n == max)
			return max + 1;
		words[n++] = out = p;
		while (*p != '\0' && !isspace((unsigned char) *p))
		{
			if (*p != '\'')
			{
				*out++ = *p++;
				continue;
			}
			for (p++;; p++)
			{
				if (*p == '\0')
					return -1;
				if (*p == '\'' && *++p != '\'')
					break;
				*out++ = *p;
			}
		}
		if (*p != '\0')
			p++;
		*out = '\0';
	}
}

PsError *
command_execute(Session *session, const char *text, uint32 len)
{
	char	   *copy = pnstrdup(text, len);
	char	   *words[MAX_WORDS];
	int			n = command_split(copy, words, MAX_WORDS);
	const Command *command = NULL;
	StringInfoData names;
	PsError    *err;

	if (n == 0)
	{
		conn_begin(&session->conn, 'I');	/* EmptyQueryResponse */
		conn_end(&session->conn);
		free(copy);
		return NULL;
	}
	initStringInfo(&names);
	for (int i = 0; i < lengthof(commands); i++)
	{
		appendStringInfo(&names, "%s%s", i > 0 ? ", " : "", commands[i].name);
		if (n != -1 && pg_strcasecmp(words[0], commands[i].name) == 0)
			command = &commands[i];
	}
	if (n == -1)
		err = ps_error(PS_SQLSTATE_SYNTAX, "a quote is not closed in the command");
	else if (command == NULL)
		err = ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "unknown command \"%s\"", words[0]),
							"The store knows the commands %s.", names.data);
	else if (n - 1 < command->least || n - 1 > command->most)
		err = ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "wrong number of arguments for \"%s\"", command->name),
							"It is: %s%s%s", command->name, command->arguments[0] ? " " : "", command->arguments);
	else
	{
		err = command->run(session, words + 1, n - 1);
		session_release_all(session);
	}
	pfree(names.data);
	free(copy);
	return err;
}

/* ---- arguments ---- */

/*
 * The command uses it.  Who takes a timeline away stops it first, and then ends
 * those that hold it: so this notices, or those do.
 */
static PsError *
hold(Session *session, Timeline *tl)
{
	session_hold(session, tl);
	if (!timeline_is_stopping(tl))
		return NULL;
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "the branch is being closed");
}

static PsError *
find_timeline(Session *session, char **args, Timeline **tl, uint64 *generation)
{
	PsId		tenant;
	PsId		timeline;
	char	   *end;

	if (!ps_id_parse(args[0], &tenant))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid tenant id \"%s\": expected 32 hex digits", args[0]);
	if (!ps_id_parse(args[1], &timeline))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid timeline id \"%s\": expected 32 hex digits", args[1]);
	errno = 0;
	*generation = strtoull(args[2], &end, 10);
	if (!isdigit((unsigned char) args[2][0]) || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid generation \"%s\": expected a decimal number", args[2]);
	PS_TRY(store_use(session->server->store, &tenant, &timeline, &session->waiter, tl));
	return hold(session, *tl);
}

static PsError *
find_branch(Session *session, const char *name, Timeline **tl)
{
	PS_TRY(store_use_branch(session->server->store, name, &session->waiter, tl));
	return hold(session, *tl);
}

static PsError *
parse_lsn(const char *text, XLogRecPtr *lsn)
{
	uint32		hi;
	uint32		lo;
	int			used = 0;

	if (strspn(text, "0123456789abcdefABCDEF/") != strlen(text) || strlen(text) > 17 ||
		sscanf(text, "%8X/%8X%n", &hi, &lo, &used) != 2 || text[used] != '\0')
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid LSN \"%s\": expected two hex numbers as in 0/16B3748", text);
	*lsn = ((uint64) hi << 32) | lo;
	return NULL;
}

/* ---- tables ---- */

/* Sends a row of n psprintf'd texts, which it frees. */
static void
send_row(Conn *conn, char **values, int n)
{
	conn_send_row(conn, (const char *const *) values, n);
	for (int i = 0; i < n; i++)
		free(values[i]);
}

/* NULL: it is not known. */
static char *
lsn_text(XLogRecPtr lsn)
{
	return lsn == InvalidXLogRecPtr ? NULL : psprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}

static char *
id_text(const PsId *id)
{
	char		text[PS_ID_TEXT];

	return pg_strdup(ps_id_format(id, text));
}

static PsError *
run_branch_list(Session *session, char **args, int nargs)
{
	static const Column columns[] = {
		{"name", TEXTOID}, {"tenant", TEXTOID}, {"timeline", TEXTOID}, {"system_identifier", INT8OID},
		{"generation", INT8OID}, {"owner", TEXTOID}, {"connected", BOOLOID}, {"received_lsn", LSNOID},
		{"flushed_lsn", LSNOID}, {"ingested_lsn", LSNOID}, {"disk_consistent_lsn", LSNOID}, {"layer_files", INT8OID},
		{"layer_bytes", INT8OID}, {"open_layer_bytes", INT8OID}, {"wal_bytes", INT8OID}, {"parent", TEXTOID},
		{"start_lsn", LSNOID}, {"oldest_lsn", LSNOID}, {"error", TEXTOID}, {"open", BOOLOID},
	};
	Conn	   *conn = &session->conn;
	int			n;
	Timeline  **list = store_list(session->server->store, &n);
	char		tag[32];

	conn_send_row_description(conn, columns, lengthof(columns));
	for (int i = 0; i < n; i++)
	{
		TimelineInfo info;
		char	   *values[lengthof(columns)];
		int			v = 0;

		store_timeline_info(list[i], &info);
		values[v++] = pg_strdup(info.name);
		values[v++] = id_text(&info.tenant);
		values[v++] = id_text(&info.timeline);
		values[v++] = psprintf(UINT64_FORMAT, info.system_identifier);
		values[v++] = psprintf(UINT64_FORMAT, info.generation);
		values[v++] = pg_strdup(info.owner);
		values[v++] = pg_strdup(info.compute_connected ? "t" : "f");
		values[v++] = lsn_text(info.received_lsn);
		values[v++] = lsn_text(info.flushed_lsn);
		values[v++] = lsn_text(info.ingested_lsn);
		values[v++] = lsn_text(info.disk_consistent_lsn);
		values[v++] = psprintf(UINT64_FORMAT, info.layer_files);
		values[v++] = psprintf(UINT64_FORMAT, info.layer_bytes);
		values[v++] = psprintf(UINT64_FORMAT, info.open_layer_bytes);
		values[v++] = psprintf(UINT64_FORMAT, info.wal_bytes);
		values[v++] = pg_strdup(info.parent);
		values[v++] = lsn_text(info.start_lsn);
		values[v++] = lsn_text(info.gc_cutoff);
		values[v++] = pg_strdup(info.error);
		values[v++] = pg_strdup(info.open ? "t" : "f");
		Assert(v == lengthof(columns));
		send_row(conn, values, v);
	}
	store_list_free(list, n);
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}

static PsError *
run_status(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"name", TEXTOID}, {"value", TEXTOID}};
	Server	   *server = session->server;
	const Config *config = server->config;
	Conn	   *conn = &session->conn;
	Timeline  **list;
	int			nbranches;
	StoreReadStats reads;
	struct tm	tm;
	char		started[64];
	char		tag[32];
	int			n = 0;

	list = store_list(server->store, &nbranches);
	store_list_free(list, nbranches);
	store_read_stats(server->store, &reads);
	gmtime_r(&server->started, &tm);
	strftime(started, sizeof(started), "%Y-%m-%d %H:%M:%S+00", &tm);
	{
		char	   *rows[][2] = {
			{pg_strdup("version"), pg_strdup(PS_VERSION)},
			{pg_strdup("postgresql"), pg_strdup(PG_VERSION)},
			{pg_strdup("store"), pg_strdup(config->store_dir)},
			{pg_strdup("pid"), psprintf("%d", (int) getpid())},
			{pg_strdup("started"), pg_strdup(started)},
			{pg_strdup("port"), psprintf("%d", config->port)},
			{pg_strdup("unix_socket_directory"), pg_strdup(config->unix_socket_directory)},
			{pg_strdup("listen_addresses"), pg_strdup(config->listen_addresses)},
			{pg_strdup("connections"), psprintf("%d", server_session_count(server))},
			{pg_strdup("max_connections"), psprintf("%d", config->max_connections)},
			{pg_strdup("branches"), psprintf("%d", nbranches)},
			{pg_strdup("reads"), psprintf(UINT64_FORMAT, reads.reads)},
			{pg_strdup("layers_searched"), psprintf(UINT64_FORMAT, reads.layers_searched)},
			{pg_strdup("page_cache_hits"), psprintf(UINT64_FORMAT, reads.page_cache_hits)},
			{pg_strdup("page_cache_misses"), psprintf(UINT64_FORMAT, reads.page_cache_misses)},
		};

		conn_send_row_description(conn, columns, lengthof(columns));
		for (; n < lengthof(rows); n++)
			send_row(conn, rows[n], 2);
	}
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}

/* ---- branches ---- */

static void
report_progress(void *arg, const char *message)
{
	Session    *session = arg;

	conn_send_notice(&session->conn, message);
	ps_error_free(conn_flush(&session->conn));	/* the Waiter notices that the client has gone */
}

/* Tells of a branch that has come into being. */
static PsError *
send_branch(Session *session, const char *name, const char *tag)
{
	static const Column columns[] = {{"name", TEXTOID}, {"tenant", TEXTOID}, {"timeline", TEXTOID}, {"lsn", LSNOID}};
	TimelineInfo info;
	char	   *values[lengthof(columns)];

	PS_TRY(store_branch_info(session->server->store, name, &info));
	values[0] = pg_strdup(info.name);
	values[1] = id_text(&info.tenant);
	values[2] = id_text(&info.timeline);
	values[3] = lsn_text(info.flushed_lsn);
	conn_send_row_description(&session->conn, columns, lengthof(columns));
	send_row(&session->conn, values, lengthof(columns));
	conn_send_complete(&session->conn, tag);
	return NULL;
}

/* Microseconds since 1970, UTC, as PostgreSQL has times. */
static PsError *
parse_time(const char *text, TimestampTz *when)
{
	char	   *end;
	int64		us;

	errno = 0;
	us = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid time \"%s\": expected microseconds since 1970", text);
	*when = us - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	return NULL;
}

/* "LSN lsn" or "TIME microseconds" of a branch: *at and *lsn are where a branch can begin. */
static PsError *
parse_moment(Session *session, const char *what, const char *value, Timeline *tl, Timeline **at, XLogRecPtr *lsn)
{
	TimestampTz when = 0;

	*at = tl;
	if (pg_strcasecmp(what, "lsn") == 0)
		return parse_lsn(value, lsn);
	if (pg_strcasecmp(what, "time") != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "expected LSN or TIME, not \"%s\"", what);
	PS_TRY(parse_time(value, &when));
	return timeline_lsn_at_time(tl, when, &session->waiter, at, lsn);
}

/* NAME FROM PARENT [LSN lsn | TIME microseconds] */
static PsError *
create_from(Session *session, char **args, int nargs)
{
	XLogRecPtr	lsn = PG_UINT64_MAX;
	Timeline   *parent;

	if (nargs != 3 && nargs != 5)
		return ps_error(PS_SQLSTATE_SYNTAX, "expected FROM PARENT, then nothing, LSN lsn or TIME microseconds");
	PS_TRY(find_branch(session, args[2], &parent));
	if (nargs == 5)
		PS_TRY(parse_moment(session, args[3], args[4], parent, &parent, &lsn));
	PS_TRY(store_branch(session->server->store, args[0], parent, lsn, &session->waiter, NULL));
	return send_branch(session, args[0], "CREATE BRANCH");
}

/* A branch that is to go, or to be replaced, should have no compute, unless the last argument is "force". */
static PsError *
check_no_compute(Session *session, char **args, int nargs, int least)
{
	TimelineInfo info;

	if (nargs > least && pg_strcasecmp(args[least], "force") == 0)
		return NULL;
	if (nargs > least)
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected force", args[least]);
	PS_TRY(store_branch_info(session->server->store, args[0], &info));
	if (!info.compute_connected)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "branch \"%s\" is run by a compute (%s)", info.name, info.owner),
						 "Stop the compute first.");
}

/* Deletes a branch that this session does not hold. */
static PsError *
delete_branch(Session *session, const char *name)
{
	Timeline   *tl;

	PS_TRY(store_remove_branch(session->server->store, name, &session->waiter, &tl));
	server_end_users(session->server, tl, session);
	store_destroy_branch(tl);
	return NULL;
}

static PsError *
run_branch_delete(Session *session, char **args, int nargs)
{
	PS_TRY(check_no_compute(session, args, nargs, 1));
	PS_TRY(delete_branch(session, args[0]));
	conn_send_complete(&session->conn, "DROP BRANCH");
	return NULL;
}

static PsError *
run_branch_rename(Session *session, char **args, int nargs)
{
	PS_TRY(store_rename_branch(session->server->store, args[0], args[1], &session->waiter));
	conn_send_complete(&session->conn, "RENAME BRANCH");
	return NULL;
}

static PsError *
run_branch_reset(Session *session, char **args, int nargs)
{
	char		old_name[TIMELINE_NAME_MAX + 1];
	Timeline   *parent;
	Timeline   *tl;
	PsError    *err;

	PS_TRY(check_no_compute(session, args, nargs, 1));
	PS_TRY(store_use_branch(session->server->store, args[0], &session->waiter, &tl));
	err = timeline_parent(tl, &parent);
	if (err == NULL)
		err = store_replace_branch(session->server->store, args[0], parent, PG_UINT64_MAX, true, &session->waiter, old_name);
	store_release(tl);
	if (err != NULL)
		return err;
	PS_TRY(delete_branch(session, old_name));
	return send_branch(session, args[0], "RESET BRANCH");
}

static PsError *
run_branch_restore(Session *session, char **args, int nargs)
{
	char		old_name[TIMELINE_NAME_MAX + 1];
	char	   *message;
	XLogRecPtr	lsn;
	Timeline   *at;
	Timeline   *tl;

	PS_TRY(find_branch(session, args[0], &tl));
	PS_TRY(check_no_compute(session, args, nargs, 3));
	PS_TRY(parse_moment(session, args[1], args[2], tl, &at, &lsn));
	PS_TRY(store_replace_branch(session->server->store, args[0], at, lsn, false, &session->waiter, old_name));
	message = psprintf("what branch \"%s\" was is branch \"%s\" now", args[0], old_name);
	conn_send_notice(&session->conn, message);
	pfree(message);
	return send_branch(session, args[0], "RESTORE BRANCH");
}

static PsError *
run_branch_compact(Session *session, char **args, int nargs)
{
	Timeline   *tl;

	PS_TRY(find_branch(session, args[0], &tl));
	PS_TRY(upkeep_timeline(tl, true));
	conn_send_complete(&session->conn, "COMPACT");
	return NULL;
}

static PsError *
run_branch_create(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline   *tl;

	if (nargs > 1 && pg_strcasecmp(args[1], "from") == 0)
		return create_from(session, args, nargs);
	if (nargs > 2 || (nargs > 1 && strcmp(args[1], "data_checksums") != 0))
		return ps_error(PS_SQLSTATE_SYNTAX, "unknown option \"%s\": expected data_checksums or FROM", args[1]);
	PS_TRY(branch_create(session->server->store, args[0], nargs > 1, &session->waiter, &progress, &tl));
	session_hold(session, tl);
	return send_branch(session, args[0], "CREATE BRANCH");
}

static PsError *
run_import(Session *session, char **args, int nargs)
{
	ProgressSink progress = {report_progress, session};
	Timeline   *tl;

	if (args[1][0] != '/')
		return ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "\"%s\" is not an absolute path", args[1]),
							 "The directory is read by the store, whose current directory is not yours.");
	PS_TRY(import_cluster(session->server->store, args[0], args[1], &session->waiter, &progress, &tl));
	session_hold(session, tl);
	return send_branch(session, args[0], "IMPORT");
}

/* ---- backups: a tar as a COPY ---- */

/* Collects what the producer writes into CopyData messages of a fair size. */
typedef struct CopySink
{
	Session    *session;
	bool		in_message;
} CopySink;

static void
copy_sink_end_message(CopySink *sink)
{
	if (sink->in_message)
		conn_end(&sink->session->conn);
	sink->in_message = false;
}

static PsError *
copy_sink_write(void *arg, const char *data, size_t len)
{
	CopySink   *sink = arg;
	Conn	   *conn = &sink->session->conn;

	while (len > 0)
	{
		size_t		n = Min(len, COPY_CHUNK);

		if (!sink->in_message)
			conn_begin(conn, 'd');
		sink->in_message = true;
		conn_put_bytes(conn, data, n);
		data += n;
		len -= n;
		if (conn_pending(conn) >= COPY_CHUNK)
		{
			copy_sink_end_message(sink);
			PS_TRY(conn_flush(conn));
			PS_TRY(session_check_stop(sink->session));
		}
	}
	return NULL;
}

static void
copy_sink_begin(CopySink *sink, Session *session)
{
	sink->session = session;
	sink->in_message = false;
	conn_send_copy_response(&session->conn, 'H');
}

/* After an error the client gets the error instead of the end of the copy. */
static PsError *
copy_sink_finish(CopySink *sink, PsError *err, const char *tag)
{
	Conn	   *conn = &sink->session->conn;

	copy_sink_end_message(sink);
	if (err != NULL)
		return err;
	conn_begin(conn, 'c');
	conn_end(conn);
	conn_send_complete(conn, tag);
	return NULL;
}

static PsError *
run_basebackup(Session *session, char **args, int nargs)
{
	BaseBackupOptions options = {.owner = args[1]};
	CopySink	sink;
	Timeline   *tl;

	PS_TRY(find_branch(session, args[0], &tl));
	copy_sink_begin(&sink, session);
	return copy_sink_finish(&sink, basebackup(tl, &options, &session->waiter, (ByteSink) {copy_sink_write, &sink}),
							"BASEBACKUP");
}

static PsError *
run_fullbackup(Session *session, char **args, int nargs)
{
	XLogRecPtr	lsn = InvalidXLogRecPtr;
	CopySink	sink;
	Timeline   *tl;

	PS_TRY(find_branch(session, args[0], &tl));
	if (nargs == 2)
		return ps_error(PS_SQLSTATE_SYNTAX, "expected LSN lsn or TIME microseconds behind the branch");
	if (nargs > 1)
		PS_TRY(parse_moment(session, args[1], args[2], tl, &tl, &lsn));
	copy_sink_begin(&sink, session);
	return copy_sink_finish(&sink, fullbackup(tl, lsn, &session->waiter, (ByteSink) {copy_sink_write, &sink}),
							"FULLBACKUP");
}

/* ---- streams ---- */

static PsError *
run_pagestream(Session *session, char **args, int nargs)
{
	Timeline   *tl;
	uint64		generation;

	PS_TRY(find_timeline(session, args, &tl, &generation));
	return pagestream_run(session, tl, generation);
}

static PsError *
run_wal_push(Session *session, char **args, int nargs)
{
	Timeline   *tl;
	uint64		generation;

	PS_TRY(find_timeline(session, args, &tl, &generation));
	return wal_push_run(session, tl, generation);
}
