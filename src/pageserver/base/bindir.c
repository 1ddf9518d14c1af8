/*
 * bindir.c
 *	  The directory of PostgreSQL's programs (setting "bindir").
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/bindir.h"
#include "base/config.h"
#include "sqlstate.h"

#define BINDIR_HINT "Set \"bindir\" in " CONFIG_FILE_NAME " to the directory of PostgreSQL " PG_MAJORVERSION "'s programs."

static PsError *
check_program(const char *bindir, const char *name)
{
	char *path = psprintf("%s/%s", bindir, name);
	PsError *err = NULL;

	if (access(path, X_OK) != 0)
		err = ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "could not find the program \"%s\": %m", path), BINDIR_HINT);
	pfree(path);
	return err;
}

PsError *
bindir_check(const char *bindir)
{
	static const char expected[] = "postgres (PostgreSQL) " PG_MAJORVERSION;
	const size_t len = sizeof(expected) - 1;
	char version[256] = "";
	char *command;
	bool answered;

	PS_TRY(check_program(bindir, "postgres"));
	PS_TRY(check_program(bindir, "initdb"));

	/* in the double quotes of a shell */
	if (strpbrk(bindir, "\"$`\\") != NULL)
		return ps_error(PS_SQLSTATE_INVALID, "the directory of PostgreSQL's programs \"%s\" has a quote, \"$\", \"`\" or \"\\\" in its name",
						bindir);
	command = psprintf("\"%s/postgres\" --version", bindir);
	answered = pipe_read_line(command, version, sizeof(version)) != NULL;
	pfree(command);
	version[strcspn(version, "\n")] = '\0';
	if (!answered || strncmp(version, expected, len) != 0 || isdigit((unsigned char) version[len]))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "\"%s/postgres\" is \"%s\", expected PostgreSQL %s", bindir, version,
									  PG_MAJORVERSION),
							 BINDIR_HINT);
	return NULL;
}
