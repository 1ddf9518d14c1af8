/*
 * pagestream.c
 *	  A page stream: a backend of a compute sends requests for pages and sizes,
 *	  pipelined, and the store answers them in order.  wire.h has the messages.
 *
 * All requests that have arrived are decoded before the first is answered.
 * Consecutive requests for pages of one fork are then read together, so that
 * their I/O overlaps.
 */
#include "ps_fe.h"

#include "bytes.h"
#include "pg/relsize.h"
#include "serve/commands.h"
#include "sqlstate.h"
#include "wire.h"

/* The most requests that are decoded before the first is answered. */
#define MAX_AHEAD 32

/* Alignment of the memory that pages are read into: the store accesses their headers in place. */
#define PAGE_ALIGN 16

typedef struct PageStream
{
	Session *session;
	Conn *conn;
	Timeline *tl;
	uint64 generation;
	PsRequest requests[MAX_AHEAD];
	int nrequests;
} PageStream;

/* Answers a request with an error and frees it.  The stream continues. */
static void
answer_error(PageStream *ps, uint64 reqid, PsError *err)
{
	PsResponse resp = {.type = PS_RESP_ERROR, .reqid = reqid};

	strlcpy(resp.sqlstate, err->sqlstate, sizeof(resp.sqlstate));
	resp.message = err->message;
	resp.detail = err->detail ? err->detail : "";
	resp.hint = err->hint ? err->hint : "";
	conn_begin(ps->conn, 'd');
	ps_wire_put_response(&ps->conn->out, &resp);
	conn_end(ps->conn);

	/* damage and I/O errors are also of interest to the administrator of the store */
	ps_log_error(strncmp(err->sqlstate, "XX", 2) == 0 || strncmp(err->sqlstate, "58", 2) == 0 ? PS_WARNING : PS_DEBUG,
				 err, "page stream request");
}

/* ---- sizes ---- */

static PsError *
answer_relsize(PageStream *ps, const PsRequest *req)
{
	PsResponse resp = {.type = PS_RESP_RELSIZE, .reqid = req->reqid};

	PS_TRY(timeline_read_lsn(ps->tl, req->request_lsn, req->not_modified_since, &ps->session->cancel, &resp.lsn));
	PS_TRY(timeline_read_relsize(ps->tl, req->rel, req->fork, resp.lsn, &resp.exists, &resp.nblocks));
	conn_begin(ps->conn, 'd');
	ps_wire_put_response(&ps->conn->out, &resp);
	conn_end(ps->conn);
	return NULL;
}

/* State of answer_forks(). */
typedef struct ForkList
{
	Session *session;
	StringInfoData forks;
	uint32 nforks;
} ForkList;

static PsError *
add_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	ForkList *list = arg;
	PsForkSize fork = {{key->spc, key->db, key->rel}, (ForkNumber) key->fork, relsize_value_nblocks(value, len)};

	if (list->nforks == PS_MAX_FORKS)
		return ps_error(PS_SQLSTATE_STATE, "the tablespace has more than %d forks of relations", PS_MAX_FORKS);
	/* there may be millions of relations: check for a cancel now and then */
	if (++list->nforks % 65536 == 0)
		PS_TRY(session_check_cancel(list->session));
	enlargeStringInfo(&list->forks, PS_FORK_SIZE);
	ps_wire_put_fork(list->forks.data + list->forks.len, &fork);
	list->forks.len += PS_FORK_SIZE;
	return NULL;
}

/* Answers with all forks of the relations in a tablespace, of one database or (0) of all databases. */
static PsError *
answer_forks(PageStream *ps, const PsRequest *req)
{
	static const uint8 kinds[] = {PS_KEY_RELSIZE, PS_KEY_INITSIZE};
	PsResponse resp = {.type = PS_RESP_FORKS, .reqid = req->reqid};
	Oid db = req->rel.db;
	ForkList list = {.session = ps->session};
	PsError *err = NULL;

	PS_TRY(timeline_read_lsn(ps->tl, req->request_lsn, req->not_modified_since, &ps->session->cancel, &resp.lsn));
	initStringInfo(&list.forks);
	for (int i = 0; i < lengthof(kinds) && err == NULL; i++)
	{
		PsKey lo = {.kind = kinds[i], .spc = req->rel.spc, .db = db};
		PsKey hi = {
			.kind = kinds[i],
			.spc = req->rel.spc,
			.db = db != 0 ? db : PG_UINT32_MAX,
			.rel = PG_UINT32_MAX,
			.fork = PG_UINT8_MAX,
			.blk = PG_UINT32_MAX,
		};

		err = timeline_scan(ps->tl, &lo, &hi, resp.lsn, add_fork, &list);
	}
	if (err == NULL)
	{
		resp.nforks = list.nforks;
		resp.forks = list.forks.data;
		conn_begin(ps->conn, 'd');
		ps_wire_put_response(&ps->conn->out, &resp);
		conn_end(ps->conn);
	}
	pfree(list.forks.data);
	return err;
}

