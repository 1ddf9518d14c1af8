/*
 * redo_request.c
 *	  Asking redo helpers for pages: see redo.h.
 *
 * A helper takes one request after the other from its pipe.  It is sent some
 * ahead of the answers, so that it need not sleep between them, nor we.  The
 * answers come in the order of the requests.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "sqlstate.h"
#include "redo/redo_pool_impl.h"
#include "redo_proto.h"

/* A longer chain is sent in pieces of about this many bytes, the page so far being the next one's base. */
#define PIECE_SIZE (3 * 1024 * 1024)

/* Most requests that are under way. */
#define MAX_WINDOW 8

/* What is to be sent next: records of a job from "from" on. */
typedef struct Position
{
	int job;
	int from;
} Position;

typedef struct Conversation
{
	RedoPool *pool;
	RedoSlot *slot; /* NULL: there is no helper */
	RedoJob *jobs;
	int n;
	Position next;
	Position sent[MAX_WINDOW]; /* those without an answer, the oldest first */
	int nsent;
} Conversation;

/* How many records, one at least, go into the next piece. */
static int
piece_length(const WalRecord *records, int nrecords)
{
	size_t size = 0;
	int n = 0;

	do
		size += sizeof(RedoRecordHeader) + TYPEALIGN(REDO_ALIGN, records[n++].len);
	while (n < nrecords && size + records[n].len < PIECE_SIZE);
	return n;
}

static RedoPiece
piece_at(const Conversation *c, Position at)
{
	const RedoJob *job = &c->jobs[at.job];

	return (RedoPiece) {
		.rel = job->rel,
		.fork = job->fork,
		.blk = job->blk,
		.base = job->has_base ? job->page : NULL,
		.records = job->records + at.from,
		.nrecords = piece_length(job->records + at.from, job->nrecords - at.from)};
}

/* The position after a piece. */
static Position
after_piece(const Conversation *c, Position at, const RedoPiece *piece)
{
	at.from += piece->nrecords;
	if (at.from == c->jobs[at.job].nrecords)
		at = (Position) {at.job + 1, 0};
	return at;
}

/* Can a helper be asked for it at all? */
static PsError *
check_job(const RedoJob *job)
{
	for (int i = 0; i < job->nrecords; i++)
	{
		const WalRecord *rec = &job->records[i];

		if (rec->len > REDO_MAX_RECORD)
			return ps_error(PS_SQLSTATE_INVALID,
							"WAL record at %X/%X is too long for redo: %u bytes, at most %u expected",
							LSN_FORMAT_ARGS(rec->start), rec->len, REDO_MAX_RECORD);
	}
	return NULL;
}

/* Sends as much as may be under way.  Where the helper does not take it, the answer will not come either. */
static void
send_some(Conversation *c)
{
	int window = Min(c->slot->helper.window, MAX_WINDOW);

	while (c->next.job < c->n && c->nsent < window && (c->next.from == 0 || c->nsent == 0))
	{
		RedoPiece piece = piece_at(c, c->next);
		bool taken = redo_helper_send(&c->slot->helper, &piece);

		c->sent[c->nsent++] = c->next;
		c->next = after_piece(c, c->next, &piece);
		if (!taken)
			break;
		/* the base of a job's next piece is the answer to this one */
		if (c->next.from != 0)
			break;
	}
}

/* Receives the answer to the oldest request. */
static PsError *
receive_one(Conversation *c, bool *broken)
{
	Position at = c->sent[0];
	RedoJob *job = &c->jobs[at.job];
	RedoPiece piece = piece_at(c, at);
	char page[BLCKSZ];

	/* an answer that breaks off in the middle must not have spoiled the base */
	PS_TRY(redo_helper_receive(&c->slot->helper, &piece, page, broken));
	memcpy(job->page, page, BLCKSZ);
	job->has_base = true;
	c->nsent--;
	memmove(c->sent, c->sent + 1, c->nsent * sizeof(Position));
	if (c->nsent > 0 || c->next.job < c->n)
		redo_slot_renew(c->pool, c->slot);
	return NULL;
}

/* All that is left fails with err. */
static void
fail_rest(Conversation *c, int first, PsError *err)
{
	for (int i = first + 1; i < c->n; i++)
		*c->jobs[i].err = ps_error_copy(err);
	*c->jobs[first].err = err;
	c->next.job = c->n;
	c->nsent = 0;
}

/*
 * The oldest request has failed with "first".  Earlier requests may have caused that, so
 * it is sent once more, to a new helper, which also gets the remaining requests.
 */
static void
try_again(Conversation *c, PsError *first, bool broken)
{
	Position failed = c->sent[0];
	RedoPiece piece = piece_at(c, failed);
	PsError *err;

	redo_pool_count_failure(c->pool);
	redo_slot_end_helper(c->pool, c->slot, broken ? first : NULL);
	err = redo_slot_replace(c->pool, &c->slot);
	if (err != NULL)
	{
		ps_log_error(PS_WARNING, first, "could not try again with a new redo helper");
		fail_rest(c, failed.job, err);
		return;
	}
	c->sent[0] = failed;
	c->nsent = 1;
	c->next = after_piece(c, failed, &piece);
	redo_helper_send(&c->slot->helper, &piece);
	err = receive_one(c, &broken);
	if (err == NULL)
	{
		ps_log_error(PS_WARNING, first, "a new redo helper did what failed");
		return;
	}
	ps_error_free(first);
	redo_pool_count_failure(c->pool);
	if (broken)
	{
		redo_slot_end_helper(c->pool, c->slot, err);
		/* two helpers ended at the same request, so most likely the request is bad, not the helpers */
		if (!c->slot->timed_out)
			ps_error_set_state(err, PS_SQLSTATE_CORRUPTED);
		redo_slot_give_up(c->pool, c->slot);
		c->slot = NULL;
	}
	*c->jobs[failed.job].err = err;
	c->next = (Position) {failed.job + 1, 0};
	c->nsent = 0;
	if (c->slot == NULL && c->next.job < c->n)
	{
		err = redo_slot_take(c->pool, &c->slot);
		if (err != NULL)
			fail_rest(c, c->next.job, err);
	}
}

/* Jobs that can be asked for, one at least. */
static void
converse(RedoPool *pool, RedoJob *jobs, int n)
{
	Conversation c = {.pool = pool, .jobs = jobs, .n = n};
	PsError *err = redo_slot_take(pool, &c.slot);

	if (err != NULL)
	{
		fail_rest(&c, 0, err);
		return;
	}
	while (c.next.job < n || c.nsent > 0)
	{
		bool broken;

		send_some(&c);
		err = receive_one(&c, &broken);
		if (err != NULL)
			try_again(&c, err, broken);
	}
	if (c.slot != NULL)
		redo_slot_release(pool, c.slot);
}

void
redo_pages(RedoPool *pool, RedoJob *jobs, int n)
{
	int64 start = clock_now_us();
	int64 nrecords = 0;

	for (int from = 0; from < n;)
	{
		int to = from;

		while (to < n && (*jobs[to].err = check_job(&jobs[to])) == NULL)
			nrecords += jobs[to++].nrecords;
		if (to > from)
			converse(pool, jobs + from, to - from);
		from = to + 1;
	}
	pthread_mutex_lock(&pool->lock);
	pool->stats.requests += n;
	pool->stats.records += nrecords;
	pool->stats.usec += clock_now_us() - start;
	pthread_mutex_unlock(&pool->lock);
}
