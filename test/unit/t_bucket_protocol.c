/*
 * t_bucket_protocol.c
 *	  Random schedules of several stores that all believe they own one tenant.
 *
 * Each store is a thread that claims the tenant, reads its log, opens chains, and then
 * commits, flushes, merges, deletes, closes chains and opens them again.  One thread runs
 * at a time.  At each request the scheduler, whose random numbers come from the seed
 * alone, may let another one run, for as long as it likes, or kill it.  Requests get
 * lost, are late or doubled, or lose their answers; lists are old.  In the end, a store
 * without such faults must find all that was acknowledged, and no newest owner may have
 * been stopped.
 *
 * The folder is compiled once more for this test, with rules that can be taken out
 * (bucket_impl.h): without any of them a violation must be found.
 *
 * Prints the seed of its first schedule; TEST_SEED in the environment repeats a run,
 * TEST_RUNS is the number of schedules, which PAGESERVER_LONG raises.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

#include "bucket/bucket_impl.h"
#include "bucket/chain.h"
#include "bucket/tenant_log.h"
#include "bytes.h"
#include "fake_bucket.h"
#include "sqlstate.h"

#define NBRANCHES  2
#define MAX_STORES 6
#define MAX_VALUES 4096 /* of a branch */
#define MAX_FACTS  512
#define VALUE      8 /* bytes: WAL is a sequence of values, the one at position p has the LSN p * VALUE */
#define FIRST      1 /* position of the first value */
#define STALE      60
#define MAX_SEARCH 20000 /* schedules without a rule */
#define DELAY      100   /* ticks, like STALE */

int bucket_rules_off;

/* What a test takes out beside rules. */
typedef struct Options
{
	const char *name;
	int rules_off;
	FakeFaults bucket;  /* how the service is broken */
	bool no_generation; /* files are named without the owner's generation */
	bool no_delay;      /* objects are deleted at once */
	bool exact_lists;   /* no list is old: then no delay is needed */
} Options;

typedef struct World World;

/* A branch, as one store has it. */
typedef struct Branch
{
	PsId id;
	Chain *chain; /* NULL: closed */
	uint64 base;  /* values before this position are in layers */
	uint64 end;   /* behind the last one in memory */
	uint64 values[MAX_VALUES];
} Branch;

typedef struct Store
{
	World *world;
	int no;
	ObjectStore *objects;
	pthread_t thread;
	sem_t go;
	int burst; /* requests until the scheduler is asked again */
	bool killed;
	bool ended;
	TenantOwner owner;
	Deleter *deleter;
	TenantLog *log;
	uint64 counter; /* of layers */
	Branch branches[NBRANCHES];
} Store;

struct World
{
	const Options *options;
	FakeBucket *bucket;
	PsId tenant;
	PsId branches[NBRANCHES];
	sem_t back;
	Store *stores[MAX_STORES];
	int nstores;
	uint64 next_value;
	uint64 acknowledged[NBRANCHES][MAX_VALUES]; /* 0: nothing */
	int nacknowledged;
	bool facts[MAX_FACTS]; /* changes of the log alone that were acknowledged */
	int nfacts;
	char violation[512]; /* "": none */
};

static World *current; /* for the clock */

extern int64 __wrap_clock_now_ms(void);

int64
__wrap_clock_now_ms(void)
{
	return current != NULL ? current->bucket->now : 0;
}

static void violation(World *world, const char *fmt, ...) pg_attribute_printf(2, 3);

static void
violation(World *world, const char *fmt, ...)
{
	va_list args;

	if (world->violation[0] != '\0')
		return;
	va_start(args, fmt);
	vsnprintf(world->violation, sizeof(world->violation), fmt, args);
	va_end(args);
}

/* Called before each request of a store. */
static bool
turn(void *arg)
{
	Store *store = arg;

	if (fake_random(store->world->bucket, 10) < 3)
		fake_bucket_run_late(store->world->bucket);
	if (!store->killed && --store->burst <= 0)
	{
		sem_post(&store->world->back);
		sem_wait(&store->go);
	}
	return !store->killed;
}

