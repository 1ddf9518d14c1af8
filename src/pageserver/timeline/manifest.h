/*
 * manifest.h
 *	  The manifest, TIMELINE/timeline.json: which layer files belong to a timeline,
 *	  and its properties.  manifest.c has the format.
 */
#ifndef PS_MANIFEST_H
#define PS_MANIFEST_H

#include "base/fs.h"
#include "layer/layer.h"
#include "timeline/timeline.h"

/*
 * A database that was copied as a whole, by the record from start to end.  Until
 * maintain/db_copy.c has written its pages, the pages of the source at start are kept for
 * reads, and the state of the copy at end for that work.
 */
typedef struct DbCopy
{
	XLogRecPtr start;
	XLogRecPtr end;
	Oid spc;
	Oid db;
	bool done; /* the next manifest does not name it */
} DbCopy;

typedef struct Manifest
{
	PsId tenant;
	PsId timeline;
	char name[TIMELINE_NAME_MAX + 1];
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	bool has_ancestor;
	PsId ancestor;
	bool has_replaced; /* it was created to replace a branch, whose name it got */
	PsId replaced;
	XLogRecPtr start_lsn;
	XLogRecPtr disk_consistent_lsn;
	XLogRecPtr gc_cutoff;
	uint64 generation;
	char owner[OWNER_SIZE];
	DbCopy *copies;
	int ncopies;
	LayerInfo *layers;
	int nlayers;
} Manifest;

/*
 * Reads DIR/timeline.json.  The error for a missing, damaged or invalid file names it.  On
 * success the caller calls manifest_free().
 */
extern PsError *manifest_read(const char *dir, Manifest *m);

/* Reads the previous manifest: what never changes is right, but the name and the rest may be outdated. */
extern PsError *manifest_read_old(const char *dir, Manifest *m);

/* Writes DIR/timeline.json durably; the previous one becomes the old one. */
extern PsError *manifest_write(const char *dir, const Manifest *m, Outcome *outcome);

/*
 * Writes the first manifest, also as the old one, into a new directory, which the caller
 * syncs; without "sync", the caller syncs the files, too.
 */
extern PsError *manifest_write_new(const char *dir, const Manifest *m, bool sync);

/* Removes a file that a crash in manifest_write() left.  No other thread may write the manifest. */
extern void manifest_remove_stray(const char *dir);
extern void manifest_free(Manifest *m);

#endif /* PS_MANIFEST_H */
