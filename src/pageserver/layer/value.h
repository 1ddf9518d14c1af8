/*
 * value.h
 *	  Versions of keys, and references to where their values are.
 *
 * A version is (key, LSN) -> value.  Searches and scans never read a value:
 * they return references (ValueRef), and the caller decides what it reads.
 */
#ifndef PS_LAYER_VALUE_H
#define PS_LAYER_VALUE_H

#include "access/xlogdefs.h"

#include "base/error.h"
#include "key.h"

typedef enum ValueKind
{
	VALUE_TOMBSTONE = 0, /* the key is deleted as of this LSN */
	VALUE_IMAGE = 1,     /* the whole value */
	VALUE_RECORD = 2     /* a WAL record, to be applied to the older version, or to nothing if will_init */
} ValueKind;

typedef enum ValuePlace
{
	VALUE_IN_MEMORY, /* at ValueRef.at.memory */
	VALUE_IN_WAL,    /* a record in the timeline's WAL files, at ValueRef.at.record_start */
	VALUE_IN_LAYER   /* in the file of ValueRef.layer, at ValueRef.at.offset */
} ValuePlace;

typedef struct Layer Layer;
typedef struct LayerMissing LayerMissing;

/*
 * One version of a key.  Valid while the caller holds a reference to the layer
 * that it was found in, or to a map that contains this layer.
 */
typedef struct ValueRef
{
	XLogRecPtr lsn; /* a record's end, or an image's LSN */
	uint8 kind;     /* ValueKind */
	uint8 place;    /* ValuePlace */
	bool will_init; /* no older version is needed; always true for images and tombstones */
	bool shared;    /* VALUE_IN_LAYER: other entries of the file may refer to the same value */
	uint16 source;  /* not set here: free for callers that collect from several sets of layers */
	uint32 len;     /* bytes of the value in memory or WAL (xl_tot_len); 0: unknown */
	union
	{
		const char *memory;
		XLogRecPtr record_start;
		uint64 offset; /* in the layer file */
	} at;
	const Layer *layer; /* VALUE_IN_LAYER */
} ValueRef;

/* A growing list of references.  Initialize it with zeros; free(refs) when done. */
typedef struct ValueList
{
	ValueRef *refs;
	int n;
	int cap;
	int layers;            /* number of layers that were searched */
	LayerMissing *missing; /* NULL: searches wait for the disk; else see layer_missing.h */
} ValueList;

/* Appends a copy of *ref. */
extern void value_list_add(ValueList *list, const ValueRef *ref);

/* Called by a scan for each version.  If it returns an error, the scan ends with this error. */
typedef PsError *(*ScanCallback)(void *arg, const PsKey *key, const ValueRef *ref);

#endif /* PS_LAYER_VALUE_H */
