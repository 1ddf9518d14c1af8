/*
 * page_client.c
 *	  Requests of this process to the store: pages, ahead of need or at once,
 *	  and sizes.
 *
 * A process has one connection, opened when first needed.  Requests are put
 * into a ring in the order in which they are sent, which is the order of the
 * answers.  An answer stays in its place in the ring, in the buffer that libpq
 * gave, until it is taken or dropped.  There are two kinds of requests:
 *
 * - somebody waits for it: sent again if the connection is lost, for as long
 *	 as it takes.
 * - prefetch: best effort.  Forgotten with the connection, when its transaction
 *	 ends, and when it is the oldest and room is needed.
 *
 * If an interrupt ends a wait, the request stays in the ring as an unwanted
 * one: its answer is still to come, and is dropped then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "compute.h"

#define RING_SIZE 1024			/* requests; a power of 2 */
#define MAX_PREFETCH_BLOCKS (4 * PS_MAX_BATCH)
#define CONNECT_TIMEOUT_MS 10000
#define FIRST_RETRY_MS 10
#define POLL_MS 1000			/* how often a wait looks at what does not set the latch */

typedef struct Request
{
	PsRequestType type;
	uint64		reqid;
	XLogRecPtr	not_modified_since;
	PsRel		rel;
	ForkNumber	fork;
	bool		prefetch;
	bool		unwanted;		/* to be dropped when the answer comes */
	bool		answered;
	char	   *message;		/* the answer, of libpq; set if answered */
	PsResponse	answer;			/* points into message */
	int			count;			/* PAGES: blocks */
	int			nwanted;		/* of them not yet taken */
	struct
	{
		BlockNumber blk;
		bool		wanted;
	}			blocks[FLEXIBLE_ARRAY_MEMBER];
} Request;

/*
 * Ring positions only grow; a position's place is its remainder by RING_SIZE.
 * Places from oldest to unanswered hold answered requests, or NULL where one
 * was taken; from there to next those still to be answered.
 */
static Request *ring[RING_SIZE];
static uint64 ring_oldest;
static uint64 ring_unanswered;
static uint64 ring_next;
static int	prefetch_blocks;	/* of all prefetch requests in the ring */

static StoreConn *conn;
static int	conn_pid;			/* the process that the above belongs to */
static bool connected_before;
static bool answer_overdue;		/* why the connection is given up */
static uint64 last_reqid;
static StringInfoData out_message;

/* Counters of all processes; each is exact, together they are no snapshot. */
typedef struct PageClientShared
{
	pg_atomic_uint64 requests;
	pg_atomic_uint64 pages;
	pg_atomic_uint64 prefetched;
	pg_atomic_uint64 prefetch_hits;
	pg_atomic_uint64 prefetch_dropped;
	pg_atomic_uint64 reconnects;
	pg_atomic_uint64 wait_usec;
} PageClientShared;

static PageClientShared *shared;

void
page_client_request_shmem(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(PageClientShared)));
}

/* From shmem_startup_hook, which holds AddinShmemInitLock for all parts. */
void
page_client_startup_shmem(void)
{
	bool		found;

	shared = ShmemInitStruct("pageserver_smgr page client", sizeof(PageClientShared), &found);
	if (found)
		return;
	pg_atomic_init_u64(&shared->requests, 0);
	pg_atomic_init_u64(&shared->pages, 0);
	pg_atomic_init_u64(&shared->prefetched, 0);
	pg_atomic_init_u64(&shared->prefetch_hits, 0);
	pg_atomic_init_u64(&shared->prefetch_dropped, 0);
	pg_atomic_init_u64(&shared->reconnects, 0);
	pg_atomic_init_u64(&shared->wait_usec, 0);
}

void
page_client_stats(PageClientStats *stats)
{
	stats->requests = pg_atomic_read_u64(&shared->requests);
	stats->pages = pg_atomic_read_u64(&shared->pages);
	stats->prefetched = pg_atomic_read_u64(&shared->prefetched);
	stats->prefetch_hits = pg_atomic_read_u64(&shared->prefetch_hits);
	stats->prefetch_dropped = pg_atomic_read_u64(&shared->prefetch_dropped);
	stats->reconnects = pg_atomic_read_u64(&shared->reconnects);
	stats->wait_usec = pg_atomic_read_u64(&shared->wait_usec);
}

