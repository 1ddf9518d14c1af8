/*
 * merge.h
 *	  Delta files merged into delta files, without what nobody needs.
 */
#ifndef PS_KEEP_MERGE_H
#define PS_KEEP_MERGE_H

#include "base/cancel.h"
#include "maintain/retention.h"

typedef struct MergeJob
{
	LayerSpace *space;
	Layer *const *inputs; /* delta files that the outputs replace */
	int ninputs;
	Layer *const *context; /* other files: what they have may make versions of the inputs unnecessary */
	int ncontext;
	int level; /* of the outputs */
	const Retention *retention;
	bool forget_ends;   /* inputs and context are all that there is of these keys, so that a tombstone with
								 * nothing before it can go; not of a page, whose older version may be in the page
								 * cache (io/page_store.h) */
	uint64 target_size; /* bytes of an output file, about */
	size_t memory;      /* bytes that a merge may use, about */
	CancelCheck cancel; /* check NULL: it is never canceled */
} MergeJob;

typedef struct MergeResult
{
	Layer **layers; /* each with a reference; ascending by key */
	int nlayers;
	uint64 kept; /* entries */
	uint64 dropped;
} MergeResult;

/*
 * Streams: memory depends neither on the number of keys nor on that of their
 * versions.  After an error there are no outputs.
 */
extern PsError *merge_layers(const MergeJob *job, MergeResult *result);
extern void merge_result_free(MergeResult *result);

#endif /* PS_KEEP_MERGE_H */
