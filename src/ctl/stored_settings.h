/*
 * stored_settings.h
 *	  The settings of a branch's computes, as the store keeps them (see
 *	  src/pageserver/store/branch_settings.h).
 */
#ifndef PS_CTL_STORED_SETTINGS_H
#define PS_CTL_STORED_SETTINGS_H

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

/* The names of the files, and "options" for the command line of postgres. */
extern const char *const stored_settings_names[SETTINGS_TEXTS];

typedef struct StoredSettings
{
	uint64 version;              /* 0: no version is stored; the texts are what the import brought */
	char *texts[SETTINGS_TEXTS]; /* malloc'd; NULL if missing */
} StoredSettings;

/* Reads a version of a branch's settings; version 0 means the newest.  Ends the program if that fails. */
extern void stored_settings_read(PGconn *conn, const char *branch, uint64 version, StoredSettings *settings);

/* Like stored_settings_read(), but returns false, without a message, if the version is missing or cannot be read. */
extern bool stored_settings_try_read(PGconn *conn, const char *branch, uint64 version, StoredSettings *settings);

/* Returns the number of the newest version, which may be unreadable; 0 if there is none. */
extern uint64 stored_settings_newest(PGconn *conn, const char *branch);

/*
 * Stores the settings as a new version, if settings->version is still the
 * newest, and sets settings->version to the new one.  Returns 0, or the exit
 * code of the error, which has been reported.
 */
extern int stored_settings_write(PGconn *conn, const char *branch, StoredSettings *settings);

/* Frees the texts and clears the struct. */
extern void stored_settings_free(StoredSettings *settings);

#endif /* PS_CTL_STORED_SETTINGS_H */
