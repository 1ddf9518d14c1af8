/*
 * layer.h
 *	  Layers: where versions of keys are kept, and how they are found.
 *
 * A version is (key, LSN) -> value.  Versions are in the open layer (memory,
 * being written by ingest), in frozen layers (memory, about to become files),
 * in delta files (many LSNs) and in image files (one LSN).
 *
 * Looking up never reads a value: it gives references (ValueRef), newest
 * first, and stops at one that needs nothing older (will_init).  What is read
 * then is decided by read/.
 */
#ifndef PS_LAYER_H
#define PS_LAYER_H

#include <stdatomic.h>

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"

#include "base/error.h"
#include "base/id.h"
#include "key.h"

typedef enum ValueKind
{
	VALUE_TOMBSTONE = 0, /* the key ends here */
	VALUE_IMAGE = 1,     /* the whole value */
	VALUE_RECORD = 2     /* a WAL record to apply to what is older; if will_init, to nothing */
} ValueKind;

typedef enum ValuePlace
{
	VALUE_IN_MEMORY, /* at ValueRef.memory */
	VALUE_IN_WAL,    /* record in the timeline's WAL files */
	VALUE_IN_LAYER   /* in a layer file */
} ValuePlace;

typedef struct Layer Layer;

/*
 * One version of a key.  Valid while the caller holds a reference to the layer
 * that it came from.
 */
typedef struct ValueRef
{
	XLogRecPtr lsn; /* a record's end, or an image's LSN */
	uint8 kind;     /* ValueKind */
	uint8 place;    /* ValuePlace */
	bool will_init; /* nothing older is needed; always true of images and tombstones */
	bool shared;    /* VALUE_IN_LAYER: other entries of the file may have the same value */
	uint16 source;  /* for who collects from several sets of layers */
	uint32 len;     /* bytes of the value in memory or WAL (xl_tot_len); 0: unknown */
	union
	{
		const char *memory;
		XLogRecPtr record_start;
		uint64 offset; /* in the layer file */
	} at;
	const Layer *layer; /* VALUE_IN_LAYER */
} ValueRef;

/*
 * What searches would have to wait for (layer_missing.c): parts of layer files
 * that were not used since the file was opened and are not in the kernel's page
 * cache, and files that are not open.  Start with all zeros.
 */
typedef struct LayerPart LayerPart;

typedef struct LayerMissing
{
	int n;
	LayerPart *parts; /* in the order in which they were met, each once */
	uint16 *slots;    /* a hash table of them */
} LayerMissing;

/* A growing list of references; start with all zeros, end with free(refs). */
typedef struct ValueList
{
	ValueRef *refs;
	int n;
	int cap;
	int layers;            /* in which was searched */
	LayerMissing *missing; /* NULL: searches wait for the disk where they have to */
} ValueList;

extern void value_list_add(ValueList *list, const ValueRef *ref);

/* What a scan is told of one version; a returned error ends the scan. */
typedef PsError *(*ScanCallback)(void *arg, const PsKey *key, const ValueRef *ref);

/*
 * A search with ValueList.missing waits for nothing: what it does not have it
 * adds there, and goes on in older layers, since those are most likely needed
 * too.  While missing->n is not 0, what the search gave means nothing, be it
 * versions or an error; it is to be made again when the parts have been read:
 *
 *	  layer_missing_place() for each i < n: where the part is; false: it cannot
 *	  be had, at the moment or at all
 *	  read them
 *	  layer_missing_take() of each that had a place, in the same order, before
 *	  the layer's reference goes; complete: all bytes were read; true: it is
 *	  missing no more
 *	  layer_missing_reset(), to search again, or layer_missing_free()
 *
 * What stays missing is an error of the reads that need it alone.  They search
 * without ValueList.missing, and wait.
 */
extern bool layer_missing_place(LayerMissing *missing, int i, int *fd, uint64 *offset, size_t *len);
extern bool layer_missing_take(LayerMissing *missing, int i, const char *bytes, bool complete);
extern void layer_missing_reset(LayerMissing *missing);
extern void layer_missing_free(LayerMissing *missing);

/* For benchmarks: reads of the above that are waited for take so many microseconds longer (as aio_bench_delay). */
extern int layer_bench_delay;

