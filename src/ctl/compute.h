/*
 * compute.h
 *	  Declarations shared by the files about computes: cmd_compute.c (the
 *	  commands), compute_dir.c (a compute's directory), compute_settings.c,
 *	  compute_start.c and compute_run.c (the supervisor).
 */
#ifndef PS_CTL_COMPUTE_H
#define PS_CTL_COMPUTE_H

#include "conf.h"
#include "ctl.h"
#include "stored_settings.h"

/* ---- compute_dir.c: the directory of a compute and its files ---- */

typedef struct ComputeDir
{
	char *path;     /* absolute; malloc'd */
	bool made;      /* this program created it */
	bool earlier;   /* a compute was started here before, so the owner's settings are there */
	char *old_conf; /* pageserver_smgr.conf of that compute; malloc'd */
} ComputeDir;

/* Returns the absolute path of the directory given with -D, malloc'd; ends the program if -D is missing. */
extern char *compute_dir_path(const Options *options);

/* Returns pageserver_smgr.conf, malloc'd, or NULL if the directory is not a compute's. */
extern char *compute_dir_conf(const char *path);

/*
 * Opens the directory dir->path: creates it if it is missing, becomes the user
 * that the compute will run as, locks the directory until this process ends,
 * and sets the other fields.  Ends the program if another process holds the
 * lock, or if the directory contains something other than a compute.
 */
extern void compute_dir_open(ComputeDir *dir, const Options *options);

/*
 * Removes what a base backup brings and what PostgreSQL creates; all other
 * files are the owner's.  With "all" the settings are removed as well; use it for
 * a directory that contained none before.  Returns false, with the error
 * reported, if something could not be removed.
 */
extern bool compute_dir_clear(const ComputeDir *dir, bool all);

/*
 * Unpacks the archive that a command of the store sends, leaving PG_VERSION and
 * the owner's settings files as they are.  For *begun see unpack().  Returns
 * false, with the error reported, if it failed.
 */
extern bool compute_dir_unpack(const ComputeDir *dir, PGconn *conn, const char *command, bool *begun);

/*
 * Adds to pageserver_smgr.conf what the store cannot know, and makes sure that
 * postgresql.conf includes it.  port may be NULL: the port of the last start is
 * kept.
 */
extern void compute_dir_complete(const ComputeDir *dir, const char *conninfo, const char *port);

/*
 * Returns shared_preload_libraries with our library added, malloc'd, as read
 * from postgresql.conf and postgresql.auto.conf.  Returns NULL if these include
 * other files, which may set it as well.
 */
extern char *compute_dir_libraries(const ComputeDir *dir);

/*
 * Allows or prevents starting PostgreSQL in the directory.  A start by anything
 * but this program would run without the library, or would boot the directory a
 * second time.  So PG_VERSION has contents that every server rejects, except
 * while this program starts one.
 */
extern void compute_dir_allow_start(const ComputeDir *dir, bool allow);

/* The first lines of postgresql.conf in a compute's directory; see PS_DEFAULTS_FILE. */
#define COMPUTE_DIR_FIRST_LINES                            \
	"# Defaults of a compute. Must stay the first line.\n" \
	"include '" PS_DEFAULTS_FILE "'\n\n"

/* ---- compute_settings.c: settings in the directory and settings stored with the branch ---- */

typedef struct ComputeSettings
{
	const char *branch;
	StoredSettings newest; /* the branch's current version */
	bool upload;           /* the directory's settings are to become the branch's next version */
	const char *options;   /* command-line options for postgres, or NULL */
} ComputeSettings;

/*
 * Decides, before a start and with the directory locked, whether the settings of
 * the directory or those of the branch are used; writes the branch's into an
 * earlier compute's directory if it is those.  options are the -o options of the
 * command line; if NULL, those stored with the branch are used.
 */
extern void compute_settings_begin(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn,
								   const char *branch, const char *options);

/*
 * Stores the directory's settings with the branch, if compute_settings_begin()
 * decided so.  Call it when it is clear that PostgreSQL accepts them.  A failure
 * is reported as a warning.
 */
extern void compute_settings_end(ComputeSettings *settings, const ComputeDir *dir, PGconn *conn);

/*
 * Stores settings that were changed in the directory since the start (by ALTER
 * SYSTEM, for example) with the branch; called while the compute runs and after
 * it was stopped.  Returns false if the store cannot be reached or refuses; the
 * next start in the directory stores them then.
 */
extern bool compute_settings_keep(const char *dir);

/* Returns the name of the branch whose settings are in the directory, malloc'd, or NULL if it is not known. */
extern char *compute_settings_branch(const char *dir);

/* Returns a text that changes whenever one of the settings files does; malloc'd. */
extern char *compute_settings_stamp(const char *dir);

/* ---- compute_start.c ---- */

/*
 * Starts a compute of the branch in options->args[0] and returns the exit code.
 * If after is not 0, the start fails unless that is still the newest generation
 * of the branch.  Errors are reported; the program may end here as well.
 */
extern int compute_start(const Options *options, uint64 after);

/*
 * Returns the value of a setting as PostgreSQL would use it when started in the
 * directory; malloc'd.  Returns NULL, with the error reported, if PostgreSQL
 * rejects the settings.
 */
extern char *compute_setting(const Options *options, const char *dir, const char *name);

/* ---- compute_run.c ---- */

/* Runs the supervisor of a compute in this process until the compute was stopped; returns the exit code. */
extern int compute_run_foreground(const Options *options);

/*
 * Starts the supervisor of a compute in the background; returns the exit code of
 * the first start.  Also returns in the supervisor's process, when that is done.
 */
extern int compute_run_background(const Options *options);

#endif /* PS_CTL_COMPUTE_H */
