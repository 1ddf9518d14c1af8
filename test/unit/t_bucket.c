/*
 * t_bucket.c
 *	  Tenants in a bucket: keys, the check of a bucket, claims, WAL chains, deletion.
 *	  What needs no faults runs on a directory, too.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "lib/stringinfo.h"

#include "base/clock.h"
#include "bucket/bucket.h"
#include "bucket/chain.h"
#include "bucket/bucket_impl.h"
#include "bucket/claim.h"
#include "bucket/deleter.h"
#include "bucket/keys.h"
#include "fake_bucket.h"
#include "remote/object_impl.h"
#include "sqlstate.h"

static char dir[MAXPGPATH];
static FakeBucket *bucket; /* NULL: a directory */
static ObjectStore *store;
static int64 clock_offset; /* ms */
static PsId tenant;
static PsId timeline;
static const StoreIdentity me = {{{1}}, "host1", "/store1"};
static const StoreIdentity other = {{{2}}, "host2", "/store2"};

extern int64 __real_clock_now_ms(void);
extern int64 __wrap_clock_now_ms(void);

int64
__wrap_clock_now_ms(void)
{
	return __real_clock_now_ms() + clock_offset;
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

/* An error whose texts contain a word. */
static void
assert_says(PsError *err, const char *sqlstate, const char *word)
{
	char *all;

	assert_non_null(err);
	all = psprintf("%s %s %s", err->message, err->detail ? err->detail : "", err->hint ? err->hint : "");
	if (strstr(all, word) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", all, word);
	free(all);
	assert_state(err, sqlstate);
}

static int
setup_fake(void **state)
{
	bucket = fake_bucket_create(1);
	store = fake_bucket_open(bucket, NULL);
	tenant = ps_id_random();
	timeline = ps_id_random();
	return 0;
}

static int
setup_dir(void **state)
{
	char *url;

	bucket = NULL;
	strlcpy(dir, "/tmp/t_bucket.XXXXXX", sizeof(dir));
	assert_non_null(mkdtemp(dir));
	url = psprintf("file://%s", dir);
	assert_ok(object_store_open(url, NULL, &store));
	free(url);
	tenant = ps_id_random();
	timeline = ps_id_random();
	return 0;
}

static int
teardown(void **state)
{
	char *command;
	int rc = 0;

	object_store_close(store);
	if (bucket != NULL)
		fake_bucket_free(bucket);
	else
	{
		command = psprintf("rm -rf '%s'", dir);
		rc = system(command);
		free(command);
	}
	return rc;
}

/* ---- keys ---- */

static void
check_key(BucketKey key, const char *text)
{
	char formatted[BUCKET_KEY_TEXT];
	BucketKey parsed;

	assert_string_equal(bucket_key_format(&key, formatted), text);
	assert_true(bucket_key_parse(text, &parsed));
	assert_string_equal(bucket_key_format(&parsed, formatted), text);
	assert_int_equal(parsed.kind, key.kind);
	assert_int_equal(parsed.generation, key.generation);
	assert_int_equal(parsed.number, key.number);
	/* nothing that is shorter or longer, or has another character, is a key */
	for (size_t i = 0; i < strlen(text); i++)
	{
		char *wrong = pg_strdup(text);

		wrong[i] = '?';
		assert_false(bucket_key_parse(wrong, &parsed));
		wrong[i] = '\0';
		assert_false(bucket_key_parse(wrong, &parsed));
		free(wrong);
	}
	snprintf(formatted, sizeof(formatted), "%s0", text);
	assert_false(bucket_key_parse(formatted, &parsed));
}

static void
keys(void **state)
{
	PsId t;
	PsId l;
	BucketKey key;

#define T "t/00112233445566778899aabbccddeeff"
#define L "ffeeddccbbaa99887766554433221100"
	assert_true(ps_id_parse("00112233445566778899aabbccddeeff", &t));
	assert_true(ps_id_parse(L, &l));
	check_key((BucketKey) {BUCKET_KEY_CLAIM, t, .generation = 1}, T "/own/fffffffffffffffe");
	check_key((BucketKey) {BUCKET_KEY_LOG, t, .generation = 16, .number = 0}, T "/m/ffffffffffffffef-ffffffffffffffff");
	check_key((BucketKey) {BUCKET_KEY_LAYER, t, l, .number = UINT64CONST(5) << 32 | 0xab},
			  T "/l/" L "/00000005000000ab");
	check_key((BucketKey) {BUCKET_KEY_CHAIN, t, l, .number = UINT64_MAX}, T "/w/" L "/ffffffffffffffff");
	check_key((BucketKey) {BUCKET_KEY_SEGMENT, t, l, .generation = 3, .number = UINT64CONST(0x1A000000FF)},
			  T "/s/" L "/0000000000000003-000000010000001A000000FF.zst");
	assert_false(bucket_key_parse("format", &key));
	assert_false(bucket_key_parse(T "/own/FFFFFFFFFFFFFFFE", &key));
	assert_false(bucket_key_parse(T "/own/0x1234567890abcd", &key));
	assert_false(bucket_key_parse(T "/x/" L "/00000005000000ab", &key));
}

/* ---- the bucket ---- */

static void
open_bucket(void **state)
{
	PsId id;
	PsId again;
	ObjectOutcome outcome;

	assert_ok(bucket_open(store, NULL, &id));
	assert_ok(bucket_open(store, NULL, &again));
	assert_true(ps_id_equal(&id, &again));
	if (bucket != NULL)
		assert_int_equal(fake_bucket_count(bucket, ""), 1); /* nothing but "format" */

	/* another program's, a newer one's */
	assert_ok(object_put(store, "format", "{}", 2, NULL));
	assert_state(bucket_open(store, NULL, &id), PS_SQLSTATE_CORRUPTED);
	assert_ok(object_put_once(store, "t/x", "x", 1, NULL, &outcome));
	assert_ok(object_delete(store, (const char *[]) {"format"}, 1, NULL));
	assert_says(bucket_open(store, NULL, &id), PS_SQLSTATE_STATE, "no object \"format\"");
}

/* What a service does wrong is found out, and no object is left. */
static void
unusable_buckets(void **state)
{
	static const char *const kinds[] = {"put", "get", "list", "delete"};
	PsId id;

	bucket->faults.overwrites = true;
	assert_says(bucket_open(store, NULL, &id), PS_SQLSTATE_STATE, "is overwritten");
	bucket->faults.overwrites = false;
	bucket->faults.trusts_412 = true; /* good enough as long as no answer is lost */
	assert_ok(bucket_probe(store, NULL));
	bucket->faults.trusts_412 = false;
	for (int i = 0; i < lengthof(kinds); i++)
	{
		bucket->denied = kinds[i];
		assert_says(bucket_open(store, NULL, &id), PS_SQLSTATE_STATE, "needs permission");
		bucket->denied = NULL;
	}
	assert_int_equal(fake_bucket_count(bucket, ""), 1); /* what may not be deleted */
	assert_ok(bucket_open(store, NULL, &id));
	assert_int_equal(fake_bucket_count(bucket, ""), 2);
	assert_int_equal(fake_bucket_count(bucket, "format"), 1);
}

/* Bad days do not make a bucket unusable. */
static void
probe_with_faults(void **state)
{
	bucket->faults = (FakeFaults) {.lost = 100, .late = 100, .doubled = 100, .answer_lost = 100, .stale = 3};
	for (int i = 0; i < 100; i++)
	{
		assert_ok(bucket_probe(store, NULL));
		while (fake_bucket_run_late(bucket))
			;
	}
}

/* ---- claims ---- */

static void
claim(const StoreIdentity *who, TenantOwner *owner)
{
	Claim newest;
	Claim mine;
	bool found;

	assert_ok(claim_newest(store, &tenant, NULL, &newest, &found));
	claim_make(&mine, found ? &newest : NULL, who);
	assert_ok(claim_put(store, &tenant, &mine, NULL, owner));
}

static void
claims(void **state)
{
	Claim newest;
	Claim mine;
	Claim theirs;
	TenantOwner first;
	TenantOwner second;
	TenantOwner third;
	bool found;

	assert_ok(claim_newest(store, &tenant, NULL, &newest, &found));
	assert_false(found);
	claim_make(&mine, NULL, &me);
	claim_make(&theirs, NULL, &other);
	assert_ok(claim_put(store, &tenant, &mine, NULL, &first));
	assert_int_equal(first.generation, 1);
	/* the same again: its outcome may have been unknown */
	assert_ok(claim_put(store, &tenant, &mine, NULL, &first));
	assert_says(claim_put(store, &tenant, &theirs, NULL, &second), PS_SQLSTATE_FENCED, "\"/store1\" on host \"host1\"");
	/* each attempt is another claim, also of the same store */
	claim_make(&mine, NULL, &me);
	assert_state(claim_put(store, &tenant, &mine, NULL, &second), PS_SQLSTATE_FENCED);
	assert_ok(claim_check(&first, NULL));

	assert_ok(claim_newest(store, &tenant, NULL, &newest, &found));
	assert_true(found);
	assert_int_equal(newest.generation, 1);
	assert_string_equal(newest.host, "host1");
	assert_string_equal(newest.path, "/store1");
	assert_false(newest.has_took_over);
	assert_true(ps_id_equal(&newest.store, &me.id));
	claim(&other, &second);
	assert_int_equal(second.generation, 2);
	assert_says(claim_check(&first, NULL), PS_SQLSTATE_FENCED, "\"/store2\" on host \"host2\"");
	assert_ok(claim_check(&second, NULL));
	theirs = newest;
	assert_ok(claim_newest(store, &tenant, NULL, &newest, &found));
	assert_true(newest.has_took_over && ps_id_equal(&newest.took_over, &theirs.id));

	/* the newest owner is named, not the next one */
	claim(&me, &third);
	assert_says(claim_check(&first, NULL), PS_SQLSTATE_FENCED, "It has generation 3, this store has 1.");
	/* the newest one itself: a copy of the machine */
	assert_says(claim_fenced(&third, NULL), PS_SQLSTATE_FENCED, "with the claim of this store");
	/* an object that is missing: is a newer owner the reason? */
	assert_state(claim_explain(&third, ps_error(PS_SQLSTATE_NOT_FOUND, "x"), NULL), PS_SQLSTATE_NOT_FOUND);
	assert_state(claim_explain(&first, ps_error(PS_SQLSTATE_NOT_FOUND, "x"), NULL), PS_SQLSTATE_FENCED);
	assert_state(claim_explain(&first, ps_error(PS_SQLSTATE_TRY_AGAIN, "x"), NULL), PS_SQLSTATE_TRY_AGAIN);
}

/* A damaged claim is one, though nobody can read it. */
static void
damaged_claim(void **state)
{
	TenantOwner owner;
	Claim newest;
	bool found;
	BucketKey key = {BUCKET_KEY_CLAIM, tenant, .generation = 2};
	char name[BUCKET_KEY_TEXT];
	char *large = pg_malloc0(100000);

	claim(&me, &owner);
	bucket_key_format(&key, name);
	fake_bucket_poke(bucket, name, "{}", 2);
	assert_says(claim_check(&owner, NULL), PS_SQLSTATE_FENCED, "another store");
	assert_state(claim_newest(store, &tenant, NULL, &newest, &found), PS_SQLSTATE_CORRUPTED);
	fake_bucket_poke(bucket, name, large, 100000);
	assert_state(claim_check(&owner, NULL), PS_SQLSTATE_FENCED);
	free(large);
}

static PsError *
damaged_read(ObjectStore *damaged, const char *key, int64 offset, int64 len, const ByteSink *sink,
			 const ObjectWait *wait)
{
	return ps_error(PS_SQLSTATE_CORRUPTED, "not the part that was asked for");
}

static PsError *
damaged_list(ObjectStore *damaged, const char *prefix, const char *after, bool folders, const ObjectListSink *sink,
			 const ObjectWait *wait)
{
	return ps_error(PS_SQLSTATE_CORRUPTED, "not a list");
}

/* If the bucket gives answers that make no sense, that is no newer claim. */
static void
damaged_answers(void **state)
{
	const ObjectBackend backend = {.read = damaged_read, .list = damaged_list};
	ObjectStore damaged = {.backend = &backend, .url = "fake:"};
	TenantOwner owner;

	claim(&me, &owner);
	owner.store = &damaged;
	assert_state(claim_check(&owner, NULL), PS_SQLSTATE_CORRUPTED);
}

static PsError *
canceled_read(ObjectStore *damaged, const char *key, int64 offset, int64 len, const ByteSink *sink,
			  const ObjectWait *wait)
{
	return cancel_error(CANCEL_BRANCH_DELETED, "b");
}

static void
assert_canceled(PsError *err)
{
	assert_non_null(err);
	assert_true(err->is_cancel);
	ps_error_free(err);
}

/* A request that is canceled because a branch is being deleted has the state of an object that is not there. */
static void
canceled_requests(void **state)
{
	const ObjectBackend backend = {.read = canceled_read, .list = damaged_list};
	ObjectStore slow = {.backend = &backend, .url = "fake:"};
	TenantOwner owner;
	BucketKey key = {BUCKET_KEY_CLAIM, tenant, .generation = 1};
	char *data;
	size_t len;
	bool found;

	claim(&me, &owner);
	owner.store = &slow;
	assert_canceled(claim_check(&owner, NULL));
	assert_canceled(claim_explain(&owner, cancel_error(CANCEL_BRANCH_DELETED, "b"), NULL));
	assert_canceled(bucket_get(&slow, &key, 100, NULL, &data, &len, &found));
	assert_false(found);
}

/* A claim whose time is none is damaged. */
static void
claim_without_time(void **state)
{
	static const int64 times[] = {-1, INT64CONST(253402300800), PG_INT64_MAX};

	for (int i = 0; i < lengthof(times); i++)
	{
		TenantOwner owner;
		TenantOwner theirs;
		Claim first;
		Claim claim;
		bool found;

		tenant = ps_id_random();
		claim_make(&first, NULL, &me);
		assert_ok(claim_put(store, &tenant, &first, NULL, &owner));
		claim_make(&claim, &first, &other);
		claim.time = times[i];
		assert_ok(claim_put(store, &tenant, &claim, NULL, &theirs));
		assert_says(claim_check(&owner, NULL), PS_SQLSTATE_FENCED, "another store");
		assert_state(claim_newest(store, &tenant, NULL, &claim, &found), PS_SQLSTATE_CORRUPTED);
	}
}

/* A claim of another tenant or generation, or one with a changed byte, is not accepted. */
static void
claim_of_another(void **state)
{
	TenantOwner owner;
	Claim newest;
	bool found;
	BucketKey key = {BUCKET_KEY_CLAIM, tenant, .generation = 1};
	char name[BUCKET_KEY_TEXT];
	const char *data;
	size_t len;
	char *copy;

	claim(&me, &owner);
	data = fake_bucket_peek(bucket, bucket_key_format(&key, name), &len);
	copy = pg_malloc(len);
	memcpy(copy, data, len);
	key.generation = 2;
	fake_bucket_poke(bucket, bucket_key_format(&key, name), copy, len);
	assert_state(claim_newest(store, &tenant, NULL, &newest, &found), PS_SQLSTATE_CORRUPTED);
	fake_bucket_poke(bucket, name, NULL, 0);
	key.generation = 1;
	bucket_key_format(&key, name);
	for (size_t i = 0; i < len; i++)
	{
		PsError *err;

		copy[i] ^= 1;
		fake_bucket_poke(bucket, name, copy, len);
		err = claim_newest(store, &tenant, NULL, &newest, &found);
		/* white space does not matter */
		if (err == NULL)
			assert_true(newest.generation == 1 && strcmp(newest.path, "/store1") == 0);
		else
			assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED) || ps_error_is(err, PS_SQLSTATE_STATE));
		ps_error_free(err);
		copy[i] ^= 1;
	}
	free(copy);
}

