/*
 * open_layer.h
 *	  The layer in memory that ingest adds versions to.
 *
 * One thread writes (the timeline's ingest); any number of threads read with
 * layer_collect() and layer_scan() at the same time.
 */
#ifndef PS_OPEN_LAYER_H
#define PS_OPEN_LAYER_H

#include "layer/layer.h"

extern Layer *open_layer_create(XLogRecPtr lsn_start);

/*
 * Add a version.  Its LSN is not below those that the key has already; a
 * version at the same LSN replaces the one before.  Writer only.
 *
 * A record stays in the WAL: len is its xl_tot_len.  A value is an image or a
 * tombstone; data is copied.
 */
extern void open_layer_put_record(Layer *layer, const PsKey *key, XLogRecPtr lsn, XLogRecPtr record_start, uint32 len,
								  bool will_init);
extern void open_layer_put_value(Layer *layer, const PsKey *key, XLogRecPtr lsn, ValueKind kind, const char *data,
								 uint32 len);

/* Removes all versions with greater LSNs.  Writer only. */
extern void open_layer_cut(Layer *layer, XLogRecPtr lsn);

/*
 * Ends writing, and sets lsn_end (exclusive) and the key range of layer_info().
 * lsn_end is raised, if necessary, above the LSNs of all versions.  Writer only.
 */
extern void open_layer_freeze(Layer *layer, XLogRecPtr lsn_end);

/* Bytes of memory, and number of versions.  Any thread. */
extern size_t open_layer_memory(const Layer *layer);
extern uint64 open_layer_count(const Layer *layer);

/*
 * Writes a frozen layer as a delta file of level 0.  Records are read from the
 * WAL with read_record: each once, in LSN order.
 */
typedef PsError *(*ReadRecord)(void *arg, XLogRecPtr start, uint32 len, char *buf);
extern PsError *open_layer_write(Layer *frozen, LayerSpace *space, ReadRecord read_record, void *arg, Layer **delta);

#endif /* PS_OPEN_LAYER_H */
