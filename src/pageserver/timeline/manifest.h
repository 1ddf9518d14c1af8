/*
 * manifest.h
 *	  The manifest of a timeline: its properties, and which layer files belong to it.
 *
 * It is kept as a sequence of records in JSON: the whole state, then changes of it.
 * manifest_log.h has the file in which they are; here they are formatted, parsed and applied.
 *
 * The whole state:
 *
 *	  {"format": "pageserver timeline", "version": 5, "timeline": {
 *		"tenant": ID, "timeline": ID, "name": TEXT, "system_identifier": U64, "segment_size": N,
 *		"data_checksum_version": N, "ancestor": ID or "", "replaced": ID, "start_lsn": LSN,
 *		"disk_consistent_lsn": LSN, "gc_cutoff": LSN, "generation": U64, "owner": TEXT,
 *		"copies": ["TABLESPACE/DATABASE LSN LSN", ...], "upkeep": {...}, "layers": [FILE, ...]}}
 *
 * A change has only what changed:
 *
 *	  {"add": [FILE, ...], "drop": [NAME, ...], "name": ..., "disk_consistent_lsn": ...,
 *	   "gc_cutoff": ..., "generation": ..., "owner": ..., "copies": [...], "upkeep": {...}}
 *
 * "upkeep" has the members of UpkeepMarks, and "imaged", a list of LSNs; in a change, only
 * those that changed.  Lists other than "add" and "drop" are given whole.  FILE is "NAME level
 * N entries N bytes N": what must be known of a layer file before it is opened.  LSNs are text
 * as PostgreSQL shows them; U64, a number that may exceed 53 bits, is text, too.  "replaced",
 * "copies" and "upkeep" are optional.
 */
#ifndef PS_MANIFEST_H
#define PS_MANIFEST_H

#include <jansson.h>

#include "base/error.h"
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
} DbCopy;

/*
 * What upkeep found out about the layer files at its last check, so that it does not read
 * them again before something has changed.
 */
typedef struct UpkeepMarks
{
	XLogRecPtr images_lsn; /* LSN at which all of the timeline was checked for images that are due */
	uint64 gc_number;      /* files with this or a higher number are newer than the last search for garbage */
	int64 gc_time;         /* of that search, store_clock_now(); 0: never */
	PsId gc_clock;         /* store_clock_id(): gc_time means nothing to another clock */
	uint32 gc_readable;    /* pins_digest() of that search; 0: it left garbage that can be removed later */
} UpkeepMarks;

typedef struct Manifest
{
	/* fixed */
	PsId tenant;
	PsId timeline;
	uint64 system_identifier;
	uint32 segment_size;
	uint32 data_checksum_version;
	bool has_ancestor;
	PsId ancestor;
	bool has_replaced; /* it was created to replace a branch, whose name it got */
	PsId replaced;
	XLogRecPtr start_lsn;

	char name[TIMELINE_NAME_MAX + 1];
	XLogRecPtr disk_consistent_lsn;
	XLogRecPtr gc_cutoff;
	uint64 generation;
	char owner[OWNER_SIZE];
	DbCopy *copies;
	int ncopies;
	UpkeepMarks marks;
	XLogRecPtr *imaged; /* ascending: beginnings of branches that were considered for images (pins.h) */
	int nimaged;
	LayerInfo *layers;
	int nlayers;
	uint64 max_number; /* the highest number of a file that any record has added; when one is read */

	/* files in "layers" that were dropped; only until manifest_finish() */
	LayerInfo *dropped;
	int ndropped;
} Manifest;

/*
 * Both return NULL if a text is not UTF-8.  The change leads from "was" to "now", of which
 * "layers" is not used, and adds and drops these files; it is an empty object if nothing
 * changes.
 */
extern json_t *manifest_state_json(const Manifest *m);
extern json_t *manifest_change_json(const Manifest *was, const Manifest *now, Layer *const *add, int nadd,
									Layer *const *drop, int ndrop);

/*
 * Checks that a record is the whole state of a manifest, of a version that can be read.
 * Errors: PS_SQLSTATE_CORRUPTED; PS_SQLSTATE_STATE for another version.  path is for the
 * message.
 */
extern PsError *manifest_check_format(const json_t *state, const char *path);

/*
 * These return false if a member is missing or invalid.  First manifest_parse_state(), then
 * manifest_apply_change() for each change in order, then manifest_finish().  In any case the
 * caller calls manifest_free().  manifest_parse_body() is given the object "timeline" alone.
 */
extern bool manifest_parse_state(const json_t *state, Manifest *m);
extern bool manifest_parse_body(const json_t *body, Manifest *m);
extern bool manifest_apply_change(const json_t *change, Manifest *m);
extern bool manifest_finish(Manifest *m);

/* Makes *to a copy of all except the layers; what *to had is freed. */
extern void manifest_copy(Manifest *to, const Manifest *from);
extern void manifest_free(Manifest *m);

#endif /* PS_MANIFEST_H */