/* ---- the ring ---- */

#define RING(pos) ring[(pos) % RING_SIZE]

/* Gives up the request in a place of the ring; its answer has come. */
static void
ring_free(uint64 pos)
{
	Request    *req = RING(pos);

	if (req->prefetch)
	{
		prefetch_blocks -= req->count;
		pg_atomic_fetch_add_u64(&shared->prefetch_dropped, req->nwanted);
	}
	PQfreemem(req->message);
	pfree(req);
	RING(pos) = NULL;
	while (ring_oldest < ring_unanswered && RING(ring_oldest) == NULL)
		ring_oldest++;
}

/* Gives up a request whether answered or not. */
static void
ring_drop(uint64 pos)
{
	if (pos < ring_unanswered)
		ring_free(pos);
	else
		RING(pos)->unwanted = true;
}

/* Gives up all requests, and the connection on which the answers would come. */
static void
disconnect(void)
{
	uint64		first = ring_oldest;

	ring_unanswered = ring_next;
	for (uint64 pos = first; pos < ring_next; pos++)
		if (RING(pos) != NULL)
			ring_free(pos);
	if (conn != NULL)
		store_conn_close(conn);
	conn = NULL;
	answer_overdue = false;
}

/* The place of a request that still wants the block, or -1; *index: which of its blocks. */
static int64
ring_find_prefetch(PsRel rel, ForkNumber fork, BlockNumber blk, int *index)
{
	for (uint64 pos = ring_oldest; pos < ring_next; pos++)
	{
		Request    *req = RING(pos);

		if (req == NULL || !req->prefetch || req->unwanted || req->fork != fork || !ps_rel_equal(req->rel, rel))
			continue;
		for (int i = 0; i < req->count; i++)
		{
			if (req->blocks[i].blk == blk && req->blocks[i].wanted)
			{
				*index = i;
				return pos;
			}
		}
	}
	return -1;
}

/* Makes room for a request of n blocks by dropping the oldest answers; false if those are still to come. */
static bool
ring_make_room(bool prefetch, int n)
{
	while (ring_next - ring_oldest >= RING_SIZE || (prefetch && prefetch_blocks + n > MAX_PREFETCH_BLOCKS))
	{
		if (ring_oldest >= ring_unanswered)
			return false;
		ring_free(ring_oldest);
	}
	return true;
}

/* ---- the connection ---- */

static void
at_proc_exit(int code, Datum arg)
{
	if (conn_pid == MyProcPid)
		disconnect();
}

/*
 * Prefetched pages are for the scan at hand: an idle session should not hold
 * on to megabytes of them.
 */
static void
at_xact_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (prefetch_blocks == 0)
		return;
	for (uint64 pos = ring_oldest; pos < ring_next; pos++)
		if (RING(pos) != NULL && RING(pos)->prefetch)
			ring_drop(pos);
}

/* Registers the callbacks, once per process, and forgets what a parent process left. */
static void
init_process(void)
{
	MemoryContext old;

	if (conn_pid == MyProcPid)
		return;
	if (!IsUnderPostmaster || MyProc == NULL)
		elog(ERROR, "the page store cannot be asked by this process");
	Assert(conn == NULL);
	conn_pid = MyProcPid;
	old = MemoryContextSwitchTo(TopMemoryContext);
	initStringInfo(&out_message);
	MemoryContextSwitchTo(old);
	RegisterXactCallback(at_xact_end, NULL);
	on_proc_exit(at_proc_exit, 0);
}

/* Hands the process latch back as it was found, so that nobody's wake-up is lost. */
static void
restore_latch(void)
{
	if (conn != NULL && conn->latch_was_set)
	{
		conn->latch_was_set = false;
		SetLatch(MyLatch);
	}
}

/*
 * To be called in every wait.  Besides interrupts: a shutdown that has lasted.
 * Walsenders, and background workers that handle SIGTERM in a way of their own,
 * would not look at it before the wait is over.
 */
static void
check_interrupts(void)
{
	store_conn_interrupts();
	if (CritSectionCount == 0 && !proc_exit_inprogress && IsTransactionState() && wal_worker_shutdown_is_overdue())
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("canceling a wait for the page store because of the shutdown of the server"),
				 errdetail("The shutdown has waited for %d ms (pageserver_smgr.shutdown_timeout).", ps_shutdown_timeout)));
}

