/*
 * page_client.c
 *	  Requests of this process to the store: pages, ahead of need or at once,
 *	  and sizes.
 */
#include "postgres.h"

#include "lsn_cache.h"
#include "page_client_impl.h"
#include "sqlstate.h"
#include "store_conn.h"
#include "wal_progress.h"
#include "wire.h"

/* Describes a request for a message; palloc'd. */
static char *
describe_request(const Request *req)
{
	if (req->type == PS_REQ_FORKS)
		return psprintf("relations of database %u in tablespace %u", req->rel.db, req->rel.spc);
	if (req->type == PS_REQ_RELSIZE)
		return psprintf("size of relation %u/%u/%u, fork \"%s\"", req->rel.spc, req->rel.db, req->rel.rel,
						forkNames[req->fork]);
	if (req->count == 1)
		return psprintf("block %u of relation %u/%u/%u, fork \"%s\"", req->blocks[0].blk, req->rel.spc, req->rel.db,
						req->rel.rel, forkNames[req->fork]);
	return psprintf("%d blocks from %u on of relation %u/%u/%u, fork \"%s\"", req->count, req->blocks[0].blk,
					req->rel.spc, req->rel.db, req->rel.rel, forkNames[req->fork]);
}

/* Raises the error that the store has returned for a request. */
static void
raise_store_error(Request *req)
{
	PsResponse *answer = &req->answer;
	char *what = describe_request(req);
	char *message = pstrdup(answer->message);
	char *detail = pstrdup(answer->detail);
	char *hint = pstrdup(answer->hint);
	int code = ERRCODE_INTERNAL_ERROR;

	if (strspn(answer->sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 &&
		strncmp(answer->sqlstate, "00", 2) != 0)
		code = MAKE_SQLSTATE(answer->sqlstate[0], answer->sqlstate[1], answer->sqlstate[2],
							 answer->sqlstate[3], answer->sqlstate[4]);
	ring_free(req);
	ereport(ERROR,
			(errcode(code),
			 errmsg("could not get %s from the page store: %s", what, message),
			 detail[0] != '\0' ? errdetail("%s", detail) : 0,
			 hint[0] != '\0' ? errhint("%s", hint) : 0));
}

/*
 * Sends a request and waits for its answer; repeats that if the connection is
 * lost.  The answer of the returned request is not an error.  The caller frees it
 * with ring_free().  If wait is false, returns NULL as soon as the store cannot be
 * reached.
 */
static Request *
ask(PsRequestType type, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since,
	bool wait)
{
	Outage outage = {.no_wait = !wait};

	for (;;)
	{
		Request *req = NULL;
		bool lost;
		char *error;
		char sqlstate[6];

		if (!ring_connect(&outage))
			return NULL;
		lost = !ring_wait_for_room();
		if (!lost)
		{
			req = ring_make_request(type, rel, fork, blks, n, not_modified_since, false);
			lost = !ring_send(req) || !ring_wait(req->pos, req);
		}
		if (lost)
		{
			error = ring_connection_lost(sqlstate);
			if (strcmp(sqlstate, PS_SQLSTATE_RECALLED) == 0)
			{
				/* this process was idle, so the store has given its connection to another backend */
				pfree(error);
				continue;
			}
		}
		else if (req->answer.type != PS_RESP_ERROR)
		{
			outage_over(&outage);
			return req;
		}
		else
		{
			strlcpy(sqlstate, req->answer.sqlstate, sizeof(sqlstate));
			if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
				store_conn_superseded(req->answer.message);
			/*
			 * If the branch is deleted, the store ends this connection, and the WAL
			 * worker stops the server.  If another store has the tenant now, one of the
			 * hosts may be that.
			 */
			if (strcmp(sqlstate, PS_SQLSTATE_TRY_AGAIN) != 0 && strcmp(sqlstate, PS_SQLSTATE_NOT_FOUND) != 0 &&
				strcmp(sqlstate, PS_SQLSTATE_FENCED) != 0)
				raise_store_error(req);
			error = pstrdup(req->answer.message);
			ring_disconnect();
		}
		if (!outage_wait(&outage, error, sqlstate))
			return NULL;
		pfree(error);
	}
}

/* ---- what others call ---- */

XLogRecPtr
page_client_read(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since,
				 char *const *pages)
{
	XLogRecPtr lsn = PG_UINT64_MAX;

	for (int done = 0; done < n;)
	{
		int batch = Min(n - done, PS_MAX_BATCH);
		Request *req = ask(PS_REQ_PAGES, rel, fork, blks + done, batch, not_modified_since, true);

		for (int i = 0; i < batch; i++)
			memcpy(pages[done + i], req->answer.pages + (size_t) i * BLCKSZ, BLCKSZ);
		lsn = Min(lsn, req->answer.lsn);
		ring_free(req);
		done += batch;
	}
	return lsn;
}

/*
 * Logs that the connection was lost while at most prefetched blocks were
 * outstanding.  They are requested again if they are needed.
 */
static void
log_lost_connection(const char *protocol_error)
{
	char sqlstate[6];
	char *error = ring_connection_lost(sqlstate);

	if (strcmp(sqlstate, PS_SQLSTATE_RECALLED) != 0)
		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("lost connection to the page store: %s", protocol_error != NULL ? protocol_error : error)));
	pfree(error);
}