/* Where the layer files of a timeline are, and whose they are.  Lives longer than its layers and writers. */
typedef struct LayerSpace
{
	char *dir;
	PsId tenant;
	PsId timeline;
	atomic_ullong next_number; /* of the next file that is written */
	bool synced_later;         /* the directory is new: who makes it syncs it, with all that is in it */
} LayerSpace;

/* No file that is written from now on gets this number, or a lower one.  Any thread. */
extern void layer_space_skip(LayerSpace *space, uint64 number);

/* ---- layer.c: layers of every kind, counted references ---- */
typedef enum LayerType
{
	LAYER_OPEN,
	LAYER_DELTA,
	LAYER_IMAGE
} LayerType;

typedef struct LayerInfo
{
	LayerType type;
	PsKey key_min; /* smallest and greatest key inside; a zero kind in key_max: layer is empty */
	PsKey key_max;
	XLogRecPtr lsn_start; /* versions have lsn_start <= LSN < lsn_end; an image has lsn_end = lsn_start + 1 */
	XLogRecPtr lsn_end;
	uint64 file_size; /* 0: in memory */
	uint64 entries;   /* in the index of a file */
	uint64 number;    /* of a file: none of the timeline's others has it */
	int level;        /* of a delta file: 0 as it was flushed, n merged from level n - 1 */
} LayerInfo;

/* Longest name of a layer file, with its zero byte. */
#define LAYER_NAME_MAX 128

extern const LayerInfo *layer_info(const Layer *layer);
extern Layer *layer_ref(Layer *layer); /* any thread */
extern void layer_unref(Layer *layer); /* any thread; the last one closes the file or frees the memory */

/*
 * Adds the versions of a key with lsn_min <= LSN <= lsn_max to the list, newest
 * first, and ends after one with will_init; *done tells that it met one.  Any
 * thread.
 */
extern PsError *layer_collect(Layer *layer, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
							  ValueList *list, bool *done);

/* What the versions of keys from lo to hi are in a file, about: entries in its index, and bytes. */
typedef struct LayerRange
{
	uint64 entries;
	uint64 bytes;
} LayerRange;

extern PsError *layer_range(const Layer *layer, const PsKey *lo, const PsKey *hi, LayerRange *range);

/* Every version with lo <= key <= hi and LSN <= lsn_max; keys ascending, of each key newest first.
 * In an open layer the order of keys is not defined. */
extern PsError *layer_scan(Layer *layer, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max, ScanCallback cb,
						   void *arg);

/* ---- delta.c, image.c: files ---- */

/*
 * A layer file as a manifest has it.  The file is opened at its first use,
 * which checks its summary (magic, format version, ids, checksum, that the file
 * has the length that the summary states, that all is as info says); an error
 * is that use's.  Files that are not in use may be closed and opened again at
 * any time: see layer_set_max_open().
 */
extern Layer *layer_known(LayerSpace *space, const LayerInfo *info);

/* The same, opened at once, of a file of which nothing but the name is known. */
extern PsError *layer_open(LayerSpace *space, const char *name, Layer **layer);

/*
 * No manifest names the file (any more): it is removed with the last reference
 * to the layer, so who has one can go on.  A failure is logged.
 */
extern void layer_remove(Layer *layer);

/*
 * Was something of the file damaged, or could it not be read, when it was used?
 * Until layer_verify() finds it well.  Any thread.
 */
extern bool layer_is_damaged(const Layer *layer);
extern void layer_set_damaged(const Layer *layer, bool damaged);

/*
 * Reads and checks all of the file, whatever was read of it before; an error
 * says what is wrong.  pace is told of the bytes that were read, and may wait; an
 * error of it ends this.
 */
typedef PsError *(*LayerPace)(void *arg, size_t bytes);
extern PsError *layer_verify(Layer *layer, LayerPace pace, void *arg);

/* The file's name in the layers directory. */
extern const char *layer_name(const Layer *layer, char name[LAYER_NAME_MAX]);
extern const char *layer_name_format(const LayerInfo *info, char name[LAYER_NAME_MAX]);

/* Sets what the name tells: all but size, entries and level.  false: it is no name of a layer file. */
extern bool layer_name_parse(const char *name, LayerInfo *info);

/* Most layer files of the process that are open at a time, if not more are in use.  Any thread. */
extern void layer_set_max_open(int max_open);
extern int layer_count_open(void);

