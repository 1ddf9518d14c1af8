/*
 * manifest.h
 *	  TIMELINE/timeline.json: what of a timeline's directory counts.  manifest.c
 *	  has the format.
 */
#ifndef PS_MANIFEST_H
#define PS_MANIFEST_H

#include "base/fs.h"
#include "layer/layer.h"
#include "timeline/timeline.h"

/*
 * A database that was copied as a whole, by the record from start to end.  Until
 * maintain/db_copy.c has written its pages, what they were at start is kept for its
 * reads, and what it was itself at end for that work.
 */
typedef struct DbCopy
{
	XLogRecPtr start;
	XLogRecPtr end;
	Oid spc;
	Oid db;
	bool done; /* the next manifest does not have it */
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
	bool has_replaced; /* it was made in the place of a branch whose name it had or has */
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

extern PsError *manifest_read(const char *dir, Manifest *m);

/* The one before: what never changes is as in the newest, the name and all else may be older. */
extern PsError *manifest_read_old(const char *dir, Manifest *m);
extern PsError *manifest_write(const char *dir, const Manifest *m, Outcome *outcome);
extern PsError *manifest_write_new(const char *dir, const Manifest *m, bool sync);
extern void manifest_remove_stray(const char *dir);
extern void manifest_free(Manifest *m);

#endif /* PS_MANIFEST_H */
