/*
 * inventory.c
 *	  Compares the objects of a tenant with what its log names: see inventory.h.
 */
#include "ps_fe.h"

#include "bucket/bucket_impl.h"
#include "bucket/chain.h"
#include "bucket/inventory.h"
#include "layer/layer.h"
#include "sqlstate.h"

/* A layer file that the log names. */
typedef struct NamedFile
{
	PsId timeline;
	uint64 number;
	int64 size;
	const char *name;
	bool seen;
} NamedFile;

/* A timeline that the log names. */
typedef struct NamedTimeline
{
	PsId id;
	uint64 chain; /* number of the first object of its WAL chain that is needed */
	uint64 kept;  /* and of the first whose WAL is kept */
	uint64 next;  /* number after the last one that was seen */
} NamedTimeline;

typedef struct Inventory
{
	ObjectStore *store;
	PsId tenant;
	const LogEntryInfo *newest;
	const InventorySink *sink;
	const ObjectWait *wait;
	NamedTimeline *timelines; /* ordered by id */
	int ntimelines;
	NamedFile *files; /* ordered by timeline and number */
	int nfiles;
} Inventory;

/* ---- what the log names ---- */

static int
compare_files(const void *a, const void *b)
{
	const NamedFile *one = a;
	const NamedFile *other = b;
	int order = memcmp(&one->timeline, &other->timeline, sizeof(PsId));

	return order != 0 ? order : (one->number > other->number) - (one->number < other->number);
}

static int
compare_timelines(const void *a, const void *b)
{
	return memcmp(&((const NamedTimeline *) a)->id, &((const NamedTimeline *) b)->id, sizeof(PsId));
}

/* A layer file as the log has it: "NAME ... bytes N". */
static bool
parse_file(const char *text, NamedFile *file)
{
	char name[LAYER_NAME_MAX];
	const char *size = strstr(text, " bytes ");
	LayerInfo info;
	char *end;

	if (size == NULL || strcspn(text, " ") >= sizeof(name))
		return false;
	strlcpy(name, text, strcspn(text, " ") + 1);
	if (!layer_name_parse(name, &info))
		return false;
	file->number = info.number;
	file->size = strtoll(size + strlen(" bytes "), &end, 10);
	return *end == '\0';
}

static PsError *
read_state(Inventory *inventory, const LogChange *state)
{
	json_t *timelines = json_object_get(state->json, "timelines");
	const char *id_text;
	json_t *record;
	int room = 0;

	inventory->timelines = pg_malloc0(Max(json_object_size(timelines), 1) * sizeof(NamedTimeline));
	json_object_foreach(timelines, id_text, record)
	{
		NamedTimeline *timeline = &inventory->timelines[inventory->ntimelines++];
		XLogRecPtr lsn;
		const char *name;
		json_t *text;

		/* a timeline without "wal" has not uploaded any */
		if (!ps_id_parse(id_text, &timeline->id) ||
			(json_object_get(record, "wal") != NULL &&
			 !log_change_wal(record, &timeline->chain, &timeline->kept, &lsn)))
			return ps_error(PS_SQLSTATE_CORRUPTED, "the tenant's log has an invalid record of timeline \"%s\"",
							id_text);
		timeline->next = timeline->chain;
		json_object_foreach(json_object_get(record, "layers"), name, text)
		{
			NamedFile file = {.timeline = timeline->id, .name = name};

			if (!json_is_string(text) || !parse_file(json_string_value(text), &file))
				return ps_error(PS_SQLSTATE_CORRUPTED,
								"the tenant's log has an invalid layer file \"%s\" of timeline %s", name, id_text);
			if (inventory->nfiles == room)
			{
				room = Max(room * 2, 64);
				inventory->files = pg_realloc(inventory->files, room * sizeof(NamedFile));
			}
			inventory->files[inventory->nfiles++] = file;
		}
	}
	qsort(inventory->timelines, inventory->ntimelines, sizeof(NamedTimeline), compare_timelines);
	if (inventory->nfiles > 0)
		qsort(inventory->files, inventory->nfiles, sizeof(NamedFile), compare_files);
	return NULL;
}

