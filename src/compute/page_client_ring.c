/*
 * page_client_ring.c
 *	  The connection of this process to the store, and the requests on it.
 *
 * A process has one connection, opened when it is first needed.  Requests are put
 * into a ring in the order in which they are sent, which is also the order of the
 * answers.  An answer stays at its position in the ring, in the buffer that libpq has
 * returned, until it is taken or dropped.  There are two kinds of requests:
 *
 * - A request whose answer a caller waits for.  If the connection is lost, it is sent
 *   again, for as long as that takes (page_client.c).
 * - A prefetch request, which is best effort.  It is dropped with the connection, when
 *   its transaction ends, and when it is the oldest one and room is needed.
 *
 * If an interrupt ends a wait, the request stays in the ring and is marked as
 * unwanted: its answer will still arrive, and is dropped then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "page_client_impl.h"
#include "settings.h"
#include "store_conn.h"
#include "wal_progress.h"
#include "wire.h"

#define RING_SIZE           1024 /* requests; a power of 2 */
#define MAX_PREFETCH_BLOCKS (4 * PS_MAX_BATCH)
#define CONNECT_TIMEOUT_MS  10000

/*
 * Positions only increase; the entry of a position is its remainder modulo
 * RING_SIZE.  Positions from ring_oldest to ring_unanswered have answered
 * requests, or NULL if the request has been freed; those from there to ring_next
 * have unanswered ones.
 */
static Request *ring[RING_SIZE];
static uint64 ring_oldest;
static uint64 ring_unanswered;
static uint64 ring_next;
static int prefetch_blocks; /* number of blocks of all prefetch requests in the ring */

static StoreConn *conn;
static int conn_pid; /* the process that all these variables belong to */
static bool connected_before;
static bool answer_overdue; /* this and the next: why the connection is being closed */
static bool store_moved;
static uint64 last_reqid;
static StringInfoData out_message;

/* ---- the ring ---- */

#define RING(pos) ring[(pos) % RING_SIZE]

Request *
ring_request(uint64 pos)
{
	return RING(pos);
}

void
ring_free(Request *req)
{
	RING(req->pos) = NULL;
	if (req->prefetch)
	{
		prefetch_blocks -= req->count;
		pg_atomic_fetch_add_u64(&page_client_counters->prefetch_dropped, req->nwanted);
	}
	PQfreemem(req->message);
	pfree(req);
	while (ring_oldest < ring_unanswered && RING(ring_oldest) == NULL)
		ring_oldest++;
}

/* Drops a request, whether it has been answered or not. */
static void
ring_drop(Request *req)
{
	if (req->pos < ring_unanswered)
		ring_free(req);
	else
		req->unwanted = true;
}

