/*
 * t_inventory.c
 *	  bucket/inventory, bucket/audit: what a tenant's objects are, what is missing or
 *	  damaged, what is removed.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "bucket/audit.h"
#include "bucket/chain.h"
#include "fake_bucket.h"
#include "layer_util.h"
#include "remote/object_impl.h"
#include "sqlstate.h"

static FakeBucket *bucket;
static ObjectStore *store;
static PsId tenant;
static PsId timeline = {{0x11}};
static PsId gone = {{0x22}}; /* a timeline that no log names */
static const StoreIdentity me = {{{1}}, "host1", "/store1"};

static int
setup(void **state)
{
	bucket = fake_bucket_create(1);
	store = fake_bucket_open(bucket, NULL);
	tenant = ps_id_random();
	return 0;
}

static int
teardown(void **state)
{
	object_store_close(store);
	fake_bucket_free(bucket);
	return 0;
}

static void
claim(TenantOwner *owner)
{
	Claim newest;
	Claim mine;
	bool found;

	assert_ok(claim_newest(store, &tenant, NULL, &newest, &found));
	claim_make(&mine, found ? &newest : NULL, &me);
	assert_ok(claim_put(store, &tenant, &mine, NULL, owner));
}

static const char *
key_text(BucketKeyKind kind, const PsId *of, uint64 generation, uint64 number)
{
	static char text[BUCKET_KEY_TEXT];
	BucketKey key = {.kind = kind, .tenant = tenant, .timeline = *of, .generation = generation, .number = number};

	return bucket_key_format(&key, text);
}

/* The text of a layer file in the log. */
static json_t *
file_text(uint64 number, int size)
{
	LayerInfo info = {.type = LAYER_DELTA, .lsn_start = 100, .lsn_end = 200, .number = number};
	char name[LAYER_NAME_MAX];

	info.key_min.kind = info.key_max.kind = PS_KEY_RELBLOCK;
	return json_sprintf("%s level 0 entries 1 bytes %d", layer_name_format(&info, name), size);
}

static void
put_file(const PsId *of, uint64 number, int size)
{
	static char zeros[1000];

	assert_ok(object_put(store, key_text(BUCKET_KEY_LAYER, of, 0, number), zeros, size, NULL));
}

static PsError *
take_wal(void *arg, const ChainChunk *chunk, const char *wal)
{
	return NULL;
}

static Chain *
open_chain(const TenantOwner *owner, const PsId *of, uint64 number, XLogRecPtr lsn)
{
	ChainSink sink = {take_wal, NULL};
	Chain *chain;

	assert_ok(chain_open(owner, of, number, lsn, &sink, NULL, &chain));
	return chain;
}

/* What an inventory said, as text: verdict and the key behind the tenant, sorted by key. */
static const char verdicts[] = "nmwuof";

static PsError *
note(void *arg, const InventoryItem *item)
{
	appendStringInfo(arg, "%c %s\n", verdicts[item->verdict], strstr(item->text, "/") + 1 + 32 + 1);
	return NULL;
}

static void
read_log(LogEntryInfo *newest, LogChange *state)
{
	Claim owner;
	bool found;

	assert_ok(claim_newest(store, &tenant, NULL, &owner, &found));
	assert_true(found);
	assert_ok(tenant_log_read(store, &tenant, owner.generation + 1, NULL, newest, state));
}

/* Replaces the text, which is initialized. */
static void
take(StringInfo out)
{
	InventorySink sink = {note, out};
	LogEntryInfo newest;
	LogChange state;

	resetStringInfo(out);
	read_log(&newest, &state);
	assert_ok(inventory_take(store, &tenant, &newest, &state, &sink, NULL));
	log_change_free(&state);
}

static void
assert_said(const StringInfoData *out, char verdict, const char *key)
{
	char *line = psprintf("%c %s\n", verdict, strstr(key, "/") + 1 + 32 + 1);

	if (strstr(out->data, line) == NULL)
		fail_msg("no line \"%s\" in\n%s", line, out->data);
	pfree(line);
}

static int
count(const StringInfoData *out, char verdict)
{
	int n = 0;

	for (const char *line = out->data; *line != '\0'; line = strchr(line, '\n') + 1)
		n += *line == verdict;
	return n;
}

/*
 * Two owners.  The first, of generation 1, leaves a file that it has uploaded and not
 * named, one that was dropped, a chain of a branch that was deleted; the second owns the
 * tenant and has a file that is not named yet.
 */