static NamedFile *
find_file(const Inventory *inventory, const BucketKey *key)
{
	NamedFile file = {.timeline = key->timeline, .number = key->number};

	return inventory->nfiles == 0
			   ? NULL
			   : bsearch(&file, inventory->files, inventory->nfiles, sizeof(NamedFile), compare_files);
}

static NamedTimeline *
find_timeline(const Inventory *inventory, const PsId *id)
{
	NamedTimeline timeline = {.id = *id};

	return bsearch(&timeline, inventory->timelines, inventory->ntimelines, sizeof(NamedTimeline), compare_timelines);
}

/* ---- objects ---- */

/* Reports an object; "file" is what the log says of a layer file that it names, else NULL. */
static PsError *
report_file(const Inventory *inventory, InventoryVerdict verdict, const char *text, const BucketKey *key, int64 size,
			const NamedFile *file)
{
	InventoryItem item = {.verdict = verdict,
						  .text = text,
						  .key = *key,
						  .size = size,
						  .expected = file != NULL ? file->size : -1,
						  .file = file != NULL ? file->name : NULL};

	return inventory->sink->item(inventory->sink->arg, &item);
}

static PsError *
report(const Inventory *inventory, InventoryVerdict verdict, const char *text, const BucketKey *key, int64 size)
{
	return report_file(inventory, verdict, text, key, size, NULL);
}

/*
 * An object of a chain.  Those that the log needs have no gaps, so one that follows a gap
 * means that the list is old, or objects are missing.  What a timeline does not need stays as
 * its history; of a timeline that is gone, only fences stay.
 */
static PsError *
judge_link(Inventory *inventory, const BucketKey *key, const char *text, int64 size)
{
	NamedTimeline *timeline = find_timeline(inventory, &key->timeline);
	ChainChunk chunk;
	bool fence;
	bool found;

	if (timeline != NULL && key->number >= timeline->chain)
	{
		for (; timeline->next < key->number; timeline->next++)
		{
			BucketKey missing = *key;
			char missing_text[BUCKET_KEY_TEXT];

			missing.number = timeline->next;
			PS_TRY(chain_peek(inventory->store, &missing, inventory->wait, &chunk, &fence, &found));
			if (!found)
				PS_TRY(report(inventory, INVENTORY_MISSING, bucket_key_format(&missing, missing_text), &missing, -1));
		}
		timeline->next = key->number + 1;
		return report(inventory, INVENTORY_NEEDED, text, key, size);
	}
	/* WAL that is in layer files, or a fence */
	if (timeline != NULL)
		return report(inventory, INVENTORY_NEEDED, text, key, size);
	PS_TRY(chain_peek(inventory->store, key, inventory->wait, &chunk, &fence, &found));
	if (!found)
		return NULL; /* deleted since it was listed */
	if (fence)
		return report(inventory, INVENTORY_NEEDED, text, key, size);
	return report(inventory, chunk.generation >= inventory->newest->generation ? INVENTORY_UNDER_WAY : INVENTORY_ORPHAN,
				  text, key, size);
}

static PsError *
judge(void *arg, const ObjectInfo *info, bool *stop)
{
	Inventory *inventory = arg;
	uint64 newest = inventory->newest->generation;
	BucketKey key = {0};
	NamedFile *file;

	if (!bucket_key_parse(info->key, &key))
		return report(inventory, INVENTORY_FOREIGN, info->key, &key, info->size);
	switch (key.kind)
	{
		case BUCKET_KEY_CLAIM:
			return report(inventory, INVENTORY_NEEDED, info->key, &key, info->size);
		case BUCKET_KEY_LOG:
			/* which of the owner's own entries are still needed, its deleter knows */
			return report(inventory, key.generation < newest ? INVENTORY_ORPHAN : INVENTORY_NEEDED, info->key, &key,
						  info->size);
		case BUCKET_KEY_LAYER:
			file = find_file(inventory, &key);
			if (file == NULL)
				return report(inventory, key.number >> 32 < newest ? INVENTORY_ORPHAN : INVENTORY_UNDER_WAY,
							  info->key, &key, info->size);
			file->seen = true;
			return report_file(inventory, info->size == file->size ? INVENTORY_NEEDED : INVENTORY_WRONG_SIZE,
							   info->key, &key, info->size, file);
		case BUCKET_KEY_CHAIN:
			return judge_link(inventory, &key, info->key, info->size);
		case BUCKET_KEY_SEGMENT:
			return report(inventory,
						  find_timeline(inventory, &key.timeline) != NULL ? INVENTORY_NEEDED
						  : key.generation < newest                       ? INVENTORY_ORPHAN
																		  : INVENTORY_UNDER_WAY,
						  info->key, &key, info->size);
	}
	return NULL;
}

