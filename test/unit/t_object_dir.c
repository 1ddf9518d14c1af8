/*
 * t_object_dir.c
 *	  Object storage in a directory: all operations, races of writers, lost answers
 *	  of link(), failed syncs, files that dead writers left.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/stringinfo.h"

#include "base/clock.h"
#include "remote/object.h"
#include "sqlstate.h"

static char dir[MAXPGPATH];
static ObjectStore *store;

/* what the next link() does */
typedef enum LinkFault
{
	LINK_NORMAL,
	LINK_LOST,   /* acts, and says EEXIST, as an NFS client that repeats a request */
	LINK_FAILED, /* acts, and says EIO */
	LINK_EIO     /* does not act, and says EIO */
} LinkFault;
static _Atomic LinkFault link_fault;
/* the number of the fsync() that fails, from 1; 0: none */
static int failing_sync;

/* a file or folder that open() does not find until the folder above it has been opened, as with NFS; "": none */
static char hidden[MAXPGPATH];
/* a folder that is removed, with the file "b" in it, by somebody else before it is opened; "": none */
static char vanishing[MAXPGPATH];
/* a file that cannot be opened for reading; "": none */
static char unreadable[MAXPGPATH];

extern int __real_open(const char *path, int flags, ...);
extern int __wrap_open(const char *path, int flags, ...);
extern int __real_link(const char *from, const char *to);
extern int __wrap_link(const char *from, const char *to);
extern int __real_fsync(int fd);
extern int __wrap_fsync(int fd);

int
__wrap_link(const char *from, const char *to)
{
	LinkFault fault = atomic_exchange(&link_fault, LINK_NORMAL);

	if (fault == LINK_EIO)
	{
		errno = EIO;
		return -1;
	}
	if (__real_link(from, to) != 0)
		return -1;
	if (fault == LINK_NORMAL)
		return 0;
	errno = fault == LINK_LOST ? EEXIST : EIO;
	return -1;
}

int
__wrap_open(const char *path, int flags, ...)
{
	size_t len = strlen(hidden);
	mode_t mode = 0;

	if (flags & O_CREAT)
	{
		va_list args;

		va_start(args, flags);
		mode = (mode_t) va_arg(args, int);
		va_end(args);
	}
	if (len > 0 && strncmp(path, hidden, len) == 0 && (path[len] == '\0' || path[len] == '/'))
	{
		errno = ENOENT;
		return -1;
	}
	if (len > 0 && strlen(path) == strrchr(hidden, '/') - hidden && strncmp(path, hidden, strlen(path)) == 0)
		hidden[0] = '\0';
	if (strcmp(path, vanishing) == 0)
	{
		char *file = psprintf("%s/b", path);

		vanishing[0] = '\0';
		unlink(file);
		rmdir(path);
		free(file);
	}
	if (strcmp(path, unreadable) == 0)
	{
		errno = EIO;
		return -1;
	}
	return __real_open(path, flags, mode);
}

int
__wrap_fsync(int fd)
{
	if (__atomic_load_n(&failing_sync, __ATOMIC_RELAXED) > 0 &&
		__atomic_sub_fetch(&failing_sync, 1, __ATOMIC_RELAXED) == 0)
	{
		errno = EIO;
		return -1;
	}
	return __real_fsync(fd);
}

static void
assert_ok(PsError *err)
{
	if (err != NULL)
		fail_msg("%s: %s", err->sqlstate, err->message);
}

static void
assert_state(PsError *err, const char *sqlstate)
{
	assert_non_null(err);
	assert_string_equal(err->sqlstate, sqlstate);
	ps_error_free(err);
}

static void
put(const char *key, const char *text)
{
	assert_ok(object_put(store, key, text, strlen(text), NULL));
}

static ObjectOutcome
put_once(const char *key, const char *text)
{
	ObjectOutcome outcome;

	assert_ok(object_put_once(store, key, text, strlen(text), NULL, &outcome));
	return outcome;
}

static void
assert_object(const char *key, const char *text)
{
	void *data;
	size_t len;

	assert_ok(object_get(store, key, 1000, &data, &len, NULL));
	assert_int_equal(len, strlen(text));
	assert_memory_equal(data, text, len);
	free(data);
}

