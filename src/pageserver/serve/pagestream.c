/*
 * pagestream.c
 *	  The conversation of a backend of a compute with the store: requests for
 *	  pages and sizes, pipelined, answered in order.  wire.h has the
 *	  messages.
 *
 * All requests that have arrived are decoded before the first is answered.
 * Requests for pages of one fork that follow each other are then read at once,
 * so that their I/O overlaps.
 */
#include "ps_fe.h"

#include "bytes.h"
#include "pg/relsize.h"
#include "serve/session.h"
#include "sqlstate.h"
#include "wire.h"

/* Most requests that are decoded ahead. */
#define MAX_AHEAD 32

/* Where pages are read to must suit those who look into them as structs. */
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

static void
begin_answer(PageStream *ps)
{
	conn_begin(ps->conn, 'd');
}

/* Answers with an error, which is freed.  The stream goes on. */
static void
answer_error(PageStream *ps, uint64 reqid, PsError *err)
{
	PsResponse resp = {.type = PS_RESP_ERROR, .reqid = reqid};

	strlcpy(resp.sqlstate, err->sqlstate, sizeof(resp.sqlstate));
	resp.message = err->message;
	resp.detail = err->detail ? err->detail : "";
	resp.hint = err->hint ? err->hint : "";
	begin_answer(ps);
	ps_wire_put_response(&ps->conn->out, &resp);
	conn_end(ps->conn);

	/* damage and failing disks concern whoever runs the store */
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
	begin_answer(ps);
	ps_wire_put_response(&ps->conn->out, &resp);
	conn_end(ps->conn);
	return NULL;
}

/* Forks that are being listed. */
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
		return ps_error(PS_SQLSTATE_STATE, "there are more than %d forks of relations in the tablespace", PS_MAX_FORKS);
	/* there may be a million relations: ask now and then */
	if (++list->nforks % 65536 == 0)
		PS_TRY(session_check_cancel(list->session));
	enlargeStringInfo(&list->forks, PS_FORK_SIZE);
	ps_wire_put_fork(list->forks.data + list->forks.len, &fork);
	list->forks.len += PS_FORK_SIZE;
	return NULL;
}

/* All forks of the relations of a database in a tablespace, or of all databases. */
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
		PsKey hi = {.kind = kinds[i], .spc = req->rel.spc, .db = db != 0 ? db : PG_UINT32_MAX, .rel = PG_UINT32_MAX, .fork = PG_UINT8_MAX, .blk = PG_UINT32_MAX};

		err = timeline_scan(ps->tl, &lo, &hi, resp.lsn, add_fork, &list);
	}
	if (err == NULL)
	{
		resp.nforks = list.nforks;
		resp.forks = list.forks.data;
		begin_answer(ps);
		ps_wire_put_response(&ps->conn->out, &resp);
		conn_end(ps->conn);
	}
	pfree(list.forks.data);
	return err;
}

/* ---- pages ---- */

/*
 * How many requests from the first on can be answered by one read at lsn, which
 * is that of the first: the same fork, the same LSN asked for, nothing to wait
 * for, not too many pages.
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
 * Answers n requests of which some pages could not be read: an error for each
 * request that wanted one of them, the others as they should be.
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
 * Answers n requests, which count_mergeable() found to go together, with one
 * read.  The pages are read into the output buffer behind where all headers
 * will be, then each answer moves down to its place: the last one, and a lone
 * answer in an empty buffer, need not move.  On error the output is as it was.
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

/* Answers the first requests of n; returns how many. */
static int
answer_some(PageStream *ps, const PsRequest *reqs, int n, PsError **err)
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
		/* which of them it was shows when they are read one by one */
		ps_error_free(*err);
		together = 1;
		*err = answer_pages(ps, reqs, 1, lsn);
	}
	return together;
}

static PsError *
answer_all(PageStream *ps)
{
	for (int i = 0; i < ps->nrequests;)
	{
		PsError *err;
		uint64 reqid = ps->requests[i].reqid;

		i += answer_some(ps, &ps->requests[i], ps->nrequests - i, &err);
		if (err != NULL && error_ends_session(err))
			return err;
		if (err != NULL)
			answer_error(ps, reqid, err);
		if (conn_pending(ps->conn) >= CONN_FLUSH_SIZE)
		{
			server_session_idle(ps->session); /* the client may take its time */
			PS_TRY(conn_flush(ps->conn));
			server_session_works(ps->session);
		}
		PS_TRY(session_check_stop(ps->session));
	}
	ps->nrequests = 0;
	return NULL;
}

/* Takes a request in.  One that makes no sense is answered at once, after those before it. */
static PsError *
take_request(PageStream *ps, const Message *msg)
{
	const char *problem = ps_wire_get_request(msg->body, msg->len, &ps->requests[ps->nrequests]);

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

static PsError *
stream(PageStream *ps)
{
	for (;;)
	{
		Message msg;
		PsError *err;

		server_session_idle(ps->session);
		err = conn_read_message(ps->conn, &msg);
		if (err != NULL)
		{
			PsError *stop = session_check_stop(ps->session);

			if (stop == NULL)
				stop = server_recalled(ps->session);
			if (stop == NULL)
				return err;
			ps_error_free(err);
			return stop;
		}
		switch (msg.type)
		{
			case 'd':
				server_session_works(ps->session);
				PS_TRY(take_request(ps, &msg));
				while (ps->nrequests < MAX_AHEAD && conn_peek_message(ps->conn, &msg) && msg.type == 'd')
				{
					PS_TRY(conn_read_message(ps->conn, &msg));
					PS_TRY(take_request(ps, &msg));
				}
				PS_TRY(answer_all(ps));
				break;
			case 'c':
				conn_begin(ps->conn, 'c');
				conn_end(ps->conn);
				conn_send_complete(ps->conn, "PAGESTREAM");
				return NULL;
			case 'f':
				return ps_error(PS_SQLSTATE_CANCELED, "the client ended the page stream with a failure");
			case 'H':
			case 'S':
				break; /* as PostgreSQL does it: they mean nothing here */
			case 'X':
				return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
			default:
				return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message of type \"%c\" in a page stream", msg.type);
		}
	}
}

/* Waits until the LSN can be read, and keeps it so. */
static PsError *
take_lease(Session *session, Timeline *tl, XLogRecPtr lsn)
{
	XLogRecPtr seen;

	PS_TRY(timeline_read_lsn(tl, lsn, lsn, &session->cancel, &seen));
	return timeline_pin(tl, lsn);
}

PsError *
pagestream_run(Session *session, Timeline *tl, uint64 generation, XLogRecPtr lease)
{
	PageStream *ps;
	PsError *err;

	PS_TRY(timeline_check_generation(tl, generation));
	PS_TRY(server_take_stream(session, tl, lease != InvalidXLogRecPtr));
	if (lease != InvalidXLogRecPtr)
	{
		err = take_lease(session, tl, lease);
		if (err != NULL)
		{
			server_give_stream(session);
			return err;
		}
	}
	ps_thread_name("page %d", session->id);
	ps = pg_malloc0(sizeof(PageStream));
	ps->session = session;
	ps->conn = &session->conn;
	ps->tl = tl;
	ps->generation = generation;
	conn_send_copy_response(ps->conn, 'W');
	err = stream(ps);
	if (lease != InvalidXLogRecPtr)
		timeline_unpin(tl, lease);
	free(ps);
	server_give_stream(session);
	ps_thread_name("session %d", session->id);
	return err;
}
