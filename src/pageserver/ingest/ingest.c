/*
 * ingest.c
 *	  The ingest thread of a timeline: it turns durable WAL into versions in the open
 *	  layer.
 *
 * Records are read from the timeline's files up to flushed_lsn, and wal_interpret() passes
 * their changes to the sink (ingest_sink.c), which adds them to the open layer.
 * ingested_lsn is published after each batch; readers do not read beyond it, so they see
 * all of a record or nothing.
 *
 * The open layer is frozen when it covers enough WAL, uses much memory or is old;
 * ingest/flush.c writes it.
 */
#include "ps_fe.h"

#include "layer/layer_source.h"
#include "read/read.h"
#include "sqlstate.h"
#include "ingest/ingest_impl.h"

/* Maximum number of records that are ingested before ingested_lsn is published. */
#define BATCH 256

/* An error that ends ingest without calling timeline_fail(): see ingest_main(). */
static PsError *
stopping_error(Timeline *tl)
{
	PsError *err = timeline_check_stopping(tl);

	if (err != NULL)
		return err;
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "branch \"%s\" accepts no more WAL", timeline_name(tl));
}

/*
 * Called when memory of layers is short: ingest may have to freeze its layer although no WAL
 * arrives, and the flush thread may have to drop layers.
 */
static void
wake_threads(void *arg)
{
	Timeline *tl = arg;

	pthread_mutex_lock(&tl->lock);
	pthread_cond_broadcast(&tl->changed);
	pthread_cond_broadcast(&tl->layers_changed);
	pthread_mutex_unlock(&tl->lock);
}

PsError *
ingest_create(Timeline *tl, const WalState *state)
{
	Ingest *in = pg_malloc0(sizeof(Ingest));

	tl->ingest = in;
	in->state = *state;
	in->open = layer_ref(tl->layers->open);
	in->open_start = state->end + 1;
	XLByteToSeg(state->end, in->state_segment, tl->spec->segment_size);
	in->reader = wal_reader_create(tl->wal, state->end, state->prev, tl->spec->system_identifier);
	sizes_forget(&in->sizes);
	initStringInfo(&in->buf);
	tl->memory.wake = wake_threads;
	tl->memory.owner = tl;
	memory_budget_add_user(tl->env->memory, &tl->memory);
	return NULL;
}

void
ingest_free(Timeline *tl)
{
	Ingest *in = tl->ingest;

	if (in == NULL)
		return;
	wal_reader_free(in->reader);
	memory_budget_count_open(tl->env->memory, in->open_since != 0 ? -1 : 0);
	memory_budget_remove_user(tl->env->memory, &tl->memory);
	layer_unref(in->open); /* NULL if ingest has failed */
	sizes_free(&in->sizes);
	pfree(in->buf.data);
	free(in);
	tl->ingest = NULL;
}

/* Saves the WAL state in the open layer, where timeline_state_at() finds it. */
static void
save_state(Timeline *tl)
{
	Ingest *in = tl->ingest;
	PsKey key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);

	resetStringInfo(&in->buf);
	wal_state_encode(&in->state, &in->buf);
	open_layer_put_value(in->open, &key, in->state.end, VALUE_IMAGE, in->buf.data, in->buf.len);
	XLByteToSeg(in->state.end, in->state_segment, tl->spec->segment_size);
}

static void
count_memory(Timeline *tl)
{
	Ingest *in = tl->ingest;
	size_t memory = open_layer_memory(in->open);

	memory_budget_take(tl->env->memory, &tl->memory, memory - in->open_counted);
	in->open_counted = memory;
}

/*
 * Freezes the open layer, which ends at the last record, and begins a new one.  Waits while
 * too many layers wait to be written.  Returns stopping_error() if the timeline is stopping,
 * or layers can never be written.
 */
