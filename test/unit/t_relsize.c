/*
 * t_relsize.c
 *	  Floors of relation sizes against a model that remembers, for each block,
 *	  the LSN of the last truncation or creation that covered it; the value's
 *	  bytes; damaged values; forks that are cut and grow again and again, in
 *	  memory and in a store: every page is right at every LSN that can be read,
 *	  and the floors stay few.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"
#include "bytes.h"
#include "sqlstate.h"

#include <time.h>
#include <unistd.h>

#define NFLOORBLOCK 40

/* Each time at a greater length. */
#define NTRUNCATION 10000

static uint64 rnd;

static void
check_against(const RelSize *size, const XLogRecPtr *model)
{
	for (BlockNumber blk = 0; blk < NFLOORBLOCK; blk++)
		assert_true(relsize_floor(size, blk) == model[blk]);
	/* beyond the model as its last block, for floors reach to the end */
	assert_true(relsize_floor(size, InvalidBlockNumber - 1) == model[NFLOORBLOCK - 1]);
	for (uint32 i = 1; i < size->nfloors; i++)
	{
		assert_true(size->floors[i - 1].blk < size->floors[i].blk);
		assert_true(size->floors[i - 1].lsn < size->floors[i].lsn);
	}
}

static void
test_floors(void **state)
{
	for (int round = 0; round < 200; round++)
	{
		RelSize size = {.nblocks = 7};
		XLogRecPtr model[NFLOORBLOCK] = {0};
		XLogRecPtr lsn = 1000;

		check_against(&size, model);
		for (int i = 0; i < 60; i++)
		{
			BlockNumber blk = (BlockNumber) (random() % NFLOORBLOCK);
			StringInfoData value;
			RelSize copy;

			lsn += 1 + random() % 100;
			relsize_add_floor(&size, blk, lsn);
			for (BlockNumber b = blk; b < NFLOORBLOCK; b++)
				model[b] = lsn;
			check_against(&size, model);

			initStringInfo(&value);
			size.nblocks = (BlockNumber) random();
			relsize_encode(&size, &value);
			assert_null(relsize_decode(value.data, value.len, &copy));
			assert_int_equal(copy.nblocks, size.nblocks);
			assert_int_equal(relsize_value_nblocks(value.data, value.len), size.nblocks);
			check_against(&copy, model);
			relsize_free(&copy);
			assert_null(copy.floors);
			pfree(value.data);
		}
		relsize_free(&size);
	}
}

/* As the header describes it, byte for byte. */
static void
test_bytes(void **state)
{
	static const uint8 expected[] = {0, 0, 1, 2, 0, 0, 0, 2,
									 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0x10,
									 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x20};
	RelSize size = {.nblocks = 0x102};
	StringInfoData value;

	relsize_add_floor(&size, 5, UINT64CONST(0x100000010));
	relsize_add_floor(&size, 9, UINT64CONST(0x100000020));
	initStringInfo(&value);
	relsize_encode(&size, &value);
	assert_int_equal(value.len, sizeof(expected));
	assert_memory_equal(value.data, expected, sizeof(expected));
	relsize_free(&size);
	pfree(value.data);
}

static void
expect_damaged(const char *value, uint32 len)
{
	RelSize size;
	PsError *err = relsize_decode(value, len, &size);

	assert_non_null(err);
	assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED));
	ps_error_free(err);
}

