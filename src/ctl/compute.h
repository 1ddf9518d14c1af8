/*
 * compute.h
 *	  What the files about computes know of each other: compute.c (the
 *	  commands), compute_dir.c (a compute's directory), compute_start.c,
 *	  compute_run.c (the supervisor).
 */
#ifndef PS_CTL_COMPUTE_H
#define PS_CTL_COMPUTE_H

#include "branch_settings.h"
#include "conf.h"
#include "ctl.h"

/* ---- compute_dir.c: COMPUTE, its files, and who may change them ---- */

typedef struct ComputeDir
{
	char *path;     /* absolute; malloc'd */
	bool made;      /* by this program */
	bool earlier;   /* a compute was started here before: the owner's settings are there */
	char *old_conf; /* pageserver_smgr.conf of that compute; malloc'd */
} ComputeDir;

/* The directory that -D names, absolute; malloc'd.  Ends the program if it was not given. */
extern char *compute_dir_path(const Options *options);

/* pageserver_smgr.conf, which marks the directory as a compute's; malloc'd, NULL: it is none. */
extern char *compute_dir_conf(const char *path);

/*
 * Makes the directory if it is missing, becomes the user that the compute is
 * to run as, locks the directory until this process ends, and looks at what it
 * is.  Ends the program if somebody else is at work there, or if it holds
 * anything but a compute.
 */
extern void compute_dir_open(ComputeDir *dir, const Options *options);

/*
 * Removes what a base backup brings and what PostgreSQL makes; all else is the
 * owner's.  all: the settings as well, of a directory that had none before.
 * False: something could not be removed, and a message said so.
 */
extern bool compute_dir_clear(const ComputeDir *dir, bool all);

/* Unpacks what a command of the store sends; *begun as unpack() has it.  False: it failed, and said so. */
extern bool compute_dir_unpack(const ComputeDir *dir, PGconn *conn, const char *command, bool *begun);

/* Adds to pageserver_smgr.conf what the store cannot know, and makes sure that postgresql.conf includes it.  port may be NULL. */
extern void compute_dir_complete(const ComputeDir *dir, const char *conninfo, const char *port);

/* shared_preload_libraries with ours, if the two files say all there is; malloc'd.  NULL: others are included. */
extern char *compute_dir_libraries(const ComputeDir *dir);

/*
 * May PostgreSQL be started on the directory?  A start by anything but this
 * program would run without the library, or a second time; so PG_VERSION has
 * what no server takes, except while this program starts one.
 */
extern void compute_dir_allow_start(const ComputeDir *dir, bool allow);

/* What postgresql.conf begins with in a compute's directory; see PS_DEFAULTS_FILE. */
#define COMPUTE_DIR_FIRST_LINES                            \
	"# Defaults of a compute. Must stay the first line.\n" \
	"include '" PS_DEFAULTS_FILE "'\n\n"

/* ---- compute_settings.c: settings in the directory, and those kept with the branch ---- */

typedef struct ComputeSettings
{
	const char *branch;
	BranchSettings newest; /* as the branch has them */
	bool upload;           /* those in the directory are to become the branch's */
	const char *options;   /* that postgres is started with, NULL: none */
} ComputeSettings;

/*
 * Before a start, with the directory locked: finds out which settings count,
 * and puts the branch's into an earlier compute's directory if these do.
 * options: those of the command line, or NULL; then the branch's count.
 */
extern void compute_settings_begin(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn, const char *branch,
								   const char *options);

/* When it is clear that PostgreSQL takes them: the directory's become the branch's, if they count. */
extern void compute_settings_end(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn);

/*
 * While it runs, and after a stop: what was changed in the directory since the
 * start (ALTER SYSTEM) becomes the branch's.  False: the store is not there, or
 * does not take it; the next start in the directory does it.
 */
extern bool compute_settings_keep(const char *dir);

/* Name of the branch whose settings are in the directory, malloc'd; NULL: not known. */
extern char *compute_settings_branch(const char *dir);

/* Changes when one of the settings files does; malloc'd. */
extern char *compute_settings_stamp(const char *dir);

/* ---- compute_start.c ---- */

/*
 * Starts a compute of the branch in options->args[0]; returns the exit code.
 * after: the generation that it follows, if that is still the newest one, or 0.
 * Messages say why it failed; the program may end here, too.
 */
extern int compute_start(const Options *options, uint64 after);

/* A setting as PostgreSQL reads it for a start in the directory; malloc'd.  NULL: it refuses the settings, and said why. */
extern char *compute_setting(const Options *options, const char *dir, const char *name);

#endif /* PS_CTL_COMPUTE_H */