static void
test_inventory(void **unused)
{
	Deleter *deleter = deleter_create(store, 0);
	TenantOwner first;
	TenantOwner second;
	TenantLog *log;
	LogEntryInfo newest;
	json_t *record;
	Chain *chain;
	Chain *gone_chain;
	uint64 g = UINT64CONST(1) << 32;
	StringInfoData out;
	SweepCounts counts;
	LogChange state;
	Deleter *careful;
	char *foreign;
	int64 due;

	initStringInfo(&out);
	claim(&first);
	assert_ok(tenant_log_open(&first, deleter, NULL, &log, &newest));
	assert_ok(tenant_log_append(log, NULL, 0, NULL));
	chain = open_chain(&first, &timeline, 0, 100); /* 0: fence */
	gone_chain = open_chain(&first, &gone, 0, 100);
	assert_ok(chain_append(chain, 100, "first", 5, 1, NULL));  /* 1 */
	assert_ok(chain_append(chain, 105, "second", 6, 1, NULL)); /* 2 */
	assert_ok(chain_append(chain, 111, "third", 5, 1, NULL));  /* 3 */
	assert_ok(chain_append(gone_chain, 100, "gone", 4, 1, NULL));
	put_file(&timeline, g | 1, 100);
	put_file(&timeline, g | 2, 200);
	put_file(&timeline, g | 3, 300);
	put_file(&gone, g | 1, 10);
	record = json_pack("{s:{s:{s:[o, o], s:o}}}", "timelines", "11000000000000000000000000000000", "layers",
					   file_text(g | 1, 100), file_text(g | 2, 200), "wal", log_change_make_wal(2, 0, 105));
	assert_ok(tenant_log_append(log, record, 0, NULL));
	json_decref(record);
	chain_close(chain);
	chain_close(gone_chain);
	tenant_log_close(log);

	/* before anybody takes over, nothing of the newest owner's is an orphan, except what its chain does not need */
	take(&out);
	assert_int_equal(count(&out, 'm') + count(&out, 'w') + count(&out, 'f'), 0);
	assert_said(&out, 'n', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 1));
	assert_said(&out, 'u', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 3));
	assert_said(&out, 'u', key_text(BUCKET_KEY_LAYER, &gone, 0, g | 1));
	assert_said(&out, 'u', key_text(BUCKET_KEY_CHAIN, &gone, 0, 1));
	assert_said(&out, 'n', key_text(BUCKET_KEY_CHAIN, &timeline, 0, 3));

	claim(&second);
	assert_ok(tenant_log_open(&second, deleter, NULL, &log, &newest));
	assert_ok(tenant_log_append(log, NULL, 0, NULL));
	put_file(&timeline, g * 2 | 4, 400);
	fake_bucket_poke(bucket, key_text(BUCKET_KEY_LAYER, &timeline, 0, 7), "x", 1);
	fake_bucket_poke(bucket, "t/00000000000000000000000000000000/l/other", "x", 1);
	take(&out);
	assert_said(&out, 'o', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 3));
	assert_said(&out, 'o', key_text(BUCKET_KEY_LAYER, &timeline, 0, 7));
	assert_said(&out, 'o', key_text(BUCKET_KEY_LAYER, &gone, 0, g | 1));
	assert_said(&out, 'u', key_text(BUCKET_KEY_LAYER, &timeline, 0, g * 2 | 4));
	assert_said(&out, 'n', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 2));
	assert_said(&out, 'n', key_text(BUCKET_KEY_CHAIN, &timeline, 0, 0)); /* a fence that is not needed */
	assert_said(&out, 'n', key_text(BUCKET_KEY_CHAIN, &timeline, 0, 1)); /* WAL that is not needed */
	assert_said(&out, 'n', key_text(BUCKET_KEY_CHAIN, &timeline, 0, 2));
	assert_said(&out, 'n', key_text(BUCKET_KEY_CHAIN, &gone, 0, 0));
	assert_said(&out, 'o', key_text(BUCKET_KEY_CHAIN, &gone, 0, 1));
	assert_said(&out, 'n', key_text(BUCKET_KEY_CLAIM, &timeline, 1, 0));
	assert_said(&out, 'o', key_text(BUCKET_KEY_LOG, &timeline, 1, 1));
	assert_said(&out, 'n', key_text(BUCKET_KEY_LOG, &timeline, 2, 0));
	assert_int_equal(count(&out, 'm') + count(&out, 'w') + count(&out, 'f'), 0);

	/* what a list does not show is asked for */
	bucket->faults.ignores_list = true;
	take(&out);
	assert_said(&out, 'n', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 1));
	assert_int_equal(count(&out, 'm') + count(&out, 'o'), 0);
	bucket->faults.ignores_list = false;

	/* files of generation 1 stay as long as the owner may have some to name: here g | 3, and one of "gone" */
	take(&out);
	assert_int_equal(count(&out, 'o'), 6);
	read_log(&newest, &state);
	careful = deleter_create(store, 0);
	assert_ok(inventory_sweep(&second, &newest, &state, 1, careful, NULL, &counts));
	assert_int_equal(counts.orphans, 4);
	assert_int_equal(deleter_count(careful, &due), 4);
	deleter_free(careful);

	/* the owner removes the orphans, and those only */
	assert_ok(inventory_sweep(&second, &newest, &state, 2, deleter, NULL, &counts));
	assert_int_equal(counts.orphans, 6);
	assert_ok(deleter_run(deleter, NULL));
	take(&out);
	assert_int_equal(count(&out, 'o') + count(&out, 'm') + count(&out, 'w'), 0);
	assert_int_equal(count(&out, 'n'), 2 + 2 + 3 + 2 + 1); /* files, claims, chunks, fences, entry */

	/* damage */
	fake_bucket_poke(bucket, key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 1), NULL, 0);
	fake_bucket_poke(bucket, key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 2), "short", 5);
	fake_bucket_poke(bucket, key_text(BUCKET_KEY_CHAIN, &timeline, 0, 2), NULL, 0);
	foreign = psprintf("%s.tmp", key_text(BUCKET_KEY_LAYER, &timeline, 0, 9));
	fake_bucket_poke(bucket, foreign, "x", 1);
	pfree(foreign);
	take(&out);
	assert_said(&out, 'm', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 1));
	assert_said(&out, 'w', key_text(BUCKET_KEY_LAYER, &timeline, 0, g | 2));
	assert_said(&out, 'm', key_text(BUCKET_KEY_CHAIN, &timeline, 0, 2));
	assert_int_equal(count(&out, 'f'), 1);

	pfree(out.data);
	log_change_free(&state);
	tenant_log_close(log);
	deleter_free(deleter);
}

