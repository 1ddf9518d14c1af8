/*
 * fake_bucket.c
 *	  For tests: object storage in memory, see fake_bucket.h.
 */
#include "ps_fe.h"

#include "base/fs.h"
#include "fake_bucket.h"
#include "remote/object_impl.h"
#include "sqlstate.h"

/* An object, or one that was deleted: old lists show it. */
#define FILE_MAX 4096 /* bytes of a file that is put */

typedef struct FakeObject
{
	char *key;
	char *data;
	size_t len;
	int64 born;
	int64 died; /* 0: it is there */
} FakeObject;

typedef enum FakeKind
{
	FAKE_PUT_ONCE,
	FAKE_PUT,
	FAKE_DELETE
} FakeKind;

/* A request that will be executed when nobody waits for it any more. */
typedef struct FakeLate
{
	FakeKind kind;
	char *key;
	char *data;
	size_t len;
} FakeLate;

typedef struct FakeStore
{
	ObjectStore base;
	FakeBucket *bucket;
	FakeTurn turn;
} FakeStore;

/* splitmix64 */
uint64
fake_random(FakeBucket *bucket, uint64 n)
{
	uint64 z = (bucket->random += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (z ^ (z >> 31)) % n;
}

static bool
happens(FakeBucket *bucket, int of_1000)
{
	return of_1000 > 0 && fake_random(bucket, 1000) < of_1000;
}

static char *
copy_data(const void *data, size_t len)
{
	char *copy = pg_malloc(Max(len, 1));

	memcpy(copy, data, len);
	return copy;
}

/* ---- the objects, in the order of keys, older ones of the same key first ---- */

/* Where the key's objects end. */
static int
after_key(const FakeBucket *bucket, const char *key)
{
	int low = 0;
	int high = bucket->nobjects;

	while (low < high)
	{
		int middle = (low + high) / 2;

		if (strcmp(bucket->objects[middle].key, key) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static FakeObject *
find(const FakeBucket *bucket, const char *key)
{
	int i = after_key(bucket, key) - 1;

	if (i < 0 || strcmp(bucket->objects[i].key, key) != 0 || bucket->objects[i].died != 0)
		return NULL;
	return &bucket->objects[i];
}

static void
add_object(FakeBucket *bucket, const char *key, const void *data, size_t len)
{
	int i = after_key(bucket, key);

	if ((bucket->nobjects & (bucket->nobjects - 1)) == 0)
		bucket->objects = pg_realloc(bucket->objects, Max(bucket->nobjects * 2, 1) * sizeof(FakeObject));
	memmove(bucket->objects + i + 1, bucket->objects + i, (bucket->nobjects - i) * sizeof(FakeObject));
	bucket->nobjects++;
	bucket->objects[i] = (FakeObject) {pg_strdup(key), copy_data(data, len), len, bucket->now, 0};
}

/* Executes a request that writes; false: there is an object already. */
static bool
execute(FakeBucket *bucket, FakeKind kind, const char *key, const void *data, size_t len)
{
	FakeObject *object = find(bucket, key);

	if (kind == FAKE_DELETE)
	{
		if (object != NULL)
			object->died = bucket->now;
		return true;
	}
	if (object == NULL)
		add_object(bucket, key, data, len);
	else if (kind == FAKE_PUT_ONCE && !bucket->faults.overwrites)
		return false;
	else
	{
		free(object->data);
		object->data = copy_data(data, len);
		object->len = len;
	}
	return true;
}

static void
add_late(FakeBucket *bucket, FakeKind kind, const char *key, const void *data, size_t len)
{
	bucket->late = pg_realloc(bucket->late, (bucket->nlate + 1) * sizeof(FakeLate));
	bucket->late[bucket->nlate++] = (FakeLate) {kind, pg_strdup(key), copy_data(data, len), len};
}

bool
fake_bucket_run_late(FakeBucket *bucket)
{
	FakeLate late;
	int i;

	if (bucket->nlate == 0)
		return false;
	i = fake_random(bucket, bucket->nlate);
	late = bucket->late[i];
	bucket->late[i] = bucket->late[--bucket->nlate];
	execute(bucket, late.kind, late.key, late.data, late.len);
	free(late.key);
	free(late.data);
	return true;
}

/* ---- requests ---- */

/* Waits for the sender's turn. */
static PsError *
begin(FakeStore *store, const char *kind, const char *key)
{
	PsError *err;

	if (store->turn.turn != NULL && !store->turn.turn(store->turn.arg))
	{
		err = ps_error(PS_SQLSTATE_CANCELED, "killed");
		err->is_cancel = true;
		return err;
	}
	if (store->bucket->denied != NULL && strcmp(store->bucket->denied, kind) == 0)
		return ps_error(PS_SQLSTATE_STATE, "object \"%s\": access denied", key);
	store->bucket->now++;
	return NULL;
}

static PsError *
give_up(FakeStore *store, const char *key)
{
	if (!happens(store->bucket, store->bucket->faults.give_up))
		return NULL;
	return ps_error(PS_SQLSTATE_TRY_AGAIN, "object \"%s\": no answer", key);
}

/* Sends a request that writes, until it is answered; *unknown: without an answer it may be executed. */
static PsError *
send_write(FakeStore *store, FakeKind kind, const char *key, const void *data, size_t len, bool *executed,
		   bool *unknown)
{
	FakeBucket *bucket = store->bucket;

	*unknown = false;
	for (;;)
	{
		PsError *err = begin(store, kind == FAKE_DELETE ? "delete" : "put", key);
		bool answered = true;

		if (err != NULL)
		{
			/* the process has died after it has sent the request, or before */
			if (err->is_cancel && fake_random(bucket, 2) == 0)
				add_late(bucket, kind, key, data, len);
			return err;
		}
		if (kind == FAKE_DELETE)
			bucket->counts.deletes++;
		else
		{
			bucket->counts.puts++;
			bucket->counts.bytes_put += len;
		}
		if (happens(bucket, bucket->faults.lost))
			answered = false;
		else if (happens(bucket, bucket->faults.late))
		{
			answered = false;
			add_late(bucket, kind, key, data, len);
		}
		else
		{
			*executed = execute(bucket, kind, key, data, len);
			answered = !happens(bucket, bucket->faults.answer_lost);
			if (happens(bucket, bucket->faults.doubled))
				add_late(bucket, kind, key, data, len);
		}
		if (answered)
			return NULL;
		*unknown = true;
		PS_TRY(give_up(store, key));
	}
}

/* Sends a request that reads, until it is answered. */
static PsError *
send_read(FakeStore *store, const char *kind, const char *key, int *count)
{
	FakeBucket *bucket = store->bucket;

	for (;;)
	{
		PS_TRY(begin(store, kind, key));
		(*count)++;
		if (!happens(bucket, bucket->faults.lost + bucket->faults.late + bucket->faults.answer_lost))
			return NULL;
		PS_TRY(give_up(store, key));
	}
}

static PsError *
do_put(ObjectStore *base, const char *key, const void *data, size_t len, bool once, const ObjectWait *wait,
	   ObjectOutcome *outcome)
{
	FakeStore *store = (FakeStore *) base;
	bool created;
	bool unknown;
	PsError *err = send_write(store, once ? FAKE_PUT_ONCE : FAKE_PUT, key, data, len, &created, &unknown);
	void *found;
	size_t found_len;

	if (err != NULL)
	{
		*outcome = unknown ? OBJECT_UNKNOWN : OBJECT_NOT_DONE;
		return err;
	}
	*outcome = created ? OBJECT_DONE : OBJECT_EXISTS;
	if (created || store->bucket->faults.trusts_412)
		return NULL;
	*outcome = OBJECT_UNKNOWN;
	err = object_get(base, key, SIZE_MAX, &found, &found_len, wait);
	if (err != NULL && ps_error_is(err, PS_SQLSTATE_NOT_FOUND))
	{
		ps_error_free(err);
		*outcome = OBJECT_EXISTS;
		return NULL;
	}
	PS_TRY(err);
	*outcome = found_len == len && memcmp(found, data, len) == 0 ? OBJECT_DONE : OBJECT_EXISTS;
	free(found);
	return NULL;
}

static PsError *
do_read(ObjectStore *base, const char *key, int64 offset, int64 len, const ByteSink *sink, const ObjectWait *wait)
{
	FakeStore *store = (FakeStore *) base;
	const FakeObject *object;

	PS_TRY(send_read(store, "get", key, &store->bucket->counts.gets));
	object = find(store->bucket, key);
	if (object == NULL)
		return ps_error(PS_SQLSTATE_NOT_FOUND, "object \"%s\" does not exist", key);
	if (offset >= object->len)
		return NULL;
	if (len < 0 || len > object->len - offset)
		len = object->len - offset;
	return sink->write(sink->arg, object->data + offset, len);
}

static PsError *
do_list(ObjectStore *base, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
		const ObjectWait *wait)
{
	FakeStore *store = (FakeStore *) base;
	FakeBucket *bucket = store->bucket;
	char folder[OBJECT_KEY_MAX + 1] = "";
	int64 then;
	bool stop = bucket->faults.ignores_list;

	PS_TRY(send_read(store, "list", prefix, &bucket->counts.lists));
	then = bucket->now - (bucket->faults.stale > 0 ? fake_random(bucket, bucket->faults.stale + 1) : 0);
	for (int i = 0; i < bucket->nobjects && !stop; i++)
	{
		const FakeObject *object = &bucket->objects[i];
		ObjectInfo info = {object->key, object->len};
		const char *slash;

		if (strncmp(object->key, prefix, strlen(prefix)) != 0 || object->born > then ||
			(object->died != 0 && object->died <= then))
			continue;
		slash = strchr(object->key + strlen(prefix), '/');
		if (folders && slash != NULL)
		{
			if (strncmp(object->key, folder, Max(strlen(folder), 1)) == 0)
				continue;
			strlcpy(folder, object->key, slash - object->key + 2);
			info = (ObjectInfo) {folder, -1};
		}
		if (strcmp(info.key, after) > 0)
			PS_TRY(sink->item(sink->arg, &info, &stop));
	}
	return NULL;
}

static PsError *
do_delete(ObjectStore *base, const char *const *keys, int nkeys, const ObjectWait *wait)
{
	FakeStore *store = (FakeStore *) base;
	bool executed;
	bool unknown;

	/* in one request, if it is answered; in several, after which some may be deleted, if not */
	for (int i = 0; i < nkeys; i++)
	{
		if (i == 0 || fake_random(store->bucket, 4) == 0)
		{
			PS_TRY(send_write(store, FAKE_DELETE, keys[i], "", 0, &executed, &unknown));
		}
		else
			execute(store->bucket, FAKE_DELETE, keys[i], "", 0);
	}
	return NULL;
}

/* ---- the backend: one thread at a time, unless the turns say which ---- */

void
fake_bucket_lock(FakeBucket *bucket)
{
	pthread_mutex_lock(&bucket->lock);
}

void
fake_bucket_unlock(FakeBucket *bucket)
{
	pthread_mutex_unlock(&bucket->lock);
}

static void
enter(ObjectStore *base)
{
	if (((FakeStore *) base)->turn.turn == NULL)
		fake_bucket_lock(((FakeStore *) base)->bucket);
}

static PsError *
leave(ObjectStore *base, PsError *err)
{
	if (((FakeStore *) base)->turn.turn == NULL)
		fake_bucket_unlock(((FakeStore *) base)->bucket);
	return err;
}

static PsError *
fake_put(ObjectStore *base, const char *key, const void *data, size_t len, bool once, const ObjectWait *wait,
		 ObjectOutcome *outcome)
{
	enter(base);
	return leave(base, do_put(base, key, data, len, once, wait, outcome));
}

static PsError *
fake_put_file(ObjectStore *base, const char *key, const char *path, const ObjectWait *wait)
{
	char buf[FILE_MAX];
	FILE *file = fopen(path, "r");
	size_t len;
	ObjectOutcome outcome;
	PsError *err = NULL;

	if (file == NULL)
		return ps_error(ps_errno_state(), "could not open file \"%s\": %m", path);
	len = fread(buf, 1, sizeof(buf), file);
	if (ferror(file))
		err = ps_error(ps_errno_state(), "could not read file \"%s\": %m", path);
	fclose(file);
	PS_TRY(err);
	return fake_put(base, key, buf, len, false, wait, &outcome);
}

static PsError *
fake_read(ObjectStore *base, const char *key, int64 offset, int64 len, const ByteSink *sink, const ObjectWait *wait)
{
	enter(base);
	return leave(base, do_read(base, key, offset, len, sink, wait));
}

static PsError *
fake_list(ObjectStore *base, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
		  const ObjectWait *wait)
{
	enter(base);
	return leave(base, do_list(base, prefix, after, folders, sink, wait));
}

static PsError *
fake_delete(ObjectStore *base, const char *const *keys, int nkeys, const ObjectWait *wait)
{
	enter(base);
	return leave(base, do_delete(base, keys, nkeys, wait));
}

static void
fake_close(ObjectStore *base)
{
	free(base);
}

static const ObjectBackend fake_backend = {fake_close, fake_put, fake_put_file, fake_read, fake_list, fake_delete};

/* ---- for tests ---- */

FakeBucket *
fake_bucket_create(uint64 seed)
{
	FakeBucket *bucket = pg_malloc0(sizeof(*bucket));
	pthread_mutexattr_t recursive;

	bucket->random = seed;
	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&bucket->lock, &recursive);
	pthread_mutexattr_destroy(&recursive);
	return bucket;
}

void
fake_bucket_free(FakeBucket *bucket)
{
	for (int i = 0; i < bucket->nobjects; i++)
	{
		free(bucket->objects[i].key);
		free(bucket->objects[i].data);
	}
	for (int i = 0; i < bucket->nlate; i++)
	{
		free(bucket->late[i].key);
		free(bucket->late[i].data);
	}
	free(bucket->objects);
	free(bucket->late);
	pthread_mutex_destroy(&bucket->lock);
	free(bucket);
}

ObjectStore *
fake_bucket_open(FakeBucket *bucket, const FakeTurn *turn)
{
	FakeStore *store = pg_malloc0(sizeof(*store));

	store->base.backend = &fake_backend;
	store->base.url = pg_strdup("s3://fake");
	store->bucket = bucket;
	if (turn != NULL)
		store->turn = *turn;
	return &store->base;
}

const char *
fake_bucket_peek(FakeBucket *bucket, const char *key, size_t *len)
{
	FakeObject *object = find(bucket, key);

	if (object == NULL)
		return NULL;
	*len = object->len;
	return object->data;
}

void
fake_bucket_poke(FakeBucket *bucket, const char *key, const void *data, size_t len)
{
	execute(bucket, data != NULL ? FAKE_PUT : FAKE_DELETE, key, data != NULL ? data : "", len);
}

int
fake_bucket_count(FakeBucket *bucket, const char *prefix)
{
	int n = 0;

	for (int i = 0; i < bucket->nobjects; i++)
		n += bucket->objects[i].died == 0 && strncmp(bucket->objects[i].key, prefix, strlen(prefix)) == 0;
	return n;
}