static PsError *
freeze_layer(Timeline *tl)
{
	Ingest *in = tl->ingest;
	LayerSet *old;
	Layer *frozen[MAX_FROZEN];

	pthread_mutex_lock(&tl->lock);
	while (tl->layers->nfrozen == MAX_FROZEN && !tl->stopping && !tl->unwritable)
	{
		timeline_report_wait(tl, WAIT_FOR_MEMORY, "%d layers in memory to be written", MAX_FROZEN);
		timeline_wait(tl, &tl->layers_changed, 1000);
	}
	timeline_end_wait(tl, WAIT_FOR_MEMORY);
	if (tl->stopping || tl->unwritable)
	{
		pthread_mutex_unlock(&tl->lock);
		return stopping_error(tl);
	}
	open_layer_freeze(in->open, in->state.end + 1);
	count_memory(tl);
	memory_budget_count_open(tl->env->memory, in->open_since != 0 ? -1 : 0);
	old = tl->layers;
	frozen[0] = layer_ref(old->open);
	for (int i = 0; i < old->nfrozen; i++)
		frozen[i + 1] = layer_ref(old->frozen[i]);
	layer_unref(in->open);
	in->open = open_layer_create(in->state.end + 1);
	in->open_start = in->state.end + 1;
	in->open_since = 0;
	in->open_counted = 0;
	old = timeline_set_layers(tl, layer_set_create(layer_ref(in->open), frozen, old->nfrozen + 1,
												   layer_map_ref(old->map)));
	pthread_mutex_unlock(&tl->lock);
	layer_set_unref(old);
	return NULL;
}

static PsError *
ingest_record(Timeline *tl, const WalSink *sink, const WalRecord *rec)
{
	Ingest *in = tl->ingest;
	WalParsed parsed;
	XLogSegNo segment;

	PS_TRY(wal_parse(rec, &parsed));
	PS_TRY(wal_interpret(rec, &parsed, in->state.track_commit_timestamp, sink));
	PS_TRY(wal_state_apply(&in->state, rec, &parsed));
	XLByteToSeg(rec->end, segment, tl->spec->segment_size);
	if (segment != in->state_segment)
		save_state(tl);
	return NULL;
}

/* ms until the open layer is old enough to be written. */
static int64
time_left(const Timeline *tl)
{
	return tl->ingest->open_since + (int64) timeline_config(tl)->checkpoint_timeout * 1000 - clock_now_ms();
}

static bool
time_to_freeze(const Timeline *tl)
{
	const Ingest *in = tl->ingest;
	const Config *config = timeline_config(tl);

	if (in->open_since == 0)
		return false;
	return in->state.end - in->open_start >= (uint64) config->checkpoint_distance * 1024 * 1024 ||
		   open_layer_memory(in->open) >= (size_t) config->open_layer_memory * 1024 * 1024 ||
		   memory_budget_is_over(tl->env->memory, open_layer_memory(in->open)) ||
		   time_left(tl) <= 0;
}

static void
publish(Timeline *tl)
{
	Ingest *in = tl->ingest;

	pthread_mutex_lock(&tl->lock);
	tl->ingested_lsn = in->state.end;
	tl->state = in->state;
	pthread_cond_broadcast(&tl->changed);
	pthread_mutex_unlock(&tl->lock);
}

static bool
is_unwritable(Timeline *tl)
{
	bool unwritable;

	pthread_mutex_lock(&tl->lock);
	unwritable = tl->unwritable;
	pthread_mutex_unlock(&tl->lock);
	return unwritable;
}

/*
 * Ends ingest for good, because of err, or if that is NULL, because flush.c has called
 * timeline_fail().  The open layer, without the record that failed, is frozen, so that it is
 * written and does not stay in memory as long as the store runs.
 */
static void
end_ingest(Timeline *tl, PsError *err)
{
	Ingest *in = tl->ingest;
	PsError *unwritten = NULL;

	if (err != NULL)
		timeline_fail(tl, err);
	open_layer_cut(in->open, in->state.end);
	if (in->open_start <= in->state.end)
	{
		save_state(tl);
		unwritten = freeze_layer(tl);
	}
	/* the timeline is stopping, or the layer cannot be written, and stays until memory is short */
	ps_error_free(unwritten);
	pthread_mutex_lock(&tl->lock);
	layer_unref(in->open);
	in->open = NULL;
	tl->ingest_ended = true;
	pthread_cond_broadcast(&tl->layers_changed);
	pthread_mutex_unlock(&tl->lock);
}

void
ingest_forget(Timeline *tl)
{
	Ingest *in = tl->ingest;

	Assert(tl->ingest_ended);
	memory_budget_count_open(tl->env->memory, in->open_since != 0 ? -1 : 0);
	in->open_since = 0;
	memory_budget_take(tl->env->memory, &tl->memory, -atomic_load(&tl->memory.used));
}

