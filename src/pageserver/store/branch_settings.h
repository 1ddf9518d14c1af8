/*
 * branch_settings.h
 *	  The settings of a branch's computes, which outlive their disposable data
 *	  directories.
 *
 * TIMELINE/settings-<version>.json, one file for each version.  The newest is in force; the
 * last SETTINGS_VERSIONS_KEPT are kept, so that users can see or restore them:
 *
 *	{
 *		"format": "pageserver settings",
 *		"format_version": 1,
 *		"version": 7,				from 1 on
 *		"time": 1796040000,			seconds since 1970, the store's clock
 *		"by": "...",				who created it, in the form of the store's log
 *		"files": {					the existing ones of settings_file_names
 *			"postgresql.conf": "..." or {"base64": "..."} if it is not UTF-8
 *		},
 *		"options": "...",			command line options of postgres, or null
 *		"crc32c": "0123abcd"		as json_file.h has it
 *	}
 *
 * A branch without such a file has the settings files of its import, which are part of its
 * history (backup/import_layers.c).  A new branch begins with a copy of its parent's
 * settings, without the options; a branch that replaces another (reset, restore), with a
 * copy of all of that one's settings.
 */
#ifndef PS_BRANCH_SETTINGS_H
#define PS_BRANCH_SETTINGS_H

#include "base/error.h"

#define SETTINGS_VERSIONS_KEPT 20

/* The maximum of the total size of the files. */
#define SETTINGS_MAX_BYTES (4 * 1024 * 1024)

enum
{
	SETTINGS_CONF,
	SETTINGS_AUTO_CONF,
	SETTINGS_HBA,
	SETTINGS_IDENT,
	SETTINGS_FILES
};

extern const char *const settings_file_names[SETTINGS_FILES];

typedef struct BranchSettings
{
	uint64 version; /* 0: there are none */
	int64 time;
	char *by;
	char *files[SETTINGS_FILES]; /* NULL: not there */
	char *options;               /* NULL: none */
} BranchSettings;

/*
 * Reads a version, or the newest (0), from the directory of a timeline.
 * PS_SQLSTATE_NOT_FOUND: the version does not exist.  If the newest is requested and there
 * is none, the result has version 0.  On success the caller calls branch_settings_free().
 */
extern PsError *branch_settings_read(const char *dir, uint64 version, BranchSettings *settings);
extern void branch_settings_free(BranchSettings *settings);

/* The existing versions, ascending; the caller frees the array with free(). */
extern PsError *branch_settings_versions(const char *dir, uint64 **versions, int *n);

/*
 * Adds a version, durably, and sets settings->version and time; removes the oldest ones.
 * expected: the version that the caller changed; fails with PS_SQLSTATE_STATE if that is not
 * the newest.  UINT64_MAX: do not check.  Callers hold Branch.settings_lock.
 */
extern PsError *branch_settings_write(const char *dir, BranchSettings *settings, uint64 expected);

/*
 * Copies the newest version, if there is one, as the first version of a new timeline.  The
 * caller syncs the new directory.
 */
extern PsError *branch_settings_copy(const char *from_dir, const char *dir, bool with_options);

#endif /* PS_BRANCH_SETTINGS_H */
