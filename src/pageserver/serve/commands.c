/*
 * commands.c
 *	  The commands of a connection, as psql would type them: splitting them,
 *	  their arguments, which there are.
 */
#include "ps_fe.h"

#include <ctype.h>
#include <unistd.h>

#include "catalog/pg_type_d.h"

#include "serve/commands.h"
#include "base/version.h"
#include "sqlstate.h"

#define MAX_WORDS 8

typedef struct Command
{
	const char *name;
	const char *arguments; /* for messages */
	int least;             /* number of arguments */
	int most;
	PsError *(*run)(Session *session, char **args, int nargs);
} Command;

static PsError *run_pagestream(Session *session, char **args, int nargs);
static PsError *run_wal_push(Session *session, char **args, int nargs);
static PsError *run_save_files(Session *session, char **args, int nargs);
static PsError *run_status(Session *session, char **args, int nargs);

static const Command commands[] = {
	{"basebackup", "BRANCH OWNER [GENERATION]", 2, 3, run_basebackup},
	{"basebackup_rehearsal", "BRANCH", 1, 1, run_basebackup_rehearsal},
	{"branch_create", "NAME [data_checksums | FROM PARENT [LSN lsn | TIME microseconds]]", 1, 5, run_branch_create},
	{"branch_compact", "NAME", 1, 1, run_branch_compact},
	{"branch_delete", "NAME [force] [purge]", 1, 3, run_branch_delete},
	{"branch_list", "[deleted]", 0, 1, run_branch_list},
	{"branch_protect", "NAME", 1, 1, run_branch_protect},
	{"branch_rename", "NAME NEW_NAME", 2, 2, run_branch_rename},
	{"branch_reset", "NAME [force]", 1, 2, run_branch_reset},
	{"branch_restore", "NAME LSN lsn | TIME microseconds [force]", 3, 4, run_branch_restore},
	{"branch_undelete", "NAME [NEW_NAME]", 1, 2, run_branch_undelete},
	{"branch_unprotect", "NAME", 1, 1, run_branch_unprotect},
	{"fullbackup", "BRANCH [LSN lsn | TIME microseconds] [zero_damaged_pages]", 1, 4, run_fullbackup},
	{"import", "NAME 'PGDATA' [IDENTITY]", 2, 3, run_import},
	{"import_stream", "NAME", 1, 1, run_import_stream},
	{"pagestream", "TENANT TIMELINE GENERATION [LSN]", 3, 4, run_pagestream},
	{"save_files", "TENANT TIMELINE GENERATION LSN", 4, 4, run_save_files},
	{"settings_list", "BRANCH", 1, 1, run_settings_list},
	{"settings_read", "BRANCH [VERSION]", 1, 2, run_settings_read},
	{"settings_write", "BRANCH EXPECTED_VERSION", 2, 2, run_settings_write},
	{"status", "", 0, 0, run_status},
	{"tenant_attach", "TENANT [force]", 1, 2, run_tenant_attach},
	{"tenant_delete", "TENANT [force] [purge]", 1, 3, run_tenant_delete},
	{"tenant_detach", "TENANT", 1, 1, run_tenant_detach},
	{"tenant_list", "[deleted]", 0, 1, run_tenant_list},
	{"tenant_undelete", "TENANT", 1, 1, run_tenant_undelete},
	{"verify", "BRANCH [MEGABYTES_PER_SECOND]", 1, 2, run_verify},
	{"wal_push", "TENANT TIMELINE GENERATION", 3, 3, run_wal_push},
};

int
command_split(char *text, char **words, int max)
{
	char *end = text + strlen(text);
	int n = 0;

	while (end > text && (isspace((unsigned char) end[-1]) || end[-1] == ';'))
		*--end = '\0';
	for (char *p = text;;)
	{
		char *out;

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
	char *copy = pnstrdup(text, len);
	char *words[MAX_WORDS];
	int n = command_split(copy, words, MAX_WORDS);
	const Command *command = NULL;
	StringInfoData names;
	PsError *err;

	if (n == 0)
	{
		conn_begin(&session->conn, 'I'); /* EmptyQueryResponse */
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

PsError *
command_parse_generation(const char *text, uint64 *generation)
{
	char *end;

	errno = 0;
	*generation = strtoull(text, &end, 10);
	if (!isdigit((unsigned char) text[0]) || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid generation \"%s\": expected a decimal number", text);
	return NULL;
}

static PsError *
find_timeline(Session *session, char **args, Timeline **tl, uint64 *generation)
{
	PsId tenant;
	PsId timeline;

	if (!ps_id_parse(args[0], &tenant))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid tenant id \"%s\": expected 32 hex digits", args[0]);
	if (!ps_id_parse(args[1], &timeline))
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid timeline id \"%s\": expected 32 hex digits", args[1]);
	PS_TRY(command_parse_generation(args[2], generation));
	PS_TRY(server_explain_removed(session->server, &timeline,
								  store_use(session->server->store, &tenant, &timeline, &session->cancel, tl)));
	return hold(session, *tl);
}

/* The next CopyData of the client; its last message is CopyDone. */
static PsError *
read_copy(void *arg, const char **data, size_t *len)
{
	Session *session = arg;
	Message msg;

	for (;;)
	{
		PS_TRY(session_check_stop(session));
		PS_TRY(conn_read_message(&session->conn, &msg));
		switch (msg.type)
		{
			case 'd':
				if (msg.len == 0)
					break;
				*data = msg.body;
				*len = msg.len;
				return NULL;
			case 'c':
				*len = 0;
				return NULL;
			case 'f':
				return ps_error(PS_SQLSTATE_CANCELED, "the client ended the copy: %.*s", (int) strnlen(msg.body, msg.len), msg.body);
			case 'H':
			case 'S':
				break;
			case 'X':
				return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
			default:
				return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message of type \"%c\" in a copy", msg.type);
		}
	}
}

