/*
 * ownership.c
 *	  Which directory may own a tenant in a bucket: see ownership.h.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/fs.h"
#include "base/json_file.h"
#include "sqlstate.h"
#include "upload/ownership.h"

#define OWNERSHIP_VERSION 1

static const JsonFormat ownership_format = {"file", "pageserver remote tenant", "version", OWNERSHIP_VERSION,
											OWNERSHIP_VERSION, NULL};

/* The contents of the file. */
typedef struct Ownership
{
	char *path;
	bool has_bucket;
	PsId bucket;
	char *url;
	bool first_put; /* the first claim is known to be in the bucket */
	Claim *claims;
	int n;
} Ownership;

/* ---- the file ---- */

static PsError *
parse(Ownership *own, const PsId *tenant, const json_t *root)
{
	const char *bucket = json_string_value(json_object_get(root, "bucket"));
	const char *url = json_string_value(json_object_get(root, "url"));
	const json_t *first_put = json_object_get(root, "first_put");
	const json_t *claims = json_object_get(root, "claims");

	own->n = json_array_size(claims);
	if (bucket == NULL || url == NULL || !json_is_boolean(first_put) || own->n == 0)
		goto invalid;
	own->first_put = json_is_true(first_put);
	own->url = pg_strdup(url);
	own->has_bucket = bucket[0] != '\0';
	if (own->has_bucket && !ps_id_parse(bucket, &own->bucket))
		goto invalid;
	own->claims = pg_malloc(own->n * sizeof(Claim));
	for (int i = 0; i < own->n; i++)
	{
		Claim *claim = &own->claims[i];

		if (!claim_from_json(json_array_get(claims, i), tenant, claim))
			goto invalid;
		if (i > 0 && (claim->generation != claim[-1].generation + 1 || !claim->has_took_over ||
					  !ps_id_equal(&claim->took_over, &claim[-1].id)))
			goto invalid;
	}
	if (!own->first_put && own->claims[0].generation != 1)
		goto invalid;
	return NULL;

invalid:
	return ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" has a missing or invalid member", own->path);
}

/* No claims if there is no file.  To be freed also after an error. */
static PsError *
read_file(Ownership *own, const PsId *tenant, const char *dir)
{
	json_t *root;
	PsError *err;

	memset(own, 0, sizeof(*own));
	own->path = psprintf("%s/" OWNERSHIP_FILE, dir);
	if (access(own->path, F_OK) != 0)
		return errno == ENOENT ? NULL : ps_error(ps_errno_state(), "could not access file \"%s\": %m", own->path);
	PS_TRY(json_file_read(&ownership_format, own->path, &root));
	err = parse(own, tenant, root);
	json_decref(root);
	return err;
}

static void
free_ownership(Ownership *own)
{
	pfree(own->path);
	free(own->url);
	free(own->claims);
}

static PsError *
save(const Ownership *own, const PsId *tenant)
{
	json_t *claims = json_array();
	char id[PS_ID_TEXT] = "";
	char *text;
	PsError *err;

	for (int i = 0; i < own->n; i++)
		json_array_append_new(claims, claim_to_json(tenant, &own->claims[i]));
	if (own->has_bucket)
		ps_id_format(&own->bucket, id);
	PS_TRY(json_file_text(&ownership_format, OWNERSHIP_VERSION,
						  json_pack("{s:s, s:s, s:b, s:o}", "bucket", id, "url", own->url != NULL ? own->url : "",
									"first_put", own->first_put, "claims", claims),
						  own->path, &text));
	err = fs_replace_file(own->path, text, strlen(text), 0, NULL);
	free(text);
	return err;
}

/* ---- claims ---- */

static void
add_claim(Ownership *own, const StoreIdentity *who)
{
	own->claims = pg_realloc(own->claims, (own->n + 1) * sizeof(Claim));
	claim_make(&own->claims[own->n], own->n > 0 ? &own->claims[own->n - 1] : NULL, who);
	own->n++;
}

/*
 * Checks that the directory's tenant is in this bucket, or moves it here.  *changed: the
 * file is to be saved.
 *
 * In a new bucket claims begin with 1.  As numbers of the generations that the tenant had
 * in the old one are in use, it gets as many claims here: nobody else may have these
 * generations.
 */
static PsError *
set_bucket(Ownership *own, ObjectStore *store, const PsId *bucket, const StoreIdentity *who, bool move_here,
		   bool *changed)
{
	char old[PS_ID_TEXT];
	char now[PS_ID_TEXT];

	*changed = !own->has_bucket || !ps_id_equal(&own->bucket, bucket);
	if (!*changed)
		return NULL;
	if (own->has_bucket && !move_here)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "\"%s\" names another object storage, \"%s\" (%s), than \"%s\" (%s)", own->path,
									  own->url, ps_id_format(&own->bucket, old), object_store_url(store),
									  ps_id_format(bucket, now)),
							 "Is remote_storage right, and is the directory mounted? To move the tenant to this object "
							 "storage, detach it, then attach it with --force.");
	if (own->has_bucket)
	{
		uint64 generation = own->claims[own->n - 1].generation;

		own->n = 0;
		own->first_put = false;
		while (own->n < generation)
			add_claim(own, who);
	}
	own->has_bucket = true;
	own->bucket = *bucket;
	free(own->url);
	own->url = pg_strdup(object_store_url(store));
	return NULL;
}