/*
 * After an error: true if the request may be tried again, otherwise the store ends.
 * Frees the error; one that must not be is a violation.
 */
static bool
again(Store *store, PsError *err)
{
	World *world = store->world;
	bool retry = ps_error_is(err, PS_SQLSTATE_TRY_AGAIN);

	if (ps_error_is(err, PS_SQLSTATE_FENCED))
	{
		BucketKey key = {BUCKET_KEY_CLAIM, world->tenant, .generation = store->owner.generation + 1};
		char name[BUCKET_KEY_TEXT];
		size_t len;

		if (store->owner.generation > 0 && fake_bucket_peek(world->bucket, bucket_key_format(&key, name), &len) == NULL)
			violation(world, "store %d, generation %llu, is stopped though it is the newest owner: %s", store->no,
					  (unsigned long long) store->owner.generation, err->message);
	}
	else if (!retry && !err->is_cancel)
		violation(world, "store %d: %s: %s", store->no, err->sqlstate, err->message);
	ps_error_free(err);
	return retry && !store->killed;
}

/* Repeats a call until it succeeds; the store ends if it never will. */
#define UNTIL_DONE(store, call) UNTIL_SETTLED(store, call, call)

/* Likewise, but repeats another call. */
#define UNTIL_SETTLED(store, call, repeated)       \
	do                                             \
	{                                              \
		for (PsError *err_ = (call); err_ != NULL; \
			 err_ = (repeated))                    \
			if (!again(store, err_))               \
				return false;                      \
	} while (0)

/* ---- what a store does ---- */

/* Appends a change, which is used up, to the log. */
static bool
append_log(Store *store, json_t *change)
{
	PsError *err = tenant_log_append(store->log, change, 0, NULL);

	json_decref(change);
	UNTIL_SETTLED(store, err, tenant_log_settle(store->log, NULL));
	return true;
}

static bool
take_over(Store *store)
{
	World *world = store->world;
	StoreIdentity who = {{{store->no}}, "host", "/store"};
	Claim newest;
	Claim claim;
	bool found;
	LogEntryInfo info;
	json_t *timelines;
	char id[PS_ID_TEXT];
	bool is_new;

	UNTIL_DONE(store, claim_newest(store->objects, &world->tenant, NULL, &newest, &found));
	claim_make(&claim, found ? &newest : NULL, &who);
	UNTIL_DONE(store, claim_put(store->objects, &world->tenant, &claim, NULL, &store->owner));
	UNTIL_DONE(store, tenant_log_open(&store->owner, store->deleter, NULL, &store->log, &info));
	is_new = json_object_size(json_object_get(tenant_log_state(store->log)->json, "timelines")) == 0;
	timelines = json_object();
	for (int b = 0; b < NBRANCHES && is_new; b++)
		json_object_set_new(timelines, ps_id_format(&world->branches[b], id),
							json_pack("{s:[], s:i, s:i}", "layers", "base", FIRST, "chain", 0));
	return append_log(store, json_pack("{s:o}", "timelines", timelines));
}

static json_t *
branch_record(const LogChange *state, const PsId *id)
{
	char text[PS_ID_TEXT];

	return log_change_timeline(state, ps_id_format(id, text));
}

static PsError *
receive(void *arg, const ChainChunk *chunk, const char *wal)
{
	Branch *branch = arg;

	for (uint64 p = chunk->start / VALUE; p < chunk->end / VALUE && p < MAX_VALUES; p++)
		branch->values[p] = ps_get64(wal + p * VALUE - chunk->start);
	branch->end = Max(chunk->end / VALUE, branch->base);
	return NULL;
}

static bool
open_branch(Store *store, Branch *branch)
{
	ChainSink sink = {receive, branch};
	json_t *record = branch_record(tenant_log_state(store->log), &branch->id);
	uint64 number = json_integer_value(json_object_get(record, "chain"));

	branch->base = branch->end = json_integer_value(json_object_get(record, "base"));
	json_decref(record);
	UNTIL_DONE(store, chain_open(&store->owner, &branch->id, number, branch->base * VALUE, &sink, NULL,
								 &branch->chain));
	branch->end = chain_end(branch->chain) / VALUE;
	return true;
}