/* Number of files in DIR/.tmp. */
static int
count_tmp(void)
{
	char *path = psprintf("%s/.tmp", dir);
	DIR *d = opendir(path);
	struct dirent *de;
	int n = 0;

	while ((de = readdir(d)) != NULL)
		n += de->d_name[0] != '.';
	closedir(d);
	free(path);
	return n;
}

static int
setup(void **state)
{
	char *url;

	strlcpy(dir, "/tmp/t_object_dir.XXXXXX", sizeof(dir));
	assert_non_null(mkdtemp(dir));
	url = psprintf("file://%s", dir);
	assert_ok(object_store_open(url, NULL, &store));
	assert_string_equal(object_store_url(store), url);
	free(url);
	return 0;
}

static int
teardown(void **state)
{
	char *command = psprintf("rm -rf '%s'", dir);

	object_store_close(store);
	assert_int_equal(system(command), 0);
	free(command);
	return 0;
}

static void
test_put_get(void **state)
{
	char buf[10];
	size_t got;
	void *data;
	size_t len;

	put("t/a/m/1", "0123456789");
	assert_object("t/a/m/1", "0123456789");
	put("t/a/m/1", "abcdefghij");
	assert_object("t/a/m/1", "abcdefghij");
	put("t/a/empty", "");
	assert_object("t/a/empty", "");

	assert_ok(object_get_range(store, "t/a/m/1", 2, 3, buf, &got, NULL));
	assert_int_equal(got, 3);
	assert_memory_equal(buf, "cde", 3);
	assert_ok(object_get_range(store, "t/a/m/1", 8, 10, buf, &got, NULL));
	assert_int_equal(got, 2);
	assert_ok(object_get_range(store, "t/a/m/1", 10, 10, buf, &got, NULL));
	assert_int_equal(got, 0);
	assert_ok(object_get_range(store, "t/a/m/1", 100, 10, buf, &got, NULL));
	assert_int_equal(got, 0);

	assert_ok(object_get(store, "t/a/m/1", 10, &data, &len, NULL));
	free(data);
	assert_state(object_get(store, "t/a/m/1", 9, &data, &len, NULL), PS_SQLSTATE_CORRUPTED);
	assert_null(data);
	assert_state(object_get(store, "t/a/m/2", 9, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	assert_state(object_get(store, "t/a/m/1/2", 9, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	assert_state(object_get(store, "t/a/m", 9, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	assert_int_equal(count_tmp(), 0);
}

static void
test_keys(void **state)
{
	static const char *const invalid[] = {"", "/a", "a/", "a//b", ".", "..", "a/../b", ".tmp/x", "a/.b", "a b",
										  "a\\b", "\xc3\xa4", "a?b"};
	char long_key[OBJECT_KEY_MAX + 2];
	void *data;
	size_t len;

	for (int i = 0; i < lengthof(invalid); i++)
	{
		assert_state(object_put(store, invalid[i], "x", 1, NULL), PS_SQLSTATE_INVALID);
		assert_state(object_get(store, invalid[i], 1, &data, &len, NULL), PS_SQLSTATE_INVALID);
		assert_state(object_delete(store, &invalid[i], 1, NULL), PS_SQLSTATE_INVALID);
	}
	memset(long_key, 'a', sizeof(long_key));
	long_key[OBJECT_KEY_MAX + 1] = '\0';
	assert_state(object_put(store, long_key, "x", 1, NULL), PS_SQLSTATE_INVALID);
	put("A-z_0.9/x..y", "x");
}

static void
test_urls(void **state)
{
	static const char *const invalid[] = {"", "/tmp", "file:/tmp", "file://host/tmp", "ftp://x",
										  "file:///no/such/directory"};
	ObjectStore *none;

	for (int i = 0; i < lengthof(invalid); i++)
	{
		assert_state(object_store_open(invalid[i], NULL, &none), PS_SQLSTATE_INVALID);
		assert_null(none);
	}
}

static void
test_put_once(void **state)
{
	assert_int_equal(put_once("o/1", "mine"), OBJECT_DONE);
	assert_int_equal(put_once("o/1", "other"), OBJECT_EXISTS);
	assert_int_equal(put_once("o/1", "mine, but longer"), OBJECT_EXISTS);
	assert_object("o/1", "mine");
	/* an earlier call's, whose outcome the caller did not learn */
	assert_int_equal(put_once("o/1", "mine"), OBJECT_DONE);
	assert_object("o/1", "mine");
	assert_int_equal(count_tmp(), 0);
}

/* An answer of NFS that is lost or wrong. */
static void
test_lost_answer(void **state)
{
	ObjectOutcome outcome;

	link_fault = LINK_LOST;
	assert_int_equal(put_once("o/lost", "mine"), OBJECT_DONE);
	assert_object("o/lost", "mine");
	link_fault = LINK_FAILED;
	assert_int_equal(put_once("o/failed", "mine"), OBJECT_DONE);

	/* it did not act when it was looked at, but may do so later */
	link_fault = LINK_EIO;
	assert_state(object_put_once(store, "o/eio", "mine", 4, NULL, &outcome), PS_SQLSTATE_IO);
	assert_int_equal(outcome, OBJECT_UNKNOWN);
	assert_int_equal(put_once("o/eio", "mine"), OBJECT_DONE);
	assert_int_equal(count_tmp(), 0);
}

/* What is there cannot be read, so whose it is stays open. */
static void
test_unreadable(void **state)
{
	ObjectOutcome outcome;

	assert_int_equal(put_once("o/1", "mine"), OBJECT_DONE);
	snprintf(unreadable, sizeof(unreadable), "%s/o/1", dir);
	assert_state(object_put_once(store, "o/1", "mine", 4, NULL, &outcome), PS_SQLSTATE_IO);
	unreadable[0] = '\0';
	assert_int_equal(outcome, OBJECT_UNKNOWN);
	assert_int_equal(put_once("o/1", "mine"), OBJECT_DONE);
}

/* What another machine has created is found at once, though the NFS client remembers that it was not there. */
static void
test_remembered_absence(void **state)
{
	static const char *const paths[] = {"t/1/own/2", "t/1/own", "t/1", "t"};
	void *data;
	size_t len;

	put("t/1/own/2", "theirs");
	for (int i = 0; i < lengthof(paths); i++)
	{
		snprintf(hidden, sizeof(hidden), "%s/%s", dir, paths[i]);
		assert_object("t/1/own/2", "theirs");
		assert_string_equal(hidden, "");
	}
	assert_state(object_get(store, "t/1/own/3", 9, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	assert_state(object_get(store, "t/2/own/3", 9, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
}

/* A folder that is to be synced after a delete is removed by somebody else, since it is empty. */
static void
test_vanishing_folder(void **state)
{
	static const char *const keys[] = {"v/a"};

	put("v/a", "x");
	put("v/b", "x");
	snprintf(vanishing, sizeof(vanishing), "%s/v", dir);
	assert_ok(object_delete(store, keys, 1, NULL));
	assert_string_equal(vanishing, "");
}

/* An empty directory in the place of the store, as after its file system was unmounted, is not an empty store. */
static void
test_unmounted(void **state)
{
	static const char *const keys[] = {"u/1"};
	char *away = psprintf("%s.away", dir);
	ObjectListSink sink = {NULL, NULL};
	ObjectOutcome outcome;
	void *data;
	size_t len;

	put("u/1", "x");
	assert_int_equal(rename(dir, away), 0);
	assert_int_equal(mkdir(dir, 0700), 0);
	assert_state(object_get(store, "u/1", 9, &data, &len, NULL), PS_SQLSTATE_IO);
	assert_state(object_list(store, NULL, NULL, false, &sink, NULL), PS_SQLSTATE_IO);
	assert_state(object_delete(store, keys, 1, NULL), PS_SQLSTATE_IO);
	assert_state(object_put_once(store, "u/2", "x", 1, NULL, &outcome), PS_SQLSTATE_IO);
	assert_int_equal(outcome, OBJECT_NOT_DONE);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(rename(away, dir), 0);
	assert_object("u/1", "x");
	free(away);
}

/* Each sync of a put fails once; what is reported as done has been synced. */
static void
test_failed_sync(void **state)
{
	for (int i = 1;; i++)
	{
		char *key = psprintf("s/%d/k", i);
		ObjectOutcome outcome;
		PsError *err;

		failing_sync = i;
		err = object_put_once(store, key, "mine", 4, NULL, &outcome);
		if (failing_sync > 0)
		{
			/* all have failed once: of the file, its folders s/i and s, and the directory */
			failing_sync = 0;
			assert_ok(err);
			assert_int_equal(outcome, OBJECT_DONE);
			assert_int_equal(i, 5);
			free(key);
			break;
		}
		assert_state(err, PS_SQLSTATE_IO);
		assert_int_equal(outcome, i == 1 ? OBJECT_NOT_DONE : OBJECT_UNKNOWN);
		assert_int_equal(put_once(key, "mine"), OBJECT_DONE);
		assert_object(key, "mine");
		free(key);
	}

	/* those of an overwritten object: of the file, then of the names */
	for (int i = 1; i <= 4; i++)
	{
		failing_sync = i;
		assert_state(object_put(store, "s/p/k", "mine", 4, NULL), PS_SQLSTATE_IO);
		assert_int_equal(failing_sync, 0);
	}
	put("s/p/k", "yours");
	assert_object("s/p/k", "yours");
	assert_int_equal(count_tmp(), 0);
}

#define WRITERS 8
#define KEYS    50

/* Each writer puts its number under all keys, and removes and makes folders beside them. */
static void *
race(void *arg)
{
	int me = *(int *) arg;
	int *won = arg;

	*won = 0;
	for (int i = 0; i < KEYS; i++)
	{
		char key[32];
		char beside[32];
		const char *keys[] = {beside};
		char text[16];
		ObjectOutcome outcome;

		snprintf(key, sizeof(key), "r/%d/k", i);
		snprintf(beside, sizeof(beside), "r/%d/w%d", i, me);
		snprintf(text, sizeof(text), "%d", me);
		assert_ok(object_put(store, beside, text, strlen(text), NULL));
		assert_ok(object_delete(store, keys, 1, NULL));
		assert_ok(object_put_once(store, key, text, strlen(text), NULL, &outcome));
		if (outcome == OBJECT_DONE)
			(*won)++;
		else
			assert_int_equal(outcome, OBJECT_EXISTS);
	}
	return NULL;
}

static void
test_race(void **state)
{
	pthread_t threads[WRITERS];
	int won[WRITERS];
	int total = 0;

	for (int i = 0; i < WRITERS; i++)
	{
		won[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, race, &won[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
	{
		pthread_join(threads[i], NULL);
		total += won[i];
	}
	assert_int_equal(total, KEYS);
	assert_int_equal(count_tmp(), 0);
}

typedef struct Items
{
	StringInfoData text;
	int stop_after; /* 0: never */
} Items;

static PsError *
collect(void *arg, const ObjectInfo *info, bool *stop)
{
	Items *items = arg;

	appendStringInfo(&items->text, "%s=%lld ", info->key, (long long) info->size);
	*stop = items->stop_after > 0 && --items->stop_after == 0;
	return NULL;
}

static void
assert_list(const char *prefix, const char *after, bool folders, int stop_after, const char *expected)
{
	Items items = {.stop_after = stop_after};
	ObjectListSink sink = {collect, &items};

	initStringInfo(&items.text);
	assert_ok(object_list(store, prefix, after, folders, &sink, NULL));
	assert_string_equal(items.text.data, expected);
	pfree(items.text.data);
}

static void
test_list_delete(void **state)
{
	const char *keys[] = {"l/a/1", "l/none", "l/a/2", "l/a-b", "l/none/none"};

	put("l/a/1", "x");
	put("l/a/2", "xx");
	/* before l/a/ in the order of bytes, behind it in that of a directory tree */
	put("l/a-b", "xxx");
	put("l/b/c/d", "");
	put("l/b0", "");
	put("k", "");
	assert_list("l/", NULL, false, 0, "l/a-b=3 l/a/1=1 l/a/2=2 l/b/c/d=0 l/b0=0 ");
	assert_list("l/a", NULL, false, 0, "l/a-b=3 l/a/1=1 l/a/2=2 ");
	assert_list("l/a/", NULL, false, 0, "l/a/1=1 l/a/2=2 ");
	assert_list("l/a/1", NULL, false, 0, "l/a/1=1 ");
	assert_list("l/x", NULL, false, 0, "");
	assert_list("x/y/z", NULL, false, 0, "");
	assert_list("l/", "l/a/1", false, 0, "l/a/2=2 l/b/c/d=0 l/b0=0 ");
	assert_list("l/", "l/a/1", false, 1, "l/a/2=2 ");
	assert_list("l/", NULL, true, 0, "l/a-b=3 l/a/=-1 l/b/=-1 l/b0=0 ");
	assert_list("l/", "l/a/", true, 0, "l/b/=-1 l/b0=0 ");
	assert_list("l", NULL, true, 0, "l/=-1 ");

	assert_ok(object_delete(store, keys, lengthof(keys), NULL));
	assert_list("l/", NULL, false, 0, "l/b/c/d=0 l/b0=0 ");
	/* folders that have become empty are removed */
	assert_list("l/", NULL, true, 0, "l/b/=-1 l/b0=0 ");
}

static PsError *
write_to(void *arg, const char *data, size_t len)
{
	appendBinaryStringInfo(arg, data, len);
	return NULL;
}

static void
test_files(void **state)
{
	char path[MAXPGPATH];
	size_t size = 3 * 1024 * 1024 + 17;
	char *contents = malloc(size);
	StringInfoData read;
	ByteSink sink = {write_to, &read};
	FILE *f;

	for (size_t i = 0; i < size; i++)
		contents[i] = i * 7 + i / 1000;
	snprintf(path, sizeof(path), "%s.file", dir);
	f = fopen(path, "w");
	assert_int_equal(fwrite(contents, 1, size, f), size);
	fclose(f);
	assert_ok(object_put_file(store, "f/1", path, NULL));
	unlink(path);
	initStringInfo(&read);
	assert_ok(object_read(store, "f/1", 0, &sink, NULL));
	assert_int_equal(read.len, size);
	assert_memory_equal(read.data, contents, size);
	resetStringInfo(&read);
	assert_ok(object_read(store, "f/1", size - 5, &sink, NULL));
	assert_int_equal(read.len, 5);
	assert_memory_equal(read.data, contents + size - 5, 5);
	assert_state(object_put_file(store, "f/2", path, NULL), PS_SQLSTATE_IO);
	assert_state(object_read(store, "f/2", 0, &sink, NULL), PS_SQLSTATE_NOT_FOUND);
	assert_int_equal(count_tmp(), 0);
	free(contents);
	pfree(read.data);
}

static PsError *
always_canceled(void *arg)
{
	return cancel_error(CANCEL_STORE_STOPPING, NULL);
}

static void
test_cancel(void **state)
{
	CancelCheck cancel = {always_canceled, NULL};
	ObjectWait canceled = {.cancel = &cancel};
	ObjectWait late = {.deadline = clock_now_ms()};
	ObjectOutcome outcome;
	PsError *err;

	err = object_put_once(store, "c/1", "x", 1, &canceled, &outcome);
	assert_non_null(err);
	assert_true(err->is_cancel);
	ps_error_free(err);
	assert_int_equal(outcome, OBJECT_NOT_DONE);
	err = object_put_once(store, "c/1", "x", 1, &late, &outcome);
	assert_non_null(err);
	assert_false(err->is_cancel);
	assert_state(err, PS_SQLSTATE_TRY_AGAIN);
	assert_list("c/", NULL, false, 0, "");
	assert_int_equal(count_tmp(), 0);
}

/* At an open, temporary files of long ago are removed. */
static void
test_old_tmp(void **state)
{
	char *url = psprintf("file://%s", dir);
	char *old = psprintf("%s/.tmp/old", dir);
	char *young = psprintf("%s/.tmp/young", dir);
	struct timeval times[2] = {{time(NULL) - 2 * 24 * 60 * 60}, {time(NULL) - 2 * 24 * 60 * 60}};
	ObjectStore *second;

	close(open(old, O_CREAT | O_WRONLY, 0600));
	close(open(young, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(utimes(old, times), 0);
	assert_ok(object_store_open(url, NULL, &second));
	object_store_close(second);
	assert_int_equal(access(old, F_OK), -1);
	assert_int_equal(access(young, F_OK), 0);
	free(url);
	free(old);
	free(young);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_put_get, setup, teardown),
		cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_urls, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lost_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remembered_absence, setup, teardown),
		cmocka_unit_test_setup_teardown(test_vanishing_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unmounted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_race, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_delete, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
		cmocka_unit_test_setup_teardown(test_old_tmp, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
