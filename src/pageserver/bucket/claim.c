/*
 * claim.c
 *	  Who owns a tenant in a bucket: see claim.h.
 */
#include "ps_fe.h"

#include <time.h>

#include "base/json_file.h"
#include "bucket/bucket_impl.h"
#include "sqlstate.h"

#define CLAIM_MAX     65536
#define CLAIM_VERSION 1
#define TIME_MAX      INT64CONST(253402300799) /* s, the end of the year 9999 */

static const JsonFormat claim_format = {"claim", "pageserver claim", "version", CLAIM_VERSION, CLAIM_VERSION, NULL};

static BucketKey
claim_key(const PsId *tenant, uint64 generation)
{
	return (BucketKey) {.kind = BUCKET_KEY_CLAIM, .tenant = *tenant, .generation = generation};
}

/* ---- the object ---- */

json_t *
claim_to_json(const PsId *tenant, const Claim *claim)
{
	char tenant_text[PS_ID_TEXT];
	char id[PS_ID_TEXT];
	char took_over[PS_ID_TEXT] = "";
	char store[PS_ID_TEXT];
	char generation[32];

	if (claim->has_took_over)
		ps_id_format(&claim->took_over, took_over);
	snprintf(generation, sizeof(generation), UINT64_FORMAT, claim->generation);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "tenant", ps_id_format(tenant, tenant_text),
					 "generation", generation, "id", ps_id_format(&claim->id, id), "took_over", took_over, "store",
					 ps_id_format(&claim->store, store), "host", claim->host, "path", claim->path, "time",
					 (json_int_t) claim->time);
}

static bool
get_text(const json_t *root, const char *name, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(root, name));

	return text != NULL && strlcpy(out, text, size) < size;
}

static bool
get_id(const json_t *root, const char *name, PsId *id)
{
	const char *text = json_string_value(json_object_get(root, name));

	return text != NULL && ps_id_parse(text, id);
}

bool
claim_from_json(const json_t *root, const PsId *tenant, Claim *claim)
{
	PsId of;
	char generation[32];
	char normal[32];
	char took_over[PS_ID_TEXT];
	const json_t *time = json_object_get(root, "time");

	memset(claim, 0, sizeof(*claim));
	if (!get_id(root, "tenant", &of) || !ps_id_equal(&of, tenant) ||
		!get_text(root, "generation", generation, sizeof(generation)) ||
		!get_id(root, "id", &claim->id) || !get_text(root, "took_over", took_over, sizeof(took_over)) ||
		!get_id(root, "store", &claim->store) || !get_text(root, "host", claim->host, sizeof(claim->host)) ||
		!get_text(root, "path", claim->path, sizeof(claim->path)) || !json_is_integer(time))
		return false;
	claim->generation = strtoull(generation, NULL, 10);
	snprintf(normal, sizeof(normal), UINT64_FORMAT, claim->generation);
	if (strcmp(generation, normal) != 0)
		return false;
	claim->time = json_integer_value(time);
	claim->has_took_over = took_over[0] != '\0';
	return claim->time >= 0 && claim->time <= TIME_MAX &&
		   (!claim->has_took_over || ps_id_parse(took_over, &claim->took_over));
}

static PsError *
read_claim(ObjectStore *store, const PsId *tenant, uint64 generation, const ObjectWait *wait, Claim *claim, bool *found)
{
	BucketKey key = claim_key(tenant, generation);
	char name[BUCKET_KEY_TEXT];
	char *data;
	size_t len;
	json_t *root;
	PsError *err;

	PS_TRY(bucket_get(store, &key, CLAIM_MAX, wait, &data, &len, found));
	if (!*found)
		return NULL;
	bucket_key_format(&key, name);
	err = json_file_parse(&claim_format, name, data, len, &root);
	free(data);
	PS_TRY(err);
	if (!claim_from_json(root, tenant, claim) || claim->generation != generation)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "claim \"%s\" has a missing or invalid member", name);
	json_decref(root);
	return err;
}

/* Whether there is a claim, valid or not. */
static PsError *
claim_exists(ObjectStore *store, const PsId *tenant, uint64 generation, const ObjectWait *wait, bool *exists)
{
	BucketKey key = claim_key(tenant, generation);
	char name[BUCKET_KEY_TEXT];
	char byte;
	size_t len;
	PsError *err = object_get_range(store, bucket_key_format(&key, name), 0, 1, &byte, &len, wait);

	*exists = err == NULL;
	if (object_is_missing(err))
	{
		ps_error_free(err);
		return NULL;
	}
	return err;
}

/* ---- claiming ---- */

