/*
 * page_client.h
 *	  What the parts of the page client know of each other: page_client.c (what
 *	  others call), page_client_ring.c (the connection and the requests on it),
 *	  page_client_retry.c (a store that does not answer).
 */
#ifndef PS_PAGE_CLIENT_H
#define PS_PAGE_CLIENT_H

#include "port/atomics.h"

#include "compute.h"
#include "wire.h"

#define POLL_MS 1000 /* how often a wait looks at what does not set the latch */

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

extern PageClientShared *page_client_counters;

/* ---- page_client_retry.c ---- */

/* An outage of the store, as one waiting call sees it. */
typedef struct Outage
{
	TimestampTz since; /* 0: none */
	int delay_ms;      /* before the next attempt */
	bool no_wait;      /* there is to be none */
} Outage;

/*
 * The connection does not exist, for this reason: waits before the next
 * attempt, or raises the error if another attempt is of no use.  False if there
 * is to be no other attempt.
 */
extern bool outage_wait(Outage *outage, const char *error, const char *sqlstate);

/* The store has answered: says so, if it had not before. */
extern void outage_over(const Outage *outage);

/*
 * To be called in every wait.  Besides interrupts: a shutdown that has lasted.
 * Walsenders, and background workers that handle SIGTERM in a way of their own,
 * would not look at it before the wait is over.
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
	bool unwanted;     /* to be dropped when the answer comes */
	uint64 pos;        /* in the ring */
	char *message;     /* the answer, of libpq; NULL: not answered */
	PsResponse answer; /* points into message */
	int count;         /* PAGES: blocks */
	int nwanted;       /* of them not yet taken */
	struct
	{
		BlockNumber blk;
		bool wanted;
	} blocks[FLEXIBLE_ARRAY_MEMBER];
} Request;

/* Connects, if there is no connection; waits for as long as the store cannot be reached.  False as outage_wait(). */
extern bool ring_connect(Outage *outage);
extern bool ring_is_connected(void);

/* The connection is of no use any more: closes it and gives up all requests. */
extern void ring_disconnect(void);

/* The same after something has failed with "the connection is lost".  The reason, palloc'd. */
extern char *ring_connection_lost(char sqlstate[6]);

/*
 * Makes room for a request, for a prefetch of n blocks, by dropping the oldest
 * answers; false if those are still to come.
 */
extern bool ring_make_room(bool prefetch, int n);

/* A request for ring_send(); NULL if memory is short and it is a prefetch. */
extern Request *ring_make_request(PsRequestType type, PsRel rel, ForkNumber fork, const BlockNumber *blks, int n,
								  XLogRecPtr not_modified_since, bool prefetch);

/* Puts the request into the ring, where there is room, and hands it to libpq.  False if the connection is lost. */
extern bool ring_send(Request *req);

/*
 * Takes in the answers that have arrived.  False if the connection is lost;
 * *protocol_error then says what was wrong with an answer, if that is why.
 */
extern bool ring_receive(const char **protocol_error);

/*
 * Waits until the request at a place of the ring has been answered, after
 * which its place may be empty already.  False if the connection is lost.
 * wanted, if not NULL, is that request, to be marked as unwanted if an
 * interrupt ends the wait.
 */
extern bool ring_wait(uint64 pos, Request *wanted);

/* Waits for room for a request that is no prefetch.  False if the connection is lost. */
extern bool ring_wait_for_room(void);

/* The request at a place; NULL if it was answered and given up. */
extern Request *ring_request(uint64 pos);

/* The place of a prefetch that still wants the block, or -1; *index: which of its blocks. */
extern int64 ring_find_prefetch(PsRel rel, ForkNumber fork, BlockNumber blk, int *index);

/* Gives up a request whose answer has come. */
extern void ring_free(Request *req);

#endif /* PS_PAGE_CLIENT_H */