/* Appends values; sometimes part of a value, too, which the next chunk replaces.  Acknowledges them. */
static bool
commit(Store *store, Branch *branch)
{
	World *world = store->world;
	int n = 1 + fake_random(world->bucket, 3);
	bool partial = fake_random(world->bucket, 8) == 0;
	char wal[5 * VALUE] = {0};
	XLogRecPtr start = branch->end * VALUE;
	size_t len = n * VALUE + (partial ? VALUE / 2 : 0);
	int b = branch - store->branches;

	if (branch->end + n >= MAX_VALUES)
		return true;
	for (int i = 0; i < n; i++)
	{
		branch->values[branch->end + i] = ++world->next_value;
		ps_put64(wal + i * VALUE, branch->values[branch->end + i]);
	}
	UNTIL_SETTLED(store, chain_append(branch->chain, start, wal, len, 1, NULL), chain_settle(branch->chain, NULL));
	for (int i = 0; i < n; i++)
	{
		uint64 *acknowledged = &world->acknowledged[b][branch->end + i];

		if (*acknowledged != 0)
			violation(world, "position %llu is acknowledged twice", (unsigned long long) branch->end + i);
		*acknowledged = branch->values[branch->end + i];
		world->nacknowledged++;
	}
	branch->end += n;
	return true;
}

/* The text of a file in the log is "NUMBER BASE COUNT": it has COUNT values from position BASE on. */
static BucketKey
layer_key(const World *world, const PsId *branch, const char *text)
{
	return (BucketKey) {
		.kind = BUCKET_KEY_LAYER, .tenant = world->tenant, .timeline = *branch, .number = strtoull(text, NULL, 16)};
}

/* Puts values as a file; *text is malloc'd. */
static bool
put_layer(Store *store, const Branch *branch, uint64 base, const uint64 *values, int n, char **text)
{
	char data[VALUE * MAX_VALUES];
	char name[BUCKET_KEY_TEXT];
	uint64 number = ++store->counter | (store->world->options->no_generation ? 0 : store->owner.generation << 32);
	BucketKey key;

	*text = psprintf("%016llx %llu %d", (unsigned long long) number, (unsigned long long) base, n);
	key = layer_key(store->world, &branch->id, *text);
	for (int i = 0; i < n; i++)
		ps_put64(data + i * VALUE, values[i]);
	bucket_key_format(&key, name);
	UNTIL_DONE(store, object_put(store->objects, name, data, n * VALUE, NULL));
	return true;
}

/* Reads a file's values to their positions. */
static PsError *
get_layer(const World *world, ObjectStore *objects, const PsId *branch, const char *text, uint64 *values)
{
	BucketKey key = layer_key(world, branch, text);
	char name[BUCKET_KEY_TEXT];
	unsigned long long base;
	int n;
	void *data;
	size_t len;

	sscanf(text, "%*s %llu %d", &base, &n);
	PS_TRY(object_get(objects, bucket_key_format(&key, name), VALUE * MAX_VALUES, &data, &len, NULL));
	for (int i = 0; i < n && i < len / VALUE; i++)
		values[base + i] = ps_get64((char *) data + i * VALUE);
	free(data);
	return NULL;
}

