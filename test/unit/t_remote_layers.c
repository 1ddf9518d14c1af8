/*
 * t_remote_layers.c
 *	  upload/remote_layers: ranges of layer files from object storage, many at a time.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>

#include <cmocka.h>

#include "base/clock.h"
#include "remote/object_impl.h"
#include "sqlstate.h"
#include "upload/remote_layers.h"

#define MAX 64

static const PsId tenant = {{1}};
static const PsId timeline = {{2}};
static LayerSpace space;
static LayerInfo info = {.type = LAYER_DELTA, .number = 7, .file_size = 1000};

/* What the object storage of the test does. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static int running; /* reads */
static int most;
static int together;      /* a read answers when as many run, or never if they do not */
static atomic_bool holds; /* reads are answered only when they are canceled */
static int64 object_size = 1000;
static bool missing;

/* The byte at an offset is its low 8 bits. */
static PsError *
test_read(ObjectStore *store, const char *key, int64 offset, int64 len, const ByteSink *sink, const ObjectWait *wait)
{
	char bytes[1000];
	PsError *err = NULL;

	assert_string_equal(key, "t/01000000000000000000000000000000/l/02000000000000000000000000000000/0000000000000007");
	pthread_mutex_lock(&lock);
	running++;
	most = Max(most, running);
	pthread_cond_broadcast(&changed);
	while (err == NULL && (most < together || atomic_load(&holds)))
	{
		clock_cond_wait(&changed, &lock, 10);
		if (clock_now_ms() > wait->deadline)
			err = ps_error(PS_SQLSTATE_TRY_AGAIN, "the deadline has passed");
		else if (wait->cancel != NULL)
			err = wait->cancel->check(wait->cancel->arg);
	}
	running--;
	pthread_mutex_unlock(&lock);
	if (err != NULL)
		return err;
	if (missing)
		return ps_error(PS_SQLSTATE_NOT_FOUND, "no object \"%s\"", key);
	len = Max(Min(len, object_size - offset), 0);
	for (int64 i = 0; i < len; i++)
		bytes[i] = (char) (offset + i);
	return sink->write(sink->arg, bytes, len);
}

static const ObjectBackend backend = {.read = test_read};
static ObjectStore store = {.backend = &backend, .url = "test:"};
static RemoteLayers *layers;

static int
setup(void **state)
{
	clock_cond_init(&changed);
	space = (LayerSpace) {.tenant = tenant, .timeline = timeline};
	layers = remote_layers_create(&store, 16, 60000);
	running = most = together = 0;
	atomic_store(&holds, false);
	missing = false;
	object_size = 1000;
	return 0;
}

static int
teardown(void **state)
{
	remote_layers_free(layers);
	return 0;
}

static void
fetch(LayerFetch *fetches, char (*bufs)[20], int n, bool patient, const CancelCheck *cancel)
{
	LayerSource *source = remote_layers_source(layers);

	for (int i = 0; i < n; i++)
		fetches[i] = (LayerFetch) {.space = &space, .info = &info, .offset = i * 10, .len = 20, .buf = bufs[i]};
	source->fetch(source, fetches, n, patient, cancel);
}

static void
assert_fetched(const LayerFetch *fetches, int n)
{
	for (int i = 0; i < n; i++)
	{
		assert_null(fetches[i].err);
		for (int j = 0; j < 20; j++)
			assert_int_equal((uint8) fetches[i].buf[j], (uint8) (i * 10 + j));
	}
}

static void
assert_failed(LayerFetch *fetches, int n, const char *sqlstate, const char *text)
{
	for (int i = 0; i < n; i++)
	{
		assert_non_null(fetches[i].err);
		assert_string_equal(fetches[i].err->sqlstate, sqlstate);
		assert_non_null(strstr(fetches[i].err->message, text));
		ps_error_free(fetches[i].err);
	}
}

/* As many as there are connections run together, and more come after those. */
static void
test_together(void **state)
{
	LayerFetch fetches[MAX];
	char bufs[MAX][20];

	for (int n = 1; n <= MAX; n *= 2)
	{
		most = 0;
		together = Min(n, 16);
		fetch(fetches, bufs, n, true, NULL);
		assert_fetched(fetches, n);
		assert_int_equal(most, together);
	}
}

static void *
fetch_thread(void *arg)
{
	LayerFetch fetches[8];
	char bufs[8][20];

	for (int round = 0; round < 200; round++)
	{
		fetch(fetches, bufs, 8, true, NULL);
		assert_fetched(fetches, 8);
	}
	return NULL;
}

static void
test_threads(void **state)
{
	pthread_t threads[12];

	for (int i = 0; i < lengthof(threads); i++)
		assert_int_equal(pthread_create(&threads[i], NULL, fetch_thread, NULL), 0);
	for (int i = 0; i < lengthof(threads); i++)
		pthread_join(threads[i], NULL);
}

static void
test_errors(void **state)
{
	LayerFetch fetches[MAX];
	char bufs[MAX][20];
	char name[500];

	missing = true;
	fetch(fetches, bufs, 3, true, NULL);
	assert_failed(fetches, 3, PS_SQLSTATE_CORRUPTED, "does not exist");
	missing = false;
	object_size = 35; /* ends in the third range */
	fetch(fetches, bufs, 3, true, NULL);
	assert_fetched(fetches, 2);
	assert_failed(fetches + 2, 1, PS_SQLSTATE_CORRUPTED, "is shorter than the layer file");
	object_size = 1000;
	atomic_store(&holds, true);
	fetch(fetches, bufs, 3, false, NULL);
	assert_failed(fetches, 3, PS_SQLSTATE_TRY_AGAIN, "deadline");
	assert_string_equal(remote_layers_source(layers)->object_name(remote_layers_source(layers), &space, &info, name,
																  sizeof(name)),
						"test:/t/01000000000000000000000000000000/l/02000000000000000000000000000000/0000000000000007");
}

static pthread_t asker;
static int asked;

static PsError *
cancel_later(void *arg)
{
	/* only the thread that reads asks its client */
	assert_true(pthread_equal(pthread_self(), asker));
	return ++asked > 5 ? cancel_error(CANCEL_BY_CLIENT, NULL) : NULL;
}

/* A cancel ends all ranges, also those that helpers read. */
static void
test_cancel(void **state)
{
	CancelCheck cancel = {cancel_later, NULL};
	LayerFetch fetches[MAX];
	char bufs[MAX][20];

	asker = pthread_self();
	atomic_store(&holds, true);
	for (int n = 1; n <= 32; n += 31)
	{
		asked = 0;
		fetch(fetches, bufs, n, true, &cancel);
		assert_failed(fetches, n, PS_SQLSTATE_CANCELED, "");
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test_setup_teardown(test_together, setup, teardown),
	cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
	cmocka_unit_test_setup_teardown(test_cancel, setup, teardown),
};

int
main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