/* Reads a file into memory. */
static char *
slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "r");
	char *data = malloc(1 << 20);

	assert_non_null(f);
	*len = fread(data, 1, 1 << 20, f);
	fclose(f);
	return data;
}

static int
count_findings(const AuditResult *result, AuditKind kind)
{
	int n = 0;

	for (int i = 0; i < result->nfindings; i++)
		n += result->findings[i].kind == kind;
	return n;
}

/* A tenant with one layer file and some WAL: found as it is, and with each of its bytes flipped. */
static void
test_audit(void **unused)
{
	static const PsKey key = {.kind = PS_KEY_RELBLOCK, .spc = 1663, .db = 5, .rel = 16384, .blk = 1};
	Deleter *deleter;
	TenantOwner owner;
	TenantLog *log;
	LogEntryInfo newest;
	json_t *record;
	Chain *chain;
	ImageWriter *writer;
	Layer *layer;
	char name[LAYER_NAME_MAX];
	char object[BUCKET_KEY_TEXT];
	char id[PS_ID_TEXT];
	char *path;
	char *data;
	size_t len;
	AuditResult result;
	PsId *tenants;
	int n;
	uint64 g = UINT64CONST(1) << 32;

	make_test_dir(NULL);
	tenant = layer_tenant;
	timeline = layer_timeline;
	deleter = deleter_create(store, 0);
	claim(&owner);
	layer_space_skip(&test_space, g);
	assert_ok(image_writer_create(&test_space, 100, &writer));
	assert_ok(image_writer_put(writer, &key, "hello", 5));
	assert_ok(image_writer_finish(writer, &layer));
	path = psprintf("%s/%s", test_dir, layer_name(layer, name));
	data = slurp(path, &len);
	strlcpy(object, key_text(BUCKET_KEY_LAYER, &timeline, 0, layer_info(layer)->number), sizeof(object));
	fake_bucket_poke(bucket, object, data, len);
	assert_ok(tenant_log_open(&owner, deleter, NULL, &log, &newest));
	chain = open_chain(&owner, &timeline, 0, 100);
	assert_ok(chain_append(chain, 100, "first", 5, 1, NULL));
	assert_ok(chain_append(chain, 105, "second", 6, 1, NULL));
	record = json_pack("{s:{s:{s:[o], s:o}}}", "timelines", ps_id_format(&timeline, id), "layers",
					   json_sprintf("%s level 0 entries 1 bytes %d", name, (int) len), "wal",
					   log_change_make_wal(1, 0, 100));
	assert_ok(tenant_log_append(log, record, 0, NULL));
	json_decref(record);

	assert_ok(audit_tenants(store, NULL, &tenants, &n));
	assert_int_equal(n, 1);
	assert_memory_equal(&tenants[0], &tenant, sizeof(PsId));
	free(tenants);
	assert_ok(audit_tenant(store, &tenant, test_dir, NULL, &result));
	assert_int_equal(result.nfindings, 0);
	assert_int_equal(result.objects, 1 + 1 + 1 + 3); /* claim, entry, file, chain */
	assert_int_equal(result.entry.generation, 1);
	audit_free(&result);

	/* bytes that are nobody's are zeros, and checked as well */
	for (size_t i = 0; i < len; i += 1 + len / 200)
	{
		data[i] ^= 4;
		fake_bucket_poke(bucket, object, data, len);
		assert_ok(audit_tenant(store, &tenant, test_dir, NULL, &result));
		if (count_findings(&result, AUDIT_DAMAGED) != 1)
			fail_msg("byte %zu of %zu: the damage is not found", i, len);
		assert_string_equal(result.findings[0].object, object);
		audit_free(&result);
		/* without the contents, the file is as it must be */
		assert_ok(audit_tenant(store, &tenant, NULL, NULL, &result));
		assert_int_equal(result.nfindings, 0);
		audit_free(&result);
		data[i] ^= 4;
	}
	fake_bucket_poke(bucket, object, NULL, 0);
	assert_ok(audit_tenant(store, &tenant, NULL, NULL, &result));
	assert_int_equal(count_findings(&result, AUDIT_MISSING), 1);
	audit_free(&result);
	fake_bucket_poke(bucket, object, data, len);

	/* a chain without one of its chunks, or with a damaged one */
	strlcpy(object, key_text(BUCKET_KEY_CHAIN, &timeline, 0, 2), sizeof(object));
	fake_bucket_poke(bucket, object, "nonsense", 8);
	assert_ok(audit_tenant(store, &tenant, NULL, NULL, &result));
	assert_int_equal(count_findings(&result, AUDIT_DAMAGED), 1);
	audit_free(&result);
	assert_ok(audit_tenant(store, &tenant, NULL, NULL, &result));
	audit_free(&result);

	tenant = ps_id_random();
	{
		PsError *err = audit_tenant(store, &tenant, NULL, NULL, &result);

		assert_non_null(err);
		assert_string_equal(err->sqlstate, PS_SQLSTATE_NOT_FOUND);
		ps_error_free(err);
		audit_free(&result);
	}
	chain_close(chain);
	tenant_log_close(log);
	deleter_free(deleter);
	layer_unref(layer);
	free(data);
	pfree(path);
	remove_test_dir(NULL);
}