PsError *
claim_newest(ObjectStore *store, const PsId *tenant, const ObjectWait *wait, Claim *claim, bool *found)
{
	BucketKey folder = claim_key(tenant, 0);
	BucketKey newest;
	uint64 generation;

	PS_TRY(bucket_first(store, &folder, NULL, wait, &newest, found));
	generation = *found ? newest.generation : 0;
	/* the list may be old; claims have no gaps */
	for (*found = BUCKET_RULE(RULE_LOOK_AHEAD); *found;)
	{
		PS_TRY(claim_exists(store, tenant, generation + 1, wait, found));
		generation += *found;
	}
	if (generation == 0)
		return NULL;
	PS_TRY(read_claim(store, tenant, generation, wait, claim, found));
	if (!*found)
		return ps_error(PS_SQLSTATE_CORRUPTED, "claim " UINT64_FORMAT " was deleted by another program", generation);
	return NULL;
}

void
claim_make(Claim *claim, const Claim *newest, const StoreIdentity *who)
{
	memset(claim, 0, sizeof(*claim));
	claim->generation = newest != NULL ? newest->generation + 1 : 1;
	claim->id = ps_id_random();
	if (newest != NULL)
	{
		claim->has_took_over = true;
		claim->took_over = newest->id;
	}
	claim->store = who->id;
	strlcpy(claim->host, who->host, sizeof(claim->host));
	strlcpy(claim->path, who->path, sizeof(claim->path));
	claim->time = time(NULL);
}

PsError *
claim_fenced_by(const PsId *tenant, uint64 generation, const Claim *theirs)
{
	char id[PS_ID_TEXT];
	char since[64];
	time_t seconds;
	struct tm tm;
	PsError *err;

	ps_id_format(tenant, id);
	if (theirs == NULL)
		err = ps_error(PS_SQLSTATE_FENCED, "another store has taken over tenant \"%s\"", id);
	else
	{
		seconds = theirs->time;
		strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&seconds, &tm));
		err = ps_error(PS_SQLSTATE_FENCED, "store \"%s\" on host \"%s\" has taken over tenant \"%s\" at %s",
					   theirs->path, theirs->host, id, since);
		if (generation > 0)
			ps_error_detail(err, "It has generation " UINT64_FORMAT ", this store has " UINT64_FORMAT ".",
							theirs->generation, generation);
		else
			ps_error_detail(err, "It has generation " UINT64_FORMAT ", this store has never had the tenant.",
							theirs->generation);
	}
	return ps_error_hint(err, "Nothing of the tenant can be changed here any more.  "
							  "Use that store, or detach the tenant there and attach it here.");
}

PsError *
claim_fenced(const TenantOwner *owner, const ObjectWait *wait)
{
	Claim newest;
	bool found;
	char id[PS_ID_TEXT];
	PsError *err = claim_newest(owner->store, &owner->tenant, wait, &newest, &found);
	bool readable = err == NULL && found;

	ps_error_free(err);
	if (!readable || newest.generation > owner->generation)
		return claim_fenced_by(&owner->tenant, owner->generation, readable ? &newest : NULL);
	err = ps_error(PS_SQLSTATE_FENCED,
				   "another process writes to tenant \"%s\" with the claim of this store, generation " UINT64_FORMAT,
				   ps_id_format(&owner->tenant, id), owner->generation);
	return ps_error_hint(err, "Perhaps this machine was copied while the store ran.  "
							  "Stop one of the two, then restart the other one.");
}

PsError *
claim_check(const TenantOwner *owner, const ObjectWait *wait)
{
	bool exists;

	PS_TRY(claim_exists(owner->store, &owner->tenant, owner->generation + 1, wait, &exists));
	return exists ? claim_fenced(owner, wait) : NULL;
}

PsError *
claim_explain(const TenantOwner *owner, PsError *err, const ObjectWait *wait)
{
	PsError *fenced;

	if (err == NULL || !(ps_error_is(err, PS_SQLSTATE_CORRUPTED) || object_is_missing(err)))
		return err;
	fenced = claim_check(owner, wait);
	if (fenced == NULL)
		return err;
	ps_error_free(err);
	return fenced;
}

PsError *
claim_put(ObjectStore *store, const PsId *tenant, const Claim *claim, const ObjectWait *wait, TenantOwner *owner)
{
	BucketKey key = claim_key(tenant, claim->generation);
	char name[BUCKET_KEY_TEXT];
	char *text;
	ObjectOutcome outcome;
	Claim theirs;
	bool found;
	PsError *err;

	bucket_key_format(&key, name);
	PS_TRY(json_file_text(&claim_format, CLAIM_VERSION, claim_to_json(tenant, claim), name, &text));
	err = object_put_once(store, name, text, strlen(text), wait, &outcome);
	free(text);
	PS_TRY(err);
	if (outcome == OBJECT_EXISTS)
	{
		err = read_claim(store, tenant, claim->generation, wait, &theirs, &found);
		found = err == NULL && found;
		ps_error_free(err);
		return claim_fenced_by(tenant, claim->generation, found ? &theirs : NULL);
	}
	*owner = (TenantOwner) {store, *tenant, claim->generation};
	return NULL;
}