/*
 * The store answered the command that opens the conversation with this
 * SQLSTATE, or ended it with it: true if it makes sense to try again.
 */
static bool
sqlstate_is_temporary(const char *sqlstate)
{
	return strcmp(sqlstate, PS_SQLSTATE_TRY_AGAIN) == 0 ||
		strncmp(sqlstate, "08", 2) == 0 ||	/* connection */
		strncmp(sqlstate, "53", 2) == 0 ||	/* insufficient resources */
		strncmp(sqlstate, "57", 2) == 0 ||	/* operator intervention */
		strncmp(sqlstate, "58", 2) == 0;	/* system error */
}

/* An outage of the store, as one waiting call sees it. */
typedef struct Outage
{
	TimestampTz since;			/* 0: none */
	int			delay_ms;		/* before the next attempt */
} Outage;

/*
 * The connection does not exist, for this reason: waits before the next
 * attempt, or raises the error if another attempt is of no use.
 */
static void
wait_for_retry(Outage *outage, const char *error, const char *sqlstate)
{
	TimestampTz until;
	bool		latch_was_set = false;

	if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
		store_conn_superseded(error);
	if (!sqlstate_is_temporary(sqlstate))
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3], sqlstate[4])),
				 errmsg("the page store refused the connection: %s", error),
				 errdetail("Asked for timeline %s of tenant %s, generation %llu.",
						   ps_timeline, ps_tenant, (unsigned long long) ps_generation)));

	if (outage->since == 0)
	{
		outage->since = GetCurrentTimestamp();
		outage->delay_ms = FIRST_RETRY_MS;
		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("no connection to the page store, trying again: %s", error)));
	}

	/* Clean-up at exit, such as of temporary tables, cannot be interrupted and must not hang a shutdown. */
	if (proc_exit_inprogress &&
		TimestampDifferenceExceeds(outage->since, GetCurrentTimestamp(), ps_shutdown_timeout))
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("no connection to the page store while the process exits: %s", error)));

	until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), outage->delay_ms);
	for (;;)
	{
		long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);

		if (left <= 0)
			break;
		if (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(left, POLL_MS),
					  WAIT_EVENT_DATA_FILE_READ) & WL_LATCH_SET)
		{
			ResetLatch(MyLatch);
			latch_was_set = true;
		}
		check_interrupts();
	}
	if (latch_was_set)
		SetLatch(MyLatch);
	outage->delay_ms = Min(outage->delay_ms * 2, ps_connect_retry);
}

/* Connects; waits for as long as the store cannot be reached. */
static void
connect_store(Outage *outage)
{
	char		command[128];

	snprintf(command, sizeof(command), "pagestream %s %s %llu",
			 ps_tenant, ps_timeline, (unsigned long long) ps_generation);
	while (conn == NULL)
	{
		char	   *error;
		char		sqlstate[6];

		conn = store_conn_open(command, "pageserver_smgr",
							   proc_exit_inprogress ? Min(CONNECT_TIMEOUT_MS, Max(ps_shutdown_timeout, 1)) : CONNECT_TIMEOUT_MS,
							   WAIT_EVENT_DATA_FILE_READ, &error, sqlstate);
		if (conn == NULL)
		{
			wait_for_retry(outage, error, sqlstate);
			pfree(error);
		}
	}
	if (connected_before)
		pg_atomic_fetch_add_u64(&shared->reconnects, 1);
	connected_before = true;
}

/* The connection broke, or no answer came in time: forgets it.  The reason, palloc'd. */
static char *
connection_lost(char sqlstate[6])
{
	char	   *error = store_conn_error(conn, sqlstate);

	if (answer_overdue)
	{
		pfree(error);
		error = psprintf("no answer for %d ms (pageserver_smgr.response_timeout)", ps_response_timeout);
	}
	disconnect();
	return error;
}

/* ---- sending and receiving ---- */