/* Waits while the timeline's layers use too much memory, unless it is stopping or they are unwritable. */
static void
wait_for_memory(Timeline *tl)
{
	MemoryBudget *budget = tl->env->memory;

	memory_budget_ask(budget);
	pthread_mutex_lock(&tl->lock);
	while (memory_budget_must_wait(budget, &tl->memory) && !tl->stopping && !tl->unwritable)
	{
		timeline_report_wait(tl, WAIT_FOR_MEMORY,
							 "%llu MB of its layers in memory to be written (layer_memory is %llu MB)",
							 (unsigned long long) atomic_load(&tl->memory.used) / (1024 * 1024),
							 (unsigned long long) memory_budget_limit(budget) / (1024 * 1024));
		timeline_wait(tl, &tl->layers_changed, MEMORY_ASK_MS);
	}
	timeline_end_wait(tl, WAIT_FOR_MEMORY);
	pthread_mutex_unlock(&tl->lock);
}

/*
 * Waits without a limit until the ancestors are ingested up to where the next branch begins:
 * before that, sizes of relations that exist in an ancestor are unknown (read/plan.c).
 */
static PsError *
wait_for_ancestors(Timeline *tl)
{
	CancelCheck cancel = {timeline_check_stopping, tl};

	for (Timeline *t = tl; t->ancestor != NULL; t = t->ancestor)
		PS_TRY(timeline_wait_ingested(t->ancestor, t->spec->start_lsn, -1, &cancel));
	return NULL;
}

void *
ingest_main(void *arg)
{
	Timeline *tl = arg;
	Ingest *in = tl->ingest;
	WalSink sink = ingest_sink;
	CancelCheck cancel = {timeline_check_stopping, tl};
	int64 note_in = 0; /* when to call arrivals_note() again, even if no WAL arrives, ms; 0: not necessary */
	PsError *err = NULL;

	ps_thread_name("ingest %.8s", timeline_name(tl));
	layer_context = (LayerContext) {.cancel = &cancel, .endless = true};
	sink.arg = tl;
	err = wait_for_ancestors(tl);
	while (err == NULL)
	{
		XLogRecPtr upto;
		CancelReason stopping;
		bool unwritable;
		bool found = true;
		int n = 0;

		pthread_mutex_lock(&tl->lock);
		while (tl->flushed_lsn <= in->state.end && !tl->stopping && !tl->unwritable && !time_to_freeze(tl))
		{
			int64 ms = in->open_since != 0 ? time_left(tl) : 60 * 1000;

			if (note_in != 0)
				ms = Min(ms, note_in);
			timeline_wait(tl, &tl->changed, ms);
			if (note_in != 0)
				break;
		}
		upto = tl->flushed_lsn;
		stopping = tl->stopping;
		unwritable = tl->unwritable;
		pthread_mutex_unlock(&tl->lock);
		if (stopping != CANCEL_NONE)
			return NULL;
		if (unwritable)
			break;
		while (n < BATCH && err == NULL)
		{
			WalRecord rec;

			err = wal_reader_next(in->reader, upto, &rec, &found);
			if (err != NULL || !found)
				break;
			err = ingest_record(tl, &sink, &rec);
			n++;
			/* the open layer has its first record now */
			if (in->open_since == 0)
			{
				in->open_since = clock_now_ms();
				memory_budget_count_open(tl->env->memory, 1);
			}
		}
		/* if a record failed, the records before it can be read, but nothing of it, because its LSN is later */
		if (n > 0)
			publish(tl);
		note_in = arrivals_note(tl->arrivals, in->state.end);
		count_memory(tl);
		if (err == NULL && time_to_freeze(tl))
		{
			save_state(tl);
			err = freeze_layer(tl);
		}
		wait_for_memory(tl);
	}
	/* PS_SQLSTATE_TRY_AGAIN: an ancestor is stopping, of which the timeline may not have been told yet */
	if (err != NULL && (timeline_is_stopping(tl) || ps_error_is(err, PS_SQLSTATE_TRY_AGAIN)))
	{
		ps_error_free(err);
		err = NULL;
		if (!is_unwritable(tl))
			return NULL;
	}
	end_ingest(tl, err);
	return NULL;
}