ByteSource
command_copy_source(Session *session)
{
	return (ByteSource) {read_copy, session};
}

PsError *
command_find_branch(Session *session, const char *name, Timeline **tl)
{
	PS_TRY(store_use_branch(session->server->store, name, &session->cancel, tl));
	return hold(session, *tl);
}

static PsError *
parse_lsn(const char *text, XLogRecPtr *lsn)
{
	uint32 hi;
	uint32 lo;
	int used = 0;

	if (strspn(text, "0123456789abcdefABCDEF/") != strlen(text) || strlen(text) > 17 ||
		sscanf(text, "%8X/%8X%n", &hi, &lo, &used) != 2 || text[used] != '\0')
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid LSN \"%s\": expected two hex numbers as in 0/16B3748", text);
	*lsn = ((uint64) hi << 32) | lo;
	/* the greatest number stands for "the newest" inside of the store */
	if (*lsn == PG_UINT64_MAX)
		return ps_error(PS_SQLSTATE_INVALID, "LSN %s is in the future: no WAL comes so far", text);
	return NULL;
}

/* A time that is ahead of the store's clock by no more than this is now by a clock that is not quite the same, us. */
#define CLOCKS_DIFFER (10 * USECS_PER_SEC)

static PsError *
in_the_future(TimestampTz when, TimestampTz now)
{
	char *wanted = timestamp_text(when);
	char *is = timestamp_text(now);
	PsError *err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "the moment %s is in the future: the store's clock says %s", wanted, is),
								 "For what the branch is now, give no moment.");

	free(wanted);
	free(is);
	return err;
}

/* Microseconds since 1970, UTC, as PostgreSQL has times. */
static PsError *
parse_time(const char *text, TimestampTz *when)
{
	TimestampTz now = machine_clock_now();
	char *end;
	int64 us;

	errno = 0;
	us = strtoll(text, &end, 10);
	if (end == text || *end != '\0' || errno != 0)
		return ps_error(PS_SQLSTATE_SYNTAX, "invalid time \"%s\": expected microseconds since 1970", text);
	/* no time before PostgreSQL's first fits, and the subtraction must not overflow */
	*when = Max(us, 0) - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	return *when > now + CLOCKS_DIFFER ? in_the_future(*when, now) : NULL;
}

/*
 * "LSN lsn" or "TIME microseconds" of a branch: *at and *lsn are where a branch
 * can begin, *around what that is between.
 */
PsError *
command_parse_moment(Session *session, const char *what, const char *value, Timeline *tl, Timeline **at, XLogRecPtr *lsn,
					 CommitsAround *around)
{
	TimestampTz when = 0;

	*at = tl;
	if (pg_strcasecmp(what, "lsn") == 0)
		PS_TRY(parse_lsn(value, lsn));
	else if (pg_strcasecmp(what, "time") == 0)
	{
		PS_TRY(parse_time(value, &when));
		PS_TRY(timeline_lsn_at_time(tl, when, &session->cancel, at, lsn));
	}
	else
		return ps_error(PS_SQLSTATE_SYNTAX, "expected LSN or TIME, not \"%s\"", what);
	return timeline_commits_around(tl, *lsn, &session->cancel, around);
}

/* ---- tables ---- */

/* Sends a row of n psprintf'd texts, which it frees. */
void
command_send_row(Conn *conn, char **values, int n)
{
	conn_send_row(conn, (const char *const *) values, n);
	for (int i = 0; i < n; i++)
		free(values[i]);
}

/* NULL: it is not known. */
char *
command_time_text(bool known, TimestampTz when)
{
	return known ? timestamp_text(when) : NULL;
}

/* NULL: it is not known. */
char *
command_lsn_text(XLogRecPtr lsn)
{
	return lsn == InvalidXLogRecPtr ? NULL : psprintf("%X/%X", LSN_FORMAT_ARGS(lsn));
}

char *
command_id_text(const PsId *id)
{
	char text[PS_ID_TEXT];

	return pg_strdup(ps_id_format(id, text));
}