/* An origin is of the blocks before all floors that came later. */
static void
test_origin(void **state)
{
	static const uint8 expected[] = {0, 0, 0, 9, 0, 0, 0, 1,
									 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x10,
									 0, 0, 6, 0x7f, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0, 0, 9};
	RelSize size = {.nblocks = 9};
	RelSize back;
	StringInfoData value;

	relsize_add_floor(&size, 0, UINT64CONST(0x100000010));
	size.origin = (RelSizeOrigin) {1663, 5, UINT64CONST(0x100000010), 9};
	initStringInfo(&value);
	relsize_encode(&size, &value);
	assert_int_equal(value.len, sizeof(expected));
	assert_memory_equal(value.data, expected, sizeof(expected));
	assert_null(relsize_decode(value.data, value.len, &back));
	assert_true(back.nfloors == 1 && back.origin.spc == 1663 && back.origin.db == 5 && back.origin.nblocks == 9 &&
				back.origin.lsn == UINT64CONST(0x100000010));
	relsize_free(&back);
	/* of no blocks: there is none then */
	value.data[value.len - 1] = 0;
	expect_damaged(value.data, value.len);

	relsize_add_floor(&size, 12, UINT64CONST(0x100000020));
	assert_int_equal(size.origin.nblocks, 9);
	relsize_add_floor(&size, 4, UINT64CONST(0x100000030));
	assert_int_equal(size.origin.nblocks, 4);
	relsize_add_floor(&size, 0, UINT64CONST(0x100000040));
	resetStringInfo(&value);
	relsize_encode(&size, &value);
	assert_int_equal(value.len, 8 + 12);
	relsize_free(&size);
	pfree(value.data);
}

static void
test_damaged(void **state)
{
	RelSize size = {.nblocks = 3};
	StringInfoData value;
	PsError *err;

	relsize_add_floor(&size, 1, 100);
	relsize_add_floor(&size, 2, 200);
	initStringInfo(&value);
	relsize_encode(&size, &value);
	relsize_free(&size);
	for (int len = 0; len < value.len + 20; len++)
	{
		char *copy = pg_malloc0(len + 1);

		memcpy(copy, value.data, Min(len, value.len));
		err = relsize_decode(copy, len, &size);
		if (len == value.len)
			assert_null(err);
		else
		{
			assert_non_null(err);
			assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED));
			assert_null(size.floors);
		}
		ps_error_free(err);
		relsize_free(&size);
		free(copy);
	}
	/* a number of floors whose size overflows 32 bits */
	ps_put32(value.data + 4, 0x80000000U);
	err = relsize_decode(value.data, value.len, &size);
	assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED));
	ps_error_free(err);
	pfree(value.data);
}

/* ---- cut and grown again and again ---- */

/*
 * A version of a block; needs the one before it if it is not made from nothing.
 * What a page is: the LSN of the version with which it begins, and how many
 * follow.
 */
typedef struct BlockVersion
{
	XLogRecPtr lsn;
	bool is_end;
	bool is_made;
} BlockVersion;

typedef struct BlockHistory
{
	BlockVersion *versions;
	int n;
	XLogRecPtr begin; /* the page by the model; InvalidXLogRecPtr: zeros */
	int follow;
} BlockHistory;

static void
add_version(BlockHistory *b, XLogRecPtr lsn, bool is_end, bool is_made)
{
	b->versions = pg_realloc(b->versions, (b->n + 1) * sizeof(BlockVersion));
	b->versions[b->n++] = (BlockVersion) {lsn, is_end, is_made};
}

/* As a reader finds it: from the newest version back to one that needs nothing older, or to the floor. */
static void
check_block(const RelSize *size, const BlockHistory *b, BlockNumber blk)
{
	XLogRecPtr floor = relsize_floor(size, blk);
	XLogRecPtr begin = InvalidXLogRecPtr;
	int follow = -1;

	for (int i = b->n - 1; i >= 0 && b->versions[i].lsn > floor && !b->versions[i].is_end; i--)
	{
		begin = b->versions[i].lsn;
		follow++;
		if (b->versions[i].is_made)
			break;
	}
	CHECK(begin == b->begin && follow == b->follow);
}

static void
forget_page(BlockHistory *b)
{
	b->begin = InvalidXLogRecPtr;
	b->follow = -1;
}

/* A record that ends at lsn and writes to a block, as ingest files it. */
static void
write_block(RelSize *size, BlockHistory *blocks, BlockNumber blk, bool is_made, XLogRecPtr lsn)
{
	BlockNumber ended;
	BlockNumber end;

	if (blk >= size->nblocks)
	{
		relsize_extend(size, blk + 1, is_made, &ended, &end);
		CHECK(end - ended <= RELSIZE_MAX_ENDED);
		for (; ended < end; ended++)
			add_version(&blocks[ended], lsn - 1, true, true);
	}
	add_version(&blocks[blk], lsn, false, is_made);
	if (is_made || blocks[blk].begin == InvalidXLogRecPtr)
	{
		blocks[blk].begin = lsn;
		blocks[blk].follow = 0;
	}
	else
		blocks[blk].follow++;
}