/* ---- pages ---- */

/*
 * How many of the n requests can be answered by one read at lsn, the LSN at
 * which the first is read: they must want the same fork at the same LSN, must
 * not need to wait for WAL, and must fit into PS_MAX_BATCH pages.
 */
static int
count_mergeable(const PsRequest *reqs, int n, XLogRecPtr lsn)
{
	int pages = reqs[0].count;
	int i;

	for (i = 1; i < n; i++)
	{
		const PsRequest *req = &reqs[i];

		if (req->type != PS_REQ_PAGES || !ps_rel_equal(req->rel, reqs[0].rel) || req->fork != reqs[0].fork ||
			req->request_lsn != reqs[0].request_lsn || req->not_modified_since > lsn)
			break;
		pages += req->count;
		if (pages > PS_MAX_BATCH)
			break;
	}
	return i;
}

void
pagestream_put_header(char *p, const PsRequest *req, XLogRecPtr lsn)
{
	size_t total = PAGES_HEADER_SIZE + (size_t) req->count * BLCKSZ;

	p[0] = 'd';
	ps_put32(p + 1, (uint32) total - 1);
	p[5] = PS_RESP_PAGES;
	p[6] = PS_WIRE_VERSION;
	ps_put64(p + 7, req->reqid);
	ps_put64(p + 15, lsn);
	ps_put16(p + 23, req->count);
}

/*
 * Answers n requests after some of their pages could not be read: with an error
 * for each request that wants one of those, with pages for the others.
 */
static void
answer_partly(PageStream *ps, const PsRequest *reqs, int n, XLogRecPtr lsn, const char *pages, PsError **errors)
{
	StringInfo out = &ps->conn->out;

	for (int i = 0; i < n; i++)
	{
		int count = reqs[i].count;
		size_t size = (size_t) count * BLCKSZ;
		PsError *err = NULL;

		for (int k = 0; k < count; k++)
		{
			if (err == NULL)
				err = errors[k];
			else
				ps_error_free(errors[k]);
		}
		if (err != NULL)
			answer_error(ps, reqs[i].reqid, err);
		else
		{
			enlargeStringInfo(out, PAGES_HEADER_SIZE + size);
			pagestream_put_header(out->data + out->len, &reqs[i], lsn);
			memcpy(out->data + out->len + PAGES_HEADER_SIZE, pages, size);
			out->len += PAGES_HEADER_SIZE + size;
		}
		pages += size;
		errors += count;
	}
}

/*
 * Answers n mergeable requests with one read.  The pages are read into the
 * output buffer, behind room for all headers; then each answer is moved down to
 * its place.  The last one need not move, nor does the only answer in an empty
 * buffer.  After an error the output is unchanged.
 */
static PsError *
answer_pages(PageStream *ps, const PsRequest *reqs, int n, XLogRecPtr lsn)
{
	StringInfo out = &ps->conn->out;
	BlockNumber blks[PS_MAX_BATCH];
	PsError *errors[PS_MAX_BATCH];
	int npages = 0;
	int headers = n * PAGES_HEADER_SIZE;
	bool all = true;
	char *to;
	char *pages;

	for (int i = 0; i < n; i++)
	{
		memcpy(blks + npages, reqs[i].blocks, reqs[i].count * sizeof(BlockNumber));
		npages += reqs[i].count;
	}
	enlargeStringInfo(out, headers + PAGE_ALIGN + npages * BLCKSZ);
	to = out->data + out->len;
	pages = (char *) TYPEALIGN(PAGE_ALIGN, to + headers);
	PS_TRY(timeline_read_each_page(ps->tl, reqs[0].rel, reqs[0].fork, blks, npages, lsn, pages, errors));
	for (int i = 0; i < npages; i++)
		all = all && errors[i] == NULL;
	if (!all)
	{
		char *copy = pg_malloc((size_t) npages * BLCKSZ);

		memcpy(copy, pages, (size_t) npages * BLCKSZ);
		answer_partly(ps, reqs, n, lsn, copy, errors);
		free(copy);
		return NULL;
	}

	for (int i = 0; i < n; i++)
	{
		size_t size = (size_t) reqs[i].count * BLCKSZ;

		pagestream_put_header(to, &reqs[i], lsn);
		to += PAGES_HEADER_SIZE;
		if (to != pages)
			memmove(to, pages, size);
		to += size;
		pages += size;
	}
	out->len = to - out->data;
	return NULL;
}

/* ---- the stream ---- */