/* Is a file that the list lacked really missing? */
static PsError *
check_unseen(const Inventory *inventory, const NamedFile *file)
{
	BucketKey key = {.kind = BUCKET_KEY_LAYER,
					 .tenant = inventory->tenant,
					 .timeline = file->timeline,
					 .number = file->number};
	char text[BUCKET_KEY_TEXT];
	char byte;
	size_t got;
	PsError *err = object_get_range(inventory->store, bucket_key_format(&key, text), Max(file->size - 1, 0), 1, &byte,
									&got, inventory->wait);

	if (err == NULL)
		return report_file(inventory, got == 1 ? INVENTORY_NEEDED : INVENTORY_WRONG_SIZE, text, &key, -1, file);
	if (!object_is_missing(err))
		return err;
	ps_error_free(err);
	return report_file(inventory, INVENTORY_MISSING, text, &key, -1, file);
}

PsError *
inventory_take(ObjectStore *store, const PsId *tenant, const LogEntryInfo *newest, const LogChange *state,
			   const InventorySink *sink, const ObjectWait *wait)
{
	Inventory inventory = {.store = store, .tenant = *tenant, .newest = newest, .sink = sink, .wait = wait};
	ObjectListSink list = {judge, &inventory};
	char id[PS_ID_TEXT];
	char *prefix = psprintf(BUCKET_TENANTS "%s/", ps_id_format(tenant, id));
	PsError *err = read_state(&inventory, state);

	if (err == NULL)
		err = object_list(store, prefix, NULL, false, &list, wait);
	for (int i = 0; i < inventory.nfiles && err == NULL; i++)
		if (!inventory.files[i].seen)
			err = check_unseen(&inventory, &inventory.files[i]);
	free(inventory.timelines);
	free(inventory.files);
	pfree(prefix);
	return err;
}

/* ---- orphans ---- */

typedef struct Sweep
{
	Deleter *deleter;
	uint64 named_below;
	SweepCounts *counts;
} Sweep;

/* May the owner name this object, of an older generation, yet? */
static bool
may_be_named(const Sweep *sweep, const BucketKey *key)
{
	switch (key->kind)
	{
		case BUCKET_KEY_LAYER:
			return key->number >> 32 >= sweep->named_below;
		case BUCKET_KEY_SEGMENT:
			return key->generation >= sweep->named_below;
		default:
			return false;
	}
}

static PsError *
sweep_item(void *arg, const InventoryItem *item)
{
	Sweep *sweep = arg;

	if (item->verdict != INVENTORY_ORPHAN || may_be_named(sweep, &item->key))
		return NULL;
	deleter_add(sweep->deleter, &item->key, 1);
	sweep->counts->orphans++;
	sweep->counts->bytes += item->size;
	return NULL;
}

PsError *
inventory_sweep(const TenantOwner *owner, const LogEntryInfo *newest, const LogChange *state, uint64 named_below,
				Deleter *deleter, const ObjectWait *wait, SweepCounts *counts)
{
	Sweep sweep = {deleter, named_below, counts};
	InventorySink sink = {sweep_item, &sweep};

	*counts = (SweepCounts) {0};
	if (newest->generation != owner->generation)
		return ps_error(PS_SQLSTATE_INTERNAL, "a sweep for generation " UINT64_FORMAT " with the log of " UINT64_FORMAT,
						owner->generation, newest->generation);
	return inventory_take(owner->store, &owner->tenant, newest, state, &sink, wait);
}
