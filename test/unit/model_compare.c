/*
 * model_compare.c
 *	  Comparing the store with the model: see model.h.
 */
#include "ps_fe.h"

#include <dirent.h>

#include "bytes.h"
#include "layer/presence.h"
#include "model.h"
#include "wire.h"

/* ---- what the store may have removed ---- */

/*
 * The end of the last record before the first commit or abort later than
 * "when" of the branch's own WAL up to an LSN; 0: there is no such.
 */
XLogRecPtr
model_moment(const ModelBranch *b, TimestampTz when, XLogRecPtr upto)
{
	int lo = 0;
	int hi = b->nxacts;

	/* times rise */
	while (lo < hi)
	{
		int mid = (lo + hi) / 2;

		if (b->xacts[mid].time <= when)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == b->nxacts || b->xacts[lo].lsn > upto)
		return InvalidXLogRecPtr;
	return b->records[model_find_record(b, b->xacts[lo].lsn) - 1].end;
}

TimestampTz
now_timestamp(void)
{
	return ((TimestampTz) time(NULL) - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) * USECS_PER_SEC;
}

/* The settings allow the store to forget up to here; it never un-forgets. */
void
model_move_window(World *w, ModelBranch *b)
{
	uint64 distance = (uint64) w->s.config.gc_horizon * 1024 * 1024;
	XLogRecPtr by_distance = b->gen.pos > b->start + distance ? b->gen.pos - distance : b->start;

	/* nothing came a day ago, whatever the commits say of their time */
	if (w->s.config.pitr_interval == 0)
		b->may_be_gone = Max(b->may_be_gone, by_distance);
}

/* Does a branch begin there, so that it can be read at this LSN whatever the window? */
static bool
is_branch_point(const World *w, const ModelBranch *b, XLogRecPtr lsn)
{
	for (int i = 0; i < w->n; i++)
		if (w->branches[i]->parent == b && w->branches[i]->start == lsn)
			return true;
	return false;
}

/* ---- comparing ---- */

void
wrong(const ModelBranch *b, XLogRecPtr lsn, const char *fmt, ...)
{
	va_list args;

	fprintf(stderr, "branch \"%s\" (from %X/%X, acknowledged up to %X/%X) at %X/%X: ", b->name,
			LSN_FORMAT_ARGS(b->start), LSN_FORMAT_ARGS(b->acked), LSN_FORMAT_ARGS(lsn));
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, "\n");
	abort();
}

static PsError *
check_fork(const ModelBranch *b, int db, int rel, int fork, XLogRecPtr lsn)
{
	static __thread char pages[(MODEL_NBLOCK + 2) * BLCKSZ];
	BlockNumber blks[MODEL_NBLOCK + 2];
	uint32 size = model_get(b, key_size(db, rel, fork), lsn).value;
	bool found;
	BlockNumber nblocks;
	char page[BLCKSZ];

	PS_TRY(timeline_read_relsize(b->tl, model_rel(db, rel), fork, lsn, &found, &nblocks));
	if (found != (size != 0) || (found && nblocks + 1 != size))
		wrong(b, lsn, "size of %d/%d/%d is %d, %u blocks, expected %u less one", db, rel, fork, found, nblocks, size);
	for (int i = 0; i < lengthof(blks); i++)
		blks[i] = i;
	PS_TRY(timeline_read_pages(b->tl, model_rel(db, rel), fork, blks, lengthof(blks), lsn, pages));
	for (int i = 0; i < lengthof(blks); i++)
	{
		Version v = i < MODEL_NBLOCK ? model_get(b, key_block(db, rel, fork, i), lsn) : (Version) {0};

		make_page(v.value, v.page_lsn, page);
		if (memcmp(pages + (size_t) i * BLCKSZ, page, BLCKSZ) != 0)
			wrong(b, lsn, "block %d of %d/%d/%d is not the one of %X/%X, seed %u, but has LSN %X/%X", i, db, rel, fork,
				  LSN_FORMAT_ARGS(v.lsn), v.value, LSN_FORMAT_ARGS(PageGetLSN((Page) (pages + (size_t) i * BLCKSZ))));
	}
	return NULL;
}

static void
check_bytes(const ModelBranch *b, XLogRecPtr lsn, const PsKey *key, bool found, const StringInfo value, bool expected,
			const char *data, uint32 len)
{
	char text[PS_KEY_TEXT];

	if (found != expected || (found && (value->len != (int) len || memcmp(value->data, data, len) != 0)))
		wrong(b, lsn, "%s: found %d with %d bytes, expected %d with %u bytes", ps_key_format(key, text), found,
			  value->len, expected, len);
}

