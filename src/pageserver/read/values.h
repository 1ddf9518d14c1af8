/*
 * values.h
 *	  Many values read at once, wherever they are.
 *
 *	  value_batch_init()
 *	  value_batch_add() for each value, in the order in which they are wanted
 *	  value_batch_read()			one wait for all
 *	  look at batch.reads[]
 *	  value_batch_reset()			and again; or
 *	  value_batch_free()
 */
#ifndef PS_VALUES_H
#define PS_VALUES_H

#include "read/view.h"

/* One value.  Each has an answer of its own, which does not depend on the others'. */
typedef struct ValueRead
{
	ValueRef ref;
	char *into; /* an image of BLCKSZ bytes is wanted there; NULL: the value may be anywhere */
	/* the answer */
	const char *data; /* MAXALIGNed if it is a record; until the batch is reset */
	uint32 len;
	XLogRecPtr record_start; /* of a record */
	bool deferred;           /* not read, for others took too much memory; never the first */
	bool held;               /* inside: its file is kept open */
	PsError *err;            /* the reader's to free, or NULL */
} ValueRead;

typedef struct ValueChunk ValueChunk;

/* One thread's. */
typedef struct ValueBatch
{
	const ReadView *view;
	ValueRead *reads;
	int n;
	int cap;
	size_t expected; /* bytes that reading all of these will take, about */
	/* inside */
	size_t used;        /* bytes of values in chunks */
	ValueChunk *chunks; /* memory for values: the newest first */
	WalHold *holds;     /* WAL files that are being read */
	int nholds;
	int holds_cap;
} ValueBatch;

/* The most that one batch should be expected to take; more is not refused. */
#define VALUE_BATCH_BYTES (4 * 1024 * 1024)

extern void value_batch_init(ValueBatch *batch, const ReadView *view);
extern void value_batch_add(ValueBatch *batch, const ValueRef *ref, char *into);
extern void value_batch_read(ValueBatch *batch);
extern void value_batch_reset(ValueBatch *batch);
extern void value_batch_free(ValueBatch *batch);

#endif /* PS_VALUES_H */