/* A row for each branch whose WAL waits; returns how many.  Takes the list. */
static int
send_waits(Session *session, Branch **list, int nlist)
{
	int n = 0;

	for (int i = 0; i < nlist; i++)
	{
		char *wait = server_wal_wait(session->server, list[i]);
		TimelineInfo info;
		char *row[2];

		if (wait == NULL)
			continue;
		store_timeline_info(list[i], &info);
		row[0] = pg_strdup("waits");
		row[1] = psprintf("branch \"%s\": %s", info.name, wait);
		command_send_row(&session->conn, row, 2);
		free(wait);
		n++;
	}
	store_list_free(list, nlist);
	return n;
}

static PsError *
run_status(Session *session, char **args, int nargs)
{
	static const Column columns[] = {{"name", TEXTOID}, {"value", TEXTOID}};
	Server *server = session->server;
	const Config *config = server->config;
	Conn *conn = &session->conn;
	Branch **list;
	int nbranches;
	int broken;
	int unknown;
	DeletedInfo *deleted;
	int ndeleted;
	uint64 deleted_bytes = 0;
	StoreReadStats reads;
	ServerCounts counts;
	char started[TIME_TEXT_SIZE];
	char tag[32];
	int n = 0;

	list = store_list(server->store, &nbranches);
	deleted = store_list_deleted(server->store, &ndeleted);
	for (int i = 0; i < ndeleted; i++)
		deleted_bytes += deleted[i].info.layer_bytes + deleted[i].info.wal_bytes;
	store_list_deleted_free(deleted, ndeleted);
	store_read_stats(server->store, &reads);
	server_counts(server, &counts);
	timeline_time_text(server->started, started);
	store_count_broken(server->store, &broken, &unknown);
	{
		char *rows[][2] = {
			{pg_strdup("version"), pg_strdup(PS_VERSION)},
			{pg_strdup("postgresql"), pg_strdup(PG_VERSION)},
			{pg_strdup("store"), pg_strdup(config->store_dir)},
			{pg_strdup("pid"), psprintf("%d", (int) getpid())},
			{pg_strdup("started"), pg_strdup(started)},
			{pg_strdup("port"), psprintf("%d", config->port)},
			{pg_strdup("unix_socket_directory"), pg_strdup(config->unix_socket_directory)},
			{pg_strdup("listen_addresses"), pg_strdup(config->listen_addresses)},
			{pg_strdup("connections"), psprintf("%d", counts.pages + counts.wal + counts.others + counts.waiting)},
			{pg_strdup("page_streams"), psprintf("%d", counts.pages)},
			{pg_strdup("page_streams_awaited"), psprintf("%d", counts.waiting)},
			{pg_strdup("page_streams_recalled"), psprintf(UINT64_FORMAT, counts.recalls)},
			{pg_strdup("wal_streams"), psprintf("%d", counts.wal)},
			{pg_strdup("max_connections"), psprintf("%d", config->max_connections)},
			{pg_strdup("restart_needed"), pg_strdup(config->restart_needed)},
			{pg_strdup("branches"), psprintf("%d", nbranches - ndeleted)},
			{pg_strdup("branches_not_served"), psprintf("%d", broken)},
			{pg_strdup("branches_keeping_garbage"), psprintf("%d", unknown)},
			{pg_strdup("deleted_branches"), psprintf("%d", ndeleted)},
			{pg_strdup("deleted_bytes"), psprintf(UINT64_FORMAT, deleted_bytes)},
			{pg_strdup("reads"), psprintf(UINT64_FORMAT, reads.reads)},
			{pg_strdup("layers_searched"), psprintf(UINT64_FORMAT, reads.layers_searched)},
			{pg_strdup("page_cache_hits"), psprintf(UINT64_FORMAT, reads.page_cache_hits)},
			{pg_strdup("page_cache_misses"), psprintf(UINT64_FORMAT, reads.page_cache_misses)},
		};

		conn_send_row_description(conn, columns, lengthof(columns));
		for (; n < lengthof(rows); n++)
			command_send_row(conn, rows[n], 2);
	}
	n += send_waits(session, list, nbranches);
	snprintf(tag, sizeof(tag), "SELECT %d", n);
	conn_send_complete(conn, tag);
	return NULL;
}

/* ---- streams ---- */

static PsError *
run_pagestream(Session *session, char **args, int nargs)
{
	Timeline *tl;
	uint64 generation;
	XLogRecPtr lease = InvalidXLogRecPtr;

	PS_TRY(find_timeline(session, args, &tl, &generation));
	if (nargs > 3)
	{
		PS_TRY(parse_lsn(args[3], &lease));
		if (lease == InvalidXLogRecPtr)
			return ps_error(PS_SQLSTATE_INVALID, "nothing can be read at LSN %s", args[3]);
	}
	return pagestream_run(session, tl, generation, lease);
}

static PsError *
run_save_files(Session *session, char **args, int nargs)
{
	Timeline *tl;
	uint64 generation;
	XLogRecPtr lsn;

	PS_TRY(find_timeline(session, args, &tl, &generation));
	PS_TRY(parse_lsn(args[3], &lsn));
	return stop_files_run(session, tl, generation, lsn);
}

static PsError *
run_wal_push(Session *session, char **args, int nargs)
{
	Timeline *tl;
	uint64 generation;

	PS_TRY(find_timeline(session, args, &tl, &generation));
	return wal_push_run(session, tl, generation);
}
