/*
 * tenant_log.c
 *	  The log of a tenant, for its owner: see tenant_log.h.
 */
#include "ps_fe.h"

#include <sys/time.h>

#include "bucket/bucket_impl.h"
#include "bucket/tenant_log_impl.h"
#include "sqlstate.h"

/* One of the entries on which the next one may build. */
typedef struct Run
{
	uint64 number;
	LogChange change; /* all changes in it; json is NULL in the full one */
} Run;

/* The entry that is not known to be committed. */
typedef struct Pending
{
	bool exists;
	uint32 flags;
	char *data; /* NULL: there was no memory for it */
	size_t len;
	LogPath replaced; /* entries that are not needed once this one is committed, and their generation */
	uint64 replaced_generation;
} Pending;

struct TenantLog
{
	TenantOwner owner;
	Deleter *deleter;
	LogChange state; /* with the pending change */
	uint64 next;     /* number of the next entry, which is the pending one if there is one */
	uint64 full;     /* number of the newest full one */
	size_t full_len; /* its text, in bytes */
	Run runs[LOG_MAX_PATH];
	int nruns;
	uint64 read_generation; /* whose entries "read" are */
	LogPath read;           /* what the state was read from: replaced by the first entry */
	Pending pending;
};

PsError *
tenant_log_open(const TenantOwner *owner, Deleter *deleter, const ObjectWait *wait, TenantLog **result,
				LogEntryInfo *newest)
{
	TenantLog *log = pg_malloc0(sizeof(*log));
	PsError *err = log_read_path(owner->store, &owner->tenant, owner->generation, wait, newest, &log->state,
								 &log->read);

	*result = NULL;
	if (err != NULL)
	{
		free(log);
		return claim_explain(owner, err, wait);
	}
	log->owner = *owner;
	log->deleter = deleter;
	log->read_generation = newest->generation;
	*result = log;
	return NULL;
}

void
tenant_log_close(TenantLog *log)
{
	if (log == NULL)
		return;
	for (int i = 0; i < log->nruns; i++)
		log_change_free(&log->runs[i].change);
	log_change_free(&log->state);
	free(log->pending.data);
	free(log);
}

const LogChange *
tenant_log_state(const TenantLog *log)
{
	return &log->state;
}

bool
tenant_log_is_pending(const TenantLog *log)
{
	return log->pending.data != NULL;
}

/* ---- appending ---- */

/* How many entries after the full one the entry is on which that with index > 0 builds. */
static uint64
builds_on(uint64 index)
{
	uint64 place = 1;

	while (index / place % 4 == 0)
		place *= 4;
	return index - index / place % 4 * place;
}

/* Moves all runs but the first ones to the pending entry, as those that it replaces. */
static void
replace_runs(TenantLog *log, int keep)
{
	LogPath *replaced = &log->pending.replaced;

	for (int i = keep; i < log->nruns; i++)
	{
		replaced->numbers[replaced->n++] = log->runs[i].number;
		log_change_free(&log->runs[i].change);
	}
	log->nruns = keep;
}

/*
 * Makes the pending entry, of the text, which is freed.  The entry builds on the last of
 * the runs to keep; if there is none, it is full.  change: what is in it, and is used up.
 */
static PsError *
make_entry(TenantLog *log, int keep, LogChange *change, char *text, size_t text_len)
{
	bool full = keep == 0;
	LogEntryFields fields = {.tenant = log->owner.tenant,
							 .builds_on = full ? log->next : log->runs[keep - 1].number};
	Pending *pending = &log->pending;
	char raw[LOG_FIELDS];
	struct timeval now;
	PsError *err;

	if (text == NULL)
	{
		log_change_free(change);
		return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "no memory for an entry of the tenant's log");
	}
	gettimeofday(&now, NULL);
	fields.info = (LogEntryInfo) {.generation = log->owner.generation,
								  .number = log->next,
								  .time = (int64) now.tv_sec * 1000 + now.tv_usec / 1000,
								  .flags = pending->flags | (full ? LOG_FULL : 0)};
	log_entry_put_fields(&fields, raw);
	err = envelope_make(&log_entry_format, raw, text, text_len, &pending->data, &pending->len);
	free(text);
	if (err != NULL)
	{
		log_change_free(change);
		return err;
	}
	if (log->next == 0)
	{
		pending->replaced_generation = log->read_generation;
		pending->replaced = log->read;
	}
	else
		pending->replaced_generation = log->owner.generation;
	replace_runs(log, keep);
	log->runs[log->nruns++] = (Run) {log->next, *change};
	if (full)
	{
		log->full = log->next;
		log->full_len = text_len;
	}
	return NULL;
}

