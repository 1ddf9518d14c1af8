/*
 * timeline_util.c
 *	  Stores of tests, and what they must contain: see timeline_util.h.
 */
#include "ps_fe.h"

#include "timeline/manifest_log.h"
#include "timeline_util.h"

#include "fake_source.h"

/* ---- the store ---- */

/* Adds a branch with the first record of the history and nothing else. */
void
store_add_seed(TestStore *s, const History *h, const PsId *tenant, const PsId *timeline, const char *name,
			   Timeline **tl)
{
	ControlFileData control = {0};
	const WalRecord *checkpoint = &h->gen.records[0];
	WalState state;
	LayerSpace space;
	TimelineSeed seed = {
		.tenant = *tenant,
		.timeline = *timeline,
		.system_identifier = GEN_SYSID,
		.segment_size = SEGMENT_SIZE,
		.lsn = checkpoint->end};
	PsKey key;
	char id[PS_ID_TEXT];
	char path[512];
	WalSegments *segs;
	ImageWriter *writer;
	StringInfoData value;

	strlcpy(seed.name, name, sizeof(seed.name));
	snprintf(path, sizeof(path), "%s/tmp/%s", s->dir, ps_id_format(&seed.timeline, id));
	CHECK(mkdir(path, 0700) == 0);
	snprintf(path, sizeof(path), "%s/tmp/%s/wal", s->dir, id);
	CHECK(mkdir(path, 0700) == 0);
	OK(wal_segments_open(path, SEGMENT_SIZE, &segs));
	OK(wal_segments_write(segs, h->gen.start, h->gen.bytes.data, checkpoint->end - h->gen.start));
	OK(wal_segments_sync(segs));
	wal_segments_close(segs);

	control.system_identifier = GEN_SYSID;
	control.checkPoint = checkpoint->start;
	memcpy(&control.checkPointCopy, checkpoint->data + checkpoint->len - sizeof(CheckPoint), sizeof(CheckPoint));
	control.wal_level = 2;
	wal_state_from_control(&state, &control, checkpoint->end);
	snprintf(path, sizeof(path), "%s/tmp/%s/layers", s->dir, id);
	CHECK(mkdir(path, 0700) == 0);
	space = (LayerSpace) {.dir = path, .tenant = seed.tenant, .timeline = seed.timeline, .next_number = 1};
	OK(image_writer_create(&space, seed.lsn, &writer));
	initStringInfo(&value);
	key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB, 0);
	OK(image_writer_put(writer, &key, "15\n", 3));
	key = ps_key_simple(PS_KEY_STATE, 0, 0, 0);
	wal_state_encode(&state, &value);
	OK(image_writer_put(writer, &key, value.data, value.len));
	seed.layers = pg_malloc(sizeof(Layer *));
	OK(image_writer_finish(writer, &seed.layers[0]));
	seed.nlayers = 1;
	pfree(value.data);
	OK(store_add_timeline(s->store, &seed, tl));
	layer_unref(seed.layers[0]);
	free(seed.layers);
}

const PsId test_tenant = {{0xaa, 1}};
const PsId test_timeline = {{0xbb, 2}};
const char *store_template = "/tmp/t_timeline.XXXXXX";

static char bindir[] = "/tmp/t_timeline.bin.XXXXXX";
static pid_t bindir_owner;

/* At exit; but not of a child process. */
static void
remove_bindir(void)
{
	if (getpid() == bindir_owner)
		remove_tree(bindir);
}

