/*
 * probe.c
 *	  Does the object storage do what the protocol needs?
 *
 * Documentation does not answer that: in a versioned bucket of Ceph, for one,
 * If-None-Match is ignored, and the second of two writers overwrites the first.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/clock.h"
#include "bucket/bucket.h"
#include "sqlstate.h"

#define PROBE_SIZE  64
#define LIST_WAIT   10000 /* ms until a list must show an object */
#define LIST_PAUSE  100   /* ms between lists */
#define RANGE_START 16
#define RANGE_SIZE  32

typedef struct Probe
{
	ObjectStore *store;
	const ObjectWait *wait;
	char key[64];
	char first[PROBE_SIZE];
	char second[PROBE_SIZE];
} Probe;

/* What cannot be done, before the error; what may repair it, unless there is a hint already. */
static PsError *
cannot(PsError *err, const Probe *probe, const char *what, const char *hint)
{
	if (err == NULL || err->is_cancel)
		return err;
	if (err->hint == NULL && ps_error_is(err, PS_SQLSTATE_STATE))
		err = ps_error_hint(err, "%s", hint);
	return ps_error_context(err, "could not %s in \"%s\"", what, object_store_url(probe->store));
}

static PsError *
overwrites(const Probe *probe)
{
	PsError *err = ps_error(PS_SQLSTATE_STATE,
							"\"%s\" cannot be used: an object is overwritten although the request forbids that",
							object_store_url(probe->store));

	ps_error_detail(err, "Two stores that both believe they own a tenant could not be told apart, "
						 "and each would destroy what the other one writes.");
	return ps_error_hint(err, "Some services ignore \"If-None-Match: *\" in buckets that keep versions.  "
							  "Use a bucket without versions, or another service.");
}

/* Creates the object; a second one with other contents must not replace it. */
static PsError *
probe_put_once(Probe *probe)
{
	const char *hint = "The store needs permission to write, read, list and delete objects there.";
	ObjectOutcome outcome;
	char part[RANGE_SIZE];
	size_t got;
	bool created_twice;

	PS_TRY(cannot(object_put_once(probe->store, probe->key, probe->first, PROBE_SIZE, probe->wait, &outcome), probe,
				  "create an object", hint));
	if (outcome != OBJECT_DONE)
		return ps_error(PS_SQLSTATE_STATE,
						"could not create an object in \"%s\": \"%s\" exists, though its name is random",
						object_store_url(probe->store), probe->key);
	PS_TRY(cannot(object_put_once(probe->store, probe->key, probe->second, PROBE_SIZE, probe->wait, &outcome), probe,
				  "create an object", hint));
	created_twice = outcome != OBJECT_EXISTS;
	PS_TRY(cannot(object_get_range(probe->store, probe->key, RANGE_START, RANGE_SIZE, part, &got, probe->wait), probe,
				  "read part of an object", hint));
	created_twice = created_twice || (got == RANGE_SIZE && memcmp(part, probe->second + RANGE_START, RANGE_SIZE) == 0);
	if (created_twice)
		return overwrites(probe);
	if (got != RANGE_SIZE || memcmp(part, probe->first + RANGE_START, RANGE_SIZE) != 0)
		return ps_error(PS_SQLSTATE_STATE, "\"%s\" cannot be used: part of an object is not what was written",
						object_store_url(probe->store));
	return NULL;
}

static PsError *
note_item(void *arg, const ObjectInfo *info, bool *stop)
{
	*(bool *) arg = info->size == PROBE_SIZE;
	*stop = true;
	return NULL;
}

/* A list shows the object, if not at once. */
static PsError *
probe_list(Probe *probe)
{
	bool shown = false;
	ObjectListSink sink = {note_item, &shown};
	int64 end = clock_now_ms() + LIST_WAIT;

	for (;;)
	{
		PS_TRY(cannot(object_list(probe->store, probe->key, NULL, false, &sink, probe->wait), probe, "list objects",
					  "The store needs permission to list objects (s3:ListBucket, in S3)."));
		if (shown)
			return NULL;
		if (clock_now_ms() >= end)
			return ps_error(PS_SQLSTATE_STATE,
							"\"%s\" cannot be used: a list does not show an object that was created %d seconds before",
							object_store_url(probe->store), LIST_WAIT / 1000);
		usleep(LIST_PAUSE * 1000);
	}
}

static PsError *
probe_delete(Probe *probe)
{
	const char *keys[] = {probe->key};

	return cannot(object_delete(probe->store, keys, 1, probe->wait), probe, "delete an object",
				  "The store needs permission to delete objects; a retention rule or an object lock must not "
				  "forbid it.");
}

PsError *
bucket_probe(ObjectStore *store, const ObjectWait *wait)
{
	Probe probe = {.store = store, .wait = wait};
	PsId id = ps_id_random();
	char id_text[PS_ID_TEXT];
	PsError *err;

	snprintf(probe.key, sizeof(probe.key), "probe/%s", ps_id_format(&id, id_text));
	snprintf(probe.first, PROBE_SIZE, "%-*s", PROBE_SIZE - 1, "first");
	snprintf(probe.second, PROBE_SIZE, "%*s", PROBE_SIZE - 1, "second");
	/* the part that is read differs, too */
	memcpy(probe.first + RANGE_START, id_text, RANGE_SIZE);
	err = probe_put_once(&probe);
	if (err == NULL)
		err = probe_list(&probe);
	if (err == NULL)
		return probe_delete(&probe);
	ps_error_free(probe_delete(&probe));
	return err;
}
