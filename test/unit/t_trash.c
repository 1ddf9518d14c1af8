/*
 * t_trash.c
 *	  The trash: marks that this version cannot read, checks of what is in it.
 *
 * Rules: what a mark of a later version marks stays in the trash, and only that
 * version takes it out or removes it; of a mark that cannot be read nobody knows
 * whether it marks anything, so what it may mark is neither removed nor served;
 * who checks what is in the trash keeps nobody from taking it away.
 *
 * TEST_SEED in the environment repeats a run.
 */
#include "timeline_util.h"

#include <fcntl.h>

#include "common/logging.h"

#include "sqlstate.h"
#include "store/store_impl.h"

static uint64 rnd;

/* "main", and "leaf" of it, which is in the trash; not open.  Nothing of the store's own empties that. */
static void
make_store(TestStore *s, History *h, char leaf_mark[600], char tenant_mark[600])
{
	Timeline *leaf;
	Branch *deleted;
	char id[PS_ID_TEXT];

	history_begin(h, rnd);
	h->no_copies = true;
	store_make(s, h);
	store_close(s->store);
	s->config.compaction_workers = 0;
	s->config.trash_interval = 86400;
	OK(store_try_open(s));
	OK(store_branch(s->store, "leaf", s->tl, PG_UINT64_MAX, NULL, &leaf));
	snprintf(leaf_mark, 600, "%s/%s", leaf->spec->dir, TRASH_MARK_FILE);
	snprintf(tenant_mark, 600, "%s/tenants/%s/%s", s->dir, ps_id_format(&test_tenant, id), TRASH_MARK_FILE);
	store_release(leaf);
	OK(store_trash_branch(s->store, "leaf", "test", NULL, &deleted));
	store_finish_trash(deleted);
	store_close(s->store);
	/* all that is in it is too old */
	s->config.trash_interval = 0;
}

static void
end_test(TestStore *s, History *h)
{
	store_close(s->store);
	remove_tree(s->dir);
	history_end(h);
}

static void
write_file(const char *path, const char *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && write(fd, data, len) == (ssize_t) len && close(fd) == 0);
}

static size_t
read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t len;

	CHECK(fd >= 0 && (len = read(fd, buf, size)) >= 0);
	close(fd);
	return len;
}

/* What a later version may write: another length, a checksum elsewhere. */
static const char later[] = "PSTR\0\0\0\7 and what nobody knows";

static bool
is_later(const char *path)
{
	char buf[1000];

	return read_file(path, buf, sizeof(buf)) == sizeof(later) && memcmp(buf, later, sizeof(later)) == 0;
}

#define BOTH_VERSIONS "has format version 7, this pageserver reads version 1"

/* ---- of a later version ---- */

static void
test_branch_of_later_version(void **state)
{
	Branch *removed;
	History h;
	TestStore s;
	char path[600];
	char tenant_mark[600];
	char mark[1000];
	size_t len;
	char name[TIMELINE_NAME_MAX + 1];
	Timeline *tl;
	DeletedInfo *list;
	int n;

	make_store(&s, &h, path, tenant_mark);
	len = read_file(path, mark, sizeof(mark));
	write_file(path, later, sizeof(later));
	for (int i = 0; i < 2; i++)
	{
		OK(store_try_open(&s));
		if (i == 0)
			FAILS(store_find_branch(s.store, "leaf", &tl), PS_SQLSTATE_NOT_FOUND, "it was deleted");
		FAILS(store_undelete_branch(s.store, "leaf", NULL, NULL, name), PS_SQLSTATE_STATE, BOTH_VERSIONS);
		FAILS(store_undelete_branch(s.store, "leaf", "other", NULL, name), PS_SQLSTATE_STATE, BOTH_VERSIONS);
		FAILS(store_purge_branch(s.store, "leaf", NULL, &removed), PS_SQLSTATE_STATE, BOTH_VERSIONS);
		CHECK(removed == NULL);
		trash_empty(s.store);
		list = store_list_deleted(s.store, &n);
		CHECK(n == 1 && strstr(list[0].info.error, BOTH_VERSIONS) != NULL && list[0].when == 0 &&
			  list[0].time_left == TRASH_MARK_NEVER);
		store_list_deleted_free(list, n);
		CHECK(is_later(path));
		/* the name is free; the branch in which it begins stays */
		if (i == 0)
			OK(store_branch(s.store, "leaf", s.tl, PG_UINT64_MAX, NULL, NULL));
		FAILS(store_remove_branch(s.store, "main", NULL, &removed), PS_SQLSTATE_STATE, "\"leaf\" (deleted)");
		store_close(s.store);
	}
	/* the later version goes back to this one's */
	write_file(path, mark, len);
	s.config.trash_interval = 86400;
	OK(store_try_open(&s));
	OK(store_undelete_branch(s.store, "leaf", "other", NULL, name));
	OK(store_find_branch(s.store, "other", &tl));
	store_release(tl);
	end_test(&s, &h);
}

static void
test_tenant_of_later_version(void **state)
{
	History h;
	TestStore s;
	char leaf_mark[600];
	char path[600];
	char id[PS_ID_TEXT];
	TenantInfo *list;
	int n;

	make_store(&s, &h, leaf_mark, path);
	write_file(path, later, sizeof(later));
	ps_id_format(&test_tenant, id);
	OK(store_open(&s.config, &s.store));
	FAILS(store_attach_tenant(s.store, id, true), PS_SQLSTATE_NOT_FOUND, "is deleted");
	FAILS(store_undelete_tenant(s.store, id), PS_SQLSTATE_STATE, BOTH_VERSIONS);
	FAILS(store_purge_tenant(s.store, id), PS_SQLSTATE_STATE, BOTH_VERSIONS);
	trash_empty_tenants(s.store);
	list = store_list_tenants(s.store, &n);
	CHECK(n == 1 && list[0].deleted && list[0].when == 0 && list[0].time_left == TRASH_MARK_NEVER);
	store_list_tenants_free(list, n);
	CHECK(is_later(path));
	store_close(s.store);
	unlink(path);
	OK(store_try_open(&s));
	end_test(&s, &h);
}

