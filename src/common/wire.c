/*
 * wire.c
 *	  Messages of a page stream: see wire.h.  Built twice: into the daemon
 *	  (with FRONTEND defined) and into the extension.
 */
#ifdef FRONTEND
#include "ps_fe.h"
#else
#include "postgres.h"
#endif
#include "bytes.h"
#include "wire.h"

/* A place in a message that is being read; bad once a read went past the end. */
typedef struct Cursor
{
	const char *p;
	const char *end;
	bool bad;
} Cursor;

static const char *
take(Cursor *c, size_t n)
{
	static const char zeros[8];
	const char *p = c->p;

	if ((size_t) (c->end - c->p) < n)
	{
		c->bad = true;
		return zeros;
	}
	c->p += n;
	return p;
}

#define TAKE8(c)  (*(const uint8 *) take(c, 1))
#define TAKE16(c) ps_get16(take(c, 2))
#define TAKE32(c) ps_get32(take(c, 4))
#define TAKE64(c) ps_get64(take(c, 8))

static const char *
take_string(Cursor *c)
{
	const char *s = c->p;
	const char *z = memchr(s, '\0', c->end - s);

	if (z == NULL)
	{
		c->bad = true;
		return "";
	}
	c->p = z + 1;
	return s;
}

static void
put8(StringInfo buf, uint8 v)
{
	appendBinaryStringInfo(buf, (const char *) &v, 1);
}

static void
put16(StringInfo buf, uint16 v)
{
	v = pg_hton16(v);
	appendBinaryStringInfo(buf, (const char *) &v, 2);
}

static void
put32(StringInfo buf, uint32 v)
{
	v = pg_hton32(v);
	appendBinaryStringInfo(buf, (const char *) &v, 4);
}

static void
put64(StringInfo buf, uint64 v)
{
	v = pg_hton64(v);
	appendBinaryStringInfo(buf, (const char *) &v, 8);
}

static void
put_rel(StringInfo buf, const PsRequest *req)
{
	put32(buf, req->rel.spc);
	put32(buf, req->rel.db);
	put32(buf, req->rel.rel);
	put8(buf, (uint8) req->fork);
}

static void
take_rel(Cursor *c, PsRequest *req)
{
	uint8 fork;

	req->rel.spc = TAKE32(c);
	req->rel.db = TAKE32(c);
	req->rel.rel = TAKE32(c);
	fork = TAKE8(c);
	req->fork = (ForkNumber) fork;
}

void
ps_wire_put_request(StringInfo buf, const PsRequest *req)
{
	put8(buf, (uint8) req->type);
	put8(buf, PS_WIRE_VERSION);
	put64(buf, req->reqid);
	put64(buf, req->request_lsn);
	put64(buf, req->not_modified_since);
	switch (req->type)
	{
		case PS_REQ_RELSIZE:
			put_rel(buf, req);
			break;
		case PS_REQ_FORKS:
			put32(buf, req->rel.spc);
			put32(buf, req->rel.db);
			break;
		case PS_REQ_PAGES:
			put_rel(buf, req);
			put16(buf, req->count);
			for (int i = 0; i < req->count; i++)
				put32(buf, req->blocks[i]);
			break;
	}
}

const char *
ps_wire_get_request(const char *data, size_t len, PsRequest *req)
{
	Cursor c = {data, data + len, false};
	uint8 version;

	memset(req, 0, offsetof(PsRequest, blocks));
	req->type = TAKE8(&c);
	version = TAKE8(&c);
	if (c.bad)
		return "message is shorter than its header";
	if (version != PS_WIRE_VERSION)
		return "message is of another version of the page protocol";
	req->reqid = TAKE64(&c);
	req->request_lsn = TAKE64(&c);
	req->not_modified_since = TAKE64(&c);
	switch ((int) req->type)
	{
		case PS_REQ_RELSIZE:
			take_rel(&c, req);
			break;
		case PS_REQ_FORKS:
			req->rel.spc = TAKE32(&c);
			req->rel.db = TAKE32(&c);
			break;
		case PS_REQ_PAGES:
			take_rel(&c, req);
			req->count = TAKE16(&c);
			if (req->count == 0 || req->count > PS_MAX_BATCH)
				return "number of blocks is out of range";
			for (int i = 0; i < req->count; i++)
				req->blocks[i] = TAKE32(&c);
			break;
		default:
			return "unknown request type";
	}
	if (c.bad)
		return "message is too short";
	if (c.p != c.end)
		return "message is too long";
	if (req->fork < MAIN_FORKNUM || req->fork > INIT_FORKNUM)
		return "fork number is out of range";
	return NULL;
}

void
ps_wire_put_fork(char *to, const PsForkSize *fork)
{
	ps_put32(to, fork->rel.spc);
	ps_put32(to + 4, fork->rel.db);
	ps_put32(to + 8, fork->rel.rel);
	to[12] = (char) fork->fork;
	ps_put32(to + 13, fork->nblocks);
}

PsForkSize
ps_wire_get_fork(const char *from)
{
	PsForkSize fork = {{ps_get32(from), ps_get32(from + 4), ps_get32(from + 8)}};

	fork.fork = (ForkNumber) (uint8) from[12];
	fork.nblocks = ps_get32(from + 13);
	return fork;
}

