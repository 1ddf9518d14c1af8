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

/* The claim in the file.  *found is false if there is no file, or it is about another bucket. */
static PsError *
read_saved(const char *path, const PsId *bucket, const PsId *tenant, Claim *claim, bool *found)
{
	const char *bucket_text;
	PsId of;
	json_t *root;
	PsError *err = NULL;

	*found = false;
	if (access(path, F_OK) != 0)
		return errno == ENOENT ? NULL : ps_error(ps_errno_state(), "could not access file \"%s\": %m", path);
	PS_TRY(json_file_read(&ownership_format, path, &root));
	bucket_text = json_string_value(json_object_get(root, "bucket"));
	if (bucket_text == NULL || !ps_id_parse(bucket_text, &of) ||
		!claim_from_json(json_object_get(root, "claim"), tenant, claim))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" has a missing or invalid member", path);
	else
		*found = ps_id_equal(&of, bucket);
	json_decref(root);
	return err;
}

static PsError *
save(const char *path, const PsId *bucket, const PsId *tenant, const Claim *claim)
{
	char id[PS_ID_TEXT];
	char *text;
	PsError *err;

	PS_TRY(json_file_text(&ownership_format, OWNERSHIP_VERSION,
						  json_pack("{s:s, s:o}", "bucket", ps_id_format(bucket, id), "claim",
									claim_to_json(tenant, claim)),
						  path, &text));
	err = fs_replace_file(path, text, strlen(text), 0, NULL);
	free(text);
	return err;
}

/*
 * The claim in the file is newer than all in the bucket: it was not put, or a request that puts
 * it is still under way.  Puts the same claim, so that it does not matter whether that arrives.
 */
static PsError *
put_again(ObjectStore *store, const PsId *tenant, const Claim *saved, const Claim *newest, const char *path,
		  const ObjectWait *wait)
{
	TenantOwner owner;

	if (saved->generation != (newest != NULL ? newest->generation + 1 : 1))
		return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED,
									  "claim " UINT64_FORMAT " in file \"%s\" cannot follow claim " UINT64_FORMAT
									  ", the newest one in \"%s\"",
									  saved->generation, path, newest != NULL ? newest->generation : 0,
									  object_store_url(store)),
							 "Objects were deleted there; restore them from a copy.");
	if (newest != NULL && !ps_id_equal(&newest->id, &saved->took_over))
		return claim_fenced_by(tenant, saved->generation, newest);
	return claim_put(store, tenant, saved, wait, &owner);
}

static PsError *
take(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *path, const StoreIdentity *who,
	 const ObjectWait *wait, TenantOwner *owner)
{
	Claim saved;
	Claim newest;
	Claim claim;
	bool has_saved;
	bool has_newest;

	PS_TRY(read_saved(path, bucket, tenant, &saved, &has_saved));
	PS_TRY(claim_newest(store, tenant, wait, &newest, &has_newest));
	if (has_saved && (!has_newest || newest.generation < saved.generation))
	{
		PS_TRY(put_again(store, tenant, &saved, has_newest ? &newest : NULL, path, wait));
		newest = saved;
		has_newest = true;
	}
	if (has_newest && (!has_saved || !ps_id_equal(&newest.id, &saved.id)))
		return claim_fenced_by(tenant, has_saved ? saved.generation : 0, &newest);
	claim_make(&claim, has_newest ? &newest : NULL, who);
	PS_TRY(save(path, bucket, tenant, &claim));
	return claim_put(store, tenant, &claim, wait, owner);
}

PsError *
ownership_take(ObjectStore *store, const PsId *bucket, const PsId *tenant, const char *dir, const StoreIdentity *who,
			   const ObjectWait *wait, TenantOwner *owner)
{
	char *path = psprintf("%s/" OWNERSHIP_FILE, dir);
	PsError *err = take(store, bucket, tenant, path, who, wait, owner);

	free(path);
	return err;
}