/* Makes the pending entry of the whole state. */
static PsError *
make_full(TenantLog *log)
{
	LogChange none = {NULL};
	size_t len;
	char *text = log_change_text(&log->state, &len);

	return make_entry(log, 0, &none, text, len);
}

/* Makes the pending entry of a change, which is used up, and of runs before it.  It has been applied to the state. */
static PsError *
make_change(TenantLog *log, LogChange *change)
{
	uint64 number = log->full + builds_on(log->next - log->full);
	int keep = log->nruns;
	LogChange all;
	char *text;
	size_t len;

	while (log->runs[keep - 1].number > number)
		keep--;
	log_change_init(&all);
	for (int i = keep; i < log->nruns; i++)
		log_change_fold(&all, &log->runs[i].change);
	log_change_fold(&all, change);
	log_change_free(change);
	text = log_change_text(&all, &len);
	if (text == NULL || len < log->full_len)
		return make_entry(log, keep, &all, text, len);
	free(text);
	log_change_free(&all);
	return make_full(log);
}

PsError *
tenant_log_append(TenantLog *log, const json_t *json, uint32 flags, const ObjectWait *wait)
{
	LogChange change;
	PsError *err;

	if (log->pending.exists)
		return ps_error(PS_SQLSTATE_INTERNAL, "an entry of the tenant's log is appended while another one is pending");
	PS_TRY(log_change_load(&change, json));
	err = log_change_check(&log->state, &change);
	if (err != NULL)
	{
		log_change_free(&change);
		return err;
	}
	log_change_apply(&log->state, &change);
	log->pending = (Pending) {.exists = true, .flags = flags};
	if (log->next == 0 || log->next - log->full >= LOG_FULL_AFTER)
	{
		log_change_free(&change);
		PS_TRY(make_full(log));
	}
	else
		PS_TRY(make_change(log, &change));
	return tenant_log_settle(log, wait);
}

/* ---- committing ---- */

/* The pending entry is committed: what it replaces may go. */
static void
finish_pending(TenantLog *log)
{
	Pending *pending = &log->pending;

	for (int i = 0; i < pending->replaced.n; i++)
	{
		BucketKey key = log_entry_key(&log->owner.tenant, pending->replaced_generation, pending->replaced.numbers[i]);

		deleter_add(log->deleter, &key, 1);
	}
	free(pending->data);
	memset(pending, 0, sizeof(*pending));
	log->next++;
}

PsError *
tenant_log_settle(TenantLog *log, const ObjectWait *wait)
{
	Pending *pending = &log->pending;
	BucketKey key = log_entry_key(&log->owner.tenant, log->owner.generation, log->next);
	char name[BUCKET_KEY_TEXT];
	ObjectOutcome outcome;

	if (!pending->exists)
		return NULL;
	if (pending->data == NULL)
		PS_TRY(make_full(log));
	PS_TRY(object_put_once(log->owner.store, bucket_key_format(&key, name), pending->data, pending->len, wait,
						   &outcome));
	if (outcome == OBJECT_EXISTS)
		return claim_fenced(&log->owner, wait);
	if (BUCKET_RULE(RULE_CHECK_AFTER_COMMIT))
		PS_TRY(claim_check(&log->owner, wait));
	finish_pending(log);
	return NULL;
}
