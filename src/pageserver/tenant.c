/*
 * tenant.c
 *	  A tenant: a cluster family, with a directory of its own.
 *
 * TENANT/tenant.json says of which family it is.  It is written once, when the
 * tenant is made.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#include "ps_wire.h"
#include "timeline_impl.h"

#define TENANT_FORMAT "pageserver tenant"
#define TENANT_VERSION 1

/* Writes DIR/tenant.json, which nobody looks at yet. */
PsError *
tenant_write(const Tenant *tenant, const char *dir)
{
	char		path[MAXPGPATH];
	char		text[PS_ID_TEXT];
	char		sysid[32];
	json_t	   *root;
	char	   *dump;
	int			fd;
	PsError    *err = NULL;

	snprintf(sysid, sizeof(sysid), UINT64_FORMAT, tenant->system_identifier);
	root = json_pack("{s:s, s:i, s:s, s:s, s:i}", "format", TENANT_FORMAT, "version", TENANT_VERSION, "tenant",
					 ps_id_format(&tenant->id, text), "system_identifier", sysid, "segment_size", (int) tenant->segment_size);
	dump = json_dumps(root, JSON_INDENT(1));
	json_decref(root);
	snprintf(path, sizeof(path), "%s/tenant.json", dir);
	errno = 0;
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, dump, strlen(dump)) != (ssize_t) strlen(dump) || fsync(fd) != 0)
	{
		if (errno == 0)
			errno = ENOSPC;
		err = ps_error(errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? PS_SQLSTATE_DISK_FULL : PS_SQLSTATE_IO,
					   "could not write file \"%s\": %m", path);
	}
	if (fd >= 0)
		close(fd);
	free(dump);
	return err;
}

PsError *
tenant_read(Tenant *tenant)
{
	char		path[MAXPGPATH];
	json_error_t jerr;
	json_t	   *root;
	const char *format = NULL;
	const char *id = NULL;
	const char *sysid = NULL;
	char		text[PS_ID_TEXT];
	int			version;
	int			segment_size;
	PsError    *err = NULL;

	snprintf(path, sizeof(path), "%s/tenant.json", tenant->dir);
	root = json_load_file(path, JSON_REJECT_DUPLICATES, &jerr);
	if (root == NULL)
		return ps_error(PS_SQLSTATE_CORRUPTED, "could not read \"%s\": line %d: %s", path, jerr.line, jerr.text);
	if (json_unpack(root, "{s:s, s:i, s:s, s:s, s:i}", "format", &format, "version", &version, "tenant", &id,
					"system_identifier", &sysid, "segment_size", &segment_size) != 0 ||
		strcmp(format, TENANT_FORMAT) != 0)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" does not describe a tenant", path);
	else if (version != TENANT_VERSION)
		err = ps_error(PS_SQLSTATE_STATE, "file \"%s\" has format version %d, this pageserver reads version %d", path, version,
					   TENANT_VERSION);
	else if (strcmp(id, ps_id_format(&tenant->id, text)) != 0 || !IsValidWalSegSize(segment_size))
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" is of another tenant, or its WAL segment size is none", path);
	else
	{
		tenant->system_identifier = strtoull(sysid, NULL, 10);
		tenant->segment_size = segment_size;
	}
	json_decref(root);
	return err;
}

/* Starts what a tenant needs to serve reads: the redo helpers, the page cache. */
PsError *
tenant_start(Tenant *tenant)
{
	const Config *config = tenant->store->config;
	char		id[PS_ID_TEXT];
	char	   *workdir = psprintf("%s/tmp/redo-%s", config->store_dir, ps_id_format(&tenant->id, id));
	RedoOptions options = {.bindir = config->bindir,
						   .workdir = workdir,
						   .segment_size = tenant->segment_size,
						   .wal_log_hints = true,	/* every compute has it on (src/compute/settings.c) */
						   .max_helpers = config->redo_helpers > 0 ? config->redo_helpers : (int) sysconf(_SC_NPROCESSORS_ONLN),
						   .timeout_ms = config->redo_timeout};
	PsError    *err = redo_pool_create(&options, &tenant->redo);

	pfree(workdir);
	if (err == NULL)
		tenant->page_cache = page_cache_create((size_t) config->page_cache_size * 1024 * 1024);
	return err;
}

void
tenant_free(Tenant *tenant)
{
	if (tenant->redo != NULL)
		redo_pool_free(tenant->redo);
	if (tenant->page_cache != NULL)
		page_cache_free(tenant->page_cache);
	pfree(tenant->dir);
	free(tenant);
}

Tenant *
tenant_alloc(Store *store, const PsId *id)
{
	Tenant	   *tenant = pg_malloc0(sizeof(Tenant));
	char		text[PS_ID_TEXT];

	tenant->id = *id;
	tenant->store = store;
	tenant->dir = psprintf("%s/tenants/%s", store->config->store_dir, ps_id_format(id, text));
	return tenant;
}
