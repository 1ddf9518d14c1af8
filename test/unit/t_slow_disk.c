/*
 * t_slow_disk.c
 *	  Branches are made, renamed, deleted, replaced and attached on a disk that
 *	  takes long over a sync.
 *
 * Rules: nobody who does something else waits for it; nobody else gets the name
 * that is being given, makes a branch in one that is being deleted, deletes one
 * in which another is being made; who wants to change the same branch waits, and
 * can be canceled; what a manifest has as the name is what the branch is called.
 */
#include "model.h"
#include "sqlstate.h"

static World w;

static PsError *
cancel_always(void *arg)
{
	return cancel_error(CANCEL_BY_CLIENT, NULL);
}

static const CancelCheck canceled = {cancel_always, NULL};

/* ---- what a thread does meanwhile ---- */

typedef struct Work
{
	PsError *(*run)(const struct Work *work);
	const char *name;
	const char *new_name;
	Timeline *parent;
	pthread_t thread;
} Work;

static void *
work_main(void *arg)
{
	Work *work = arg;

	OK(work->run(work));
	return NULL;
}

/* Returns when it waits for the sync of a path that ends so, after the first "skip". */
static void
begin_work(Work *work, const char *path, int skip)
{
	fault_hold(path, skip);
	CHECK(pthread_create(&work->thread, NULL, work_main, work) == 0);
	fault_wait_held();
}

static void
end_work(Work *work)
{
	fault_go_on();
	CHECK(pthread_join(work->thread, NULL) == 0);
}

static PsError *
create(const Work *work)
{
	return store_branch(w.s.store, work->new_name, work->parent, PG_UINT64_MAX, NULL, NULL);
}

static PsError *
rename_it(const Work *work)
{
	return store_rename_branch(w.s.store, work->name, work->new_name, NULL);
}

static PsError *
delete_it(const Work *work)
{
	Branch *removed;

	PS_TRY(store_remove_branch(w.s.store, work->name, NULL, &removed));
	store_destroy_branch(removed);
	return NULL;
}

static PsError *
trash_it(const Work *work)
{
	Branch *removed;

	PS_TRY(store_trash_branch(w.s.store, work->name, "test", NULL, &removed));
	store_finish_trash(removed);
	return NULL;
}

static atomic_bool waits;

static PsError *
note_wait(void *arg)
{
	atomic_store(&waits, true);
	return NULL;
}

/* In one that is being deleted: waits for that. */
static PsError *
create_in_vain(const Work *work)
{
	static const CancelCheck cancel = {note_wait, NULL};

	FAILS(store_branch(w.s.store, work->new_name, work->parent, PG_UINT64_MAX, &cancel, NULL), PS_SQLSTATE_NOT_FOUND,
		  "it was deleted");
	return NULL;
}

static PsError *
undelete_it(const Work *work)
{
	char name[TIMELINE_NAME_MAX + 1];

	return store_undelete_branch(w.s.store, work->name, work->new_name, NULL, name);
}

static PsError *
purge_it(const Work *work)
{
	Branch *removed;

	PS_TRY(store_purge_branch(w.s.store, work->name, NULL, &removed));
	store_destroy_branch(removed);
	return NULL;
}

static PsError *
replace_it(const Work *work)
{
	char old_name[TIMELINE_NAME_MAX + 1];

	return store_replace_branch(w.s.store, work->name, work->parent, PG_UINT64_MAX, false, NULL, old_name);
}

static PsError *
attach_it(const Work *work)
{
	return store_attach_tenant(w.s.store, work->name, false);
}

/* ---- what others do ---- */

static void
check_others_go_on(const char *name)
{
	TimelineInfo info;
	Timeline *tl;
	Branch **list;
	int n;

	list = store_list(w.s.store, &n);
	store_list_free(list, n);
	OK(store_branch_info(w.s.store, name, &info));
	OK(store_find_branch(w.s.store, name, &tl));
	store_release(tl);
}

static void
check_name_is_taken(const char *name, Timeline *parent)
{
	FAILS(store_branch(w.s.store, name, parent, PG_UINT64_MAX, &canceled, NULL), PS_SQLSTATE_EXISTS,
		  "is being created");
	FAILS(store_rename_branch(w.s.store, "other", name, &canceled), PS_SQLSTATE_EXISTS, "is being created");
}

static bool
exists(const char *name)
{
	TimelineInfo info;
	PsError *err = store_branch_info(w.s.store, name, &info);
	bool found = err == NULL;

	ps_error_free(err);
	return found;
}

/* "main", "child" of it, "other" of it; closed but for main. */
static Timeline *
make_store(void)
{
	Timeline *tl;

	world_begin(&w, 1, NULL);
	w.s.config.compaction_workers = 0;
	w.s.config.idle_timeline_timeout = 0;
	world_restart(&w, LOSE_NOTHING, 0, NULL);
	OK(write_records(&w, model_named(&w, "main"), 10, false));
	OK(wait_ingested(model_named(&w, "main")));
	tl = model_named(&w, "main")->tl;
	OK(store_branch(w.s.store, "child", tl, PG_UINT64_MAX, NULL, NULL));
	OK(store_branch(w.s.store, "other", tl, PG_UINT64_MAX, NULL, NULL));
	return tl;
}