/* A request for the ring; NULL if memory is short and no_oom. */
static Request *
make_request(PsRequestType type, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
			 XLogRecPtr not_modified_since, bool no_oom)
{
	Request    *req;

	req = MemoryContextAllocExtended(TopMemoryContext, offsetof(Request, blocks) + n * sizeof(req->blocks[0]),
									 MCXT_ALLOC_ZERO | (no_oom ? MCXT_ALLOC_NO_OOM : 0));
	if (req == NULL)
		return NULL;
	req->type = type;
	req->reqid = ++last_reqid;
	req->not_modified_since = not_modified_since;
	req->rel = rel;
	req->fork = fork;
	req->count = n;
	req->nwanted = n;
	for (int i = 0; i < n; i++)
	{
		req->blocks[i].blk = blks[i];
		req->blocks[i].wanted = true;
	}
	return req;
}

/*
 * Puts the request into the ring and hands it to libpq.  False if the
 * connection is lost.
 */
static bool
send_request(Request *req)
{
	PsRequest	wire;

	wire.type = req->type;
	wire.reqid = req->reqid;
	wire.request_lsn = PS_LSN_LATEST;
	wire.not_modified_since = req->not_modified_since;
	wire.rel = req->rel;
	wire.fork = req->fork;
	wire.count = req->count;
	for (int i = 0; i < req->count; i++)
		wire.blocks[i] = req->blocks[i].blk;
	resetStringInfo(&out_message);
	ps_wire_put_request(&out_message, &wire);

	RING(ring_next) = req;
	ring_next++;
	if (req->prefetch)
		prefetch_blocks += req->count;
	if (PQputCopyData(conn->pg, out_message.data, out_message.len) <= 0 || PQflush(conn->pg) < 0)
		return false;
	pg_atomic_fetch_add_u64(&shared->requests, 1);
	pg_atomic_fetch_add_u64(&shared->pages, req->count);
	return true;
}

/*
 * Takes in the answers that libpq has.  False if the connection is lost;
 * *protocol_error then says what was wrong with an answer, if that is why.
 */
static bool
receive_answers(const char **protocol_error)
{
	for (;;)
	{
		Request    *req;
		char	   *message;
		int			len = PQgetCopyData(conn->pg, &message, 1);

		if (len == 0)
			return true;
		if (len < 0)
			return false;
		if (ring_unanswered == ring_next)
		{
			PQfreemem(message);
			*protocol_error = "answer without a request";
			return false;
		}
		req = RING(ring_unanswered);
		req->message = message;
		req->answered = true;
		*protocol_error = ps_wire_get_response(message, len, &req->answer);
		if (*protocol_error == NULL)
			*protocol_error = ps_wire_check_response(&req->answer, req->type, req->reqid, req->not_modified_since,
													 req->count);
		if (*protocol_error != NULL)
			return false;
		ring_unanswered++;
		if (req->unwanted)
			ring_free(ring_unanswered - 1);
		/* an error will be met again by who reads the block */
		else if (req->prefetch && req->answer.type == PS_RESP_ERROR)
			ring_free(ring_unanswered - 1);
	}
}

/* What the process sees of a wrong answer: an error, and the connection is gone. */
static void
raise_protocol_error(const char *protocol_error)
{
	disconnect();
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("wrong answer from the page store: %s", protocol_error),
			 errhint("Are compute and store of the same version of pageserver_smgr?")));
}

/*
 * Waits until the request at a place of the ring has been answered, after
 * which its place may be empty already.  False if the connection is lost.
 * wanted, if not NULL, is that request, to be marked as unwanted if an
 * interrupt ends the wait.
 */
