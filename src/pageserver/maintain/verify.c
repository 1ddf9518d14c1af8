/*
 * verify.c
 *	  Reads and checks all files of a timeline: the manifest, the layer files that
 *	  it names, and WAL from the oldest LSN that can be read.
 *
 * Damage is shown by timeline_info() until the file is found to be valid.
 *
 * A timeline in the trash is not opened, because that would change it; its files are found
 * from its manifest.  It may be taken out or purged during the check; that has priority,
 * and errors that result from it are not damage.
 */
#include "ps_fe.h"

#include "ingest/ingest.h"
#include "maintain/maintain_impl.h"
#include "sqlstate.h"
#include "wal/reader.h"

/* The longest pause between two checks whether to stop, ms. */
#define LONGEST_PAUSE 100

typedef struct Pace
{
	Timeline *tl; /* NULL: it is not open */
	const CancelCheck *cancel;
	uint64 rate;       /* bytes per second */
	int64 begin;       /* clock_now_ms() */
	uint64 bytes;      /* read so far */
	uint64 checked_at; /* "bytes" at the last check whether to stop */
} Pace;

/* Returns an error if the files may be removed or changed from now on. */
static PsError *
check_wanted(const Pace *p)
{
	if (p->tl != NULL)
		PS_TRY(timeline_check_stopping(p->tl));
	return cancel_check(p->cancel);
}

/* Called after "bytes" were read: waits as long as the rate demands. */
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
		else if (p->bytes - p->checked_at < 1024 * 1024)
			return NULL;
		p->checked_at = p->bytes;
		PS_TRY(check_wanted(p));
	} while (early > 0);
	return NULL;
}

/*
 * Reports a file, with the damage err or NULL, and frees err.  An error that is not damage of
 * the file is returned instead.
 */
static PsError *
report_file(const Pace *p, const char *file, uint64 bytes, PsError *err, VerifyReport report, void *arg)
{
	PsError *canceled = err != NULL && p->tl == NULL ? check_wanted(p) : NULL;

	if (canceled != NULL)
	{
		ps_error_free(err);
		return canceled;
	}
	if (err != NULL && ps_error_is_transient(err))
		return err;
	report(arg, file, bytes, err != NULL ? err->message : NULL);
	ps_error_free(err);
	return NULL;
}

static PsError *
verify_manifest(Timeline *tl, const Pace *p, VerifyReport report, void *arg)
{
	Manifest m;
	PsError *err;

	/* no other thread writes it meanwhile */
	pthread_mutex_lock(&tl->manifest_lock);
	err = manifest_read(tl->spec->dir, &m, NULL);
	pthread_mutex_unlock(&tl->manifest_lock);
	if (err == NULL)
		manifest_free(&m);
	return report_file(p, MANIFEST_LOG_NAME, 0, err, report, arg);
}

static PsError *
verify_layers(const LayerMap *map, Pace *p, VerifyReport report, void *arg)
{
	PsError *err = NULL;

	for (int i = 0; i < layer_map_count(map) && err == NULL; i++)
	{
		Layer *layer = layer_map_get(map, i);
		char name[LAYER_NAME_MAX];
		char path[LAYER_NAME_MAX + 8];

		snprintf(path, sizeof(path), "layers/%s", layer_name(layer, name));
		err = report_file(p, path, layer_info(layer)->file_size, layer_verify(layer, pace, p), report, arg);
	}
	return err;
}

/* Reads the records from a state up to an LSN at which one ends. */
static PsError *
read_records(const TimelineSpec *spec, WalSegments *wal, const WalState *state, XLogRecPtr upto, Pace *p)
{
	WalReader *reader = wal_reader_create(wal, state->end, state->prev, spec->system_identifier);
	XLogRecPtr end = state->end;
	WalRecord rec;
	bool found = true;
	PsError *err = NULL;

	while (err == NULL && (err = wal_reader_next(reader, upto, &rec, &found)) == NULL && found)
	{
		end = rec.end;
		err = pace(p, rec.len);
	}
	wal_reader_free(reader);
	if (err == NULL && end < upto)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "WAL of branch \"%s\" ends at %X/%X, but was acknowledged up to %X/%X",
					   spec->name.now, LSN_FORMAT_ARGS(end), LSN_FORMAT_ARGS(upto));
	return err;
}