/* Answers the first request and those that can be merged with it.  Returns how many of the n are done. */
static int
answer_first(PageStream *ps, const PsRequest *reqs, int n, PsError **err)
{
	XLogRecPtr lsn;
	int together;

	*err = timeline_check_generation(ps->tl, ps->generation);
	if (*err != NULL)
		return 1;
	switch (reqs->type)
	{
		case PS_REQ_RELSIZE:
			*err = answer_relsize(ps, reqs);
			return 1;
		case PS_REQ_FORKS:
			*err = answer_forks(ps, reqs);
			return 1;
		case PS_REQ_PAGES:
			break;
	}
	*err = timeline_read_lsn(ps->tl, reqs->request_lsn, reqs->not_modified_since, &ps->session->cancel, &lsn);
	if (*err != NULL)
		return 1;
	together = count_mergeable(reqs, n, lsn);
	*err = answer_pages(ps, reqs, together, lsn);
	if (*err != NULL && together > 1)
	{
		/* reading them one by one shows which of them has failed */
		ps_error_free(*err);
		together = 1;
		*err = answer_pages(ps, reqs, 1, lsn);
	}
	return together;
}

static PsError *
answer_all(PageStream *ps)
{
	int i = 0;

	while (i < ps->nrequests)
	{
		PsError *err;
		uint64 reqid = ps->requests[i].reqid;

		i += answer_first(ps, &ps->requests[i], ps->nrequests - i, &err);
		if (err != NULL && session_error_is_fatal(err))
			return err;
		if (err != NULL)
			answer_error(ps, reqid, err);
		if (conn_pending(ps->conn) >= CONN_FLUSH_SIZE)
		{
			streams_idle(ps->session); /* the client may be slow to read */
			PS_TRY(conn_flush(ps->conn));
			streams_busy(ps->session);
		}
		PS_TRY(session_check_stop(ps->session));
	}
	ps->nrequests = 0;
	return NULL;
}

static PsError *
wait_for_requests(void *arg)
{
	PageStream *ps = arg;

	streams_idle(ps->session);
	return NULL;
}

/* Decodes a request.  An invalid one is answered at once, after those before it. */
static PsError *
decode_request(void *arg, const Message *msg)
{
	PageStream *ps = arg;
	const char *problem;

	if (ps->nrequests == 0)
		streams_busy(ps->session);
	problem = ps_wire_get_request(msg->body, msg->len, &ps->requests[ps->nrequests]);
	if (problem == NULL)
	{
		ps->nrequests++;
		return NULL;
	}
	PS_TRY(answer_all(ps));
	answer_error(ps, msg->len >= 10 ? ps_get64(msg->body + 2) : 0,
				 ps_error(PS_SQLSTATE_PROTOCOL, "invalid page stream request: %s", problem));
	return NULL;
}

static bool
more_requests(void *arg)
{
	PageStream *ps = arg;
	Message msg;

	return ps->nrequests < MAX_AHEAD && conn_peek_message(ps->conn, &msg) && msg.type == 'd';
}

static PsError *
answer_requests(void *arg, bool done)
{
	return answer_all(arg);
}

static const CopyHandler handler = {
	.tag = "PAGESTREAM",
	.wait = wait_for_requests,
	.take = decode_request,
	.more = more_requests,
	.answer = answer_requests,
};

/* Waits until the LSN can be read, and pins it. */
static PsError *
pin_lease(Session *session, Timeline *tl, XLogRecPtr lsn)
{
	XLogRecPtr seen;

	PS_TRY(timeline_read_lsn(tl, lsn, lsn, &session->cancel, &seen));
	return timeline_pin(tl, lsn);
}

/* Serves the stream until the client ends it.  lease, unless it is InvalidXLogRecPtr, stays readable until then. */
static PsError *
stream_pages(Session *session, Timeline *tl, uint64 generation, XLogRecPtr lease)
{
	PageStream *ps;
	PsError *err;

	if (lease != InvalidXLogRecPtr)
		PS_TRY(pin_lease(session, tl, lease));
	ps_thread_name("page %d", session->id);
	ps = pg_malloc0(sizeof(PageStream));
	ps->session = session;
	ps->conn = &session->conn;
	ps->tl = tl;
	ps->generation = generation;
	err = copy_serve(session, &handler, ps);
	free(ps);
	ps_thread_name("session %d", session->id);
	if (lease != InvalidXLogRecPtr)
		timeline_unpin(tl, lease);
	return err;
}

/* pagestream TENANT TIMELINE GENERATION [LSN] */
PsError *
pagestream_run(Session *session, char **args, int nargs)
{
	Timeline *tl;
	uint64 generation;
	XLogRecPtr lease = InvalidXLogRecPtr;
	PsError *err;

	PS_TRY(command_find_timeline(session, args, &tl, &generation));
	if (nargs > 3)
	{
		PS_TRY(command_parse_lsn(args[3], &lease));
		if (lease == InvalidXLogRecPtr)
			return ps_error(PS_SQLSTATE_INVALID, "cannot read at LSN %s", args[3]);
	}
	PS_TRY(timeline_check_generation(tl, generation));
	PS_TRY(streams_begin_pages(session, tl, lease != InvalidXLogRecPtr));
	err = stream_pages(session, tl, generation, lease);
	streams_end_pages(session);
	return err;
}