/*
 * Cut at ever greater lengths, or at any; leap: most blocks that a fork grows
 * by at once.
 */
static void
cut_and_grow(int ncut, bool any, BlockNumber leap, uint32 most_floors)
{
	RelSize size = {0};
	BlockNumber cap = ncut * 4 + leap + 10;
	BlockHistory *blocks = pg_malloc0(cap * sizeof(BlockHistory));
	BlockNumber kept = 0;
	XLogRecPtr lsn = 1000;

	for (BlockNumber i = 0; i < cap; i++)
		forget_page(&blocks[i]);
	relsize_add_floor(&size, 0, lsn);
	for (int i = 0; i < ncut; i++)
	{
		for (int k = next_random(&rnd, 4); k >= 0; k--)
		{
			BlockNumber most = next_random(&rnd, 50) == 0 ? leap : 4;
			BlockNumber blk = size.nblocks + next_random(&rnd, most);

			/* or one that is there */
			if (blk >= cap || (size.nblocks > 0 && next_random(&rnd, 4) == 0))
				blk = next_random(&rnd, size.nblocks);
			write_block(&size, blocks, blk, next_random(&rnd, 3) > 0, lsn += 10);
		}
		for (int k = 0; k < 20; k++)
		{
			BlockNumber blk =
				k < 10 && k < size.nblocks ? size.nblocks - 1 - k : next_random(&rnd, size.nblocks);

			check_block(&size, &blocks[blk], blk);
		}
		kept = any ? next_random(&rnd, size.nblocks + 1) : kept + next_random(&rnd, 4);
		lsn += 10;
		if (kept >= size.nblocks)
			continue;
		for (BlockNumber blk = kept; blk < size.nblocks; blk++)
			forget_page(&blocks[blk]);
		relsize_add_floor(&size, kept, lsn - 9);
		size.nblocks = kept;
		CHECK(size.nfloors <= most_floors);
	}
	for (BlockNumber blk = 0; blk < size.nblocks; blk++)
		check_block(&size, &blocks[blk], blk);
	for (BlockNumber i = 0; i < cap; i++)
		free(blocks[i].versions);
	free(blocks);
	relsize_free(&size);
}

static void
test_few_floors(void **state)
{
	cut_and_grow(NTRUNCATION, false, 512, 2);
	cut_and_grow(NTRUNCATION, true, 512, 2);
	/* beyond what PostgreSQL does: right all the same */
	cut_and_grow(300, false, 5 * RELSIZE_MAX_ENDED, UINT32_MAX);
	cut_and_grow(300, true, 5 * RELSIZE_MAX_ENDED, UINT32_MAX);
}

/* ---- the same in a store ---- */

/* What a record did to the fork. */
typedef struct Step
{
	XLogRecPtr lsn;
	bool is_truncation;
	BlockNumber blk; /* or length */
	uint32 seed;
} Step;

typedef struct Cuts
{
	TestStore s;
	History h; /* its model is not used */
	Step *steps;
	int n;
	BlockNumber most; /* blocks at any time */
} Cuts;

static void
add_step(Cuts *c, bool is_truncation, BlockNumber blk)
{
	Step step = {.is_truncation = is_truncation, .blk = blk, .seed = c->n + 1};

	if (is_truncation)
		gen_truncate(&c->h.gen, 0, 0, blk);
	else
		gen_images(&c->h.gen, 0, 0, MAIN_FORKNUM, &blk, 1, step.seed);
	step.lsn = c->h.gen.pos;
	if (c->n % 1024 == 0)
		c->steps = pg_realloc(c->steps, (c->n + 1024) * sizeof(Step));
	c->steps[c->n++] = step;
}

