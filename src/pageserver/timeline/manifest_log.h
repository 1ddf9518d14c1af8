/*
 * manifest_log.h
 *	  The file of a timeline's manifest: TIMELINE/timeline.log.
 *
 * Text, one record (manifest.h) a line: the whole state, then changes of it, in order.
 *
 *	  CRC JSON
 *
 * CRC has eight hexadecimal digits: the CRC-32C of the JSON of this record and of all before
 * it, so that a record counts only after the one that it follows.  JSON is compact: it has no
 * newline and no zero byte.
 *
 * A change is appended and synced.  When the changes take more than the whole state, the whole
 * state is written to a new file, which replaces the log; the one before is kept as
 * timeline.log.old: if the first line is damaged, that of the log before also says where the
 * branch begins.
 *
 * A crash during an append, or a write that failed, leaves a torn end: a last line without its
 * newline, or in which a sector (512 bytes) is zeros as far as the line goes.  It was not
 * acknowledged, and is ignored.  No damage of a single byte can make an acknowledged record look
 * like that: a sector never has just one byte of a record, and a whole record that is followed
 * by another byte than a newline is damage.
 *
 * Stores of format 1 have timeline.json instead (manifest_upgrade.c), which is read if there
 * is no log; the first log that is written replaces it.
 *
 * Two threads must not use the functions for the same directory at the same time.
 */
#ifndef PS_MANIFEST_LOG_H
#define PS_MANIFEST_LOG_H

#include "base/fs.h"
#include "timeline/manifest.h"

#define MANIFEST_LOG_NAME "timeline.log"

/* Where a log ends.  Of an open timeline: under Timeline.manifest_lock. */
typedef struct ManifestLog
{
	uint64 size;       /* of all records that count */
	uint64 state_size; /* of the first one */
	uint64 last;       /* offset of the last one */
	uint32 crc;        /* of the last one */
	uint32 before;     /* of the one before that; 0: there is none */
	bool write_whole;  /* do not append: it is unknown what follows these records, or it is timeline.json */
} ManifestLog;

/*
 * Reads the manifest in a directory.  log: NULL, or where to store where it ends.  The error
 * for a missing, damaged or invalid file names it, and the line.  On success the caller calls
 * manifest_free().
 */
extern PsError *manifest_read(const char *dir, Manifest *m, ManifestLog *log);

/*
 * For a log that manifest_read() finds damaged: reads the records before the damage, or the log
 * before it if the first one is damaged.  What never changes is right, but the name and the rest
 * may be outdated.
 */
extern PsError *manifest_read_damaged(const char *dir, Manifest *m);

/*
 * Makes what was read durable, except for the name of the file.  A killed store may not have
 * synced the last record; or the sync failed, and the kernel considers the pages clean, so
 * that another sync would write nothing.  Hence the record is written again, and then synced.
 */
extern PsError *manifest_log_confirm(const char *dir, const ManifestLog *log);

/* Is it time to write the log whole instead of appending to it? */
extern bool manifest_log_is_long(const ManifestLog *log);

/*
 * Appends a change, which is released; NULL: a text in it is not UTF-8.  The caller checks
 * log->write_whole first, which is set if the write or the sync fails.  OUTCOME_NOT_DONE: the
 * record will not be read.  OUTCOME_UNKNOWN: it is read now, but a power failure may undo it;
 * the error is PS_SQLSTATE_UNKNOWN.
 */
extern PsError *manifest_log_append(const char *dir, ManifestLog *log, json_t *change, Outcome *outcome);

/* Replaces the log by one with this state alone, durably.  log may be NULL, for a timeline that is not open. */
extern PsError *manifest_write(const char *dir, const Manifest *m, ManifestLog *log, Outcome *outcome);

/*
 * Writes the first log, also as the old one, into a new directory, which the caller syncs;
 * without "sync", the caller syncs the files, too.
 */
extern PsError *manifest_write_new(const char *dir, const Manifest *m, bool sync);

/* Removes files that a crash in manifest_write() left.  No other thread may write the manifest. */
extern void manifest_remove_stray(const char *dir);

/* ---- manifest_upgrade.c ---- */

#define MANIFEST_JSON_NAME "timeline.json"

/* Reads timeline.json, or another file in that format.  Errors: as manifest_read(). */
extern PsError *manifest_read_json(const char *path, Manifest *m);

/* Removes timeline.json and what belongs to it.  A failure is logged: the file means nothing any more. */
extern void manifest_remove_json(const char *dir);

#endif /* PS_MANIFEST_LOG_H */
