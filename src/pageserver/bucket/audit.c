/*
 * audit.c
 *	  Checks the objects of a tenant from the bucket alone: see audit.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "bucket/audit.h"
#include "bucket/chain.h"
#include "layer/layer.h"
#include "sqlstate.h"

/* How often a tenant is checked again because its owner has changed it meanwhile. */
#define AUDIT_RETRIES 3

typedef struct Audit
{
	ObjectStore *store;
	PsId tenant;
	const char *scratch;
	const ObjectWait *wait;
	const LogChange *state;
	AuditResult *result;
} Audit;

static void
add_finding(AuditResult *result, AuditKind kind, const char *object, int64 bytes, char *message)
{
	AuditFinding *finding;

	result->findings = pg_realloc(result->findings, (result->nfindings + 1) * sizeof(AuditFinding));
	finding = &result->findings[result->nfindings++];
	*finding = (AuditFinding) {.kind = kind, .bytes = bytes, .message = message};
	strlcpy(finding->object, object, sizeof(finding->object));
}

/* ---- layer files ---- */

static PsError *
write_scratch(void *arg, const char *data, size_t len)
{
	const int *fd = arg;

	while (len > 0)
	{
		ssize_t n = write(*fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ps_error(ps_errno_state(), "could not write to the scratch directory: %m");
		data += n;
		len -= n;
	}
	return NULL;
}

static PsError *
check_cancel(void *arg, size_t bytes)
{
	const ObjectWait *wait = arg;

	return wait != NULL && wait->cancel != NULL ? wait->cancel->check(wait->cancel->arg) : NULL;
}

/* Reads a layer file into the scratch directory and checks it there. */
static PsError *
verify_copy(const Audit *audit, const InventoryItem *item, const char *path)
{
	LayerSpace space = {.dir = (char *) audit->scratch, .tenant = audit->tenant, .timeline = item->key.timeline};
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	ByteSink sink = {write_scratch, &fd};
	Layer *layer = NULL;
	PsError *err;

	if (fd < 0)
		return ps_error(ps_errno_state(), "could not create file \"%s\": %m", path);
	err = object_read(audit->store, item->text, 0, &sink, audit->wait);
	close(fd);
	if (err == NULL)
		err = layer_open(&space, item->file, &layer);
	if (err == NULL)
		err = layer_verify(layer, check_cancel, (void *) audit->wait);
	layer_unref(layer);
	return err;
}

static PsError *
verify_layer(const Audit *audit, const InventoryItem *item)
{
	char *path = psprintf("%s/%s", audit->scratch, item->file);
	PsError *err = verify_copy(audit, item, path);

	unlink(path);
	pfree(path);
	if (err == NULL || !ps_error_is(err, PS_SQLSTATE_CORRUPTED))
		return err;
	add_finding(audit->result, AUDIT_DAMAGED, item->text, item->size, pg_strdup(err->message));
	ps_error_free(err);
	return NULL;
}

/* ---- all objects ---- */

static PsError *
note_item(void *arg, const InventoryItem *item)
{
	Audit *audit = arg;
	AuditResult *result = audit->result;

	PS_TRY(check_cancel((void *) audit->wait, 0));
	switch (item->verdict)
	{
		case INVENTORY_UNDER_WAY:
			break;
		case INVENTORY_MISSING:
			add_finding(result, AUDIT_MISSING, item->text, -1, NULL);
			break;
		case INVENTORY_WRONG_SIZE:
			add_finding(result, AUDIT_DAMAGED, item->text, item->size,
						psprintf("it has " INT64_FORMAT " bytes, the log says " INT64_FORMAT, item->size,
								 item->expected));
			break;
		case INVENTORY_ORPHAN:
			add_finding(result, AUDIT_ORPHAN, item->text, item->size, NULL);
			break;
		case INVENTORY_FOREIGN:
			add_finding(result, AUDIT_FOREIGN, item->text, item->size, NULL);
			break;
		case INVENTORY_NEEDED:
			result->objects++;
			result->bytes += Max(item->size, 0);
			if (item->file != NULL && audit->scratch != NULL)
				return verify_layer(audit, item);
			break;
	}
	return NULL;
}

static PsError *
accept_wal(void *arg, const ChainChunk *chunk, const char *wal)
{
	return check_cancel(arg, 0);
}

/* Reads the WAL chains that the log needs. */
static PsError *
check_chains(const Audit *audit)
{
	ChainSink sink = {accept_wal, (void *) audit->wait};
	const char *id_text;
	json_t *record;

	json_object_foreach(json_object_get(audit->state->json, "timelines"), id_text, record)
	{
		BucketKey key = {.kind = BUCKET_KEY_CHAIN, .tenant = audit->tenant};
		char folder[BUCKET_KEY_TEXT];
		uint64 number;
		uint64 kept;
		XLogRecPtr lsn;
		XLogRecPtr end;
		PsError *err;

		if (!ps_id_parse(id_text, &key.timeline) || !log_change_wal(record, &number, &kept, &lsn))
			continue;
		err = chain_read(audit->store, &audit->tenant, &key.timeline, number, lsn, &sink, audit->wait, &end);
		if (err == NULL)
			continue;
		if (!ps_error_is(err, PS_SQLSTATE_CORRUPTED))
			return err;
		add_finding(audit->result, AUDIT_DAMAGED, bucket_key_folder(&key, folder), -1, pg_strdup(err->message));
		ps_error_free(err);
	}
	return NULL;
}

void
audit_free(AuditResult *result)
{
	for (int i = 0; i < result->nfindings; i++)
		free(result->findings[i].message);
	free(result->findings);
	result->findings = NULL;
	result->nfindings = 0;
}

/* Reads the newest state of the tenant's log. */
static PsError *
read_log(const Audit *audit, LogEntryInfo *entry, LogChange *state)
{
	Claim owner;
	bool found;
	char id[PS_ID_TEXT];

	PS_TRY(claim_newest(audit->store, &audit->tenant, audit->wait, &owner, &found));
	if (!found)
		return ps_error(PS_SQLSTATE_NOT_FOUND, "tenant %s is not in object storage \"%s\"",
						ps_id_format(&audit->tenant, id), object_store_url(audit->store));
	return tenant_log_read(audit->store, &audit->tenant, owner.generation + 1, audit->wait, entry, state);
}

/* Compares the objects with one state of the log. */
static PsError *
check_state(Audit *audit)
{
	InventorySink sink = {note_item, audit};
	AuditResult *result = audit->result;

	*result = (AuditResult) {.entry = result->entry};
	PS_TRY(inventory_take(audit->store, &audit->tenant, &result->entry, audit->state, &sink, audit->wait));
	return check_chains(audit);
}

static bool
has_losses(const AuditResult *result)
{
	for (int i = 0; i < result->nfindings; i++)
		if (result->findings[i].kind == AUDIT_MISSING || result->findings[i].kind == AUDIT_DAMAGED)
			return true;
	return false;
}

/* What is missing may have been deleted by the owner, after a change of the log that had not been read. */
PsError *
audit_tenant(ObjectStore *store, const PsId *tenant, const char *scratch, const ObjectWait *wait, AuditResult *result)
{
	Audit audit = {.store = store, .tenant = *tenant, .scratch = scratch, .wait = wait, .result = result};
	PsError *err = NULL;
	bool changed = true;

	*result = (AuditResult) {0};
	for (int try = 0; err == NULL && changed && try < AUDIT_RETRIES; try++)
	{
		LogEntryInfo after;
		LogChange state;

		audit_free(result);
		PS_TRY(read_log(&audit, &result->entry, &state));
		audit.state = &state;
		err = check_state(&audit);
		log_change_free(&state);
		if (err != NULL || !has_losses(result))
			break;
		err = read_log(&audit, &after, &state);
		if (err == NULL)
			log_change_free(&state);
		changed = err == NULL &&
				  (after.generation != result->entry.generation || after.number != result->entry.number);
	}
	return err;
}

/* ---- tenants ---- */

typedef struct TenantIds
{
	PsId *ids;
	int n;
} TenantIds;

static PsError *
note_tenant(void *arg, const ObjectInfo *info, bool *stop)
{
	TenantIds *list = arg;
	char text[PS_ID_TEXT];
	PsId id;

	/* a folder, with a slash at its end */
	strlcpy(text, info->key + strlen(BUCKET_TENANTS), sizeof(text));
	if (!ps_id_parse(text, &id))
		return NULL;
	list->ids = pg_realloc(list->ids, (list->n + 1) * sizeof(PsId));
	list->ids[list->n++] = id;
	return NULL;
}

PsError *
audit_tenants(ObjectStore *store, const ObjectWait *wait, PsId **tenants, int *n)
{
	TenantIds list = {0};
	ObjectListSink sink = {note_tenant, &list};
	PsError *err = object_list(store, BUCKET_TENANTS, NULL, true, &sink, wait);

	if (err != NULL)
	{
		free(list.ids);
		return err;
	}
	*tenants = list.ids;
	*n = list.n;
	return NULL;
}