/* ---- that cannot be read ---- */

static void
test_unreadable_mark(void **state)
{
	History h;
	TestStore s;
	char path[600];
	char tenant_mark[600];
	char detached[600];
	char mark[1000];
	size_t len;
	char id[PS_ID_TEXT];
	char name[TIMELINE_NAME_MAX + 1];
	Timeline *tl;

	make_store(&s, &h, path, tenant_mark);
	len = read_file(path, mark, sizeof(mark));
	/* a directory can be opened, and not read */
	CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
	OK(store_try_open(&s));
	trash_empty(s.store);
	FAILS(store_find_branch(s.store, "leaf", &tl), PS_SQLSTATE_IO, "could not read file");
	store_close(s.store);
	CHECK(rmdir(path) == 0);
	write_file(path, mark, len);

	/* the same of a tenant that is detached, as one that is deleted is, too */
	ps_id_format(&test_tenant, id);
	snprintf(detached, sizeof(detached), "%s/tenants/%s/detached", s.dir, id);
	write_file(detached, "", 0);
	CHECK(mkdir(tenant_mark, 0700) == 0);
	OK(store_open(&s.config, &s.store));
	trash_empty_tenants(s.store);
	FAILS(store_attach_tenant(s.store, id, true), PS_SQLSTATE_IO, "could not read file");
	CHECK(access(detached, F_OK) == 0);
	/* it can be read again */
	CHECK(rmdir(tenant_mark) == 0);
	write_file(tenant_mark, mark, len);
	FAILS(store_attach_tenant(s.store, id, true), PS_SQLSTATE_NOT_FOUND, "is deleted");
	OK(store_undelete_tenant(s.store, id));
	OK(store_attach_tenant(s.store, id, true));
	OK(store_undelete_branch(s.store, "leaf", NULL, NULL, name));
	end_test(&s, &h);
}

/* ---- what is checked is taken away meanwhile ---- */

typedef struct Check
{
	TestStore *s;
	bool purge; /* once the manifest has been read */
	Branch *gone;
	int files;
	int damaged;
} Check;

static void
note_file(void *arg, const char *file, uint64 bytes, const char *damage)
{
	Check *check = arg;

	check->files++;
	check->damaged += damage != NULL;
	if (check->purge && check->gone == NULL)
		OK(store_purge_branch(check->s->store, "leaf", NULL, &check->gone));
}

/* A purge need not wait for it; files that are not there then are no damage. */
static void
test_verify_gives_way(void **state)
{
	History h;
	TestStore s;
	char leaf_mark[600];
	char tenant_mark[600];
	Check check = {.s = &s};
	Branch *removed;

	make_store(&s, &h, leaf_mark, tenant_mark);
	OK(store_try_open(&s));
	OK(store_hold_deleted(s.store, "leaf", NULL, &removed));
	OK(store_verify_deleted(removed, 1000, NULL, note_file, &check));
	CHECK(check.files == 3 && check.damaged == 0);
	check.purge = true;
	FAILS(store_verify_deleted(removed, 1000, NULL, note_file, &check), PS_SQLSTATE_TRY_AGAIN,
		  "restored or removed from the trash");
	CHECK(check.gone == removed && check.files == 4 && check.damaged == 0);
	store_release_deleted(removed);
	store_destroy_branch(removed);
	end_test(&s, &h);
}

static PsError *
client_has_left(void *arg)
{
	return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
}

/* A check that ends because its client or the branch is gone says nothing about the file that it was reading. */
static void
test_verify_ends(void **state)
{
	History h;
	TestStore s;
	CancelCheck left = {client_has_left, NULL};
	Check check = {.s = &s};
	TimelineInfo info;
	char name[LAYER_NAME_MAX];
	LayerSet *set;

	history_begin(&h, rnd);
	store_make(&s, &h);
	/* slowly, so that it asks at the first value */
	FAILS(verify_timeline(s.tl, 1, &left, note_file, &check), PS_SQLSTATE_CONNECTION, "closed the connection");
	set = timeline_layers(s.tl);
	CHECK(layers_damaged(set->map, name) == 0);
	timeline_stop(s.tl, CANCEL_BRANCH_DELETED);
	FAILS(verify_timeline(s.tl, 1, NULL, note_file, &check), PS_SQLSTATE_NOT_FOUND, "is being deleted");
	CHECK(layers_damaged(set->map, name) == 0);
	layer_set_unref(set);
	timeline_info(s.tl, &info);
	CHECK(info.error[0] == '\0');
	CHECK(check.files == 2 && check.damaged == 0);
	store_release(s.tl);
	store_close(s.store);
	remove_tree(s.dir);
	history_end(&h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_branch_of_later_version),
		cmocka_unit_test(test_tenant_of_later_version),
		cmocka_unit_test(test_unreadable_mark),
		cmocka_unit_test(test_verify_gives_way),
		cmocka_unit_test(test_verify_ends),
	};
	const char *seed = getenv("TEST_SEED");

	rnd = seed != NULL ? strtoul(seed, NULL, 10) : (uint64) time(NULL) ^ (uint64) getpid() << 16;
	print_message("TEST_SEED=%llu\n", (unsigned long long) rnd);
	ps_log_level = PS_FATAL;
	pg_logging_set_level(PG_LOG_OFF);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
