/*
 * prefetch.c
 *	  What a plan would have to wait for, read together.
 *
 * The first use of an index page after its file was opened takes a read of it,
 * and a file that is not open one more.  A plan that waited for them where it
 * meets them would take as many latencies as there are layers, times the levels
 * of their indexes.  So it is made in rounds: it notes what it misses, for all
 * its keys and in all layers that it comes to without it; all of that is read at
 * once; then it is made again.  That is a round for the first blocks of files
 * and one for each level of the indexes.
 *
 * (With "io_method" sync, reads are made one after the other in any case: then
 * there is one round, which waits for what it needs and no more.)
 *
 * Nothing that fails here is an error.  What could not be had is left to the
 * last round, which waits for what it needs, and tells of that alone.
 */
#include "ps_fe.h"

#include "io/aio.h"
#include "layer/layer_missing.h"
#include "read/read_impl.h"

/* More than trees have levels; also chains over thousands of index pages take less. */
#define MAX_ROUNDS 16

/* Returns whether any of it is there now. */
static bool
read_missing(Aio *aio, LayerMissing *missing)
{
	AioRead *reads = pg_malloc(missing->n * sizeof(AioRead));
	int *parts = pg_malloc(missing->n * sizeof(int));
	size_t bytes = 0;
	char *buf;
	char *p;
	int n = 0;
	int taken = 0;

	for (int i = 0; i < missing->n; i++)
	{
		AioRead *read = &reads[n];

		if (!layer_missing_place(missing, i, &read->fd, &read->offset, &read->len))
			continue;
		bytes += read->len;
		parts[n++] = i;
	}
	p = buf = pg_malloc(bytes);
	for (int i = 0; i < n; i++)
	{
		reads[i].buf = p;
		p += reads[i].len;
	}
	aio_read(aio, reads, n);
	for (int i = 0; i < n; i++)
		taken += layer_missing_take(missing, parts[i], reads[i].buf, reads[i].done == reads[i].len);
	free(buf);
	free(parts);
	free(reads);
	return taken > 0;
}

void
plan_init(Plan *plan, const ReadView *view)
{
	memset(plan, 0, sizeof(*plan));
	plan->view = view;
	/* one after the other, reading what may not be needed only takes longer */
	if (aio_method(view->tl->env->aio) != AIO_SYNC)
		plan->versions.missing = &plan->missing;
}

bool
plan_again(Plan *plan, PsError **err)
{
	const TimelineEnv *env = plan->view->tl->env;

	if (plan->missing.n == 0)
	{
		atomic_fetch_add_explicit(&env->reads->keys, plan->keys, memory_order_relaxed);
		atomic_fetch_add_explicit(&env->reads->layers_searched, plan->versions.layers, memory_order_relaxed);
		return false;
	}
	ps_error_free(*err);
	*err = NULL;
	if (!read_missing(env->aio, &plan->missing) || ++plan->rounds == MAX_ROUNDS)
		plan->versions.missing = NULL;
	layer_missing_reset(&plan->missing);
	plan->versions.n = 0;
	plan->versions.layers = 0;
	plan->keys = 0;
	return true;
}

void
plan_free(Plan *plan)
{
	layer_missing_free(&plan->missing);
	free(plan->versions.refs);
}