static bool
wait_for_answer(uint64 pos, Request *wanted)
{
	const char *protocol_error = NULL;
	uint64		answered = ring_unanswered;
	TimestampTz last_answer = GetCurrentTimestamp();
	bool		lost = false;
	instr_time	start;
	instr_time	now;

	if (pos < ring_unanswered)
		return true;
	INSTR_TIME_SET_CURRENT(start);
	conn->latch_was_set = false;
	while (pos >= ring_unanswered && !lost)
	{
		int			unsent = PQflush(conn->pg);

		if (unsent < 0)
			break;
		store_conn_wait(conn, unsent > 0, POLL_MS, WAIT_EVENT_DATA_FILE_READ);
		if (wanted != NULL)
			wanted->unwanted = true;
		check_interrupts();
		if (wanted != NULL)
			wanted->unwanted = false;
		lost = !PQconsumeInput(conn->pg) || !receive_answers(&protocol_error);

		/* A peer, or something before it, that takes requests but does not answer. */
		if (ring_unanswered != answered)
		{
			answered = ring_unanswered;
			last_answer = GetCurrentTimestamp();
		}
		else if (!lost && ps_response_timeout > 0 &&
				 TimestampDifferenceExceeds(last_answer, GetCurrentTimestamp(), ps_response_timeout))
			lost = answer_overdue = true;

		/* as in wait_for_retry() */
		INSTR_TIME_SET_CURRENT(now);
		INSTR_TIME_SUBTRACT(now, start);
		if (proc_exit_inprogress && pos >= ring_unanswered && INSTR_TIME_GET_MILLISEC(now) >= ps_shutdown_timeout)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("no answer from the page store while the process exits")));
	}
	restore_latch();
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	pg_atomic_fetch_add_u64(&shared->wait_usec, INSTR_TIME_GET_MICROSEC(now));
	if (protocol_error != NULL)
		raise_protocol_error(protocol_error);
	return pos < ring_unanswered;
}

/* What was asked for, for a message; palloc'd. */
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

/* The store answered with an error: raises it. */
static void
raise_store_error(uint64 pos)
{
	Request    *req = RING(pos);
	PsResponse *answer = &req->answer;
	char	   *what = describe_request(req);
	char	   *message = pstrdup(answer->message);
	char	   *detail = pstrdup(answer->detail);
	char	   *hint = pstrdup(answer->hint);
	int			code = ERRCODE_INTERNAL_ERROR;

	if (strspn(answer->sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && strncmp(answer->sqlstate, "00", 2) != 0)
		code = MAKE_SQLSTATE(answer->sqlstate[0], answer->sqlstate[1], answer->sqlstate[2],
							 answer->sqlstate[3], answer->sqlstate[4]);
	ring_free(pos);
	ereport(ERROR,
			(errcode(code),
			 errmsg("could not get %s from the page store: %s", what, message),
			 detail[0] != '\0' ? errdetail("%s", detail) : 0,
			 hint[0] != '\0' ? errhint("%s", hint) : 0));
}

/*
 * Sends the request and waits for its answer, again and again over lost
 * connections.  Returns the place in the ring of the answer, which is no
 * error; to be given to ring_free().
 */
static uint64
ask(PsRequestType type, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since)
{
	Outage		outage = {0};

	init_process();
	for (;;)
	{
		Request    *req = NULL;
		uint64		pos;
		bool		lost;
		char	   *error;
		char		sqlstate[6];

		if (conn == NULL)
			connect_store(&outage);

		lost = false;
		while (!lost && !ring_make_room(false, n))
			lost = !wait_for_answer(ring_oldest, NULL);
		pos = ring_next;
		if (!lost)
		{
			req = make_request(type, rel, fork, blks, n, not_modified_since, false);
			lost = !send_request(req) || !wait_for_answer(pos, req);
		}
		if (lost)
		{
			error = connection_lost(sqlstate);
			wait_for_retry(&outage, error, sqlstate);
			pfree(error);
			continue;
		}

		if (req->answer.type == PS_RESP_ERROR)
		{
			strlcpy(sqlstate, req->answer.sqlstate, sizeof(sqlstate));
			if (strcmp(sqlstate, PS_SQLSTATE_SUPERSEDED) == 0)
				store_conn_superseded(req->answer.message);
			if (strcmp(sqlstate, PS_SQLSTATE_TRY_AGAIN) != 0)
				raise_store_error(pos);
			error = pstrdup(req->answer.message);
			disconnect();
			wait_for_retry(&outage, error, sqlstate);
			pfree(error);
			continue;
		}
		if (outage.since != 0)
			ereport(LOG,
					(errmsg("the page store answers again after %ld ms",
							TimestampDifferenceMilliseconds(outage.since, GetCurrentTimestamp()))));
		return pos;
	}
}

/* ---- what others call ---- */

XLogRecPtr
page_client_read(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since,
				 char *const *pages)
{
	XLogRecPtr	lsn = PG_UINT64_MAX;

	for (int done = 0; done < n;)
	{
		int			batch = Min(n - done, PS_MAX_BATCH);
		uint64		pos = ask(PS_REQ_PAGES, rel, fork, blks + done, batch, not_modified_since);
		PsResponse *answer = &RING(pos)->answer;

		for (int i = 0; i < batch; i++)
			memcpy(pages[done + i], answer->pages + (size_t) i * BLCKSZ, BLCKSZ);
		lsn = Min(lsn, answer->lsn);
		ring_free(pos);
		done += batch;
	}
	return lsn;
}

void
page_client_prefetch(PsRel rel, ForkNumber fork, const BlockNumber *blks, int n, XLogRecPtr not_modified_since)
{
	if (conn == NULL || conn_pid != MyProcPid)
		return;
	for (int done = 0; done < n;)
	{
		int			batch = Min(n - done, PS_MAX_BATCH);
		const char *protocol_error = NULL;
		Request    *req;

		if (!ring_make_room(true, batch))
		{
			/* Take in what has arrived; if that is not enough, the store has enough to do. */
			if (!PQconsumeInput(conn->pg) || !receive_answers(&protocol_error))
			{
				ereport(LOG,
						(errcode(ERRCODE_CONNECTION_FAILURE),
						 errmsg("lost the connection to the page store: %s",
								protocol_error ? protocol_error : PQerrorMessage(conn->pg))));
				disconnect();
				return;
			}
			if (!ring_make_room(true, batch))
				return;
		}
		req = make_request(PS_REQ_PAGES, rel, fork, blks + done, batch, not_modified_since, true);
		if (req == NULL)
			return;
		req->prefetch = true;
		if (!send_request(req))
		{
			ereport(LOG,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("lost the connection to the page store: %s", PQerrorMessage(conn->pg))));
			disconnect();
			return;
		}
		pg_atomic_fetch_add_u64(&shared->prefetched, batch);
		done += batch;
	}
}