/* Writes what is in memory as a file, and sometimes one file instead of all. */
static bool
flush_branch(Store *store, Branch *branch, json_t *layers)
{
	World *world = store->world;
	bool merge = json_array_size(layers) > 2 && fake_random(world->bucket, 10) < 6;
	uint64 values[MAX_VALUES];
	uint64 end = branch->end;
	uint64 number = chain_first_needed(branch->chain, end * VALUE);
	uint64 base = branch->base;
	json_t *drop = json_array();
	json_t *record;
	char id[PS_ID_TEXT];
	char *text;
	size_t i;
	json_t *layer;
	bool done;

	memcpy(values, branch->values, sizeof(values));
	if (merge)
	{
		base = FIRST;
		json_array_foreach(layers, i, layer)
		{
			const char *layer_text = json_string_value(layer);
			PsError *err;

			json_array_append_new(drop, json_stringn(layer_text, strcspn(layer_text, " ")));
			while ((err = get_layer(world, store->objects, &branch->id, layer_text, values)) != NULL)
			{
				/* a file that is not there: only because of a newer owner */
				err = claim_explain(&store->owner, err, NULL);
				if (!again(store, err))
				{
					json_decref(drop);
					return false;
				}
			}
		}
	}
	done = put_layer(store, branch, base, values + base, end - base, &text);
	record = json_pack("{s:[s], s:O, s:I, s:I}", "add", text, "drop", drop, "base", (json_int_t) end, "chain",
					   (json_int_t) number);
	pfree(text);
	if (!done || !append_log(store, json_pack("{s:{s:O}}", "timelines", ps_id_format(&branch->id, id), record)))
		done = false;
	json_decref(record);
	if (done)
	{
		json_array_foreach(drop, i, layer)
		{
			BucketKey key = layer_key(world, &branch->id, json_string_value(layer));

			deleter_add(store->deleter, &key, 1);
		}
		chain_remove_before(branch->chain, number, store->deleter);
		branch->base = end;
	}
	json_decref(drop);
	return done;
}

/* A change of the log alone, like a new name. */
static bool
commit_fact(Store *store)
{
	World *world = store->world;
	int fact = world->nfacts;
	char name[32];

	if (fact == MAX_FACTS)
		return true;
	world->nfacts++;
	snprintf(name, sizeof(name), "f%d", fact);
	if (!append_log(store, json_pack("{s:{s:i}}", "tenant", name, 1)))
		return false;
	world->facts[fact] = true;
	world->nacknowledged++;
	return true;
}

/* One thing of those that a store does; false: it ends. */
static bool
step(Store *store)
{
	FakeBucket *bucket = store->world->bucket;
	Branch *branch = &store->branches[fake_random(bucket, NBRANCHES)];
	int what = fake_random(bucket, 100);
	json_t *record;
	json_t *layers;
	bool done;

	if (what < 10)
		return commit_fact(store);
	if (what < 25)
	{
		UNTIL_DONE(store, deleter_run(store->deleter, NULL));
		return true;
	}
	if (what < 28)
	{
		UNTIL_DONE(store, claim_check(&store->owner, NULL));
		return true;
	}
	if (branch->chain == NULL)
		return open_branch(store, branch);
	if (what < 32)
	{
		chain_close(branch->chain);
		branch->chain = NULL;
		return true;
	}
	if (what < 75 || branch->end == branch->base)
		return commit(store, branch);
	record = branch_record(tenant_log_state(store->log), &branch->id);
	layers = json_incref(json_object_get(record, "layers"));
	json_decref(record);
	done = flush_branch(store, branch, layers);
	json_decref(layers);
	return done;
}

static void *
store_main(void *arg)
{
	Store *store = arg;
	int steps;

	sem_wait(&store->go);
	steps = 2 + fake_random(store->world->bucket, 120);
	if (take_over(store))
		while (steps-- > 0 && !store->killed && step(store))
			;
	store->ended = true;
	sem_post(&store->world->back);
	return NULL;
}

/* ---- schedules ---- */

static void
start_store(World *world)
{
	Store *store = pg_malloc0(sizeof(*store));
	FakeTurn store_turn = {turn, store};

	store->world = world;
	store->no = world->nstores;
	store->objects = fake_bucket_open(world->bucket, &store_turn);
	store->deleter = deleter_create(store->objects, world->options->no_delay ? 0 : DELAY);
	for (int b = 0; b < NBRANCHES; b++)
		store->branches[b].id = world->branches[b];
	sem_init(&store->go, 0, 0);
	world->stores[world->nstores++] = store;
	assert_int_equal(pthread_create(&store->thread, NULL, store_main, store), 0);
}

/* Lets a store run for some requests. */
static void
run_store(World *world, Store *store, int burst)
{
	store->burst = burst;
	sem_post(&store->go);
	sem_wait(&world->back);
}