void
ps_wire_put_response(StringInfo buf, const PsResponse *resp)
{
	put8(buf, (uint8) resp->type);
	put8(buf, PS_WIRE_VERSION);
	put64(buf, resp->reqid);
	put64(buf, resp->lsn);
	switch (resp->type)
	{
		case PS_RESP_RELSIZE:
			put8(buf, resp->exists ? 1 : 0);
			put32(buf, resp->nblocks);
			break;
		case PS_RESP_FORKS:
			put32(buf, resp->nforks);
			appendBinaryStringInfo(buf, resp->forks, (int) resp->nforks * PS_FORK_SIZE);
			break;
		case PS_RESP_PAGES:
			put16(buf, resp->count);
			appendBinaryStringInfo(buf, resp->pages, (int) resp->count * BLCKSZ);
			break;
		case PS_RESP_ERROR:
			appendBinaryStringInfo(buf, resp->sqlstate, 5);
			appendBinaryStringInfo(buf, resp->message, (int) strlen(resp->message) + 1);
			appendBinaryStringInfo(buf, resp->detail, (int) strlen(resp->detail) + 1);
			appendBinaryStringInfo(buf, resp->hint, (int) strlen(resp->hint) + 1);
			break;
	}
}

const char *
ps_wire_get_response(const char *data, size_t len, PsResponse *resp)
{
	Cursor c = {data, data + len, false};
	uint8 version;

	memset(resp, 0, sizeof(*resp));
	resp->type = TAKE8(&c);
	version = TAKE8(&c);
	if (c.bad)
		return "message is shorter than its header";
	if (version != PS_WIRE_VERSION)
		return "message is of another version of the page protocol";
	resp->reqid = TAKE64(&c);
	resp->lsn = TAKE64(&c);
	switch ((int) resp->type)
	{
		case PS_RESP_RELSIZE:
			resp->exists = TAKE8(&c) != 0;
			resp->nblocks = TAKE32(&c);
			break;
		case PS_RESP_FORKS:
			resp->nforks = TAKE32(&c);
			if ((size_t) (c.end - c.p) != (size_t) resp->nforks * PS_FORK_SIZE)
				return "message does not hold the forks that it names";
			resp->forks = c.p;
			c.p = c.end;
			break;
		case PS_RESP_PAGES:
			resp->count = TAKE16(&c);
			if (resp->count == 0 || resp->count > PS_MAX_BATCH)
				return "number of blocks is out of range";
			if ((size_t) (c.end - c.p) != (size_t) resp->count * BLCKSZ)
				return "message does not hold the pages that it names";
			resp->pages = c.p;
			c.p = c.end;
			break;
		case PS_RESP_ERROR:
		{
			const char *state;

			if (c.end - c.p < 5)
				return "message is too short";
			state = take(&c, 5);
			memcpy(resp->sqlstate, state, 5);
			resp->message = take_string(&c);
			resp->detail = take_string(&c);
			resp->hint = take_string(&c);
			break;
		}
		default:
			return "unknown answer type";
	}
	if (c.bad)
		return "message is too short";
	if (c.p != c.end)
		return "message is too long";
	return NULL;
}

const char *
ps_wire_check_response(const PsResponse *resp, PsRequestType type, uint64 reqid, XLogRecPtr not_modified_since,
					   int count)
{
	if (resp->reqid != reqid)
		return "request id does not match";
	if (resp->type == PS_RESP_ERROR)
		return NULL;
	if (resp->lsn < not_modified_since)
		return "LSN is older than what was asked for";
	switch (type)
	{
		case PS_REQ_PAGES:
			if (resp->type != PS_RESP_PAGES)
				return "type does not match";
			if (resp->count != count)
				return "number of pages does not match";
			break;
		case PS_REQ_RELSIZE:
			if (resp->type != PS_RESP_RELSIZE)
				return "type does not match";
			if (resp->nblocks == InvalidBlockNumber)
				return "number of blocks is out of range";
			break;
		case PS_REQ_FORKS:
			if (resp->type != PS_RESP_FORKS)
				return "type does not match";
			if (resp->nforks > PS_MAX_FORKS)
				return "number of forks is out of range";
			for (uint32 i = 0; i < resp->nforks; i++)
			{
				PsForkSize fork = ps_wire_get_fork(resp->forks + (size_t) i * PS_FORK_SIZE);

				if (fork.fork < MAIN_FORKNUM || fork.fork > INIT_FORKNUM || fork.nblocks == InvalidBlockNumber)
					return "a fork is out of range";
			}
			break;
	}
	return NULL;
}

void
ps_wire_put_status(StringInfo buf, const PsWalStatus *status)
{
	put8(buf, 'r');
	put64(buf, status->written);
	put64(buf, status->flushed);
	put64(buf, status->applied);
	put64(buf, status->time);
	put8(buf, status->reply_wanted ? 1 : 0);
}

const char *
ps_wire_get_status(const char *data, size_t len, PsWalStatus *status)
{
	Cursor c = {data, data + len, false};

	if (TAKE8(&c) != 'r')
		return "unexpected type of message";
	status->written = TAKE64(&c);
	status->flushed = TAKE64(&c);
	status->applied = TAKE64(&c);
	status->time = TAKE64(&c);
	status->reply_wanted = TAKE8(&c) != 0;
	if (c.bad)
		return "message is too short";
	if (c.p != c.end)
		return "message is too long";
	return NULL;
}