static PsError *
canceled_read(ObjectStore *canceled, const char *key, int64 offset, int64 len, const ByteSink *sink,
			  const ObjectWait *wait)
{
	return cancel_error(CANCEL_BRANCH_DELETED, "b");
}

static PsError *
empty_list(ObjectStore *canceled, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
		   const ObjectWait *wait)
{
	return NULL;
}

static void
assert_canceled(PsError *err)
{
	assert_non_null(err);
	assert_true(err->is_cancel);
	ps_error_free(err);
}

/* An inventory that is canceled does not say that objects are missing. */
static void
test_canceled(void **unused)
{
	const ObjectBackend backend = {.read = canceled_read, .list = empty_list};
	ObjectStore canceled = {.backend = &backend, .url = "fake:"};
	BucketKey key = {.kind = BUCKET_KEY_CHAIN, .tenant = tenant, .timeline = timeline};
	json_t *record = json_pack("{s:{s:{s:[o], s:o}}}", "timelines", "11000000000000000000000000000000", "layers",
							   file_text(1, 100), "wal", log_change_make_wal(0, 0, 100));
	LogEntryInfo newest = {.generation = 1};
	StringInfoData out;
	InventorySink sink = {note, &out};
	ChainChunk chunk;
	LogChange state;
	bool fence;
	bool found;

	initStringInfo(&out);
	assert_ok(log_change_load(&state, record));
	assert_canceled(inventory_take(&canceled, &tenant, &newest, &state, &sink, NULL));
	assert_string_equal(out.data, "");
	assert_canceled(chain_peek(&canceled, &key, NULL, &chunk, &fence, &found));
	pfree(out.data);
	log_change_free(&state);
	json_decref(record);
}

static const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_canceled, setup, teardown),
										  cmocka_unit_test_setup_teardown(test_inventory, setup, teardown),
										  cmocka_unit_test_setup_teardown(test_audit, setup, teardown)};

int
main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
