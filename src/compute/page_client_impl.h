/*
 * page_client_impl.h
 *	  Private to page_client*.c.
 *
 *	page_client.c			the functions that others call
 *	page_client_ring.c		the connection and the requests on it
 *	page_client_outage.c	waits for a store that does not answer
 *	page_client_stats.c		counters
 */
#ifndef PS_PAGE_CLIENT_IMPL_H
#define PS_PAGE_CLIENT_IMPL_H

#include "datatype/timestamp.h"
#include "port/atomics.h"

#include "page_client.h"
#include "wire.h"

#define POLL_MS 1000 /* how often a wait checks for events that do not set the latch */

/* Counters of all processes.  Each is exact, but together they are not a consistent snapshot. */
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

extern PageClientShared *page_client_counters; /* set at server start */

/* ---- page_client_outage.c ---- */

/*
 * An outage of the store, from the point of view of one waiting call; all zeros
 * at the beginning of the call.
 */
typedef struct Outage
{
	TimestampTz since; /* 0: there is none */
	int delay_ms;      /* pause before the next attempt */
	bool no_wait;      /* there must not be another attempt */
} Outage;

/*
 * Called when a connection has failed, with the reason: pauses before the next
 * attempt and returns true, or returns false if there must not be one.  Raises an
 * ERROR if another attempt is useless, or if an interrupt ends the wait.
 */
extern bool outage_wait(Outage *outage, const char *error, const char *sqlstate);

/* The store has answered.  Logs that if there was an outage. */
extern void outage_over(const Outage *outage);

/*
 * To be called in each loop that waits.  Like interrupts_check(), but also
 * raises an ERROR if a shutdown has lasted too long: walsenders, and background
 * workers with their own SIGTERM handler, would not notice it before the wait is
 * over.
 */
extern void page_client_interrupts(void);

/* ---- page_client_ring.c: of this process ---- */

typedef struct Request
{
	PsRequestType type;
	uint64 reqid;
	XLogRecPtr not_modified_since;
	PsRel rel;
	ForkNumber fork;
	bool prefetch;
	bool unwanted;     /* drop it when it is answered */
	uint64 pos;        /* position in the ring */
	char *message;     /* the answer, from libpq; NULL: not answered yet */
	PsResponse answer; /* points into message */
	int count;         /* number of blocks of a PAGES request */
	int nwanted;       /* number of them not yet taken */
	struct
	{
		BlockNumber blk;
		bool wanted;
	} blocks[FLEXIBLE_ARRAY_MEMBER];
} Request;

/*
 * Connects unless there is a connection.  Waits for as long as the store cannot be
 * reached, or returns false if the outage must not be waited for.
 */
extern bool ring_connect(Outage *outage);
extern bool ring_is_connected(void);

/* Closes the connection and drops all requests. */
extern void ring_disconnect(void);

/*
 * Calls ring_disconnect(); to be used after a function has returned that the
 * connection is lost.  Returns the reason, palloc'd, and sets sqlstate.
 */
extern char *ring_connection_lost(char sqlstate[6]);

/*
 * Makes room for a request, in case of a prefetch for n blocks, by dropping the
 * oldest answers.  Returns false if these have not arrived yet.
 */
extern bool ring_make_room(bool prefetch, int n);

/* Allocates a request for ring_send().  A prefetch request is NULL if memory is short. */
extern Request *ring_make_request(PsRequestType type, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								  XLogRecPtr not_modified_since, bool prefetch);

/*
 * Puts a request into the ring, which must have room, and passes it to libpq.
 * Returns false if the connection is lost.
 */
extern bool ring_send(Request *req);

/*
 * Processes the answers that have arrived.  Returns false if the connection is
 * lost; if that is because of an invalid answer, *protocol_error describes it.
 */
extern bool ring_receive(const char **protocol_error);

/*
 * Waits until the request at a position has been answered; the position may be
 * empty then.  Returns false if the connection is lost.  wanted, if not NULL, is
 * that request: it is marked as unwanted if an interrupt ends the wait.
 */
extern bool ring_wait(uint64 pos, Request *wanted);

/* Waits for room for a request other than a prefetch.  Returns false if the connection is lost. */
extern bool ring_wait_for_room(void);

/* The request at a position, or NULL if it was answered and dropped. */
extern Request *ring_request(uint64 pos);

/*
 * The position of a prefetch request from which the block has not been taken, or
 * -1; *index is set to the block's place in it.
 */
extern int64 ring_find_prefetch(PsRel rel, ForkNumber fork, BlockNumber blk, int *index);

/* Frees a request that has been answered. */
extern void ring_free(Request *req);

#endif /* PS_PAGE_CLIENT_IMPL_H */
