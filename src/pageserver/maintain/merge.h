/*
 * merge.h
 *	  Merges delta files into delta files, without versions that nobody needs.
 */
#ifndef PS_MERGE_H
#define PS_MERGE_H

#include "base/cancel.h"
#include "maintain/retention.h"

typedef struct MergeJob
{
	LayerSpace *space;
	Layer *const *inputs; /* delta files that the outputs replace */
	int ninputs;
	Layer *const *context; /* other files, whose versions may make versions of the inputs unnecessary */
	int ncontext;
	int level; /* of the outputs */
	const Retention *retention;
	/*
	 * Inputs and context have all versions of their keys, so a tombstone that is the oldest
	 * version can be dropped, except of a page: an older state of the page may be in the
	 * page cache (io/page_store.h).
	 */
	bool drop_oldest_tombstones;
	uint64 target_size; /* approximate size of an output file, bytes */
	size_t memory;      /* approximate limit of the merge's memory, bytes */
	CancelCheck cancel; /* check is NULL if the merge cannot be canceled */
} MergeJob;

typedef struct MergeResult
{
	Layer **layers; /* in the order of their keys, each with a reference */
	int nlayers;
	uint64 kept;    /* entries */
	uint64 dropped; /* entries */
} MergeResult;

/*
 * The memory needed depends neither on the number of keys nor on that of their versions.
 * The outputs have their final names but are not in the manifest.  After an error there
 * are none.  The caller frees the result with merge_result_free().
 */
extern PsError *merge_layers(const MergeJob *job, MergeResult *result);
extern void merge_result_free(MergeResult *result);

#endif /* PS_MERGE_H */