bool
page_client_take_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk, XLogRecPtr min_lsn, char *page,
							XLogRecPtr *store_lsn)
{
	Request    *req;
	int			i;
	int64		pos = ring_find_prefetch(rel, fork, blk, &i);
	bool		good;

	if (pos < 0)
		return false;
	if (!wait_for_answer(pos, NULL))
	{
		char		sqlstate[6];
		char	   *error = connection_lost(sqlstate);

		ereport(LOG,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("lost the connection to the page store: %s", error)));
		pfree(error);
		return false;
	}
	req = RING(pos);
	if (req == NULL)
		return false;			/* the answer was an error */

	good = req->answer.lsn >= min_lsn;
	if (good)
	{
		memcpy(page, req->answer.pages + (size_t) i * BLCKSZ, BLCKSZ);
		*store_lsn = req->answer.lsn;
	}
	pg_atomic_fetch_add_u64(good ? &shared->prefetch_hits : &shared->prefetch_dropped, 1);
	req->blocks[i].wanted = false;
	if (--req->nwanted == 0)
		ring_free(pos);
	return good;
}

bool
page_client_is_prefetched(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	int			i;

	return ring_find_prefetch(rel, fork, blk, &i) >= 0;
}

bool
page_client_relsize(PsRel rel, ForkNumber fork, XLogRecPtr not_modified_since, BlockNumber *nblocks)
{
	uint64		pos = ask(PS_REQ_RELSIZE, rel, fork, NULL, 0, not_modified_since);
	bool		exists = RING(pos)->answer.exists;

	*nblocks = exists ? RING(pos)->answer.nblocks : 0;
	ring_free(pos);
	return exists;
}

PsForkSize *
page_client_forks(Oid spc, Oid db, int *n)
{
	PsRel		rel = {.spc = spc, .db = db};
	uint64		pos = ask(PS_REQ_FORKS, rel, MAIN_FORKNUM, NULL, 0, wal_worker_flush_for_read(lsn_cache_insert_position()));
	PsResponse *answer = &RING(pos)->answer;
	PsForkSize *forks = palloc_extended(Max(answer->nforks, 1) * sizeof(PsForkSize), MCXT_ALLOC_HUGE);

	*n = (int) answer->nforks;
	for (int i = 0; i < *n; i++)
		forks[i] = ps_wire_get_fork(answer->forks + (size_t) i * PS_FORK_SIZE);
	ring_free(pos);
	return forks;
}
