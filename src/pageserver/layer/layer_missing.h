/*
 * layer_missing.h
 *	  Searches that never wait for the disk.
 *
 * The first use of a part of a layer file is a read.  A search with
 * ValueList.missing set does not do these reads: it adds each part that is not
 * in the kernel's page cache to LayerMissing and continues with older layers,
 * which are most likely needed, too.  The caller reads all missing parts at
 * once, and repeats the search:
 *
 *	  layer_missing_place()	for each i < n: where the part is
 *	  layer_missing_fetch()	what is absent of part files
 *	  (the caller reads them)
 *	  layer_missing_take()	for each that had a place, in the same order, while
 *							the layer's reference is still held
 *	  layer_missing_wait()	for files that other threads were opening already
 *	  layer_missing_reset()	and search again; or layer_missing_free()
 *
 * While missing->n > 0, the results of the search, be it versions or an error,
 * are meaningless.  A part that cannot be read stays missing, without a message:
 * the caller then searches without ValueList.missing, waits, and gets the error
 * if the part is really needed.
 *
 * A LayerMissing belongs to one thread.
 */
#ifndef PS_LAYER_MISSING_H
#define PS_LAYER_MISSING_H

#include "layer/value.h"

typedef struct LayerPart LayerPart;

/* Initialize it with zeros. */
struct LayerMissing
{
	int n;
	LayerPart *parts;           /* in the order in which they were found to be missing, without duplicates */
	struct partset_hash *known; /* the same parts, for look-ups */
};

/*
 * Where the i-th part is.  The descriptor is valid until layer_missing_take().
 * Returns false if the part cannot be read now or at all: the file is closed
 * and there is no room to open it, or opening it failed, or another thread is
 * opening it.
 */
extern bool layer_missing_place(LayerMissing *missing, int i, int *fd, uint64 *offset, size_t *len);

/*
 * Fetches what is absent of all parts that have a place, together, if the source
 * can be reached at once.  Returns the number of parts that are still absent:
 * layer_missing_is_present() must be true before a part is read.
 */
extern int layer_missing_fetch(LayerMissing *missing);
extern bool layer_missing_is_present(const LayerMissing *missing, int i);

/*
 * Checks what was read of the i-th part, and makes it known to searches.
 * complete: all bytes were read.  Returns whether the part is no longer missing.
 */
extern bool layer_missing_take(LayerMissing *missing, int i, const char *bytes, bool complete);

/*
 * Waits for the files that had no place because other threads were opening them.
 * After the last layer_missing_take().  Returns how many of them are open.
 */
extern int layer_missing_wait(LayerMissing *missing);

extern void layer_missing_reset(LayerMissing *missing);
extern void layer_missing_free(LayerMissing *missing);

#endif /* PS_LAYER_MISSING_H */