/* Reads the records from the state at an LSN, which the caller has pinned. */
static PsError *
read_wal(Timeline *tl, XLogRecPtr lsn, Pace *p)
{
	XLogRecPtr upto;
	WalState state;

	pthread_mutex_lock(&tl->lock);
	upto = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	PS_TRY(timeline_state_at(tl, lsn, &state));
	return read_records(tl->spec, tl->wal, &state, upto, p);
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
	if (err == NULL || !ps_error_is_transient(err))
	{
		pthread_mutex_lock(&tl->lock);
		strlcpy(tl->wal_error, err != NULL ? err->message : "", sizeof(tl->wal_error));
		pthread_mutex_unlock(&tl->lock);
	}
	return report_file(p, "wal", p->bytes - before, err, report, arg);
}

PsError *
verify_timeline(Timeline *tl, int megabytes_per_second, const CancelCheck *cancel, VerifyReport report, void *arg)
{
	Pace p = {.tl = tl, .cancel = cancel, .rate = (uint64) megabytes_per_second * 1024 * 1024, .begin = clock_now_ms()};
	LayerSet *set;
	PsError *err;

	PS_TRY(verify_manifest(tl, &p, report, arg));
	set = timeline_files(tl);
	err = verify_layers(set->map, &p, report, arg);
	layer_set_unref(set);
	PS_TRY(err);
	PS_TRY(verify_wal(tl, &p, report, arg));
	/* pages may have been found damaged before a file was restored */
	damage_recheck(tl);
	return NULL;
}

/* ---- timelines that are not open ---- */

/* Reads the WAL that timeline_open() would read, and the WAL before it that is kept for history. */
static PsError *
read_wal_of_closed(TimelineSpec *spec, const Manifest *m, const LayerMap *map, Pace *p)
{
	char *dir = psprintf("%s/wal", spec->dir);
	XLogRecPtr upto = Max(receiver_read_marker(spec->dir), m->disk_consistent_lsn);
	WalSegments *wal = NULL;
	WalState state;
	PsError *err;

	PS_GOTO(timeline_saved_state(spec, map, Max(m->gc_cutoff, m->start_lsn), &state), done);
	PS_GOTO(wal_segments_open(dir, m->segment_size, &wal), done);
	err = read_records(spec, wal, &state, upto, p);
done:
	wal_segments_close(wal);
	pfree(dir);
	return err;
}

static PsError *
verify_files_of_closed(TimelineSpec *spec, const Manifest *m, Pace *p, VerifyReport report, void *arg)
{
	Layer **layers = pg_malloc(Max(m->nlayers, 1) * sizeof(Layer *));
	LayerMap *map;
	uint64 before;
	PsError *err;

	for (int i = 0; i < m->nlayers; i++)
		layers[i] = layer_new(&spec->space, &m->layers[i]);
	map = layer_map_create(layers, m->nlayers);
	for (int i = 0; i < m->nlayers; i++)
		layer_unref(layers[i]);
	free(layers);
	err = verify_layers(map, p, report, arg);
	before = p->bytes;
	if (err == NULL)
	{
		err = read_wal_of_closed(spec, m, map, p);
		err = report_file(p, "wal", p->bytes - before, err, report, arg);
	}
	layer_map_unref(map);
	return err;
}

PsError *
verify_closed(TimelineSpec *spec, PsError *broken, int megabytes_per_second, const CancelCheck *cancel,
			  VerifyReport report, void *arg)
{
	Pace p = {.cancel = cancel, .rate = (uint64) megabytes_per_second * 1024 * 1024, .begin = clock_now_ms()};
	Manifest m;
	PsError *err = manifest_read(spec->dir, &m, NULL);

	if (err != NULL)
	{
		ps_error_free(broken);
		return report_file(&p, MANIFEST_LOG_NAME, 0, err, report, arg);
	}
	err = report_file(&p, MANIFEST_LOG_NAME, 0, broken, report, arg);
	if (err == NULL)
		err = verify_files_of_closed(spec, &m, &p, report, arg);
	manifest_free(&m);
	return err;
}
