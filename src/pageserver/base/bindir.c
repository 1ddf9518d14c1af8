/*
 * bindir.c
 *	  The directory of PostgreSQL's programs (setting "bindir", option --bindir).
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/bindir.h"
#include "base/config.h"
#include "sqlstate.h"

#define BINDIR_HINT \
	"Set \"bindir\" in " CONFIG_FILE_NAME " to the directory of PostgreSQL " PG_MAJORVERSION "'s programs."

/* set by the Makefiles to what pg_config says */
#ifndef PS_BINDIR
#define PS_BINDIR "/usr/lib/postgresql/15/bin"
#endif

char *
bindir_default(void)
{
	char dir[MAXPGPATH];
	ssize_t len = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	char *postgres;
	bool is_here;

	if (len < 0)
		return pg_strdup(PS_BINDIR);
	dir[len] = '\0';
	get_parent_directory(dir);
	postgres = psprintf("%s/postgres", dir);
	is_here = access(postgres, X_OK) == 0;
	pfree(postgres);
	return pg_strdup(is_here ? dir : PS_BINDIR);
}

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
		return ps_error(PS_SQLSTATE_INVALID,
						"the directory of PostgreSQL's programs \"%s\" has a quote, \"$\", \"`\" or \"\\\" in its name",
						bindir);
	command = psprintf("\"%s/postgres\" --version", bindir);
	answered = pipe_read_line(command, version, sizeof(version)) != NULL;
	pfree(command);
	version[strcspn(version, "\n")] = '\0';
	if (!answered || strncmp(version, expected, len) != 0 || isdigit((unsigned char) version[len]))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "\"%s/postgres\" is \"%s\", expected PostgreSQL %s", bindir,
									  version, PG_MAJORVERSION),
							 BINDIR_HINT);
	return NULL;
}