/*
 * Reads and checks the value at ref->at.offset of a file into buf, which grows.
 * Of a record, *record_start is set and buf gets the xl_tot_len bytes.
 */
extern PsError *layer_read_value(const ValueRef *ref, StringInfo buf, XLogRecPtr *record_start);

/*
 * The same for who reads many values at once, and reads the bytes himself.
 *
 * layer_value_place() says where: "len" bytes of "fd" from ref->at.offset on are
 * most likely enough.  The descriptor is open until layer_value_release(), which
 * is due after a success; what follows is for the time before that.
 * layer_value_check() looks at what was read: if stored->size is more than
 * "have", more must be read from the same offset on; else the value is as it
 * was written, and layer_value_unpack() puts stored->raw_len bytes of it into
 * out.  layer_value_unread(): what to say when the file gave "have" bytes only,
 * with errno read_errno (0: it ends there).
 */
typedef struct StoredValue
{
	size_t size; /* in the file, header included */
	uint32 header_size;
	uint32 stored_len; /* of what follows the header */
	uint32 raw_len;    /* of the value */
	uint8 codec;
	XLogRecPtr record_start; /* 0: not a record */
} StoredValue;

extern PsError *layer_value_place(const ValueRef *ref, int *fd, size_t *len);
extern void layer_value_release(const ValueRef *ref);
extern PsError *layer_value_check(const ValueRef *ref, const char *bytes, size_t have, StoredValue *stored);
extern PsError *layer_value_unpack(const ValueRef *ref, const char *bytes, const StoredValue *stored, char *out);
extern PsError *layer_value_unread(const ValueRef *ref, size_t have, size_t wanted, int read_errno);

/*
 * Writes a delta file.  Values are written with delta_writer_value(), in any
 * order, or copied from another file with delta_writer_copy(); every (key,
 * LSN) that a value is filed under is told with delta_writer_add(), keys
 * ascending and of each key LSNs ascending, after the value.  Then
 * delta_writer_finish(), which fsyncs, renames the file to its name, fsyncs
 * the directory and opens it.  A writer that is not finished must be aborted;
 * so must one whose finish failed, though its file is gone by then.  abort()
 * of NULL does nothing.
 *
 * The index is behind the values: it is kept in memory
 * (delta_writer_memory()), unless delta_writer_end_values() has said that
 * nothing but entries will come.
 */
typedef struct DeltaWriter DeltaWriter;

extern PsError *delta_writer_create(LayerSpace *space, int level, XLogRecPtr lsn_start, XLogRecPtr lsn_end,
									DeltaWriter **writer);

/*
 * Before the first value: records will be compressed with a dictionary that is
 * made of a sample of what these delta files have from the key on, if there is
 * enough of it.  bytes: about how much of it will be written.
 */
extern PsError *delta_writer_learn(DeltaWriter *writer, Layer *const *layers, int n, const PsKey *from, uint64 bytes);
extern PsError *delta_writer_value(DeltaWriter *writer, ValueKind kind, XLogRecPtr record_start, const char *data,
								   uint32 len, uint64 *offset);
extern PsError *delta_writer_copy(DeltaWriter *writer, const ValueRef *ref, uint64 *offset);
extern PsError *delta_writer_end_values(DeltaWriter *writer);

/* shared: the value has, or may get, other entries. */
extern PsError *delta_writer_add(DeltaWriter *writer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, bool will_init,
								 bool shared, uint64 offset);
extern uint64 delta_writer_size(const DeltaWriter *writer); /* of the file so far, index included */
extern size_t delta_writer_memory(const DeltaWriter *writer);
extern PsError *delta_writer_finish(DeltaWriter *writer, Layer **layer);
extern void delta_writer_abort(DeltaWriter *writer);

/* Writes an image file: keys ascending, each with its whole value at the layer's LSN. */
typedef struct ImageWriter ImageWriter;

extern PsError *image_writer_create(LayerSpace *space, XLogRecPtr lsn, ImageWriter **writer);
extern PsError *image_writer_put(ImageWriter *writer, const PsKey *key, const char *data, uint32 len);
extern PsError *image_writer_finish(ImageWriter *writer, Layer **layer);
extern void image_writer_abort(ImageWriter *writer);

/* ---- open_layer.c: the layer in memory ---- */

