/*
 * store_audit.c
 *	  Checks tenants in the store's object storage, its own and those of other stores.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "sqlstate.h"
#include "store/store_impl.h"

#define SCRATCH_DIR "remote_check.tmp"

/* How long the first request may take; later ones are repeated until the client gives up, ms. */
#define REACH_TIMEOUT 30000

static PsError *
need_remote(const Store *store)
{
	if (store->remote != NULL)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "the store has no object storage"),
						 "Set \"remote_storage\" in %s.", CONFIG_FILE_NAME);
}

PsError *
store_audit_tenants(Store *store, const CancelCheck *cancel, PsId **tenants, int *n)
{
	ObjectWait wait = {cancel, clock_now_ms() + REACH_TIMEOUT};

	PS_TRY(need_remote(store));
	return audit_tenants(store->remote, &wait, tenants, n);
}

/* Removes what an earlier check may have left, and the directory. */
static void
remove_scratch(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	while (d != NULL && (entry = readdir(d)) != NULL)
	{
		char *path = psprintf("%s/%s", dir, entry->d_name);

		/* fails for . and .. */
		(void) unlink(path);
		pfree(path);
	}
	if (d != NULL)
		closedir(d);
	(void) rmdir(dir);
}

PsError *
store_audit(Store *store, const PsId *tenant, bool read, const CancelCheck *cancel, AuditResult *result)
{
	static pthread_mutex_t reading = PTHREAD_MUTEX_INITIALIZER; /* there is one scratch directory */
	ObjectWait wait = {cancel, 0};
	char *scratch;
	PsError *err;

	*result = (AuditResult) {0};
	PS_TRY(need_remote(store));
	if (!read)
		return audit_tenant(store->remote, tenant, NULL, &wait, result);
	if (pthread_mutex_trylock(&reading) != 0)
		return ps_error(PS_SQLSTATE_TRY_AGAIN, "another check reads objects now");
	scratch = psprintf("%s/" SCRATCH_DIR, store->config->store_dir);
	remove_scratch(scratch);
	if (mkdir(scratch, 0700) != 0)
		err = ps_error(ps_errno_state(), "could not create directory \"%s\": %m", scratch);
	else
		err = audit_tenant(store->remote, tenant, scratch, &wait, result);
	remove_scratch(scratch);
	pfree(scratch);
	pthread_mutex_unlock(&reading);
	return err;
}
