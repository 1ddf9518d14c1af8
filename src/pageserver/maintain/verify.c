/*
 * verify.c
 *	  Reads all files of a timeline and checks them: the manifest, the layer
 *	  files that it names, WAL from the oldest LSN that can be read on.  What is
 *	  damaged shows in timeline_info() from then on, until it is found well again.
 */
#include "ps_fe.h"

#include "maintain/maintain_impl.h"
#include "sqlstate.h"

/* The longest pause between two looks whether to stop, ms. */
#define LONGEST_PAUSE 100

typedef struct Pace
{
	Timeline *tl;
	const CancelCheck *cancel;
	uint64 rate; /* bytes for each second */
	int64 begin; /* clock_now_ms() */
	uint64 bytes;
	uint64 looked_at; /* bytes, at the last look */
	bool is_canceled; /* the error is no damage */
} Pace;

/* So many bytes have been read: waits until there is time for more. */
static PsError *
pace(void *arg, size_t bytes)
{
	Pace *p = arg;
	int64 early;

	p->bytes += bytes;
	do
	{
		early = (int64) (p->bytes * 1000 / p->rate) - (clock_now_ms() - p->begin);
		if (early > 0)
			pg_usleep(Min(early, LONGEST_PAUSE) * 1000);
		else if (p->bytes - p->looked_at < 1024 * 1024)
			return NULL;
		p->looked_at = p->bytes;
		p->is_canceled = true;
		PS_TRY(timeline_check_stopping(p->tl));
		PS_TRY(cancel_check(p->cancel));
		p->is_canceled = false;
	} while (early > 0);
	return NULL;
}

/* Tells of a file; damage, which is freed.  An error that is none of the file's is returned. */
static PsError *
tell(const Pace *p, const char *file, uint64 bytes, PsError *err, VerifyReport report, void *arg)
{
	if (err != NULL && (p->is_canceled || ps_error_is_transient(err)))
		return err;
	report(arg, file, bytes, err != NULL ? err->message : NULL);
	ps_error_free(err);
	return NULL;
}

static PsError *
verify_manifest(Timeline *tl, const Pace *p, VerifyReport report, void *arg)
{
	Manifest m;
	PsError *err = manifest_read(tl->spec->dir, &m);

	if (err == NULL)
		manifest_free(&m);
	return tell(p, "timeline.json", 0, err, report, arg);
}

static PsError *
verify_layers(Timeline *tl, Pace *p, VerifyReport report, void *arg)
{
	LayerSet *set = timeline_files(tl);
	PsError *err = NULL;

	for (int i = 0; i < layer_map_count(set->map) && err == NULL; i++)
	{
		Layer *layer = layer_map_get(set->map, i);
		char name[LAYER_NAME_MAX];
		char path[LAYER_NAME_MAX + 8];

		snprintf(path, sizeof(path), "layers/%s", layer_name(layer, name));
		err = tell(p, path, layer_info(layer)->file_size, layer_verify(layer, pace, p), report, arg);
	}
	layer_set_unref(set);
	return err;
}

/* The records from the state at an LSN, which is pinned, on. */
static PsError *
read_wal(Timeline *tl, XLogRecPtr lsn, Pace *p)
{
	XLogRecPtr upto;
	WalState state;
	WalReader *reader;
	WalRecord rec;
	bool found = true;
	PsError *err = NULL;

	pthread_mutex_lock(&tl->lock);
	upto = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(timeline_state_at(tl, lsn, &state));
	reader = wal_reader_create(tl->wal, state.end, state.prev, tl->spec->system_identifier);
	while (err == NULL && (err = wal_reader_next(reader, upto, &rec, &found)) == NULL && found)
		err = pace(p, rec.len);
	wal_reader_free(reader);
	return err;
}

static PsError *
verify_wal(Timeline *tl, Pace *p, VerifyReport report, void *arg)
{
	XLogRecPtr lsn = timeline_gc_cutoff(tl);
	uint64 before = p->bytes;
	PsError *err = timeline_pin_wal(tl, lsn);

	if (err != NULL)
		return err;
	err = read_wal(tl, lsn, p);
	timeline_unpin(tl, lsn);
	if (err == NULL || !(p->is_canceled || ps_error_is_transient(err)))
	{
		pthread_mutex_lock(&tl->lock);
		strlcpy(tl->wal_error, err != NULL ? err->message : "", sizeof(tl->wal_error));
		pthread_mutex_unlock(&tl->lock);
	}
	return tell(p, "wal", p->bytes - before, err, report, arg);
}

PsError *
verify_timeline(Timeline *tl, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg)
{
	Pace p = {.tl = tl, .cancel = cancel, .rate = (uint64) megabytes_per_second * 1024 * 1024, .begin = clock_now_ms()};

	PS_TRY(verify_manifest(tl, &p, report, arg));
	PS_TRY(verify_layers(tl, &p, report, arg));
	PS_TRY(verify_wal(tl, &p, report, arg));
	/* pages that were met before the file was mended */
	damage_look_again(tl);
	return NULL;
}
