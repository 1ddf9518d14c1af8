/*
 * layer.h
 *	  Layers: containers of versions.
 *
 * A layer is one of these:
 *
 *	  open layer	in memory; ingest adds versions to it (open_layer.h).  Once
 *					frozen it is immutable, and is written as a delta file.
 *	  delta file	versions of many keys at many LSNs
 *	  image file	whole values of many keys at one LSN
 *
 * Layers have reference counts.  layer_map.h searches a set of layer files,
 * layer_merge.h merges their entries, layer_writer.h writes new ones.
 */
#ifndef PS_LAYER_H
#define PS_LAYER_H

#include <stdatomic.h>

#include "lib/stringinfo.h"

#include "base/id.h"
#include "layer/value.h"

/* Where the layer files of a timeline are.  It must live longer than its layers and writers. */
typedef struct LayerSpace
{
	char *dir;
	PsId tenant;
	PsId timeline;
	atomic_ullong next_number; /* number of the next file that is written */
	bool synced_later;         /* the directory is new: its creator will sync it and all files in it */

	/* what is not in dir is there (layer_source.h); NULL: all files are in dir.  Fixed while there are layers */
	struct LayerSource *source;
} LayerSpace;

/* Ensures that files that are written from now on get numbers greater than this one.  Any thread. */
extern void layer_space_skip(LayerSpace *space, uint64 number);

typedef enum LayerType
{
	LAYER_OPEN,
	LAYER_DELTA,
	LAYER_IMAGE
} LayerType;

typedef struct LayerInfo
{
	LayerType type;
	PsKey key_min; /* smallest and greatest key inside; if key_max.kind is 0, the layer is empty */
	PsKey key_max;
	XLogRecPtr lsn_start; /* versions have lsn_start <= LSN < lsn_end; an image file has lsn_end = lsn_start + 1 */
	XLogRecPtr lsn_end;
	uint64 file_size; /* bytes; 0: in memory */
	uint64 entries;   /* number of entries in the index of a file */
	uint64 number;    /* of a file; unique within the timeline */
	int level;        /* of a delta file; 0: written by a flush, n: merged from files of level n - 1 */
} LayerInfo;

/* ---- all layers (layer.c) ---- */

/*
 * Of an open layer that is not frozen, only type and lsn_start are valid.  The
 * result lives as long as the layer.  Any thread.
 */
extern const LayerInfo *layer_info(const Layer *layer);

/* Takes a reference; returns its argument.  Any thread. */
extern Layer *layer_ref(Layer *layer);

/*
 * Gives up a reference.  The last one closes the file or frees the memory, and
 * removes the file if layer_remove() was called.  NULL is accepted.  Any thread.
 */
extern void layer_unref(Layer *layer);

/*
 * Appends the versions of a key with lsn_min <= LSN <= lsn_max to the list,
 * newest first, up to and including the first with will_init; *done is whether
 * there was one.  Any thread.
 */
extern PsError *layer_collect(Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
							  ValueList *list, bool *done);

/*
 * Calls cb for every version with lo <= key <= hi and LSN <= lsn_max, keys
 * ascending, the newest version of each key first.  In an open layer the order
 * of keys is undefined.  Any thread.
 */
extern PsError *layer_scan(Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb,
						   void *arg);

/* Estimated size of a range of keys in a file. */
typedef struct LayerRange
{
	uint64 entries; /* in its index */
	uint64 bytes;
} LayerRange;

/* Estimates, from the index of a file alone, how much of it the keys from lo to hi take.  Any thread. */
extern PsError *layer_range(const Layer *layer, const PsKey *lo, const PsKey *hi, LayerRange *range);

/* ---- layers of files (layer_files.c, layer_verify.c) ---- */

/*
 * Creates the layer of a file that a manifest lists.  The file is opened, and
 * its first block checked, when it is used first: magic, format version, ids,
 * checksum, length, and that it matches info.  A failure is an error of that
 * use only; the next use tries again.  While no thread uses the file it may be
 * closed at any time: see layer_set_max_open().
 */
extern Layer *layer_new(LayerSpace *space, const LayerInfo *info);

/* Opens a file when only its name is known, and creates its layer. */
extern PsError *layer_open(LayerSpace *space, const char *name, Layer **layer);

/*
 * Marks the file for removal, because no manifest lists it (any more).  It is
 * removed with the last reference to the layer, so other holders of references
 * can still read it.  A failure to remove it is logged.  Any thread.
 */
