/*
 * branch_settings.h
 *	  The settings of a branch's computes: they outlive the data directory of
 *	  each, which is disposable.
 *
 * TIMELINE/settings-<version>.json, one file for each version, the newest of
 * which counts; the last SETTINGS_VERSIONS_KEPT stay, to be looked at or gone
 * back to:
 *
 *	{
 *		"format": "pageserver settings",
 *		"format_version": 1,
 *		"version": 7,				from 1 on
 *		"time": 1796040000,			seconds since 1970, the store's clock
 *		"by": "...",				who created it, in the form of the store's log
 *		"files": {					those that there are, by settings_file_names
 *			"postgresql.conf": "..." or {"base64": "..."} if it is no UTF-8
 *		},
 *		"options": "...",			of the command line of postgres, or null
 *		"crc32c": "0123abcd"		as json_file.h has it
 *	}
 *
 * A branch without such a file has the settings files that came with its
 * import, which are part of its history (backup/import_layers.c).  A new branch
 * begins with a copy of its parent's, except for the options; one that takes
 * another's place (reset, restore) with that one's.
 */
#ifndef PS_BRANCH_SETTINGS_H
#define PS_BRANCH_SETTINGS_H

#include "base/error.h"

#define SETTINGS_VERSIONS_KEPT 20

/* Greatest size of all files together. */
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
 * Reads a version, or the newest (0), of the timeline in the directory.
 * PS_SQLSTATE_NOT_FOUND: there is no such version.  If there is none at all and
 * the newest is asked for, the result has version 0.  branch_settings_free()
 * must follow a success.
 */
extern PsError *branch_settings_read(const char *dir, uint64 version, BranchSettings *settings);
extern void branch_settings_free(BranchSettings *settings);

/* The versions that there are, ascending; free() the array. */
extern PsError *branch_settings_versions(const char *dir, uint64 **versions, int *n);

/*
 * Adds a version, durably, and sets settings->version and time; removes the
 * oldest.  expected: the version that the caller's are made from; if the newest
 * is another, that is PS_SQLSTATE_STATE.  UINT64_MAX: does not matter.
 * Callers hold Timeline.settings_lock.
 */
extern PsError *branch_settings_write(const char *dir, BranchSettings *settings, uint64 expected);

/*
 * A new timeline's first version: a copy of the newest of another, if that has
 * any.  Not synced: the caller syncs the new directory.
 */
extern PsError *branch_settings_copy(const char *from_dir, const char *dir, bool with_options);

#endif /* PS_BRANCH_SETTINGS_H */