static void
make_cuts(Cuts *c, int ncut)
{
	BlockNumber nblocks = 0;
	BlockNumber kept = 0;

	memset(c, 0, sizeof(*c));
	history_begin(&c->h, rnd);
	gen_create(&c->h.gen, 0, 0);
	for (int i = 0; i < ncut; i++)
	{
		for (int k = 1 + next_random(&rnd, 3); k > 0; k--)
		{
			BlockNumber blk = nblocks + next_random(&rnd, next_random(&rnd, 50) == 0 ? 512 : 4);

			if (nblocks > 0 && next_random(&rnd, 4) == 0)
				blk = next_random(&rnd, nblocks);
			add_step(c, false, blk);
			nblocks = Max(nblocks, blk + 1);
			c->most = Max(c->most, nblocks);
		}
		kept += next_random(&rnd, 4);
		kept = Min(kept, nblocks);
		add_step(c, true, kept);
		nblocks = kept;
	}
}

/* Every page that was there at any time, and the size, at an LSN. */
static void
check_cuts(Timeline *tl, const Cuts *c, XLogRecPtr lsn)
{
	Step *pages = pg_malloc0(c->most * sizeof(Step));
	BlockNumber nblocks = 0;
	BlockNumber found_nblocks;
	BlockNumber blks[64];
	char *found = pg_malloc(lengthof(blks) * BLCKSZ);
	char expected[BLCKSZ];
	PsKey key = ps_key_relsize(model_rel(0, 0), MAIN_FORKNUM);
	StringInfoData value;
	bool exists;

	for (int i = 0; i < c->n && c->steps[i].lsn <= lsn; i++)
	{
		const Step *step = &c->steps[i];

		if (!step->is_truncation)
		{
			pages[step->blk] = *step;
			nblocks = Max(nblocks, step->blk + 1);
			continue;
		}
		for (BlockNumber blk = step->blk; blk < nblocks; blk++)
			pages[blk].seed = 0;
		nblocks = step->blk;
	}
	OK(timeline_read_relsize(tl, model_rel(0, 0), MAIN_FORKNUM, lsn, &exists, &found_nblocks));
	CHECK(exists && found_nblocks == nblocks);
	initStringInfo(&value);
	OK(timeline_read_value(tl, &key, lsn, &value, &exists));
	CHECK(exists && value.len <= 8 + 2 * 12);
	pfree(value.data);
	for (BlockNumber blk = 0; blk < c->most; blk += lengthof(blks))
	{
		int n = Min(lengthof(blks), c->most - blk);

		for (int i = 0; i < n; i++)
			blks[i] = blk + i;
		OK(timeline_read_pages(tl, model_rel(0, 0), MAIN_FORKNUM, blks, n, lsn, found));
		for (int i = 0; i < n; i++)
		{
			make_page(pages[blk + i].seed, pages[blk + i].lsn, expected);
			CHECK(memcmp(found + (size_t) i * BLCKSZ, expected, BLCKSZ) == 0);
		}
	}
	free(found);
	free(pages);
}

static void
push_cuts(Cuts *c, XLogRecPtr to, uint64 *generation)
{
	WalState state;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;

	if (*generation == 0)
		OK(timeline_new_generation(c->s.tl, "test", NULL, generation, &state, &start));
	OK(wal_receiver_open(c->s.tl, *generation, &receiver, &start));
	OK(push(receiver, &c->h, start, to, &rnd, &flushed));
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(c->s.tl, to, 60000, NULL));
}

static void
wait_for_flush(Timeline *tl, XLogRecPtr lsn)
{
	TimelineInfo info;

	for (;;)
	{
		timeline_info(tl, &info);
		CHECK(info.error[0] == 0);
		if (info.disk_consistent_lsn >= lsn)
			break;
		pg_usleep(1000);
	}
}