void
store_make(TestStore *s, History *h)
{
	static bool have_bindir;
	char path[512];

	strlcpy(s->dir, store_template, sizeof(s->dir));
	CHECK(mkdtemp(s->dir) != NULL);
	s->config = (Config) {
		.store_dir = s->dir,
		.bindir = bindir,
		.redo_helpers = 1,
		.redo_timeout = 10000,
		.trash_interval = 86400,
		.checkpoint_distance = 256,
		.checkpoint_timeout = 3600,
		.open_layer_memory = 256,
		.layer_memory = 1024,
		.max_ingest_lag = 64,
		.page_cache_size = 1,
		.wait_timeout = 30000};

	/* instead of PostgreSQL, which is not needed here: a program that waits for the end of its input */
	if (!have_bindir)
	{
		int fd;

		CHECK(mkdtemp(bindir) != NULL);
		snprintf(path, sizeof(path), "%s/postgres", bindir);
		fd = open(path, O_WRONLY | O_CREAT, 0700);
		CHECK(write(fd, "#!/bin/sh\nexec cat\n", 19) == 19);
		close(fd);
		have_bindir = true;
		bindir_owner = getpid();
		atexit(remove_bindir);
	}

	snprintf(path, sizeof(path), "%s/tenants", s->dir);
	CHECK(mkdir(path, 0700) == 0);
	OK(store_open(&s->config, &s->store));
	store_add_seed(s, h, &test_tenant, &test_timeline, "main", &s->tl);
}

PsError *
store_try_open(TestStore *s)
{
	PsError *err;

	PS_TRY(store_open(&s->config, &s->store));
	if (s->source != NULL)
		fake_source_attach(s->source, s->store);
	err = store_find_branch(s->store, "main", &s->tl);
	if (err != NULL)
		store_close(s->store);
	return err;
}

void
store_reopen(TestStore *s)
{
	store_close(s->store);
	OK(store_try_open(s));
}

void
remove_tree(const char *dir)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	CHECK(system(command) == 0);
}

/* Path of a file of the timeline. */
const char *
store_path(const TestStore *s, const char *name, char path[512])
{
	char a[PS_ID_TEXT],
		b[PS_ID_TEXT];

	snprintf(path, 512, "%s/tenants/%s/timelines/%s/%s", s->dir, ps_id_format(&test_tenant, a),
			 ps_id_format(&test_timeline, b), name);
	return path;
}

void
block_manifest(const TestStore *s, bool block)
{
	char path[512];
	char away[512];

	store_path(s, MANIFEST_LOG_NAME, path);
	store_path(s, MANIFEST_LOG_NAME ".away", away);
	if (block)
		CHECK(rename(path, away) == 0 && mkdir(path, 0700) == 0);
	else
		CHECK(rmdir(path) == 0 && rename(away, path) == 0);
}

/* Sends WAL up to an LSN, in random pieces with a sync now and then and at the end. */
PsError *
push(WalReceiver *receiver, const History *h, XLogRecPtr from, XLogRecPtr to, uint64 *random, XLogRecPtr *flushed)
{
	while (from < to)
	{
		size_t len = 1 + next_random(random, next_random(random, 4) == 0 ? 100000 : 3000);

		len = Min(len, to - from);
		PS_TRY(wal_receiver_write(receiver, from, h->gen.bytes.data + (from - h->gen.start), len, NULL));
		from += len;
		if (next_random(random, 3) == 0)
			PS_TRY(wal_receiver_sync(receiver, flushed));
	}
	return wal_receiver_sync(receiver, flushed);
}

/* ---- comparing ---- */

typedef struct SizeCheck
{
	const Model *m;
	int found;
} SizeCheck;

static PsError *
check_size(void *arg, const PsKey *key, const char *value, uint32 len)
{
	SizeCheck *c = arg;
	const ModelFork *f = &c->m->forks[key->db - FIRST_DB][key->rel - FIRST_REL][key->fork];

	CHECK(f->exists && relsize_value_nblocks(value, len) == f->nblocks);
	c->found++;
	return NULL;
}