static void
end_store(World *world, Store *store)
{
	store->killed = true;
	while (!store->ended)
		run_store(world, store, 1);
	pthread_join(store->thread, NULL);
	for (int b = 0; b < NBRANCHES; b++)
		chain_close(store->branches[b].chain);
	tenant_log_close(store->log);
	deleter_free(store->deleter);
	object_store_close(store->objects);
	sem_destroy(&store->go);
	free(store);
}

/* A store that nothing happens to takes over: is all there? */
static PsError *
check_end(World *world, ObjectStore *objects)
{
	const StoreIdentity who = {{{255}}, "host", "/store"};
	Deleter *deleter = deleter_create(objects, DELAY);
	Claim newest;
	Claim claim;
	TenantOwner owner;
	TenantLog *log = NULL;
	LogEntryInfo info;
	bool found;
	Branch *branch = pg_malloc0(sizeof(*branch));
	ChainSink sink = {receive, branch};
	PsError *err;

	PS_GOTO(claim_newest(objects, &world->tenant, NULL, &newest, &found), done);
	claim_make(&claim, found ? &newest : NULL, &who);
	PS_GOTO(claim_put(objects, &world->tenant, &claim, NULL, &owner), done);
	PS_GOTO(tenant_log_open(&owner, deleter, NULL, &log, &info), done);
	for (int fact = 0; fact < world->nfacts; fact++)
	{
		char name[32];

		snprintf(name, sizeof(name), "f%d", fact);
		if (world->facts[fact] && json_object_get(json_object_get(tenant_log_state(log)->json, "tenant"), name) == NULL)
			violation(world, "change %d of the log was acknowledged and is lost", fact);
	}
	for (int b = 0; b < NBRANCHES; b++)
	{
		json_t *record = branch_record(tenant_log_state(log), &world->branches[b]);
		size_t i;
		json_t *layer;

		memset(branch, 0, sizeof(*branch));
		branch->base = branch->end = json_integer_value(json_object_get(record, "base"));
		json_array_foreach(json_object_get(record, "layers"), i, layer)
		{
			err = get_layer(world, objects, &world->branches[b], json_string_value(layer), branch->values);
			if (err != NULL)
				break;
		}
		if (err == NULL && record != NULL)
			err = chain_open(&owner, &world->branches[b], json_integer_value(json_object_get(record, "chain")),
							 branch->base * VALUE, &sink, NULL, &branch->chain);
		json_decref(record);
		if (err != NULL)
			break;
		for (int p = 0; p < MAX_VALUES; p++)
			if (world->acknowledged[b][p] != 0 && (p >= branch->end || world->acknowledged[b][p] != branch->values[p]))
				violation(world, "branch %d position %d: acknowledged %llu, found %llu", b, p,
						  (unsigned long long) world->acknowledged[b][p], (unsigned long long) branch->values[p]);
		chain_close(branch->chain);
	}

done:
	tenant_log_close(log);
	deleter_free(deleter);
	free(branch);
	return err;
}