/* The names of all after a power failure are those that they have. */
static void
end_store(const char *const *names, int n)
{
	Branch **list;
	int nlist;

	while (w.n > 0)
	{
		let_go(w.branches[0]);
		model_remove(&w, w.branches[0]);
	}
	for (int round = 0; round < 2; round++)
	{
		list = store_list(w.s.store, &nlist);
		CHECK(nlist == n);
		for (int i = 0; i < n; i++)
			if (strcmp(branch_name(list[i]), names[i]) != 0)
			{
				fprintf(stderr, "branch \"%s\", expected \"%s\"\n", branch_name(list[i]), names[i]);
				abort();
			}
		store_list_free(list, nlist);
		store_close(w.s.store);
		fault_restart(LOSE_ALL);
		OK(store_open(&w.s.config, &w.s.store));
	}
	world_end(&w);
}

/* ---- tests ---- */

static void
test_create(void **state)
{
	Branch *removed;
	static const char *const names[] = {"child", "main", "new", "other"};
	Timeline *main_tl = make_store();
	Work work = {create, .new_name = "new", .parent = main_tl};
	Tenant *tenant;
	Branch **timelines;
	int n;

	begin_work(&work, "/timelines", 0);
	check_others_go_on("main");
	check_others_go_on("child");
	CHECK(!exists("new"));
	check_name_is_taken("new", main_tl);
	FAILS(store_remove_branch(w.s.store, "main", &canceled, &removed), PS_SQLSTATE_STATE,
		  "\"new\", which is being created");
	FAILS(store_begin_detach(w.s.store, "main", &canceled, &tenant, &timelines, &n), PS_SQLSTATE_CANCELED,
		  "client's request");
	check_others_go_on("main");
	end_work(&work);
	check_others_go_on("new");
	end_store(names, lengthof(names));
}

static void
rename_child(bool open)
{
	static const char *const names[] = {"main", "other", "renamed"};
	Timeline *main_tl = make_store();
	Work work = {rename_it, .name = "child", .new_name = "renamed"};
	Timeline *tl = NULL;
	Branch *gone;

	if (open)
		OK(store_find_branch(w.s.store, "child", &tl));
	/* the log of an open branch is appended to */
	begin_work(&work, open ? "timeline.log" : "timeline.log.tmp", 0);
	check_others_go_on("main");
	check_name_is_taken("renamed", main_tl);
	CHECK(exists("child") && !exists("renamed"));
	if (open)
		check_others_go_on("child");
	else
		FAILS(store_use_branch(w.s.store, "child", &canceled, &tl), PS_SQLSTATE_CANCELED, "client's request");
	FAILS(store_rename_branch(w.s.store, "child", "third", &canceled), PS_SQLSTATE_CANCELED, "client's request");
	FAILS(store_remove_branch(w.s.store, "child", &canceled, &gone), PS_SQLSTATE_CANCELED, "client's request");
	end_work(&work);
	CHECK(!exists("child"));
	check_others_go_on("renamed");
	/* the next manifest has it, too */
	if (open)
	{
		uint64 generation;
		WalState walstate;
		XLogRecPtr checkpoint;

		OK(timeline_new_generation(tl, "test", NULL, &generation, &walstate, &checkpoint));
		store_release(tl);
	}
	end_store(names, lengthof(names));
}

static void
test_rename(void **state)
{
	rename_child(false);
	rename_child(true);
}

static void
delete_child(bool open)
{
	static const char *const names[] = {"main", "other"};
	Work work = {delete_it, .name = "child"};
	Timeline *tl = NULL;
	Branch *gone;

	make_store();
	if (open)
		OK(store_find_branch(w.s.store, "child", &tl));
	begin_work(&work, "/timelines", 0);
	check_others_go_on("main");
	FAILS(store_rename_branch(w.s.store, "child", "third", &canceled), PS_SQLSTATE_CANCELED, "client's request");
	FAILS(store_remove_branch(w.s.store, "child", &canceled, &gone), PS_SQLSTATE_CANCELED, "client's request");
	if (open)
	{
		FAILS(store_branch(w.s.store, "grandchild", tl, PG_UINT64_MAX, &canceled, NULL), PS_SQLSTATE_CANCELED,
			  "client's request");
		store_release(tl);
	}
	end_work(&work);
	CHECK(!exists("child"));
	end_store(names, lengthof(names));
}

static void
test_delete(void **state)
{
	delete_child(false);
	delete_child(true);
}

