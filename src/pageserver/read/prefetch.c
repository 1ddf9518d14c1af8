/*
 * prefetch.c
 *	  Reads together everything that a plan would have to wait for.
 *
 * The first use of an index page after its file was opened is a read, and opening the
 * file is another.  A plan that waited for each of them would take one disk latency for
 * each layer and each level of its index.  Therefore it is made in rounds: a round notes
 * what is missing, for all keys and in all layers that it can reach; all of that is read
 * at once; then the plan is made again.  So there is one wait for the first blocks of the
 * files, and one for each level of their indexes, whatever the number of layers and keys.
 *
 * What is absent of part files (layer/layer_cache.h) is fetched together before each
 * round's reads.
 *
 * With io_method "sync", reads are made one after the other anyway, so there is a single
 * round, which reads only what it needs, unless files may have to be fetched.  There is also
 * a single round in work that streams such files, which fetches ahead by itself.
 *
 * A failure here is not reported.  What could not be prefetched is read in the last round,
 * which waits for what it needs, and reports only errors of that.
 */
#include "ps_fe.h"

#include "io/aio.h"
#include "layer/layer_missing.h"
#include "layer/layer_source.h"
#include "read/read_impl.h"

/* More than any index has levels; even chains over thousands of index pages need fewer. */
#define MAX_ROUNDS 16

/* Gives up the parts that could not be fetched; returns the number of those that are left. */
static int
leave_absent(LayerMissing *missing, AioRead *reads, int *parts, int n)
{
	int left = 0;

	for (int i = 0; i < n; i++)
	{
		if (!layer_missing_is_present(missing, parts[i]))
		{
			(void) layer_missing_take(missing, parts[i], NULL, false);
			continue;
		}
		reads[left] = reads[i];
		parts[left++] = parts[i];
	}
	return left;
}

/* Returns whether any of the missing parts was read, by this thread or by another one. */
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
		parts[n++] = i;
	}
	if (layer_missing_fetch(missing) > 0)
		n = leave_absent(missing, reads, parts, n);
	for (int i = 0; i < n; i++)
		bytes += reads[i].len;
	p = buf = pg_malloc(bytes);
	for (int i = 0; i < n; i++)
	{
		reads[i].buf = p;
		p += reads[i].len;
	}
	aio_read(aio, reads, n);
	for (int i = 0; i < n; i++)
		taken += layer_missing_take(missing, parts[i], reads[i].buf, reads[i].done == reads[i].len);
	taken += layer_missing_wait(missing);
	free(buf);
	free(parts);
	free(reads);
	return taken > 0;
}

static bool
has_source(const ReadView *view)
{
	for (int i = 0; i < view->n; i++)
		if (view->levels[i].tl->spec->space.source != NULL)
			return true;
	return false;
}

bool
view_fetches(const ReadView *view)
{
	return has_source(view) && layer_context.stream == NULL;
}

void
plan_init(Plan *plan, const ReadView *view)
{
	bool together;

	memset(plan, 0, sizeof(*plan));
	plan->view = view;
	/* reads made one after the other would only take longer if they include some that are not needed */
	together = has_source(view) ? view_fetches(view) : aio_method(view->tl->env->aio) != AIO_SYNC;
	if (together)
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