/*
 * One writer (the timeline's ingest thread), any number of readers.  All
 * versions that are added have LSNs >= those added before for the same key.
 * A second version of a key at the same LSN replaces the first.
 */
extern Layer *open_layer_create(XLogRecPtr lsn_start);
extern void open_layer_put_record(Layer *layer, const PsKey *key, XLogRecPtr lsn, XLogRecPtr record_start, uint32 len,
								  bool will_init);
extern void open_layer_put_value(Layer *layer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, const char *data,
								 uint32 len); /* image or tombstone; data is copied */

/* Takes away the versions that are newer than the LSN.  Of the writer, as what follows. */
extern void open_layer_cut(Layer *layer, XLogRecPtr lsn);

/*
 * Ends writing: lsn_end (exclusive) and the key range become known.  lsn_end
 * is raised if need be to be above every version inside.  Before, only type and
 * lsn_start of layer_info() may be looked at.
 */
extern void open_layer_freeze(Layer *layer, XLogRecPtr lsn_end);
extern size_t open_layer_memory(const Layer *layer); /* bytes; any thread */
extern uint64 open_layer_count(const Layer *layer);  /* versions */

/*
 * Writes a frozen layer as a delta file: records are read from the WAL through
 * read_record (each once, in LSN order), values from memory.
 */
typedef PsError *(*ReadRecord)(void *arg, XLogRecPtr start, uint32 len, char *buf);
extern PsError *open_layer_write(Layer *frozen, LayerSpace *space, ReadRecord read_record, void *arg, Layer **delta);

/* ---- layer_merge.c: entries of several files, for who writes new ones ---- */

/*
 * Goes over the keys from lo to hi: ascending, of each key LSNs ascending, each
 * version once.  Memory does not depend on how many there are.  A merge holds
 * references to the layers; it is one thread's.
 */
typedef struct LayerMerge LayerMerge;

extern PsError *layer_merge_open(Layer *const *layers, int n, const PsKey *lo, const PsKey *hi, LayerMerge **merge);
extern PsError *layer_merge_next(LayerMerge *merge, PsKey *key, ValueRef *ref, bool *found);

/* Was that the last version of its key? */
extern bool layer_merge_key_ends(const LayerMerge *merge);

/* Goes back to the first version of the key that layer_merge_next() gave last. */
extern void layer_merge_rewind_key(LayerMerge *merge);
extern void layer_merge_close(LayerMerge *merge);

/* ---- layer_map.c ---- */

/*
 * An immutable set of layer files with a search order.  Shared by counted
 * reference; a change makes a new map, which costs microseconds whatever the
 * number of layers.
 */
typedef struct LayerMap LayerMap;

extern LayerMap *layer_map_create(Layer *const *layers, int n); /* takes a reference of each layer */
extern LayerMap *layer_map_ref(LayerMap *map);
extern void layer_map_unref(LayerMap *map);
extern int layer_map_count(const LayerMap *map);
extern int layer_map_level0(const LayerMap *map);   /* delta files of level 0 */
extern uint64 layer_map_bytes(const LayerMap *map); /* of all files */

/* The i-th in the order of first keys.  No reference is taken. */
extern Layer *layer_map_get(const LayerMap *map, int i);

/*
 * The layers that may have versions of keys from lo to hi with lsn_min <= LSN
 * <= lsn_max, in the order of their first keys; *layers is to be freed.  No
 * references are taken.  Costs what it finds, not what there is.
 */
extern int layer_map_find(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
						  Layer ***layers);

/* A new map with some layers added and some gone. */
extern LayerMap *layer_map_change(const LayerMap *map, Layer *const *add, int nadd, Layer *const *drop, int ndrop);

/* As layer_collect(), over all layers of the map, newest first. */
extern PsError *layer_map_collect(const LayerMap *map, const PsKey *key, XLogRecPtr lsn_min, XLogRecPtr lsn_max,
								  ValueList *list, bool *done);

/*
 * The newest version of each key with lo <= key <= hi, of those with LSN <=
 * lsn_max; keys ascending.  Memory depends on the number of layers only.
 */
extern PsError *layer_map_scan(const LayerMap *map, const PsKey *lo, const PsKey *hi, XLogRecPtr lsn_max,
							   ScanCallback cb, void *arg);

#endif /* PS_LAYER_H */