int64
ring_find_prefetch(PsRel rel, ForkNumber fork, BlockNumber blk, int *index)
{
	for (uint64 pos = ring_oldest; pos < ring_next; pos++)
	{
		Request *req = RING(pos);

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

bool
ring_make_room(bool prefetch, int n)
{
	while (ring_next - ring_oldest >= RING_SIZE || (prefetch && prefetch_blocks + n > MAX_PREFETCH_BLOCKS))
	{
		if (ring_oldest >= ring_unanswered)
			return false;
		ring_free(RING(ring_oldest));
	}
	return true;
}

/* ---- the connection ---- */

void
ring_disconnect(void)
{
	uint64 first = ring_oldest;

	ring_unanswered = ring_next;
	for (uint64 pos = first; pos < ring_next; pos++)
		if (RING(pos) != NULL)
			ring_free(RING(pos));
	if (conn != NULL)
		store_conn_close(conn);
	conn = NULL;
	answer_overdue = store_moved = false;
}

static void
at_proc_exit(int code, Datum arg)
{
	if (conn_pid == MyProcPid)
		ring_disconnect();
}

/* Prefetched pages are for the current scan; an idle session should not keep megabytes of them. */
static void
at_xact_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (prefetch_blocks == 0)
		return;
	for (uint64 pos = ring_oldest; pos < ring_next; pos++)
		if (RING(pos) != NULL && RING(pos)->prefetch)
			ring_drop(RING(pos));
}

/* Registers callbacks, once per process. */
static void
init_process(void)
{
	MemoryContext old;

	if (conn_pid == MyProcPid)
		return;
	if (!IsUnderPostmaster || MyProc == NULL)
		elog(ERROR, "this process cannot connect to the page store");
	Assert(conn == NULL);
	conn_pid = MyProcPid;
	old = MemoryContextSwitchTo(TopMemoryContext);
	initStringInfo(&out_message);
	MemoryContextSwitchTo(old);
	RegisterXactCallback(at_xact_end, NULL);
	on_proc_exit(at_proc_exit, 0);
}

bool
ring_is_connected(void)
{
	return conn != NULL && conn_pid == MyProcPid;
}

bool
ring_connect(Outage *outage)
{
	char command[128];

	init_process();
	if (conn != NULL && wal_progress_store_changed(conn->store_version))
		ring_disconnect();
	if (conn != NULL)
		return true;
	snprintf(command, sizeof(command), "pagestream %s %s %llu",
			 ps_tenant, ps_timeline, (unsigned long long) ps_generation);
	while (conn == NULL)
	{
		int timeout_ms = CONNECT_TIMEOUT_MS;
		char *error;
		char sqlstate[6];

		if (proc_exit_inprogress)
			timeout_ms = Min(timeout_ms, Max(ps_shutdown_timeout, 1));
		conn = store_conn_open(command, "pageserver_smgr", timeout_ms,
							   WAIT_EVENT_DATA_FILE_READ, &error, sqlstate);
		if (conn == NULL)
		{
			if (!outage_wait(outage, error, sqlstate))
				return false;
			pfree(error);
		}
	}
	if (connected_before)
		pg_atomic_fetch_add_u64(&page_client_counters->reconnects, 1);
	connected_before = true;
	return true;
}

char *
ring_connection_lost(char sqlstate[6])
{
	char *error = store_conn_error(conn, sqlstate);

	if (answer_overdue)
	{
		pfree(error);
		error = psprintf("no answer for %d ms (\"pageserver_smgr.response_timeout\")", ps_response_timeout);
	}
	if (store_moved)
	{
		pfree(error);
		error = pstrdup("\"pageserver_smgr.store\" was changed");
	}
	ring_disconnect();
	return error;
}

/* ---- sending and receiving ---- */

Request *
ring_make_request(PsRequestType type, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
				  XLogRecPtr not_modified_since, bool prefetch)
{
	Request *req;

	req = MemoryContextAllocExtended(TopMemoryContext, offsetof(Request, blocks) + n * sizeof(req->blocks[0]),
									 MCXT_ALLOC_ZERO | (prefetch ? MCXT_ALLOC_NO_OOM : 0));
	if (req == NULL)
		return NULL;
	req->type = type;
	req->reqid = ++last_reqid;
	req->not_modified_since = not_modified_since;
	req->rel = rel;
	req->fork = fork;
	req->prefetch = prefetch;
	req->count = n;
	req->nwanted = n;
	for (int i = 0; i < n; i++)
	{
		req->blocks[i].blk = blks[i];
		req->blocks[i].wanted = true;
	}
	return req;
}

bool
ring_send(Request *req)
{
	PsRequest wire;

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

	req->pos = ring_next++;
	RING(req->pos) = req;
	if (req->prefetch)
		prefetch_blocks += req->count;
	if (PQputCopyData(conn->pg, out_message.data, out_message.len) <= 0 || PQflush(conn->pg) < 0)
		return false;
	pg_atomic_fetch_add_u64(&page_client_counters->requests, 1);
	pg_atomic_fetch_add_u64(&page_client_counters->pages, req->count);
	return true;
}

bool
ring_receive(const char **protocol_error)
{
	if (!PQconsumeInput(conn->pg))
		return false;
	for (;;)
	{
		Request *req;
		char *message;
		int len = PQgetCopyData(conn->pg, &message, 1);

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
		*protocol_error = ps_wire_get_response(message, len, &req->answer);
		if (*protocol_error == NULL)
			*protocol_error = ps_wire_check_response(&req->answer, req->type, req->reqid, req->not_modified_since,
													 req->count);
		if (*protocol_error != NULL)
			return false;
		ring_unanswered++;
		if (req->unwanted)
			ring_free(req);
		/* the reader of the block will get the error */
		else if (req->prefetch && req->answer.type == PS_RESP_ERROR)
			ring_free(req);
	}
}

/* Sets the process latch if a wait has reset it, so that no wakeup is lost. */
static void
restore_latch(void)
{
	if (conn != NULL && conn->latch_was_set)
	{
		conn->latch_was_set = false;
		SetLatch(MyLatch);
	}
}

/* Closes the connection and raises an ERROR for an invalid answer. */
static void
raise_protocol_error(const char *protocol_error)
{
	ring_disconnect();
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("invalid answer from the page store: %s", protocol_error),
			 errhint("Check that compute and page store have the same version of pageserver_smgr.")));
}

bool
ring_wait(uint64 pos, Request *wanted)
{
	const char *protocol_error = NULL;
	uint64 answered = ring_unanswered;
	TimestampTz last_answer = GetCurrentTimestamp();
	bool lost = false;
	instr_time start;
	instr_time now;

	if (pos < ring_unanswered)
		return true;
	INSTR_TIME_SET_CURRENT(start);
	conn->latch_was_set = false;
	while (pos >= ring_unanswered && !lost)
	{
		int unsent = PQflush(conn->pg);

		if (unsent < 0)
			break;
		store_conn_wait(conn, unsent > 0, POLL_MS, WAIT_EVENT_DATA_FILE_READ);
		if (wanted != NULL)
			wanted->unwanted = true;
		page_client_interrupts();
		if (wanted != NULL)
			wanted->unwanted = false;
		lost = !ring_receive(&protocol_error);

		/* The peer may accept requests without answering them. */
		if (ring_unanswered != answered)
		{
			answered = ring_unanswered;
			last_answer = GetCurrentTimestamp();
		}
		else if (!lost && ps_response_timeout > 0 &&
				 TimestampDifferenceExceeds(last_answer, GetCurrentTimestamp(), ps_response_timeout))
			lost = answer_overdue = true;
		if (!lost && pos >= ring_unanswered && wal_progress_store_changed(conn->store_version))
			lost = store_moved = true;

		/* the same limit as in outage_wait() */
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
	pg_atomic_fetch_add_u64(&page_client_counters->wait_usec, INSTR_TIME_GET_MICROSEC(now));
	if (protocol_error != NULL)
		raise_protocol_error(protocol_error);
	return pos < ring_unanswered;
}

bool
ring_wait_for_room(void)
{
	while (!ring_make_room(false, 0))
		if (!ring_wait(ring_oldest, NULL))
			return false;
	return true;
}