/* Everything can be read; then only the present, some pins, and where a branch begins. */
static void
test_truncations_in_a_store(void **state)
{
	Cuts c;
	Timeline *branch;
	uint64 generation = 0;
	XLogRecPtr pins[6];

	make_cuts(&c, NTRUNCATION);
	store_make(&c.s, &c.h);
	store_close(c.s.store);
	c.s.config.checkpoint_distance = 1;
	c.s.config.compaction_threshold = c.s.config.compaction_fanout = 3;
	c.s.config.target_file_size = c.s.config.compaction_memory = 1;
	c.s.config.image_delta_percent = 100;
	c.s.config.image_delta_layers = 3;
	c.s.config.gc_horizon = INT_MAX;
	OK(store_try_open(&c.s));
	for (int i = 0; i < lengthof(pins); i++)
	{
		pins[i] = c.steps[(uint64) c.n * (i + 1) / lengthof(pins) - 1 -
						  (i + 1 < lengthof(pins) ? next_random(&rnd, 20) : 0)]
					  .lsn;
		push_cuts(&c, pins[i], &generation);
		if (i == 2)
		{
			OK(store_branch(c.s.store, "branch", c.s.tl, pins[i], NULL, &branch));
			store_release(branch);
			OK(maintain_timeline(c.s.tl, true));
		}
		check_cuts(c.s.tl, &c, pins[i]);
	}
	for (int i = 0; i < 10; i++)
		check_cuts(c.s.tl, &c, c.steps[next_random(&rnd, c.n)].lsn);
	c.s.config.checkpoint_distance = 0;
	c.s.config.gc_horizon = 0;
	store_reopen(&c.s);
	for (int i = 0; i < lengthof(pins); i++)
		OK(timeline_pin(c.s.tl, pins[i]));
	for (int round = 0; round < 2; round++)
	{
		OK(maintain_timeline(c.s.tl, true));
		for (int i = 0; i < lengthof(pins); i++)
			check_cuts(c.s.tl, &c, pins[i]);
	}
	OK(store_find_branch(c.s.store, "branch", &branch));
	check_cuts(branch, &c, pins[2]);
	store_release(branch);
	store_close(c.s.store);
	remove_tree(c.s.dir);
	history_end(&c.h);
	free(c.steps);
}

/*
 * A block that came back without a version of its own is zeros, also when the
 * page that it had is in the page cache still and garbage in all files.
 */
static void
test_cached_page_is_gone(void **state)
{
	Cuts c = {0};
	uint64 generation = 0;

	history_begin(&c.h, rnd);
	gen_create(&c.h.gen, 0, 0);
	add_step(&c, false, 0);
	add_step(&c, false, 1);
	c.most = 3;
	store_make(&c.s, &c.h);
	store_close(c.s.store);
	c.s.config.checkpoint_distance = 0;
	c.s.config.compaction_threshold = c.s.config.compaction_fanout = 2;
	c.s.config.target_file_size = c.s.config.compaction_memory = 1;
	c.s.config.image_delta_percent = 100000;
	c.s.config.image_delta_layers = 1000;
	OK(store_try_open(&c.s));
	push_cuts(&c, c.h.gen.pos, &generation);
	check_cuts(c.s.tl, &c, c.h.gen.pos);
	add_step(&c, true, 1);
	add_step(&c, false, 2);
	for (int round = 0; round < 4; round++)
	{
		push_cuts(&c, c.h.gen.pos, &generation);
		wait_for_flush(c.s.tl, c.h.gen.pos);
		OK(maintain_timeline(c.s.tl, true));
		add_step(&c, false, 0);
		push_cuts(&c, c.h.gen.pos, &generation);
		check_cuts(c.s.tl, &c, c.h.gen.pos);
	}
	store_close(c.s.store);
	remove_tree(c.s.dir);
	history_end(&c.h);
	free(c.steps);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_floors),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_origin),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_few_floors),
		cmocka_unit_test(test_cached_page_is_gone),
		cmocka_unit_test(test_truncations_in_a_store),
	};
	const char *env = getenv("TEST_SEED");
	unsigned seed = env != NULL ? strtoul(env, NULL, 10) : (unsigned) time(NULL) ^ (getpid() << 16);

	srandom(seed);
	rnd = seed;
	ps_log_level = PS_FATAL;
	print_message("TEST_SEED=%u\n", seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