/* An old list does not hide claims. */
static void
stale_claims(void **state)
{
	TenantOwner owner;

	bucket->faults.stale = 10;
	for (int i = 1; i <= 100; i++)
	{
		claim(&me, &owner);
		assert_int_equal(owner.generation, i);
	}
	bucket->faults.stale = 0;
	bucket->counts.lists = bucket->counts.gets = 0;
	claim(&me, &owner);
	assert_int_equal(bucket->counts.lists, 1);
	assert_int_equal(bucket->counts.gets, 2);
}

/* ---- deletion ---- */

static void
deletion(void **state)
{
	Deleter *deleter = deleter_create(store, 1000000);
	BucketKey key = {BUCKET_KEY_CHAIN, tenant, timeline};
	char name[BUCKET_KEY_TEXT];
	int64 due;
	void *data;
	size_t len;

	for (key.number = 0; key.number < 2500; key.number += bucket != NULL ? 1 : 100)
		assert_ok(object_put(store, bucket_key_format(&key, name), "x", 1, NULL));
	key.number = 0;
	assert_int_equal(deleter_count(deleter, &due), 0);
	assert_int_equal(due, 0);
	deleter_add(deleter, &key, 2300);
	assert_ok(deleter_run(deleter, NULL));
	clock_offset += 900000;
	key.number = 2400;
	for (int i = 0; i < 100; i++, key.number++)
		deleter_add(deleter, &key, 1);
	assert_int_equal(deleter_count(deleter, &due), 2400);
	assert_true(due > clock_now_ms() && due <= clock_now_ms() + 100000);

	/* too early; then the first ones; after a failure, again */
	key.number = 0;
	assert_ok(object_get(store, bucket_key_format(&key, name), 1, &data, &len, NULL));
	free(data);
	clock_offset += 500000;
	if (bucket != NULL)
	{
		bucket->denied = "delete";
		assert_state(deleter_run(deleter, NULL), PS_SQLSTATE_STATE);
		bucket->denied = NULL;
		assert_int_equal(deleter_count(deleter, &due), 2400);
	}
	assert_ok(deleter_run(deleter, NULL));
	assert_int_equal(deleter_count(deleter, &due), 100);
	assert_state(object_get(store, name, 1, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	key.number = 2400;
	assert_ok(object_get(store, bucket_key_format(&key, name), 1, &data, &len, NULL));
	free(data);
	deleter_set_delay(deleter, 0);
	assert_ok(deleter_run(deleter, NULL));
	assert_int_equal(deleter_count(deleter, &due), 0);
	assert_state(object_get(store, name, 1, &data, &len, NULL), PS_SQLSTATE_NOT_FOUND);
	if (bucket != NULL)
		assert_int_equal(fake_bucket_count(bucket, "t/"), 100); /* 2300 to 2399 */
	deleter_free(deleter);
}

/* ---- chains ---- */

/* What a sink has received: the WAL, as a new owner puts it together. */
typedef struct Received
{
	XLogRecPtr start;
	StringInfoData wal;
	int chunks;
	uint64 compute_generation;
} Received;

static PsError *
receive(void *arg, const ChainChunk *chunk, const char *wal)
{
	Received *received = arg;

	if (received->chunks++ == 0)
		received->start = chunk->start;
	received->wal.len = chunk->start - received->start;
	appendBinaryStringInfo(&received->wal, wal, chunk->end - chunk->start);
	received->compute_generation = chunk->compute_generation;
	return NULL;
}

static PsError *
open_chain(const TenantOwner *owner, uint64 number, XLogRecPtr lsn, Received *received, Chain **chain)
{
	ChainSink sink = {receive, received};

	memset(received, 0, sizeof(*received));
	initStringInfo(&received->wal);
	return chain_open(owner, &timeline, number, lsn, &sink, NULL, chain);
}

static void
assert_received(Received *received, XLogRecPtr start, const char *wal)
{
	assert_int_equal(received->start, start);
	assert_int_equal(received->wal.len, strlen(wal));
	assert_memory_equal(received->wal.data, wal, strlen(wal));
	pfree(received->wal.data);
}

static void
append(Chain *chain, XLogRecPtr start, const char *wal)
{
	assert_ok(chain_append(chain, start, wal, strlen(wal), 7, NULL));
	assert_int_equal(chain_end(chain), start + strlen(wal));
}

static void
chains(void **state)
{
	TenantOwner first;
	TenantOwner second;
	Chain *chain;
	Chain *theirs;
	Received received;
	Deleter *deleter = deleter_create(store, 0);

	claim(&me, &first);
	assert_ok(open_chain(&first, 0, 1000, &received, &chain));
	assert_int_equal(received.chunks, 0);
	pfree(received.wal.data);
	assert_int_equal(chain_end(chain), 1000);
	append(chain, 1000, "hello");
	append(chain, 1005, "world");
	assert_int_equal(chain_first_needed(chain, 1000), 1); /* 0 is the fence */
	assert_int_equal(chain_first_needed(chain, 1004), 1);
	assert_int_equal(chain_first_needed(chain, 1005), 2);
	assert_int_equal(chain_first_needed(chain, 1010), 3);
	/* a gap, nothing, too much */
	assert_state(chain_append(chain, 1011, "x", 1, 7, NULL), PS_SQLSTATE_INTERNAL);
	assert_state(chain_append(chain, 1010, "x", 0, 7, NULL), PS_SQLSTATE_INTERNAL);
	assert_state(chain_append(chain, 1010, "x", CHAIN_CHUNK_MAX + 1, 7, NULL), PS_SQLSTATE_INTERNAL);
	/* an incomplete record is cut off */
	append(chain, 1007, "man");
	assert_int_equal(chain_first_needed(chain, 1006), 2);
	assert_int_equal(chain_first_needed(chain, 1007), 3);
	chain_close(chain);

	/* the same owner again, from an older place and a newer one */
	assert_ok(open_chain(&first, 1, 1002, &received, &chain));
	assert_int_equal(received.compute_generation, 7);
	assert_received(&received, 1000, "hellowoman");
	append(chain, 1010, "!");
	chain_close(chain);
	assert_ok(open_chain(&first, 3, 1007, &received, &chain));
	assert_received(&received, 1007, "man!");
	assert_int_equal(chain_end(chain), 1011);

	/* a new owner; the old one cannot append, but what it has appended is there */
	claim(&other, &second);
	append(chain, 1011, "?");
	assert_ok(open_chain(&second, 3, 1007, &received, &theirs));
	assert_received(&received, 1007, "man!?");
	assert_says(chain_append(chain, 1012, "lost", 4, 7, NULL), PS_SQLSTATE_FENCED, "host2");
	assert_says(chain_settle(chain, NULL), PS_SQLSTATE_FENCED, "host2");
	assert_int_equal(chain_end(chain), 1012);
	chain_close(chain);
	append(theirs, 1012, "kept");
	/* nor can it open the chain; what it finds is not all */
	assert_state(open_chain(&first, 3, 1007, &received, &chain), PS_SQLSTATE_FENCED);
	pfree(received.wal.data);

	/* what is not needed is deleted, except fences */
	chain_remove_before(theirs, chain_first_needed(theirs, 1016), deleter);
	assert_ok(deleter_run(deleter, NULL));
	if (bucket != NULL)
		assert_int_equal(fake_bucket_count(bucket, "t/"), 2 + 2 + 4); /* claims; 1 and 2, which nobody gave; fences */
	/* the old owner may then reach an end, but not open the chain */
	assert_state(open_chain(&first, 3, 1007, &received, &chain), PS_SQLSTATE_FENCED);
	pfree(received.wal.data);
	append(theirs, 1016, "on");
	chain_close(theirs);
	deleter_free(deleter);
}

/* The beginning of a record that was never complete is cut off by a new owner. */
static void
chain_cuts(void **state)
{
	TenantOwner owner;
	Chain *chain;
	Received received;

	claim(&me, &owner);
	assert_ok(open_chain(&owner, 0, 1000, &received, &chain));
	assert_int_equal(chain_start(chain), InvalidXLogRecPtr);
	append(chain, 1000, "hello");
	append(chain, 1005, "wor");
	assert_int_equal(chain_start(chain), 1000);
	chain_close(chain);
	claim(&other, &owner);
	assert_ok(open_chain(&owner, 0, 1000, &received, &chain));
	assert_received(&received, 1000, "hellowor");
	assert_state(chain_cut(chain, 1009, NULL), PS_SQLSTATE_INTERNAL);
	assert_ok(chain_cut(chain, 1004, NULL));
	assert_int_equal(chain_end(chain), 1004);
	assert_false(chain_is_unsettled(chain));
	assert_int_equal(chain_first_needed(chain, 1003), 1);
	assert_int_equal(chain_first_needed(chain, 1004), 5);
	assert_state(chain_append(chain, 1005, "x", 1, 7, NULL), PS_SQLSTATE_INTERNAL);
	chain_close(chain);
	assert_ok(open_chain(&owner, 1, 1000, &received, &chain));
	assert_received(&received, 1000, "hell");
	append(chain, 1004, "men");
	chain_close(chain);
	assert_ok(open_chain(&owner, 4, 1004, &received, &chain));
	assert_int_equal(chain_end(chain), 1007);
	pfree(received.wal.data);
	chain_close(chain);
}

/* A chunk whose outcome is unknown: it is put again, and what was said about it is true. */
static void
chain_outcomes(void **state)
{
	TenantOwner owner;
	Chain *chain;
	Received received;
	StringInfoData all;
	int unknown = 0;

	initStringInfo(&all);
	claim(&me, &owner);
	assert_ok(open_chain(&owner, 0, 1, &received, &chain));
	pfree(received.wal.data);
	bucket->faults = (FakeFaults) {.lost = 100, .late = 100, .doubled = 100, .answer_lost = 100, .give_up = 500};
	for (int i = 0; i < 300; i++)
	{
		char *wal = psprintf("%d,", i);
		PsError *err = chain_append(chain, chain_end(chain), wal, strlen(wal), 1, NULL);

		if (err != NULL)
			assert_state(chain_append(chain, 1, "x", 1, 1, NULL), PS_SQLSTATE_INTERNAL);
		for (; err != NULL; err = chain_settle(chain, NULL))
		{
			unknown++;
			assert_state(err, PS_SQLSTATE_TRY_AGAIN);
		}
		fake_bucket_run_late(bucket);
		appendStringInfoString(&all, wal);
		free(wal);
	}
	assert_true(unknown > 10);
	/* one that is never settled: reading it again decides, and a request under way is too late */
	for (int i = 0; i < 100; i++)
	{
		char *wal = psprintf("%d.", i);
		XLogRecPtr end = chain_end(chain);
		PsError *err;

		bucket->faults.give_up = 500;
		err = chain_append(chain, end, wal, strlen(wal), 1, NULL);
		chain_close(chain);
		bucket->faults.give_up = 1; /* there is much to read */
		for (;;)
		{
			PsError *open_err = open_chain(&owner, 0, 1, &received, &chain);

			if (open_err == NULL)
				break;
			assert_state(open_err, PS_SQLSTATE_TRY_AGAIN);
			pfree(received.wal.data);
		}
		if (err == NULL || chain_end(chain) > end)
			appendStringInfoString(&all, wal);
		ps_error_free(err);
		while (fake_bucket_run_late(bucket))
			;
		assert_received(&received, 1, all.data);
		free(wal);
	}
	chain_close(chain);
	pfree(all.data);
}

/* Objects that are damaged, or lie under another's key. */
static void
damaged_chain(void **state)
{
	TenantOwner owner;
	Chain *chain;
	Received received;
	BucketKey key = {BUCKET_KEY_CHAIN, tenant, timeline, .number = 1};
	char name[BUCKET_KEY_TEXT];
	size_t len;
	const char *data;
	char *copy;

	claim(&me, &owner);
	assert_ok(open_chain(&owner, 0, 1000, &received, &chain));
	pfree(received.wal.data);
	append(chain, 1000, "some WAL");
	append(chain, 1008, "some more");
	append(chain, 1017, "the end");
	chain_close(chain);
	data = fake_bucket_peek(bucket, bucket_key_format(&key, name), &len);
	copy = pg_malloc(len);
	memcpy(copy, data, len);
	for (size_t bit = 0; bit < len * 8; bit++)
	{
		copy[bit / 8] ^= 1 << bit % 8;
		fake_bucket_poke(bucket, name, copy, len);
		assert_says(open_chain(&owner, 0, 1000, &received, &chain), PS_SQLSTATE_CORRUPTED, name);
		pfree(received.wal.data);
		copy[bit / 8] ^= 1 << bit % 8;
	}
	for (size_t short_len = 0; short_len < len; short_len++)
	{
		fake_bucket_poke(bucket, name, copy, short_len);
		assert_state(open_chain(&owner, 0, 1000, &received, &chain), PS_SQLSTATE_CORRUPTED);
		pfree(received.wal.data);
	}
	fake_bucket_poke(bucket, name, copy, len);
	key.number = 2;
	fake_bucket_poke(bucket, bucket_key_format(&key, name), copy, len);
	assert_says(open_chain(&owner, 0, 1000, &received, &chain), PS_SQLSTATE_CORRUPTED, "another one");
	pfree(received.wal.data);
	/* WAL is missing */
	assert_says(open_chain(&owner, 3, 1000, &received, &chain), PS_SQLSTATE_CORRUPTED, "0/3F9 on");
	pfree(received.wal.data);
	free(copy);
}

#define FAKE(test) cmocka_unit_test_setup_teardown(test, setup_fake, teardown)
#define DIRECTORY(test)                                      \
	{                                                        \
		"directory: " #test, test, setup_dir, teardown, NULL \
	}

static Deleter *two_runs_deleter;
static int two_runs_deleted;

/* Another thread runs the deleter while this request is under way. */
static PsError *
delete_beside(ObjectStore *slow, const char *const *keys, int nkeys, const ObjectWait *wait)
{
	static int depth;

	two_runs_deleted += nkeys;
	if (depth++ == 0)
		assert_ok(deleter_run(two_runs_deleter, NULL));
	depth--;
	return NULL;
}

/* Two threads may run a deleter: each object is deleted, and forgotten, once. */
static void
two_runs(void **state)
{
	const ObjectBackend backend = {.delete_keys = delete_beside};
	ObjectStore slow = {.backend = &backend, .url = "fake:"};
	BucketKey key = {BUCKET_KEY_LAYER, tenant, .number = 1};
	int64 next_due;

	two_runs_deleted = 0;
	two_runs_deleter = deleter_create(&slow, 0);
	deleter_add(two_runs_deleter, &key, 3);
	key.number = 10;
	deleter_add(two_runs_deleter, &key, 1);
	assert_ok(deleter_run(two_runs_deleter, NULL));
	assert_int_equal(two_runs_deleted, 4);
	assert_int_equal(deleter_count(two_runs_deleter, &next_due), 0);
	/* it runs again */
	deleter_add(two_runs_deleter, &key, 1);
	assert_ok(deleter_run(two_runs_deleter, NULL));
	assert_int_equal(two_runs_deleted, 5);
	deleter_free(two_runs_deleter);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),
		FAKE(open_bucket),
		DIRECTORY(open_bucket),
		FAKE(unusable_buckets),
		FAKE(probe_with_faults),
		FAKE(claims),
		DIRECTORY(claims),
		FAKE(damaged_claim),
		FAKE(damaged_answers),
		FAKE(canceled_requests),
		FAKE(claim_without_time),
		FAKE(claim_of_another),
		FAKE(stale_claims),
		FAKE(deletion),
		DIRECTORY(deletion),
		FAKE(two_runs),
		FAKE(chains),
		DIRECTORY(chains),
		FAKE(chain_cuts),
		FAKE(chain_outcomes),
		FAKE(damaged_chain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
