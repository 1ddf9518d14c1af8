/*
 * branch_settings.h
 *	  The settings of a branch's computes, as the store keeps them
 *	  (src/pageserver/store/branch_settings.h).
 */
#ifndef PS_CTL_BRANCH_SETTINGS_H
#define PS_CTL_BRANCH_SETTINGS_H

#include "ctl.h"

enum
{
	SETTINGS_CONF,
	SETTINGS_AUTO_CONF,
	SETTINGS_HBA,
	SETTINGS_IDENT,
	SETTINGS_OPTIONS,
	SETTINGS_TEXTS
};

/* The files' names, and "options" for the command line of postgres. */
extern const char *const branch_settings_names[SETTINGS_TEXTS];

typedef struct BranchSettings
{
	uint64 version;              /* 0: none is kept with the branch, it is what its import brought */
	char *texts[SETTINGS_TEXTS]; /* NULL: not there */
} BranchSettings;

/* The newest settings (version 0), or an earlier version.  Ends the program on error. */
extern void branch_settings_read(PGconn *conn, const char *branch, uint64 version, BranchSettings *settings);

/* Likewise, without a word; false: there is no such version, or it cannot be read. */
extern bool branch_settings_try_read(PGconn *conn, const char *branch, uint64 version, BranchSettings *settings);

/* Number of the newest version, which need not be readable; 0: there is none. */
extern uint64 branch_settings_newest(PGconn *conn, const char *branch);

/*
 * Makes them the newest version, if that is still settings->version, and sets
 * this.  Returns 0, or the exit code of the error, which is reported.
 */
extern int branch_settings_write(PGconn *conn, const char *branch, BranchSettings *settings);

extern void branch_settings_free(BranchSettings *settings);

#endif /* PS_CTL_BRANCH_SETTINGS_H */