/* Runs a schedule; returns the number of acknowledgements.  false in *good: there was a violation. */
static int
run_schedule(uint64 seed, const Options *options, bool *good, char *what, size_t size)
{
	static const int bursts[] = {1, 1, 5, 40, 200};
	World *world = pg_malloc0(sizeof(*world));
	ObjectStore *objects;
	PsError *err;
	int running = 0;
	int n;

	world->options = options;
	world->bucket = fake_bucket_create(seed);
	world->bucket->faults = options->bucket;
	world->bucket->faults.lost = 40;
	world->bucket->faults.late = 40;
	world->bucket->faults.answer_lost = 50;
	world->bucket->faults.doubled = 10;
	world->bucket->faults.give_up = 100;
	world->bucket->faults.stale = !options->exact_lists && fake_random(world->bucket, 2) == 0 ? STALE : 0;
	world->tenant = (PsId) {{1}};
	for (int b = 0; b < NBRANCHES; b++)
		world->branches[b] = (PsId) {{2, b}};
	sem_init(&world->back, 0, 0);
	bucket_rules_off = options->rules_off;
	current = world;

	start_store(world);
	for (int steps = 50 + fake_random(world->bucket, 1000); steps > 0; steps--)
	{
		Store *store = world->stores[fake_random(world->bucket, world->nstores)];

		if (fake_random(world->bucket, 50) == 0 && world->nstores < MAX_STORES)
			start_store(world);
		if (store->ended)
		{
			running = 0;
			for (int i = 0; i < world->nstores; i++)
				running += !world->stores[i]->ended;
			if (running == 0 && world->nstores == MAX_STORES)
				break;
			continue;
		}
		run_store(world, store, bursts[fake_random(world->bucket, lengthof(bursts))]);
		if (!store->ended && fake_random(world->bucket, 100) == 0)
		{
			store->killed = true;
			while (!store->ended)
				run_store(world, store, 1);
		}
	}
	for (int i = 0; i < world->nstores; i++)
		end_store(world, world->stores[i]);
	while (fake_bucket_run_late(world->bucket))
		;
	world->bucket->faults = options->bucket;
	objects = fake_bucket_open(world->bucket, NULL);
	err = check_end(world, objects);
	if (err != NULL)
		violation(world, "at the end: %s: %s", err->sqlstate, err->message);
	ps_error_free(err);
	object_store_close(objects);
	*good = world->violation[0] == '\0';
	strlcpy(what, world->violation, size);
	n = world->nacknowledged;
	current = NULL;
	sem_destroy(&world->back);
	fake_bucket_free(world->bucket);
	free(world);
	return n;
}

static uint64 seed;
static int runs;

/* With all rules, no schedule has a violation. */
static void
all_rules(void **state)
{
	static const Options options[] = {{"all rules"}, {"all rules", .no_delay = true, .exact_lists = true}};
	int acknowledged = 0;

	for (int i = 0; i < runs; i++)
	{
		char what[512];
		bool good;

		acknowledged += run_schedule(seed + i, &options[i % 2], &good, what, sizeof(what));
		if (!good)
			fail_msg("TEST_SEED=%llu, schedule %d: %s", (unsigned long long) seed, i, what);
	}
	print_message("%d schedules, %d acknowledgements\n", runs, acknowledged);
}

/*
 * Without a rule, one of many schedules has a violation.  These are always the same
 * schedules: some violations are rare.
 */
static void
without_a_rule(void **state)
{
	static const Options options[] = {
		{"no fences", .rules_off = RULE_FENCE},
		{"no stop at a newer owner's object", .rules_off = RULE_STOP_AT_NEWER},
		{"no check after the fence", .rules_off = RULE_CHECK_AFTER_FENCE, .no_delay = true, .exact_lists = true},
		{"no check after a commit", .rules_off = RULE_CHECK_AFTER_COMMIT},
		{"fences are deleted", .rules_off = RULE_KEEP_FENCES, .no_delay = true, .exact_lists = true},
		{"lists are trusted", .rules_off = RULE_LOOK_AHEAD},
		{"objects are overwritten", .bucket.overwrites = true},
		{"412 means somebody else", .bucket.trusts_412 = true},
		{"files without generation", .no_generation = true},
		{"no delay", .no_delay = true},
	};
	int missed = 0;

	for (int o = 0; o < lengthof(options); o++)
	{
		char what[512];
		bool good = true;
		int i;

		for (i = 0; i < MAX_SEARCH && good; i++)
			run_schedule(i, &options[o], &good, what, sizeof(what));
		missed += good;
		print_message("%s: %s after %d schedules%s%s\n", options[o].name, good ? "nothing" : "found", i,
					  good ? "" : ": ",
					  what);
	}
	assert_int_equal(missed, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_rules),
		cmocka_unit_test(without_a_rule),
	};
	const char *seed_text = getenv("TEST_SEED");
	const char *runs_text = getenv("TEST_RUNS");

	seed = seed_text != NULL ? strtoull(seed_text, NULL, 10) : time(NULL);
	runs = runs_text != NULL ? atoi(runs_text) : getenv("PAGESERVER_LONG") != NULL ? 20000
																				   : 200;
	print_message("TEST_SEED=%llu\n", (unsigned long long) seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
