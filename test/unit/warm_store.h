/*
 * warm_store.h
 *	  For tests of first reads: a store with twenty layers of deep indexes, as it
 *	  is after a start.
 */
#ifndef WARM_STORE_H
#define WARM_STORE_H

#include "timeline_util.h"

#include "layer/layer_impl.h"
#include "store/store_impl.h"

#define NLAYERS      20
#define NBLOCKS      500   /* of the relation; each layer has images of some */
#define FILLERS      70000 /* other keys of a layer, so that its index has three levels */
#define LEVELS       3
#define FIRST_LSN    1000
#define IMAGE_LAYER  12    /* images of one relation are as new as this layer */
#define HOT_VERSIONS 60000 /* of one block in one layer: some 60 leaf pages */

/* Bytes in each layer before and after the values, so that these and the index are far apart. */
extern int warm_gap;

extern const PsRel rel;
extern const PsRel record_rel;
extern const PsRel hot_rel;
extern const PsRel image_rel;

typedef struct Made
{
	TestStore s;
	History h;
	char files[NLAYERS][512]; /* paths of the layers */
	char hot_file[512];
} Made;

/* A relation whose size is in this layer: so many blocks. */
extern PsRel size_rel(int number);

/* The newest image of a block is in this layer; -1: in the oldest file. */
extern int layer_of(BlockNumber blk);
extern void expected_page(BlockNumber blk, char *page);
extern void make_store(Made *made, const char *io_method);
extern void end_store(Made *made);

/* Reads n blocks, and compares them. */
extern PsError *read_blocks_of(Made *made, PsRel of, const BlockNumber *blks, int n);
extern PsError *read_blocks(Made *made, const BlockNumber *blks, int n);

#endif /* WARM_STORE_H */