/* The state of every transaction, of which there are a few pages. */
static PsError *
check_clog(const ModelBranch *b, XLogRecPtr lsn, StringInfo value)
{
	static __thread char pages[NXID / XIDS_PER_PAGE + 1][BLCKSZ];
	bool any[lengthof(pages)] = {false};
	const ModelBranch *chain[MAX_BRANCHES] = {b};
	XLogRecPtr upto[MAX_BRANCHES];
	int n = 0;

	memset(pages, 0, sizeof(pages));
	for (XLogRecPtr at = lsn; b != NULL; at = Min(at, b->start), b = b->parent)
	{
		chain[n] = b;
		upto[n++] = at;
	}
	b = chain[0];
	while (n-- > 0)
		for (int i = 0; i < chain[n]->nxacts && chain[n]->xacts[i].lsn <= upto[n]; i++)
		{
			const XactEnd *x = &chain[n]->xacts[i];
			int page = x->xid / XIDS_PER_PAGE;
			int shift = x->xid % 4 * 2;
			char *byte = &pages[page][x->xid % XIDS_PER_PAGE / 4];

			*byte = (char) ((*byte & ~(3 << shift)) | (x->abort ? 2 : 1) << shift);
			any[page] = true;
		}
	for (int i = 0; i < lengthof(pages); i++)
	{
		PsKey key = ps_key_slru_block(PS_SLRU_CLOG, i);
		bool found;

		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		check_bytes(b, lsn, &key, found && any[i], value, any[i], pages[i], BLCKSZ);
	}
	return NULL;
}

typedef struct SizeScan
{
	const ModelBranch *b;
	XLogRecPtr lsn;
	int found;
} SizeScan;

static PsError *
check_scanned_size(void *arg, const PsKey *key, const char *value, uint32 len)
{
	SizeScan *scan = arg;
	uint32 size = model_get(scan->b, key_size(key->db - FIRST_DB, key->rel - FIRST_REL, key->fork), scan->lsn).value;

	if (size == 0 || relsize_value_nblocks(value, len) + 1 != size)
		wrong(scan->b, scan->lsn, "the scan finds a fork of %u/%u/%u with %u blocks, expected %u less one", key->db,
			  key->rel, key->fork, relsize_value_nblocks(value, len), size);
	scan->found++;
	return NULL;
}

static PsError *
check_values(const ModelBranch *b, XLogRecPtr lsn, StringInfo value)
{
	PsKey lo = ps_key_simple(PS_KEY_RELSIZE, 0, 0, 0);
	PsKey hi = ps_key_simple(PS_KEY_RELSIZE, PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX);
	SizeScan scan = {b, lsn, 0};
	int expected = 0;
	bool found;
	char data[512];

	for (int i = 0; i < NDB; i++)
	{
		PsKey key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB + i, 0);
		uint32 seed = model_get(b, KEY_RELMAP + i, lsn).value;

		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		check_bytes(b, lsn, &key, found, value, model_get(b, KEY_DB + i, lsn).value != 0, "15\n", 3);
		key = ps_key_simple(PS_KEY_RELMAP, SPC, FIRST_DB + i, 0);
		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		make_relmap(seed, data);
		check_bytes(b, lsn, &key, found, value, seed != 0, data, 512);
	}
	for (int i = 0; i < NORIGIN; i++)
	{
		PsKey key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, i + 1);
		uint32 remote = model_get(b, KEY_ORIGIN + i, lsn).value;

		PS_TRY(timeline_read_value(b->tl, &key, lsn, value, &found));
		ps_put64(data, remote);
		check_bytes(b, lsn, &key, found, value, remote != 0, data, 8);
	}
	hi.fork = MAX_FORKNUM;
	PS_TRY(timeline_scan(b->tl, &lo, &hi, lsn, check_scanned_size, &scan));
	for (int i = 0; i < NDB * MODEL_NREL * NFORK; i++)
		expected += model_get(b, KEY_SIZE + i, lsn).value != 0;
	if (scan.found != expected)
		wrong(b, lsn, "the scan finds %d forks, expected %d", scan.found, expected);
	return NULL;
}

PsError *
check_state(const ModelBranch *b, XLogRecPtr lsn)
{
	const RecordPlace *place = &b->records[model_find_record(b, lsn)];
	WalState state;

	PS_TRY(timeline_state_at(b->tl, lsn, &state));
	if (state.end != place->end || state.prev != place->start || state.checkpoint.nextXid.value != place->next_xid)
		wrong(b, lsn, "the state is of %X/%X, record from %X/%X, next xid %llu, expected %X/%X, %X/%X, %u",
			  LSN_FORMAT_ARGS(state.end), LSN_FORMAT_ARGS(state.prev),
			  (unsigned long long) state.checkpoint.nextXid.value, LSN_FORMAT_ARGS(place->end),
			  LSN_FORMAT_ARGS(place->start), place->next_xid);
	return NULL;
}

