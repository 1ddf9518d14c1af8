/*
 * values.h
 *	  Reads many values at once, from memory, WAL files and layer files.
 *
 *	  value_batch_init()
 *	  value_batch_add() for each value, the most urgent first
 *	  value_batch_read()			waits once for all
 *	  use batch.reads[]
 *	  value_batch_reset()			to start the next round, or
 *	  value_batch_free()
 */
#ifndef PS_VALUES_H
#define PS_VALUES_H

#include "read/view.h"

/* One value.  Its answer does not depend on whether the others could be read. */
typedef struct ValueRead
{
	ValueRef ref;
	char *into; /* where an image of BLCKSZ bytes is to be put; NULL: data may point anywhere */
	/* the answer */
	const char *data; /* MAXALIGNed if it is a record; valid until the batch is reset */
	uint32 len;
	XLogRecPtr record_start; /* of a record */
	bool deferred;           /* not read because others took too much memory; never set for the first */
	bool held;               /* private: its file is kept open */
	PsError *err;            /* NULL, or why it could not be read; the caller frees it */
} ValueRead;

typedef struct ValueChunk ValueChunk;

/* Used by one thread. */
typedef struct ValueBatch
{
	const ReadView *view;
	ValueRead *reads;
	int n;
	int cap;
	size_t expected; /* estimated memory for reading all of them, bytes */
	/* private */
	size_t used;        /* bytes of values in chunks */
	ValueChunk *chunks; /* memory for values, the newest chunk first */
	WalHold *holds;     /* WAL files in use */
	int nholds;
	int holds_cap;
} ValueBatch;

/* Callers should not add values beyond this, by "expected"; the batch does not refuse them. */
#define VALUE_BATCH_BYTES (4 * 1024 * 1024)

extern void value_batch_init(ValueBatch *batch, const ReadView *view);
extern void value_batch_add(ValueBatch *batch, const ValueRef *ref, char *into);
extern void value_batch_read(ValueBatch *batch);
extern void value_batch_reset(ValueBatch *batch);
extern void value_batch_free(ValueBatch *batch);

#endif /* PS_VALUES_H */
