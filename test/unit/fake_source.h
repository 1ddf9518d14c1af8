/*
 * fake_source.h
 *	  For tests: a source of layers (layer_source.h) that is a directory, in which
 *	  each object is a file.  It counts what is asked of it, can be out of reach,
 *	  hold its answers back, truncate objects and flip bits.
 */
#ifndef FAKE_SOURCE_H
#define FAKE_SOURCE_H

#include <pthread.h>

#include "layer/layer_impl.h"
#include "layer/layer_source.h"
#include "store/store.h"

/* The lock protects all fields that are not fixed; a test without threads need not acquire it. */
typedef struct FakeSource
{
	LayerSource source; /* first */
	char dir[512];      /* fixed */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* counts */
	int rounds;   /* calls of fetch() */
	int requests; /* ranges */
	int impatient;
	uint64 bytes;
	/* faults */
	bool down;      /* PS_SQLSTATE_TRY_AGAIN */
	bool full;      /* PS_SQLSTATE_DISK_FULL, as if there were no room for what was fetched */
	bool hold;      /* answers wait until this is false, or their thread is canceled */
	int held;       /* that wait */
	bool truncate;  /* objects end before the range does */
	int flip;       /* so many answers have a bit flipped in each 64 bytes */
	bool flip_one;  /* only in the first range, and not of the same layer twice in a row, so that it can be repaired */
	uint64 flipped; /* number of the last layer */
} FakeSource;

/* dir: is created, and removed at the end. */
extern void fake_source_begin(FakeSource *fake, const char *dir);
extern void fake_source_end(FakeSource *fake);

/* Copies the layer's file, which is whole, into the source, unless it is there, and says that it is. */
extern void fake_source_put(FakeSource *fake, Layer *layer);

/* The branches of a store use it from now on, when they are opened. */
extern void fake_source_attach(FakeSource *fake, Store *store);

/* The path of a layer's object. */
extern const char *fake_source_path(FakeSource *fake, const LayerSpace *space, const LayerInfo *info, char *buf,
									size_t size);

extern void fake_source_wait_rounds(FakeSource *fake, int n); /* until it was asked so often */
extern void fake_source_reset(FakeSource *fake);              /* the counts */
extern void fake_source_flip(FakeSource *fake, int n);
extern void fake_source_set_hold(FakeSource *fake, bool hold);
extern void fake_source_wait_held(FakeSource *fake, int n); /* until so many answers wait */

#endif /* FAKE_SOURCE_H */