/* Some keys, or all. */
static PsError *
check_pinned(World *w, const ModelBranch *b, XLogRecPtr lsn, bool all)
{
	StringInfoData value;
	PsError *err = NULL;

	initStringInfo(&value);
	if (all)
	{
		for (int i = 0; i < NDB * MODEL_NREL * NFORK && err == NULL; i++)
			err = check_fork(b, i / (MODEL_NREL * NFORK), i / NFORK % MODEL_NREL, i % NFORK, lsn);
	}
	else
		for (int i = 0; i < 2 && err == NULL; i++)
			err = check_fork(b, rnd32(w, NDB), rnd32(w, MODEL_NREL), rnd32(w, NFORK), lsn);
	if (err == NULL && (all || rnd32(w, 4) == 0))
		err = check_values(b, lsn, &value);
	if (err == NULL && (all || rnd32(w, 8) == 0))
		err = check_clog(b, lsn, &value);
	if (err == NULL && lsn >= timeline_gc_cutoff(b->tl))
		err = check_state(b, lsn);
	pfree(value.data);
	w->checks++;
	return err;
}

/* An error that says from when on the branch can be read. */
void
check_refused(const ModelBranch *b, XLogRecPtr lsn, PsError *err)
{
	if (err == NULL)
		wrong(b, lsn, "is not refused, although it may be gone");
	if (!ps_error_is(err, PS_SQLSTATE_INVALID) || strstr(err->message, "can be read from") == NULL)
		wrong(b, lsn, "is refused with: %s", err->message);
	ps_error_free(err);
}

/* All that is read at an LSN is as in the model; or it is refused, if it may be. */
static PsError *
check_at(World *w, ModelBranch *b, XLogRecPtr lsn, bool all)
{
	PsError *err = timeline_pin(b->tl, lsn);
	BlockNumber nblocks;
	bool found;

	if (err == NULL)
	{
		err = check_pinned(w, b, lsn, all);
		timeline_unpin(b->tl, lsn);
		return err;
	}
	check_refused(b, lsn, err);
	if (lsn >= b->start && is_branch_point(w, b, lsn))
		wrong(b, lsn, "a branch begins there, but it is refused");
	model_move_window(w, b);
	if (lsn >= b->may_be_gone)
		wrong(b, lsn, "is refused, although everything from %X/%X on is to be kept", LSN_FORMAT_ARGS(b->may_be_gone));
	check_refused(b, lsn, timeline_read_relsize(b->tl, model_rel(0, 0), 0, lsn, &found, &nblocks));
	w->refused++;
	return NULL;
}

XLogRecPtr
random_lsn(World *w, const ModelBranch *b, XLogRecPtr from)
{
	uint64 offset = (uint64) rnd32(w, UINT32_MAX) << 32 | rnd32(w, UINT32_MAX);

	return from + MAXALIGN_DOWN(offset % (b->acked - from + 1));
}

/* Until reads see all that was acknowledged, or the store crashes. */
PsError *
wait_ingested(const ModelBranch *b)
{
	for (int i = 0;; i++)
	{
		XLogRecPtr lsn;

		PS_TRY(timeline_read_lsn(b->tl, PS_LSN_LATEST, InvalidXLogRecPtr, NULL, &lsn));
		if (lsn >= b->acked)
			return NULL;
		if (fault_has_crashed())
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "crashed");
		if (i == 1000 && fault_is_armed() && fault.error != 0 && fault_has_happened())
			return ps_error(PS_SQLSTATE_TRY_AGAIN, "the disk is not well");
		if (i % 1000 == 999)
		{
			PsError *err = timeline_wait_ingested(b->tl, b->acked, 0, NULL);

			if (err != NULL && !ps_error_is(err, PS_SQLSTATE_TRY_AGAIN))
				return err;
			ps_error_free(err);
		}
		if (i > 300000)
			wrong(b, b->acked, "ingest stands at %X/%X", LSN_FORMAT_ARGS(lsn));
		pg_usleep(100);
	}
}

/* Everything at the end, at the points where branches begin, and n times at some LSN. */
PsError *
check_branch(World *w, ModelBranch *b, int n, bool all)
{
	PS_TRY(take(w, b));
	PS_TRY(wait_ingested(b));
	PS_TRY(check_at(w, b, b->acked, all));
	PS_TRY(check_at(w, b, b->start, all));
	for (int i = 0; i < w->n; i++)
		if (w->branches[i]->parent == b)
			PS_TRY(check_at(w, b, w->branches[i]->start, all));
	for (int i = 0; i < n; i++)
		PS_TRY(check_at(w, b, random_lsn(w, b, rnd32(w, 2) == 0 ? b->start : timeline_gc_cutoff(b->tl)), all));
	return NULL;
}

/* ---- files ---- */

