/*
 * command_table.c
 *	  The table of all commands, and the function that runs one.
 */
#include "ps_fe.h"

#include "serve/commands.h"
#include "sqlstate.h"

#define MAX_WORDS 8

typedef struct Command
{
	const char *name;
	const char *arguments; /* for messages */
	int min_args;
	int max_args;
	PsError *(*run)(Session *session, char **args, int nargs);
} Command;

static const Command commands[] = {
	{"basebackup", "BRANCH OWNER [GENERATION]", 2, 3, command_basebackup},
	{"basebackup_rehearsal", "BRANCH", 1, 1, command_basebackup_rehearsal},
	{"branch_create", "NAME [data_checksums | FROM PARENT [LSN lsn | TIME microseconds]]", 1, 5, command_branch_create},
	{"branch_compact", "NAME", 1, 1, command_branch_compact},
	{"branch_delete", "NAME [force] [purge]", 1, 3, command_branch_delete},
	{"branch_list", "[deleted]", 0, 1, command_branch_list},
	{"branch_protect", "NAME", 1, 1, command_branch_protect},
	{"branch_rename", "NAME NEW_NAME", 2, 2, command_branch_rename},
	{"branch_reset", "NAME [force]", 1, 2, command_branch_reset},
	{"branch_restore", "NAME LSN lsn | TIME microseconds [force]", 3, 4, command_branch_restore},
	{"branch_undelete", "NAME [NEW_NAME]", 1, 2, command_branch_undelete},
	{"branch_unprotect", "NAME", 1, 1, command_branch_unprotect},
	{"fullbackup", "BRANCH [LSN lsn | TIME microseconds] [zero_damaged_pages]", 1, 4, command_fullbackup},
	{"import", "NAME 'PGDATA' [IDENTITY]", 2, 3, command_import},
	{"import_stream", "NAME", 1, 1, command_import_stream},
	{"pagestream", "TENANT TIMELINE GENERATION [LSN]", 3, 4, pagestream_run},
	{"remote_check", "[TENANT] [read]", 0, 2, command_remote_check},
	{"save_files", "TENANT TIMELINE GENERATION LSN", 4, 4, command_save_files},
	{"settings_list", "BRANCH", 1, 1, command_settings_list},
	{"settings_read", "BRANCH [VERSION]", 1, 2, command_settings_read},
	{"settings_write", "BRANCH EXPECTED_VERSION", 2, 2, command_settings_write},
	{"status", "", 0, 0, command_status},
	{"tenant_attach", "TENANT [force]", 1, 2, command_tenant_attach},
	{"tenant_delete", "TENANT [force] [purge]", 1, 3, command_tenant_delete},
	{"tenant_detach", "TENANT", 1, 1, command_tenant_detach},
	{"tenant_list", "[deleted]", 0, 1, command_tenant_list},
	{"tenant_undelete", "TENANT", 1, 1, command_tenant_undelete},
	{"verify", "BRANCH [MEGABYTES_PER_SECOND]", 1, 2, command_verify},
	{"wal_push", "TENANT TIMELINE GENERATION", 3, 3, wal_push_run},
};

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
		err = ps_error(PS_SQLSTATE_SYNTAX, "unterminated quote in the command");
	else if (command == NULL)
		err = ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "unknown command \"%s\"", words[0]),
							"The commands are %s.", names.data);
	else if (n - 1 < command->min_args || n - 1 > command->max_args)
		err = ps_error_hint(ps_error(PS_SQLSTATE_SYNTAX, "wrong number of arguments for \"%s\"", command->name),
							"Usage: %s%s%s", command->name, command->arguments[0] ? " " : "", command->arguments);
	else
	{
		err = command->run(session, words + 1, n - 1);
		session_release_all(session);
	}
	pfree(names.data);
	free(copy);
	return err;
}