/* Into the trash, out of it under another name, in again and away for good. */
static void
trash_child(bool open)
{
	static const char *const names[] = {"main", "other"};
	Timeline *main_tl = make_store();
	Work trash = {trash_it, .name = "child"};
	Work undelete = {undelete_it, .name = "child", .new_name = "back"};
	Work purge = {purge_it, .name = "back"};
	char name[TIMELINE_NAME_MAX + 1];
	char id[PS_ID_TEXT];
	TimelineInfo info;
	Timeline *tl = NULL;
	Branch *gone;
	Tenant *tenant;
	Branch **timelines;
	int n;

	OK(store_branch_info(w.s.store, "child", &info));
	ps_id_format(&info.timeline, id);
	if (open)
		OK(store_find_branch(w.s.store, "child", &tl));
	begin_work(&trash, "deleted.tmp", 0);
	check_others_go_on("main");
	CHECK(exists("child"));
	FAILS(store_rename_branch(w.s.store, "child", "third", &canceled), PS_SQLSTATE_CANCELED, "client's request");
	FAILS(store_remove_branch(w.s.store, "child", &canceled, &gone), PS_SQLSTATE_CANCELED, "client's request");
	FAILS(store_undelete_branch(w.s.store, "child", NULL, &canceled, name), PS_SQLSTATE_NOT_FOUND, "in the trash");
	if (open)
	{
		Work grandchild = {create_in_vain, .new_name = "grandchild", .parent = tl};

		FAILS(store_branch(w.s.store, "grandchild", tl, PG_UINT64_MAX, &canceled, NULL), PS_SQLSTATE_CANCELED,
			  "client's request");
		atomic_store(&waits, false);
		CHECK(pthread_create(&grandchild.thread, NULL, work_main, &grandchild) == 0);
		while (!atomic_load(&waits))
			pg_usleep(1000);
		end_work(&grandchild);
		store_release(tl);
	}
	end_work(&trash);
	CHECK(!exists("child") && !exists("grandchild"));

	begin_work(&undelete, id, 0);
	check_others_go_on("main");
	check_name_is_taken("back", main_tl);
	CHECK(!exists("child") && !exists("back"));
	FAILS(store_trash_branch(w.s.store, "main", "test", &canceled, &gone), PS_SQLSTATE_STATE,
		  "\"back\", which is being created");
	FAILS(store_purge_branch(w.s.store, id, &canceled, &gone), PS_SQLSTATE_CANCELED, "client's request");
	FAILS(store_begin_detach(w.s.store, "main", &canceled, &tenant, &timelines, &n), PS_SQLSTATE_CANCELED,
		  "client's request");
	end_work(&undelete);
	check_others_go_on("back");

	OK(trash_it(&(Work) {.name = "back"}));
	begin_work(&purge, "/timelines", 0);
	check_others_go_on("main");
	FAILS(store_undelete_branch(w.s.store, "back", NULL, &canceled, name), PS_SQLSTATE_CANCELED, "client's request");
	trash_empty(w.s.store);
	end_work(&purge);
	CHECK(!exists("back"));
	end_store(names, lengthof(names));
}

static void
test_trash(void **state)
{
	trash_child(false);
	trash_child(true);
}

/* First it is put in place, then what it replaces gets another name. */
static void
test_replace(void **state)
{
	static const char *const names[] = {"child", "child.1", "main", "other"};
	Timeline *main_tl = make_store();
	Work work = {replace_it, .name = "child", .parent = main_tl};
	Timeline *tl;

	begin_work(&work, "/timelines", 0);
	check_others_go_on("main");
	check_name_is_taken("child.1", main_tl);
	CHECK(exists("child"));
	end_work(&work);
	CHECK(exists("child") && exists("child.1"));
	OK(delete_it(&(Work) {.name = "child.1"}));

	begin_work(&work, "timeline.log.tmp", 0);
	check_others_go_on("main");
	check_others_go_on("child");
	FAILS(store_use_branch(w.s.store, "child.1", &canceled, &tl), PS_SQLSTATE_CANCELED, "client's request");
	end_work(&work);
	check_others_go_on("child.1");
	end_store(names, lengthof(names));
}

static void
test_attach(void **state)
{
	static const char *const names[] = {"child", "main", "other"};
	char id[PS_ID_TEXT];
	Work work = {attach_it, .name = id};
	Branch **timelines;
	Branch **list;
	Tenant *tenant;
	int n;

	make_store();
	ps_id_format(&test_tenant, id);
	let_go(w.branches[0]);
	OK(store_begin_detach(w.s.store, "main", NULL, &tenant, &timelines, &n));
	store_end_detach(w.s.store, tenant, timelines, n);
	/* its directory is synced with all that is in it, then because of the mark */
	begin_work(&work, id, 1);
	list = store_list(w.s.store, &n);
	CHECK(n == 0);
	store_list_free(list, n);
	FAILS(store_check_new_name(w.s.store, "child"), PS_SQLSTATE_EXISTS, "is being created");
	OK(store_check_new_name(w.s.store, "third"));
	end_work(&work);
	check_others_go_on("main");
	end_store(names, lengthof(names));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),
		cmocka_unit_test(test_rename),
		cmocka_unit_test(test_delete),
		cmocka_unit_test(test_trash),
		cmocka_unit_test(test_replace),
		cmocka_unit_test(test_attach),
	};

	/* who waits that should not would wait for ever */
	alarm(300);
	ps_log_level = PS_FATAL;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