/* Finds the newest claim of the bucket among those of the file; *put is the number of claims up to there. */
static PsError *
find_newest(const Ownership *own, ObjectStore *store, const PsId *tenant, const ObjectWait *wait, int *put)
{
	uint64 first = own->n > 0 ? own->claims[0].generation : 1;
	Claim newest;
	bool found;

	PS_TRY(claim_newest(store, tenant, wait, &newest, &found));
	*put = 0;
	if (!found && !own->first_put)
		return NULL;
	if (!found || newest.generation < first)
		return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED,
									  "claim " UINT64_FORMAT " in file \"%s\" cannot follow claim " UINT64_FORMAT
									  ", the newest one in \"%s\"",
									  first, own->path, found ? newest.generation : 0, object_store_url(store)),
							 "Objects were deleted there; restore them from a copy.");
	for (int i = 0; i < own->n; i++)
		if (ps_id_equal(&own->claims[i].id, &newest.id))
		{
			*put = i + 1;
			return NULL;
		}
	return claim_fenced_by(tenant, own->n > 0 ? own->claims[own->n - 1].generation : 0, &newest);
}

/* Puts the claims that are not in the bucket, in their order, each with the contents that it may have been put with. */
static PsError *
put_claims(const Ownership *own, int put, ObjectStore *store, const PsId *tenant, const ObjectWait *wait,
		   TenantOwner *owner)
{
	for (; put < own->n; put++)
		PS_TRY(claim_put(store, tenant, &own->claims[put], wait, owner));
	return NULL;
}

static PsError *
take(Ownership *own, ObjectStore *store, const PsId *bucket, const PsId *tenant, const StoreIdentity *who,
	 uint64 prepared, bool move_here, const ObjectWait *wait, TenantOwner *owner)
{
	bool changed;
	int put;

	if (prepared != 0 && (own->n == 0 || own->claims[own->n - 1].generation != prepared))
		return ps_error(PS_SQLSTATE_CORRUPTED, "claim " UINT64_FORMAT " is missing in file \"%s\"", prepared,
						own->path);
	PS_TRY(set_bucket(own, store, bucket, who, move_here, &changed));
	PS_TRY(find_newest(own, store, tenant, wait, &put));
	if (changed && own->n > 0)
		PS_TRY(save(own, tenant));
	PS_TRY(put_claims(own, put, store, tenant, wait, owner));
	if (prepared != 0)
	{
		*owner = (TenantOwner) {store, *tenant, prepared};
		return NULL;
	}
	if (own->n > 1)
		own->claims[0] = own->claims[own->n - 1];
	own->n = put = Min(own->n, 1);
	own->first_put = own->n > 0;
	add_claim(own, who);
	PS_TRY(save(own, tenant));
	return put_claims(own, put, store, tenant, wait, owner);
}

/* ---- the interface ---- */

bool
ownership_exists(const char *dir)
{
	char *path = psprintf("%s/" OWNERSHIP_FILE, dir);
	bool exists = access(path, F_OK) == 0 || errno != ENOENT;

	pfree(path);
	return exists;
}

PsError *
ownership_prepare(const PsId *tenant, const char *dir, const StoreIdentity *who, uint64 *generation)
{
	Ownership own;
	PsError *err = read_file(&own, tenant, dir);

	if (err == NULL)
	{
		add_claim(&own, who);
		*generation = own.claims[own.n - 1].generation;
		err = save(&own, tenant);
	}
	free_ownership(&own);
	return err;
}

PsError *
ownership_take(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *dir, const StoreIdentity *who,
			   uint64 prepared, bool move_here, const ObjectWait *wait, TenantOwner *owner)
{
	Ownership own;
	PsError *err = read_file(&own, tenant, dir);

	if (err == NULL)
		err = take(&own, store, bucket, tenant, who, prepared, move_here, wait, owner);
	free_ownership(&own);
	return err;
}

PsError *
ownership_take_over(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *dir,
					const StoreIdentity *who, const Claim *newest, const ObjectWait *wait, TenantOwner *owner)
{
	Ownership own = {.path = psprintf("%s/" OWNERSHIP_FILE, dir),
					 .has_bucket = true,
					 .bucket = *bucket,
					 .url = pg_strdup(object_store_url(store)),
					 .first_put = true,
					 .claims = pg_malloc(sizeof(Claim)),
					 .n = 1};
	PsError *err;

	own.claims[0] = *newest;
	add_claim(&own, who);
	err = save(&own, tenant);
	if (err == NULL)
		err = put_claims(&own, 1, store, tenant, wait, owner);
	free_ownership(&own);
	return err;
}