extern void layer_remove(Layer *layer);

/*
 * Whether a use of the file has failed because it is damaged or cannot be read.
 * Stays set until layer_verify() succeeds.  Any thread.
 */
extern bool layer_is_damaged(const Layer *layer);
extern void layer_set_damaged(const Layer *layer, bool damaged);

/*
 * Reads and checks the whole file, including what was checked before; the error
 * says what is wrong.  Calls pace after each read with the number of bytes: it
 * may sleep, and if it returns an error, the check ends with this error.
 */
typedef PsError *(*LayerPace)(void *arg, size_t bytes);
extern PsError *layer_verify(Layer *layer, LayerPace pace, void *arg);

/*
 * Limits the number of files that the process keeps open.  It is exceeded only
 * while more files than that are in use at once.  Any thread.
 */
extern void layer_set_max_open(int max_open);
extern int layer_count_open(void);

/* ---- names of files (layer_file.c, layer_files.c) ---- */

/* Longest name of a layer file, with its terminating zero. */
#define LAYER_NAME_MAX 128

/* Writes the file's name, without its directory, to the buffer and returns it. */
extern const char *layer_name(const Layer *layer, char name[LAYER_NAME_MAX]);
extern const char *layer_name_format(const LayerInfo *info, char name[LAYER_NAME_MAX]);

/*
 * Sets the fields that the name contains: all except file_size, entries and
 * level.  Returns false if it is not the name of a layer file.
 */
extern bool layer_name_parse(const char *name, LayerInfo *info);

/* ---- values in files (layer.c) ---- */

/*
 * Reads and checks the value at ref->at.offset of a file into buf, which is
 * emptied first.  For a record, *record_start is set and buf gets its
 * xl_tot_len bytes.  Any thread.
 */
extern PsError *layer_read_value(const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start);

/* Header of a value, decoded by layer_value_check(). */
typedef struct StoredValue
{
	size_t size; /* in the file, header included */
	uint32 header_size;
	uint32 stored_len;       /* bytes after the header */
	uint32 raw_len;          /* bytes of the value, decompressed */
	uint8 codec;             /* LayerCodec */
	XLogRecPtr record_start; /* 0: not a record */
} StoredValue;

/*
 * Lower-level interface for callers that read the bytes of many values in their
 * own way:
 *
 *	  layer_value_place()	opens the file and returns its descriptor, and the
 *							number of bytes from ref->at.offset on that will most
 *							likely suffice.  After a success, the descriptor is
 *							valid until layer_value_release(), which must be
 *							called exactly once; the other functions must be
 *							called before it.
 *	  layer_value_check()	checks the "have" bytes that were read.  If
 *							stored->size > have, the caller must read more, from
 *							the same offset, and check again.  Otherwise the
 *							value is valid, and
 *	  layer_value_unpack()	stores its stored->raw_len bytes in out.
 *	  layer_value_short_read_error()	makes the error for a read that returned
 *							only "have" of "wanted" bytes; read_errno is its
 *							errno, or 0 if the file ends there.
 *	  layer_value_is_present()	whether the first "len" bytes from ref->at.offset
 *							on are on this disk; otherwise they must not be read
 *	  layer_value_was_fetched()	whether a value that fails the check may be right
 *							elsewhere: layer_read_value() fetches it once more
 *	  layer_values_fetch()	fetches these bytes of n values together; errs[i] is
 *							NULL or why that failed.
 *
 * Any thread.
 */
extern PsError *layer_value_place(const ValueRef *ref, int *fd, size_t *len);
extern void layer_value_release(const ValueRef *ref);
extern bool layer_value_was_fetched(const ValueRef *ref);
extern bool layer_value_is_present(const ValueRef *ref, size_t len);
extern void layer_values_fetch(const ValueRef *const *refs, const size_t *lens, PsError **errs, int n);
extern PsError *layer_value_check(const ValueRef *ref, const char *bytes, size_t have, StoredValue *stored);
extern PsError *layer_value_unpack(const ValueRef *ref, const char *bytes, const StoredValue *stored, char *out);
extern PsError *layer_value_short_read_error(const ValueRef *ref, size_t have, size_t wanted, int read_errno);

/* For benchmarks: microseconds to add to each read that a search waits for (see aio_bench_delay). */
extern int layer_bench_delay;

#endif /* PS_LAYER_H */
