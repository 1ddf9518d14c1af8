/*
 * t_store_use.c
 *	  Which timelines are open: opened by who uses them, ancestors first, closed
 *	  when nobody does; and what can be done with those that are not.
 *
 * Rules: a start opens nothing; what a timeline holds does not depend on how
 * often it was opened and closed; nothing is closed that somebody uses; a
 * damaged one is noticed when it is used, and keeps those that begin in it, but
 * no other, from being used; a tenant that is detached is let go by all, and
 * comes back as it was.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "serve/commands.h"
#include "sqlstate.h"
#include "store/store_impl.h"

#define NBRANCHES 16
#define NTHREADS  4
#define ROUNDS    40

static uint64 rnd;

typedef struct Branches
{
	TestStore s;
	History h;
	XLogRecPtr begin[NBRANCHES]; /* of branch "b0", "b1", ... */
	int parent[NBRANCHES];       /* -1: main */
	atomic_bool stop;
	atomic_int closed; /* by the closer */
} Branches;

static void
name_of(int i, char name[64])
{
	if (i < 0)
		strcpy(name, "main");
	else
		snprintf(name, 64, "b%d", i);
}

/* "main" with all of its WAL in layer files, and branches of it and of each other. */
static void
make_branches(Branches *b)
{
	uint64 generation;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;
	WalState state;
	TimelineInfo info;

	memset(b, 0, sizeof(*b));
	history_begin(&b->h, rnd);
	b->h.no_copies = true;
	for (int i = 0; i < 200; i++)
		add_random_record(&b->h);
	store_make(&b->s, &b->h);
	b->s.config.checkpoint_distance = 0;
	store_release(b->s.tl);
	store_reopen(&b->s);
	OK(timeline_new_generation(b->s.tl, "test", NULL, &generation, &state, &start));
	OK(wal_receiver_open(b->s.tl, generation, &receiver, &start));
	OK(push(receiver, &b->h, start, b->h.gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	do
	{
		timeline_info(b->s.tl, &info);
		pg_usleep(1000);
	} while (info.disk_consistent_lsn != b->h.gen.pos);
	store_release(b->s.tl);
	for (int i = 0; i < NBRANCHES; i++)
	{
		int parent = i < 4 ? -1 : (int) next_random(&rnd, i);
		XLogRecPtr end = parent < 0 ? b->h.gen.pos : b->begin[parent];
		int most = history_find(&b->h, end);
		char name[64];
		char of[64];
		Timeline *tl;

		b->parent[i] = parent;
		b->begin[i] = parent < 0 ? b->h.gen.records[b->h.first + most / 2 + next_random(&rnd, most / 2)].end : end;
		name_of(i, name);
		name_of(parent, of);
		OK(store_find_branch(b->s.store, of, &tl));
		OK(store_branch(b->s.store, name, tl, b->begin[i], NULL, NULL));
		store_release(tl);
	}
}

static void
end_branches(Branches *b)
{
	store_close(b->s.store);
	remove_tree(b->s.dir);
	history_end(&b->h);
}

static int
count_open(Store *store)
{
	int n;
	int open = 0;
	Branch **list = store_list(store, &n);

	for (int i = 0; i < n; i++)
	{
		TimelineInfo info;

		store_timeline_info(list[i], &info);
		open += info.open;
	}
	store_list_free(list, n);
	return open;
}

/* Closes one that is open, not used and settled, as the idle thread does after its time. */
static bool
close_one(Store *store, uint64 *random)
{
	bool done = false;
	int first;

	pthread_mutex_lock(&store->lock);
	first = next_random(random, 1000);
	for (int i = 0; i < store->nbranches && !done; i++)
	{
		Branch *branch = store->branches[(first + i) % store->nbranches];

		if (branch->life != BRANCH_OPEN || branch->uses > 0 || !timeline_is_settled(branch->open))
			continue;
		use_close(store, branch);
		done = true;
	}
	pthread_mutex_unlock(&store->lock);
	return done;
}

static void
check_branch(Branches *b, int i)
{
	char name[64];
	Timeline *tl;

	name_of(i, name);
	OK(store_find_branch(b->s.store, name, &tl));
	compare_at(tl, &b->h, i < 0 ? b->h.gen.pos : b->begin[i]);
	store_release(tl);
}

static void
test_nothing_is_opened(void **state)
{
	Branches b;
	TimelineInfo info;
	Timeline *tl;
	int depth = 0;
	int last = NBRANCHES - 1;

	make_branches(&b);
	store_close(b.s.store);
	OK(store_open(&b.s.config, &b.s.store));
	assert_int_equal(count_open(b.s.store), 0);
	assert_true(b.s.store->tenants[0]->env.redo == NULL);

	/* what the list says of a closed one is what it is when it is open */
	OK(store_branch_info(b.s.store, "main", &info));
	assert_true(!info.open && info.flushed_lsn == b.h.gen.pos && info.disk_consistent_lsn == b.h.gen.pos);
	assert_true(info.layer_files > 0 && info.layer_bytes > 0 && info.wal_bytes > 0 && info.generation == 1);
	OK(store_branch_info(b.s.store, "b15", &info));
	assert_true(info.flushed_lsn == b.begin[15] && info.start_lsn == b.begin[15]);
	assert_int_equal(count_open(b.s.store), 0);

	/* a use opens what it begins in, and nothing else */
	for (int i = last; i >= 0; i = b.parent[i])
		depth++;
	OK(store_find_branch(b.s.store, "b15", &tl));
	assert_int_equal(count_open(b.s.store), depth + 1);
	compare_at(tl, &b.h, b.begin[15]);

	/* which stays open as long */
	while (close_one(b.s.store, &rnd))
		;
	assert_int_equal(count_open(b.s.store), depth + 1);
	store_release(tl);
	while (close_one(b.s.store, &rnd))
		;
	assert_int_equal(count_open(b.s.store), 0);
	assert_true(b.s.store->tenants[0]->env.redo == NULL);
	OK(store_branch_info(b.s.store, "b15", &info));
	assert_true(!info.open && info.flushed_lsn == b.begin[15]);
	for (int i = -1; i < NBRANCHES; i++)
		check_branch(&b, i);
	end_branches(&b);
}

/* Renamed and deleted without being opened; pins of closed branches hold. */
static void
test_closed_branches(void **state)
{
	Branch *removed;
	Branches b;
	TimelineInfo info;
	Timeline *tl;

	make_branches(&b);
	store_close(b.s.store);
	b.s.config.compaction_threshold = b.s.config.compaction_fanout = 4;
	b.s.config.target_file_size = b.s.config.compaction_memory = 1;
	b.s.config.image_delta_records = 1000;
	b.s.config.image_delta_percent = 1000;
	b.s.config.image_delta_layers = 1000;
	OK(store_open(&b.s.config, &b.s.store));
	OK(store_rename_branch(b.s.store, "b15", "renamed", NULL));
	FAILS(store_remove_branch(b.s.store, "main", NULL, &removed), PS_SQLSTATE_STATE,
		  "other branches begin in branch \"main\"");
	OK(store_remove_branch(b.s.store, "renamed", NULL, &removed));
	store_destroy_branch(removed);
	assert_int_equal(count_open(b.s.store), 0);
	FAILS(store_find_branch(b.s.store, "renamed", &tl), PS_SQLSTATE_NOT_FOUND, "does not exist");
	OK(store_rename_branch(b.s.store, "b14", "other", NULL));
	assert_int_equal(count_open(b.s.store), 0);
	store_close(b.s.store);
	OK(store_open(&b.s.config, &b.s.store));
	OK(store_branch_info(b.s.store, "other", &info));
	OK(store_rename_branch(b.s.store, "other", "b14", NULL));

	/* all that no branch needs goes; what never-opened ones need stays */
	OK(store_find_branch(b.s.store, "main", &tl));
	OK(maintain_timeline(tl, true));
	CHECK(timeline_gc_cutoff(tl) == b.h.gen.pos);
	store_release(tl);
	for (int i = -1; i < NBRANCHES - 1; i++)
		check_branch(&b, i);
	end_branches(&b);
}

/* Damage is found by who uses the branch, or one that begins in it; the others are served. */
static void
test_broken(void **state)
{
	Branches b;
	char path[512];
	TimelineInfo info;
	Timeline *tl;
	char parent[64];
	char id[PS_ID_TEXT];
	char layers[600];
	int child = NBRANCHES - 1;

	make_branches(&b);
	while (child >= 0 && b.parent[child] < 0)
		child--;
	name_of(b.parent[child], parent);
	OK(store_branch_info(b.s.store, parent, &info));
	store_close(b.s.store);
	store_path(&b.s, "", path);
	strcpy(strstr(path, "/timelines/") + strlen("/timelines/"), ps_id_format(&info.timeline, id));
	snprintf(layers, sizeof(layers), "%s/flushed", path);
	{
		int fd = open(layers, O_WRONLY | O_CREAT | O_TRUNC, 0600);

		CHECK(write(fd, "nonsense", 8) == 8);
		close(fd);
	}
	OK(store_open(&b.s.config, &b.s.store));
	OK(store_branch_info(b.s.store, parent, &info));
	assert_string_equal(info.error, "");
	name_of(child, path);
	FAILS(store_find_branch(b.s.store, path, &tl), PS_SQLSTATE_CORRUPTED, "/flushed\" has 8 bytes");
	FAILS(store_find_branch(b.s.store, parent, &tl), PS_SQLSTATE_CORRUPTED, "is not served");
	OK(store_branch_info(b.s.store, parent, &info));
	assert_true(strstr(info.error, "/flushed\" has 8 bytes") != NULL);
	check_branch(&b, -1);
	while (close_one(b.s.store, &rnd))
		;
	assert_int_equal(count_open(b.s.store), 0);
	end_branches(&b);
}

/* ---- no descriptors are left ---- */

/* From now on "left" can be opened; -1: as many as ever. */
static void
limit_descriptors(int left)
{
	struct rlimit limit;
	int free_fd = open("/dev/null", O_RDONLY);

	if (left >= 0)
		CHECK(free_fd >= 0);
	if (free_fd >= 0)
		close(free_fd);
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = left >= 0 ? free_fd + left : limit.rlim_max;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* Was it done?  If not, then for want of descriptors. */
static bool
done_with_few(PsError *err, bool *failed)
{
	if (err == NULL)
		return true;
	if (!ps_error_is(err, PS_SQLSTATE_NO_RESOURCES) && !ps_error_is(err, PS_SQLSTATE_OUT_OF_MEMORY))
		fail_msg("%s %s", err->sqlstate, err->message);
	ps_error_free(err);
	*failed = true;
	return false;
}

/*
 * Whichever file is the one that cannot be opened, the next use of the branch,
 * or the next attach of the tenant, tries again.
 */
static void
test_no_descriptors(void **state)
{
	Branches b;
	TimelineInfo info;
	Timeline *tl;
	Branch **timelines;
	Tenant *tenant;
	char id[PS_ID_TEXT];
	bool failed = false;
	int n;

	make_branches(&b);
	store_close(b.s.store);
	OK(store_open(&b.s.config, &b.s.store));
	for (int left = 0;; left++)
	{
		bool done;

		CHECK(left < 100);
		limit_descriptors(left);
		done = done_with_few(store_find_branch(b.s.store, "b15", &tl), &failed);
		limit_descriptors(-1);
		for (int i = -1; i < NBRANCHES; i++)
		{
			char name[64];

			name_of(i, name);
			OK(store_branch_info(b.s.store, name, &info));
			assert_string_equal(info.error, "");
		}
		if (done)
			store_release(tl);
		while (close_one(b.s.store, &rnd))
			;
		assert_int_equal(count_open(b.s.store), 0);
		if (done)
			break;
	}
	assert_true(failed);
	for (int i = -1; i < NBRANCHES; i++)
		check_branch(&b, i);

	failed = false;
	OK(store_begin_detach(b.s.store, "main", NULL, &tenant, &timelines, &n));
	store_end_detach(b.s.store, tenant, timelines, n);
	ps_id_format(&test_tenant, id);
	for (int left = 0;; left++)
	{
		bool done;

		CHECK(left < 100);
		limit_descriptors(left);
		done = done_with_few(store_attach_tenant(b.s.store, id, true), &failed);
		limit_descriptors(-1);
		if (done)
			break;
	}
	assert_true(failed);
	for (int i = -1; i < NBRANCHES; i++)
		check_branch(&b, i);
	end_branches(&b);
}

/* ---- waits for others ---- */

/* What somebody does who waits for another to open the branch. */
typedef enum WaitingCall
{
	CALL_USE,
	CALL_USE_CHILD,
	CALL_RENAME,
	CALL_REMOVE,
	CALL_REPLACE,
	CALL_DETACH, /* the last: nobody begins to use a branch then */
	NCALLS
} WaitingCall;

typedef struct Waiting
{
	pthread_t thread;
	Branches *b;
	WaitingCall call;
	Timeline *parent; /* CALL_REPLACE: main, which is open */
	atomic_int asked;
	atomic_bool canceled;
	atomic_bool done;
	PsError *err;
} Waiting;

static PsError *
ask_waiting(void *arg)
{
	Waiting *w = arg;

	atomic_fetch_add(&w->asked, 1);
	return atomic_load(&w->canceled) ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

static void *
call_and_wait(void *arg)
{
	Branch *removed;
	Waiting *w = arg;
	Store *store = w->b->s.store;
	CancelCheck cancel = {ask_waiting, w};
	char old_name[TIMELINE_NAME_MAX + 1];
	Branch **timelines;
	Timeline *tl;
	Tenant *tenant;
	int n;

	switch (w->call)
	{
		case CALL_USE:
			w->err = store_use_branch(store, "b0", &cancel, &tl);
			break;
		case CALL_USE_CHILD:
			w->err = store_use_branch(store, "child", &cancel, &tl);
			break;
		case CALL_RENAME:
			w->err = store_rename_branch(store, "b0", "renamed", &cancel);
			break;
		case CALL_REMOVE:
			w->err = store_remove_branch(store, "b0", &cancel, &removed);
			break;
		case CALL_DETACH:
			w->err = store_begin_detach(store, "main", &cancel, &tenant, &timelines, &n);
			break;
		case CALL_REPLACE:
			w->err = store_replace_branch(store, "b0", w->parent, PG_UINT64_MAX, false, &cancel, old_name);
			break;
		case NCALLS:
			abort();
	}
	atomic_store(&w->done, true);
	return NULL;
}

/* It has asked its cancel, so it waits. */
static void
wait_until_it_waits(Waiting *w)
{
	for (int i = 0; atomic_load(&w->asked) == 0; i++)
	{
		CHECK(i < 30000 && !atomic_load(&w->done));
		pg_usleep(1000);
	}
}

/* A call that waits while another opens the branch returns on a cancel or a store stop, and changes nothing. */
static void
test_waits_end(void **state)
{
	Branches b;
	Waiting waiting[NCALLS];
	Timeline *main_tl;
	Branch *branch;
	Timeline *tl;
	int users;

	make_branches(&b);
	OK(store_find_branch(b.s.store, "b0", &tl));
	OK(store_branch(b.s.store, "child", tl, b.begin[0], NULL, NULL));
	store_release(tl);
	for (int round = 0; round < 2; round++)
	{
		store_close(b.s.store);
		OK(store_open(&b.s.config, &b.s.store));
		OK(store_find_branch(b.s.store, "main", &main_tl));

		/* somebody opens it, and takes long */
		pthread_mutex_lock(&b.s.store->lock);
		branch = catalog_find_branch(b.s.store, "b0");
		CHECK(branch->life == BRANCH_CLOSED);
		branch->life = BRANCH_OPENING;
		pthread_mutex_unlock(&b.s.store->lock);
		for (int call = 0; call < NCALLS; call++)
		{
			waiting[call] = (Waiting) {.b = &b, .call = call, .parent = main_tl};
			CHECK(pthread_create(&waiting[call].thread, NULL, call_and_wait, &waiting[call]) == 0);
			wait_until_it_waits(&waiting[call]);
			if (round == 1)
				continue;
			atomic_store(&waiting[call].canceled, true);
			pthread_join(waiting[call].thread, NULL);
			FAILS(waiting[call].err, PS_SQLSTATE_CANCELED, "client's request");
		}
		if (round == 1)
		{
			store_stop(b.s.store);
			for (int call = 0; call < NCALLS; call++)
			{
				pthread_join(waiting[call].thread, NULL);
				FAILS(waiting[call].err, PS_SQLSTATE_TRY_AGAIN, "stopping");
			}
		}
		pthread_mutex_lock(&b.s.store->lock);
		branch->life = BRANCH_CLOSED;
		users = branch->users;
		for (int i = 0; i < b.s.store->nbranches; i++)
			users -= b.s.store->branches[i]->ancestor == branch;
		pthread_mutex_unlock(&b.s.store->lock);
		assert_int_equal(users, 0);
		store_release(main_tl);
		for (int i = -1; i < NBRANCHES && round == 0; i++)
			check_branch(&b, i);
	}
	end_branches(&b);
}

/* The answer of a session whose client sent a cancel request, or is no longer connected. */
static PsError *
ask_never_again(void *arg)
{
	const char *const *sqlstate = arg;

	return sqlstate == NULL ? cancel_error(CANCEL_BY_CLIENT, NULL) : ps_error(*sqlstate, "asked to end");
}

/* The thread that opens a branch ends, too, whatever the reason; the next one opens the branch. */
static void
test_opening_ends(void **state)
{
	History h;
	TestStore s;
	CancelCheck cancel = {ask_never_again, NULL};
	const char *reasons[] = {PS_SQLSTATE_CONNECTION, PS_SQLSTATE_NOT_FOUND, PS_SQLSTATE_TRY_AGAIN};
	uint64 generation;
	WalState walstate;
	XLogRecPtr start;
	XLogRecPtr flushed;
	WalReceiver *receiver;

	history_begin(&h, rnd);
	h.no_copies = true;
	for (int i = 0; i < 12000; i++)
		add_commit(&h, 0, -1);
	store_make(&s, &h);
	OK(timeline_new_generation(s.tl, "test", NULL, &generation, &walstate, &start));
	OK(wal_receiver_open(s.tl, generation, &receiver, &start));
	OK(push(receiver, &h, start, h.gen.pos, &rnd, &flushed));
	wal_receiver_close(receiver);
	store_close(s.store);
	OK(store_open(&s.config, &s.store));
	FAILS(store_use_branch(s.store, "main", &cancel, &s.tl), PS_SQLSTATE_CANCELED, "client's request");
	assert_int_equal(count_open(s.store), 0);
	for (int i = 0; i < lengthof(reasons); i++)
	{
		cancel.arg = &reasons[i];
		FAILS(store_use_branch(s.store, "main", &cancel, &s.tl), reasons[i], "asked to end");
	}
	assert_int_equal(count_open(s.store), 0);
	OK(store_find_branch(s.store, "main", &s.tl));
	OK(timeline_wait_ingested(s.tl, h.gen.pos, 60000, NULL));
	compare_at(s.tl, &h, h.gen.pos);
	store_close(s.store);
	remove_tree(s.dir);
	history_end(&h);
}

/* ---- all at once ---- */

static void *
close_all_the_time(void *arg)
{
	Branches *b = arg;
	uint64 random = 1;

	while (!atomic_load(&b->stop))
	{
		if (close_one(b->s.store, &random))
			atomic_fetch_add(&b->closed, 1);
		else
			sched_yield();
	}
	return NULL;
}

typedef struct User
{
	pthread_t thread;
	Branches *b;
	int number;
	uint64 random;
} User;

/* A branch of one's own: made, read, renamed, deleted. */
static void
use_own(User *u, int k)
{
	Branch *removed;
	Branches *b = u->b;
	Store *store = b->s.store;
	int of = next_random(&u->random, NBRANCHES);
	char parent[64];
	char name[64];
	char renamed[64];
	Timeline *tl;

	name_of(of, parent);
	snprintf(name, sizeof(name), "own%d.%d", u->number, k);
	snprintf(renamed, sizeof(renamed), "%s.renamed", name);
	OK(store_find_branch(store, parent, &tl));
	OK(store_branch(store, name, tl, b->begin[of], NULL, NULL));
	store_release(tl);
	if (next_random(&u->random, 2) == 0)
	{
		OK(store_find_branch(store, name, &tl));
		compare_at(tl, &b->h, b->begin[of]);
		store_release(tl);
	}
	OK(store_rename_branch(store, name, renamed, NULL));
	if (next_random(&u->random, 2) == 0)
	{
		OK(store_find_branch(store, renamed, &tl));
		compare_at(tl, &b->h, b->begin[of]);
		store_release(tl);
	}
	OK(store_remove_branch(store, renamed, NULL, &removed));
	store_destroy_branch(removed);
}

static void *
use_branches(void *arg)
{
	User *u = arg;

	for (int k = 0; k < ROUNDS; k++)
	{
		uint32 what = next_random(&u->random, 10);

		if (what < 7)
			check_branch(u->b, (int) next_random(&u->random, NBRANCHES + 1) - 1);
		else if (what < 9)
			use_own(u, k);
		else
			(void) count_open(u->b->s.store);
	}
	return NULL;
}

static void
test_many_users(void **state)
{
	Branches b;
	User users[NTHREADS];
	pthread_t closer;
	int n;
	Branch **list;

	make_branches(&b);
	store_close(b.s.store);
	OK(store_open(&b.s.config, &b.s.store));
	CHECK(pthread_create(&closer, NULL, close_all_the_time, &b) == 0);
	for (int i = 0; i < NTHREADS; i++)
	{
		users[i] = (User) {.b = &b, .number = i, .random = rnd + i};
		CHECK(pthread_create(&users[i].thread, NULL, use_branches, &users[i]) == 0);
	}
	for (int i = 0; i < NTHREADS; i++)
		pthread_join(users[i].thread, NULL);
	atomic_store(&b.stop, true);
	pthread_join(closer, NULL);
	print_message("%d times something was closed\n", b.closed);
	assert_true(b.closed > ROUNDS);
	list = store_list(b.s.store, &n);
	assert_int_equal(n, NBRANCHES + 1);
	for (int i = 0; i < n; i++)
	{
		/* each child has a pin, and holds it; the list holds it too */
		assert_int_equal(pins_count(list[i]->spec.pins), 0 + list[i]->users - 1);
	}
	store_list_free(list, n);
	while (close_one(b.s.store, &rnd))
		;
	assert_int_equal(b.s.store->nopen, 0);
	end_branches(&b);
}

/* ---- a tenant comes and goes ---- */

/* Whoever finds the branch reads the right thing; else the error says that the tenant is detached. */
static void *
use_what_is_there(void *arg)
{
	User *u = arg;
	Branches *b = u->b;
	int reads = 0;

	while (!atomic_load(&b->stop) || reads < 3)
	{
		int i = (int) next_random(&u->random, NBRANCHES + 1) - 1;
		char name[64];
		Timeline *tl;
		PsError *err;

		name_of(i, name);
		err = store_find_branch(b->s.store, name, &tl);
		if (err != NULL)
		{
			CHECK(ps_error_is(err, PS_SQLSTATE_TRY_AGAIN) || ps_error_is(err, PS_SQLSTATE_NOT_FOUND));
			ps_error_free(err);
			sched_yield();
			continue;
		}
		compare_at(tl, &b->h, i < 0 ? b->h.gen.pos : b->begin[i]);
		store_release(tl);
		reads++;
	}
	return NULL;
}

static void
test_detach(void **state)
{
	Branches b;
	User users[NTHREADS];
	pthread_t closer;
	char id[PS_ID_TEXT];
	char path[512];
	int n;

	make_branches(&b);
	ps_id_format(&test_tenant, id);
	CHECK(pthread_create(&closer, NULL, close_all_the_time, &b) == 0);
	for (int i = 0; i < NTHREADS; i++)
	{
		users[i] = (User) {.b = &b, .number = i, .random = rnd + i};
		CHECK(pthread_create(&users[i].thread, NULL, use_what_is_there, &users[i]) == 0);
	}
	for (int round = 0; round < 20; round++)
	{
		Branch **timelines;
		Tenant *tenant;

		OK(store_begin_detach(b.s.store, round % 2 == 0 ? "b7" : id, NULL, &tenant, &timelines, &n));
		assert_int_equal(n, NBRANCHES + 1);
		FAILS(store_attach_tenant(b.s.store, id, true), PS_SQLSTATE_STATE, "being detached");
		store_end_detach(b.s.store, tenant, timelines, n);
		assert_int_equal(b.s.store->nbranches, 0);
		assert_true(tenant->nopen == 0 && tenant->env.redo == NULL);
		snprintf(path, sizeof(path), "%s/tenants/%s/detached", b.s.dir, id);
		assert_true(access(path, F_OK) == 0);
		OK(store_attach_tenant(b.s.store, round % 3 == 0 ? "b3" : id, true));
		assert_true(access(path, F_OK) != 0);
		pg_usleep(next_random(&rnd, 5000));
	}
	atomic_store(&b.stop, true);
	for (int i = 0; i < NTHREADS; i++)
		pthread_join(users[i].thread, NULL);
	pthread_join(closer, NULL);
	for (int i = -1; i < NBRANCHES; i++)
		check_branch(&b, i);
	end_branches(&b);
}

/* The store's own thread closes what nobody uses, not what has WAL that is nowhere else. */
static void
test_idle_thread(void **state)
{
	Branches b;
	uint64 generation;
	WalState walstate;
	XLogRecPtr start;
	Timeline *tl;

	make_branches(&b);
	store_close(b.s.store);
	b.s.config.idle_timeline_timeout = 1;
	b.s.config.checkpoint_distance = 256;
	OK(store_open(&b.s.config, &b.s.store));
	OK(store_find_branch(b.s.store, "b15", &tl));
	store_release(tl);
	/* a checkpoint that stays in memory for an hour */
	OK(store_find_branch(b.s.store, "b0", &tl));
	OK(timeline_new_generation(tl, "test", NULL, &generation, &walstate, &start));
	store_release(tl);
	for (int i = 0; count_open(b.s.store) > 2; i++)
	{
		CHECK(i < 10000);
		pg_usleep(1000);
	}
	pg_usleep(1300 * 1000);
	assert_int_equal(count_open(b.s.store), 2); /* b0 and main */
	end_branches(&b);
}

/* ---- why it ends ---- */

/* Use of an open branch ends with the reason for which it is taken away, not with another. */
static void
test_reasons(void **state)
{
	History h;
	TestStore s;
	char id[PS_ID_TEXT];
	char tenant_detached[128];
	Branch *deleted;
	Branch **branches;
	Tenant *tenant;
	Timeline *child;
	XLogRecPtr beyond;
	int n;

	history_begin(&h, rnd);
	store_make(&s, &h);
	beyond = h.gen.pos + 1024;
	OK(store_branch(s.store, "child", s.tl, PG_UINT64_MAX, NULL, &child));
	OK(store_trash_branch(s.store, "child", "test", NULL, &deleted));
	FAILS(timeline_wait_ingested(child, beyond, -1, NULL), PS_SQLSTATE_NOT_FOUND, "branch \"child\" is being deleted");
	FAILS(timeline_check_stopping(child), PS_SQLSTATE_NOT_FOUND, "branch \"child\" is being deleted");
	store_release(child);
	store_finish_trash(deleted);
	OK(store_undelete_branch(s.store, "child", NULL, NULL, tenant_detached));

	OK(store_begin_detach(s.store, "main", NULL, &tenant, &branches, &n));
	snprintf(tenant_detached, sizeof(tenant_detached), "tenant %s is being detached", ps_id_format(&test_tenant, id));
	FAILS(timeline_wait_ingested(s.tl, beyond, -1, NULL), PS_SQLSTATE_TRY_AGAIN, tenant_detached);
	store_release(s.tl);
	store_end_detach(s.store, tenant, branches, n);
	OK(store_attach_tenant(s.store, "main", false));

	OK(store_find_branch(s.store, "main", &s.tl));
	store_stop(s.store);
	FAILS(timeline_wait_ingested(s.tl, beyond, -1, NULL), PS_SQLSTATE_TRY_AGAIN, "the store is stopping");
	FAILS(store_find_branch(s.store, "child", &child), PS_SQLSTATE_TRY_AGAIN, "the store is stopping");
	store_close(s.store);
	remove_tree(s.dir);
	history_end(&h);
}

typedef struct Finder
{
	pthread_t thread;
	Session session;
	char *args[3];
	PsError *err;
} Finder;

static void *
find_timeline(void *arg)
{
	Finder *f = arg;
	Timeline *tl;
	uint64 generation;

	f->err = command_find_timeline(&f->session, f->args, &tl, &generation);
	return NULL;
}

/* A command that found its branch when the deletion of it had not begun gets the same error as a later one. */
static void
test_deleted_when_found(void **state)
{
	History h;
	TestStore s;
	Server *server = pg_malloc0(sizeof(Server));
	char tenant[PS_ID_TEXT];
	char timeline[PS_ID_TEXT];
	Finder f = {.session = {.server = server}, .args = {tenant, timeline, "0"}};
	Branch *branch;
	int uses;

	history_begin(&h, rnd);
	store_make(&s, &h);
	server->store = s.store;
	pthread_mutex_init(&server->lock, NULL);
	(void) ps_id_format(&test_tenant, tenant);
	(void) ps_id_format(&test_timeline, timeline);
	removed_note(server, &test_timeline, "Branch \"main\" was deleted");

	/* what a session uses is noted under Server.lock */
	pthread_mutex_lock(&server->lock);
	CHECK(pthread_create(&f.thread, NULL, find_timeline, &f) == 0);
	for (int i = 0; i == 0 || uses < 2; i++)
	{
		CHECK(i < 30000);
		pg_usleep(1000);
		pthread_mutex_lock(&s.store->lock);
		uses = branch_of(s.tl)->uses;
		pthread_mutex_unlock(&s.store->lock);
	}
	OK(store_trash_branch(s.store, "main", "test", NULL, &branch));
	pthread_mutex_unlock(&server->lock);
	pthread_join(f.thread, NULL);
	CHECK(f.err != NULL && f.err->detail != NULL && strstr(f.err->detail, "Branch \"main\" was deleted at") != NULL);
	FAILS(f.err, PS_SQLSTATE_NOT_FOUND, "branch \"main\" is being deleted");

	session_release_all(&f.session);
	store_release(s.tl);
	store_finish_trash(branch);
	store_close(s.store);
	pthread_mutex_destroy(&server->lock);
	free(server);
	remove_tree(s.dir);
	history_end(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_opened),
		cmocka_unit_test(test_closed_branches),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_no_descriptors),
		cmocka_unit_test(test_waits_end),
		cmocka_unit_test(test_opening_ends),
		cmocka_unit_test(test_many_users),
		cmocka_unit_test(test_detach),
		cmocka_unit_test(test_idle_thread),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_deleted_when_found),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