/*
 * Checks that a directory contains all of the names, perhaps some of the optional
 * ones (a list that ends with NULL), and nothing else.
 */
static void
check_names(const char *dir, const char *const *names, int n, const char *const *optional)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int found = 0;

	CHECK(d != NULL);
	while ((de = readdir(d)) != NULL)
	{
		bool known = false;

		if (de->d_name[0] == '.')
			continue;
		for (const char *const *name = optional; name != NULL && *name != NULL && !known; name++)
			known = strcmp(*name, de->d_name) == 0;
		if (known)
			continue;
		for (int i = 0; i < n && !known; i++)
			known = strcmp(names[i], de->d_name) == 0;
		if (!known)
		{
			fprintf(stderr, "stray file \"%s/%s\"\n", dir, de->d_name);
			abort();
		}
		found++;
	}
	closedir(d);
	if (found != n)
	{
		fprintf(stderr, "%d of %d files are in \"%s\"\n", found, n, dir);
		abort();
	}
}

/* All of a timeline's files are in its manifest. */
static void
check_no_strays_in(Timeline *tl)
{
	static const char *const optional[] = {"timeline.log.old", ARRIVALS_FILE, "protected", NULL};
	static const char *const in_timeline[] = {"timeline.log", "flushed", "wal", "layers"};
	LayerSet *set;
	int n;
	const char **files;
	char name[LAYER_NAME_MAX];

	while (set = timeline_layers(tl), set->nfrozen > 0)
	{
		layer_set_unref(set);
		pg_usleep(1000);
	}
	n = layer_map_count(set->map);
	files = pg_malloc0((2 * n + 1) * sizeof(char *));
	/* if it cannot be written, it is with the next arrival */
	check_names(tl->spec->dir, in_timeline, lengthof(in_timeline), optional);
	for (int k = 0; k < n; k++)
		files[k] = pg_strdup(layer_name(layer_map_get(set->map, k), name));
	if (tl->spec->space.source == NULL)
		check_names(tl->spec->space.dir, files, n, NULL);
	else
	{
		/* a layer may be here as a whole, in part, or not at all */
		for (int k = 0; k < n; k++)
			files[n + k] = psprintf("%s%s", files[k], PRESENCE_SUFFIX);
		check_names(tl->spec->space.dir, NULL, 0, files);
	}
	for (int k = 0; k < 2 * n; k++)
		free((char *) files[k]);
	free(files);
	layer_set_unref(set);
}

static void
check_no_strays_of(const World *w, const PsId *tenant, const char *const *timelines, int n)
{
	static const char *const in_tenant[] = {"tenant.json", "timelines"};
	char id[PS_ID_TEXT];
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/tenants/%s", w->s.dir, ps_id_format(tenant, id));
	check_names(path, in_tenant, lengthof(in_tenant), NULL);
	snprintf(path, sizeof(path), "%s/tenants/%s/timelines", w->s.dir, id);
	check_names(path, timelines, n, NULL);
}

/* Checks that there are no unexpected files.  The store must be idle: no flush is due, no merge is running. */
void
check_no_strays(World *w)
{
	char id[PS_ID_TEXT];
	char redo[2][64];
	char path[MAXPGPATH];
	const char *tenants[2];
	const char *redos[2] = {redo[0], redo[1]};
	const char *names[MAX_BRANCHES];
	int ntenants = 0;

	/* which opens each, and removes what it finds */
	for (int i = 0; i < w->n; i++)
	{
		OK(take(w, w->branches[i]));
		names[i] = pg_strdup(ps_id_format(&w->branches[i]->id, id));
	}
	check_no_strays_of(w, &test_tenant, names, w->n);
	for (int i = 0; i < w->n; i++)
		free((char *) names[i]);
	tenants[ntenants++] = pg_strdup(ps_id_format(&test_tenant, id));
	if (w->imported != NULL)
	{
		tenants[ntenants++] = pg_strdup(ps_id_format(&w->imported->spec->tenant, id));
		names[0] = ps_id_format(&w->imported->spec->id, id);
		check_no_strays_of(w, &w->imported->spec->tenant, names, 1);
		check_no_strays_in(w->imported);
	}
	snprintf(path, sizeof(path), "%s/tenants", w->s.dir);
	check_names(path, tenants, ntenants, NULL);
	for (int i = 0; i < ntenants; i++)
		snprintf(redo[i], sizeof(redo[i]), "redo-%s", tenants[i]);
	snprintf(path, sizeof(path), "%s/tmp", w->s.dir);
	check_names(path, redos, ntenants, NULL);
	for (int i = 0; i < ntenants; i++)
		free((char *) tenants[i]);
	for (int i = 0; i < w->n; i++)
	{
		/* a copied database makes a flush of its own */
		OK(wait_ingested(w->branches[i]));
		check_no_strays_in(w->branches[i]->tl);
	}
}
