/*
 * objectcheck.c
 *	  Tries all operations of remote/object.h on a real service.
 *
 * Usage: objectcheck URL ENDPOINT KEYFILE [SSE]
 *
 * The bucket must exist, and nobody else may use the prefix of the URL.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/stringinfo.h"

#include "bucket/bucket.h"
#include "remote/object.h"
#include "sqlstate.h"

static const char *url;
static ObjectSettings settings = {.part_size = 5 * 1024 * 1024, .connections = 16};
static ObjectStore *store;

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
assert_contents(const char *key, const void *data, size_t len)
{
	void *got;
	size_t got_len;

	assert_ok(object_get(store, key, len + 1, &got, &got_len, NULL));
	assert_int_equal(got_len, len);
	assert_memory_equal(got, data, len);
	free(got);
}

static int
setup(void **state)
{
	assert_ok(object_store_open(url, &settings, &store));
	return 0;
}

static int
teardown(void **state)
{
	object_store_close(store);
	return 0;
}

static void
test_probe(void **state)
{
	PsId id;
	PsId again;

	assert_ok(bucket_open(store, NULL, &id));
	assert_ok(bucket_open(store, NULL, &again));
	assert_true(memcmp(&id, &again, sizeof(id)) == 0);
}

static void
test_objects(void **state)
{
	void *data;
	size_t len;
	const char *keys[] = {"o/a", "o/empty", "o/is-not-there"};

	assert_ok(object_put(store, "o/a", "hello", 5, NULL));
	assert_contents("o/a", "hello", 5);
	assert_ok(object_put(store, "o/a", "other", 5, NULL));
	assert_contents("o/a", "other", 5);
	assert_ok(object_put(store, "o/empty", "", 0, NULL));
	assert_contents("o/empty", "", 0);
	assert_state(object_get(store, "o/a", 4, &data, &len, NULL), PS_SQLSTATE_CORRUPTED);
	assert_state(object_get(store, "o/is-not-there", 4, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	assert_ok(object_delete(store, keys, lengthof(keys), NULL));
	assert_state(object_get(store, "o/a", 4, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
}

#define WRITERS 16
#define RACES   40

typedef struct Writer
{
	pthread_t thread;
	int number;
	int won[RACES];
} Writer;

static pthread_barrier_t barrier;

static void *
race(void *arg)
{
	Writer *w = arg;

	for (int i = 0; i < RACES; i++)
	{
		char key[32];
		char text[32];
		ObjectOutcome outcome;
		PsError *err;

		snprintf(key, sizeof(key), "race/%d", i);
		snprintf(text, sizeof(text), "writer %d", w->number);
		pthread_barrier_wait(&barrier);
		err = object_put_once(store, key, text, strlen(text), NULL, &outcome);
		w->won[i] = err != NULL ? -1 : outcome == OBJECT_DONE;
		ps_error_free(err);
	}
	return NULL;
}

/* Of all that put a key at once, one succeeds, and its contents stay. */
static void
test_put_once(void **state)
{
	static Writer writers[WRITERS];

	pthread_barrier_init(&barrier, NULL, WRITERS);
	for (int i = 0; i < WRITERS; i++)
	{
		writers[i].number = i;
		assert_int_equal(pthread_create(&writers[i].thread, NULL, race, &writers[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	for (int i = 0; i < RACES; i++)
	{
		int winner = -1;
		char key[32];
		char text[32];
		ObjectOutcome outcome;

		for (int j = 0; j < WRITERS; j++)
		{
			assert_int_not_equal(writers[j].won[i], -1);
			if (writers[j].won[i])
			{
				assert_int_equal(winner, -1);
				winner = j;
			}
		}
		assert_int_not_equal(winner, -1);
		snprintf(key, sizeof(key), "race/%d", i);
		snprintf(text, sizeof(text), "writer %d", winner);
		assert_contents(key, text, strlen(text));
		/* the winner may ask again, and nobody else gets it */
		assert_ok(object_put_once(store, key, text, strlen(text), NULL, &outcome));
		assert_int_equal(outcome, OBJECT_DONE);
		assert_ok(object_put_once(store, key, "x", 1, NULL, &outcome));
		assert_int_equal(outcome, OBJECT_EXISTS);
	}
	pthread_barrier_destroy(&barrier);
}

/* Files below, at and above the size of a part, and their ranges. */
static void
test_files(void **state)
{
	const size_t part = settings.part_size;
	const size_t sizes[] = {0, 1, part, part + 1, 3 * part + 12345};
	const char *tmp = getenv("TMPDIR");
	char path[MAXPGPATH];
	unsigned char *data = malloc(4 * part);
	unsigned char *buf = malloc(part);
	uint64 x = 88172645463325252;
	int fd;

	for (size_t i = 0; i < 4 * part; i += sizeof(x))
	{
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		memcpy(data + i, &x, sizeof(x));
	}
	snprintf(path, sizeof(path), "%s/objectcheck.%d", tmp != NULL ? tmp : "/tmp", getpid());
	for (int i = 0; i < lengthof(sizes); i++)
	{
		size_t got;

		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, data, sizes[i]), sizes[i]);
		close(fd);
		assert_ok(object_put_file(store, "files/f", path, NULL));
		assert_contents("files/f", data, sizes[i]);
		for (size_t offset = 0; offset <= sizes[i] + 1; offset += sizes[i] / 7 + 1)
		{
			size_t len = Min(part, 100 + sizes[i] / 5);

			assert_ok(object_get_range(store, "files/f", offset, len, buf, &got, NULL));
			assert_int_equal(got, offset >= sizes[i] ? 0 : Min(len, sizes[i] - offset));
			assert_memory_equal(buf, data + offset, got);
		}
	}
	unlink(path);
	free(data);
	free(buf);
}

typedef struct Listed
{
	int objects;
	int folders;
	char last[OBJECT_KEY_MAX + 1];
	int stop_after;
} Listed;

static PsError *
list_item(void *arg, const ObjectInfo *info, bool *stop)
{
	Listed *l = arg;

	assert_true(strcmp(info->key, l->last) > 0);
	strlcpy(l->last, info->key, sizeof(l->last));
	if (info->size < 0)
		l->folders++;
	else
		l->objects++;
	*stop = l->objects + l->folders == l->stop_after;
	return NULL;
}

static Listed
list(const char *prefix, const char *after, bool folders, int stop_after)
{
	Listed l = {.stop_after = stop_after};
	ObjectListSink sink = {.item = list_item, .arg = &l};

	assert_ok(object_list(store, prefix, after, folders, &sink, NULL));
	return l;
}

#define MANY 2100

/* More objects than an answer, or a request to delete them, may have. */
static void
test_many(void **state)
{
	static char keys[MANY][32];
	static const char *pointers[MANY];
	Listed l;

	for (int i = 0; i < MANY; i++)
	{
		snprintf(keys[i], sizeof(keys[i]), "many/%d/%04d", i % 3, i);
		pointers[i] = keys[i];
		assert_ok(object_put(store, keys[i], "x", 1, NULL));
	}
	l = list("many/", NULL, false, 0);
	assert_int_equal(l.objects, MANY);
	l = list("many/", NULL, true, 0);
	assert_int_equal(l.objects, 0);
	assert_int_equal(l.folders, 3);
	l = list("many/", "many/1/", true, 0);
	assert_int_equal(l.folders, 1);
	l = list("many/1/", "many/1/1000", false, 0);
	assert_int_equal(l.objects, 366);
	l = list("many/", NULL, false, 1001);
	assert_int_equal(l.objects, 1001);
	assert_ok(object_delete(store, pointers, MANY, NULL));
	l = list("many/", NULL, false, 0);
	assert_int_equal(l.objects, 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_probe),
	cmocka_unit_test(test_objects),
	cmocka_unit_test(test_put_once),
	cmocka_unit_test(test_files),
	cmocka_unit_test(test_many),
};

int
main(int argc, char **argv)
{
	if (argc != 4 && argc != 5)
	{
		fprintf(stderr, "usage: objectcheck URL ENDPOINT KEYFILE [SSE]\n");
		return 2;
	}
	url = argv[1];
	settings.endpoint = argv[2];
	settings.key_file = argv[3];
	settings.sse = argv[4];
	return cmocka_run_group_tests(tests, setup, teardown);
}
