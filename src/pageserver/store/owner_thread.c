/*
 * owner_thread.c
 *	  The thread that claims tenants that wait for object storage, and checks the
 *	  claims of tenants that are in use.
 *
 * The start claims all tenants, several at a time, and waits for that as long as the bucket
 * answers.  Whatever is left is the thread's.  A tenant without an open branch needs no
 * check: it is checked when one is opened.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "store/store_impl.h"
#include "upload/ownership.h"

#define START_TIMEOUT   10000 /* how long the start waits for object storage that does not answer, ms */
#define START_THREADS   16    /* the most tenants that the start claims at a time */
#define REQUEST_TIMEOUT 10000 /* ms; the thread has other tenants to serve, too */
#define RETRY_DELAY     2000  /* after a failure, ms */

/* When the thread is to work on a tenant, clock_now_ms(); PG_INT64_MAX: not now.  Caller holds Store.lock. */
static int64
due_of(const Tenant *tenant)
{
	if (tenant->life != TENANT_ATTACHED || tenant->owner_busy)
		return PG_INT64_MAX;
	switch (tenant->ownership)
	{
		case OWNER_WAITING:
		case OWNER_UNCLAIMED:
			return tenant->owner_due;
		case OWNER_OWNED:
			return tenant->nactive > 0 ? tenant->owner_due : PG_INT64_MAX;
		case OWNER_NONE:
		case OWNER_FENCED:
			break;
	}
	return PG_INT64_MAX;
}

/* owner_work(), which says whether object storage can be reached; then plans the next time. */
static bool
work(Tenant *tenant, int64 deadline)
{
	const Config *config = tenant->store->config;
	bool reached = owner_work(tenant, deadline);
	bool checked = tenant->ownership == OWNER_OWNED && tenant->owner_error == NULL;

	tenant->owner_due = clock_now_ms() + (checked ? (int64) config->remote_check_interval * 1000 : RETRY_DELAY);
	return reached;
}

static void *
owner_main(void *arg)
{
	Store *store = arg;
	int64 not_before = 0; /* because object storage cannot be reached */

	ps_thread_name("owner");
	pthread_mutex_lock(&store->lock);
	while (!atomic_load(&store->stopping))
	{
		Tenant *tenant = NULL;
		int64 due = PG_INT64_MAX;
		int64 now = clock_now_ms();
		bool reached;

		for (int i = 0; i < store->ntenants; i++)
			if (due_of(store->tenants[i]) < due)
			{
				tenant = store->tenants[i];
				due = due_of(tenant);
			}
		if (tenant == NULL)
		{
			pthread_cond_wait(&store->owner_wake, &store->lock);
			continue;
		}
		due = Max(due, not_before);
		if (due > now)
		{
			clock_cond_wait(&store->owner_wake, &store->lock, due - now);
			continue;
		}
		reached = work(tenant, now + REQUEST_TIMEOUT);
		if (atomic_load(&store->stopping))
			break;
		if (!reached && !store->remote_is_out && tenant->owner_error != NULL)
			ps_log_error(PS_WARNING, ps_error_copy(tenant->owner_error), "object storage cannot be reached");
		if (reached && store->remote_is_out)
			ps_log(PS_LOG, "object storage can be reached again");
		store->remote_is_out = !reached;
		not_before = reached ? 0 : clock_now_ms() + RETRY_DELAY;
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

/* ---- the start ---- */

typedef struct StartRound
{
	Store *store;
	int64 deadline;
	int next; /* tenant; under Store.lock */
} StartRound;

static void *
start_main(void *arg)
{
	StartRound *round = arg;
	Store *store = round->store;

	pthread_mutex_lock(&store->lock);
	while (round->next < store->ntenants)
	{
		Tenant *tenant = store->tenants[round->next++];

		if (tenant->ownership == OWNER_WAITING && !work(tenant, round->deadline))
			store->remote_is_out = true;
	}
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

/* Without object storage: keeps directories that have been in a bucket from using their numbers twice. */
static void
prepare_all(Store *store)
{
	for (int i = 0; i < store->ntenants; i++)
	{
		Tenant *tenant = store->tenants[i];
		PsError *err = tenant->life == TENANT_ATTACHED ? owner_begin(tenant, tenant->dir, false, false) : NULL;

		if (err != NULL)
			ps_log_error(PS_WARNING, err, "a tenant is served all the same");
	}
}

PsError *
owner_start(Store *store)
{
	/* if it could not be reached a moment ago, one attempt is enough */
	StartRound round = {store, clock_now_ms() + (store->remote_is_out ? 1 : START_TIMEOUT), 0};
	pthread_t threads[START_THREADS];
	int n = 0;
	int waiting = 0;
	int rc;

	if (store->remote == NULL)
	{
		prepare_all(store);
		return NULL;
	}
	for (int i = 0; i < store->ntenants; i++)
		if (store->tenants[i]->life == TENANT_ATTACHED)
			store->tenants[i]->ownership = OWNER_WAITING;
	while (n < Min(START_THREADS, store->ntenants) - 1 && pthread_create(&threads[n], NULL, start_main, &round) == 0)
		n++;
	start_main(&round);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	for (int i = 0; i < store->ntenants; i++)
		waiting += store->tenants[i]->ownership == OWNER_WAITING || store->tenants[i]->ownership == OWNER_UNCLAIMED;
	if (waiting > 0)
		ps_log(PS_WARNING, "%d tenants could not be claimed in object storage yet", waiting);

	rc = pthread_create(&store->owner_thread, NULL, owner_main, store);
	store->has_owner_thread = rc == 0;
	if (rc == 0)
		return NULL;
	errno = rc;
	return ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start the thread that claims tenants: %m");
}

void
owner_stop(Store *store)
{
	if (store->has_owner_thread)
		pthread_join(store->owner_thread, NULL);
	store->has_owner_thread = false;
}