void
page_client_prefetch(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since)
{
	if (!ring_is_connected())
		return;
	for (int done = 0; done < n;)
	{
		int batch = Min(n - done, PS_MAX_BATCH);
		const char *protocol_error = NULL;
		Request *req;

		if (!ring_make_room(true, batch))
		{
			/* Take in what has arrived.  If there is still no room, the store is busy enough. */
			if (!ring_receive(&protocol_error))
			{
				log_lost_connection(protocol_error);
				return;
			}
			if (!ring_make_room(true, batch))
				return;
		}
		req = ring_make_request(PS_REQ_PAGES, rel, fork, blks + done, batch, not_modified_since, true);
		if (req == NULL)
			return;
		if (!ring_send(req))
		{
			log_lost_connection(NULL);
			return;
		}
		pg_atomic_fetch_add_u64(&page_client_counters->prefetched, batch);
		done += batch;
	}
}

bool
page_client_take_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr min_lsn, char *page,
							XLogRecPtr *store_lsn)
{
	Request *req;
	int i;
	int64 pos = ring_find_prefetch(rel, fork, blk, &i);
	bool good;

	if (pos < 0)
		return false;
	if (!ring_wait(pos, NULL))
	{
		log_lost_connection(NULL);
		return false;
	}
	req = ring_request(pos);
	if (req == NULL)
		return false; /* the answer was an error */

	good = req->answer.lsn >= min_lsn;
	if (good)
	{
		memcpy(page, req->answer.pages + (size_t) i * BLCKSZ, BLCKSZ);
		*store_lsn = req->answer.lsn;
	}
	pg_atomic_fetch_add_u64(good ? &page_client_counters->prefetch_hits : &page_client_counters->prefetch_dropped, 1);
	req->blocks[i].wanted = false;
	if (--req->nwanted == 0)
		ring_free(req);
	return good;
}

bool
page_client_is_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	int i;

	return ring_find_prefetch(rel, fork, blk, &i) >= 0;
}

bool
page_client_relsize(PsRel rel, ForkNumber fork, XLogRecPtr not_modified_since, BlockNumber *nblocks)
{
	Request *req = ask(PS_REQ_RELSIZE, rel, fork, NULL, 0, not_modified_since, true);
	bool exists = req->answer.exists;

	*nblocks = exists ? req->answer.nblocks : 0;
	ring_free(req);
	return exists;
}

PsForkSize *
page_client_forks(Oid spc, Oid db, bool wait, int *n)
{
	PsRel rel = {.spc = spc, .db = db};
	Request *req;
	PsResponse *answer;
	PsForkSize *forks;

	/* the WAL worker has noticed already if the store is down, so a new attempt for each database would be a waste */
	if (!wait && !wal_progress_is_connected())
		return NULL;
	req = ask(PS_REQ_FORKS, rel, MAIN_FORKNUM, NULL, 0, wal_progress_flush_for_read(lsn_cache_insert_position()), wait);
	if (req == NULL)
		return NULL;
	answer = &req->answer;
	forks = palloc_extended(Max(answer->nforks, 1) * sizeof(PsForkSize), MCXT_ALLOC_HUGE);
	*n = (int) answer->nforks;
	for (int i = 0; i < *n; i++)
		forks[i] = ps_wire_get_fork(answer->forks + (size_t) i * PS_FORK_SIZE);
	ring_free(req);
	return forks;
}