/* Checks that everything at an LSN is as in the model. */
void
compare_at(Timeline *tl, const History *h, XLogRecPtr lsn)
{
	int n = history_find(h, lsn);
	const WalRecord *last = &h->gen.records[h->first + n];
	const Model *m = &h->states[n];
	PsKey lo = ps_key_simple(PS_KEY_RELSIZE, 0, 0, 0);
	PsKey hi = ps_key_simple(PS_KEY_RELSIZE, PG_UINT32_MAX, PG_UINT32_MAX, PG_UINT32_MAX);
	SizeCheck sizes = {m, 0};
	int expected = 0;
	char *pages = pg_malloc((NBLOCK + 2) * BLCKSZ);
	char page[BLCKSZ];
	BlockNumber blks[NBLOCK + 2];
	StringInfoData value;
	WalState state;

	initStringInfo(&value);
	hi.fork = MAX_FORKNUM;
	for (int i = 0; i < lengthof(blks); i++)
		blks[i] = i;
	for (int db = 0; db < NDB; db++)
	{
		PsKey key = ps_key_simple(PS_KEY_DATABASE, SPC, FIRST_DB + db, 0);
		bool found;

		OK(timeline_read_value(tl, &key, lsn, &value, &found));
		CHECK(found == m->db[db]);
		key = ps_key_simple(PS_KEY_RELMAP, SPC, FIRST_DB + db, 0);
		OK(timeline_read_value(tl, &key, lsn, &value, &found));
		CHECK(found == (m->relmap[db] != 0));
		if (found)
		{
			make_relmap(m->relmap[db], page);
			CHECK(value.len == 512 && memcmp(value.data, page, 512) == 0);
		}
		for (int rel = 0; rel < NREL; rel++)
			for (int fork = 0; fork < NFORK; fork++)
			{
				const ModelFork *f = &m->forks[db][rel][fork];
				BlockNumber nblocks;

				OK(timeline_read_relsize(tl, model_rel(db, rel), fork, lsn, &found, &nblocks));
				CHECK(found == f->exists && nblocks == f->nblocks);
				expected += found;
				OK(timeline_read_pages(tl, model_rel(db, rel), fork, blks, lengthof(blks), lsn, pages));
				for (int b = 0; b < lengthof(blks); b++)
				{
					make_page(b < NBLOCK ? f->pages[b].seed : 0, b < NBLOCK ? f->pages[b].lsn : 0, page);
					CHECK(memcmp(pages + b * BLCKSZ, page, BLCKSZ) == 0);
				}
			}
	}
	OK(timeline_scan(tl, &lo, &hi, lsn, check_size, &sizes));
	CHECK(sizes.found == expected);
	OK(timeline_state_at(tl, lsn, &state));
	CHECK(state.end == last->end && state.prev == last->start && state.checkpoint.nextXid.value == m->next_xid);
	pfree(value.data);
	free(pages);
}

/* Like compare_at(), but returns false if the LSN can no longer be read. */
bool
compare_if_kept(Timeline *tl, const History *h, XLogRecPtr lsn)
{
	PsError *err = timeline_pin(tl, lsn);

	if (err != NULL)
	{
		CHECK(ps_error_is(err, PS_SQLSTATE_INVALID) && lsn < timeline_gc_cutoff(tl));
		ps_error_free(err);
		return false;
	}
	compare_at(tl, h, lsn);
	timeline_unpin(tl, lsn);
	return true;
}

/* Compares at n random LSNs, some of which are between records, and at the last one. */
void
compare(Timeline *tl, const History *h, XLogRecPtr end, int n, uint64 *random)
{
	XLogRecPtr first = h->gen.records[h->first].end;

	OK(timeline_wait_ingested(tl, end, 60000, NULL));
	compare_at(tl, h, end);
	for (int i = 0; i < n; i++)
	{
		uint64 number = (uint64) next_random(random, UINT32_MAX) << 32 | next_random(random, UINT32_MAX);
		uint64 offset = number % (end - first + 1);

		/* only MAXALIGNed LSNs: nobody reads at the LSN before a record's end, which extend_fork() uses */
		compare_if_kept(tl, h, first + MAXALIGN_DOWN(offset));
	}
}
