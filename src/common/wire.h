/*
 * wire.h
 *	  Messages of a page stream: the binary conversation between a backend of
 *	  a compute and the store, inside CopyData messages of PostgreSQL's
 *	  protocol.  One CopyData holds exactly one message.  All integers are
 *	  big-endian.
 *
 * The stream is opened by the simple query
 *
 *		pagestream TENANT TIMELINE GENERATION [LSN]
 *
 * (ids as 32 hex digits; generation decimal, 0 for a reader that is not a compute),
 * answered by CopyBothResponse.  An LSN is a lease: it can be read until the stream
 * ends, even when the window of history has moved past it.  Requests may be
 * pipelined; answers come in the order of the requests.
 *
 * Every request begins with:
 *
 *	  u8   type				PsRequestType
 *	  u8   version			PS_WIRE_VERSION
 *	  u64  request id		chosen by the client, repeated in the answer
 *	  u64  request LSN		read the state at this LSN, or PS_LSN_LATEST
 *	  u64  not_modified_since	the client knows that nothing after this LSN changed
 *							what it asks for: the store waits until
 *							it has ingested WAL up to here, not further
 *
 * and continues, depending on the type, with:
 *
 *	  RELSIZE	u32 spc, u32 db, u32 rel, u8 fork
 *	  FORKS		u32 spc, u32 db; db 0: of all databases in the tablespace
 *	  PAGES		u32 spc, u32 db, u32 rel, u8 fork, u16 count, count * u32 block
 *
 * Every answer begins with
 *
 *	  u8   type				PsResponseType
 *	  u8   version			PS_WIRE_VERSION
 *	  u64  request id
 *	  u64  LSN				of the state that was read: the answer has every change
 *							up to here
 *
 * and continues with:
 *
 *	  RELSIZE	u8 exists, u32 blocks
 *	  FORKS		u32 count, then of each fork that exists: u32 spc, u32 db, u32 rel,
 *				u8 fork, u32 blocks
 *	  PAGES		u16 count, count * BLCKSZ bytes; a block that the store has no
 *				version of is all zeros
 *	  ERROR		sqlstate (5 bytes), then message, detail and hint, each a
 *				string with a zero byte at its end (detail, hint may be empty);
 *				the stream stays usable
 */
#ifndef PS_WIRE_H
#define PS_WIRE_H

#include "access/xlogdefs.h"
#include "lib/stringinfo.h"
#include "rel.h"

#define PS_WIRE_VERSION 1

#define PS_LSN_LATEST ((XLogRecPtr) PG_UINT64_MAX)

/* Most blocks that one PAGES request may name. */
#define PS_MAX_BATCH 128

/* Most forks of one FORKS answer, and the size of one. */
#define PS_MAX_FORKS (16 * 1024 * 1024)
#define PS_FORK_SIZE 17

typedef enum PsRequestType
{
	PS_REQ_RELSIZE = 'n',
	PS_REQ_FORKS = 'f',
	PS_REQ_PAGES = 'g'
} PsRequestType;

typedef enum PsResponseType
{
	PS_RESP_RELSIZE = 'N',
	PS_RESP_FORKS = 'F',
	PS_RESP_PAGES = 'G',
	PS_RESP_ERROR = 'E'
} PsResponseType;

typedef struct PsForkSize
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber nblocks;
} PsForkSize;

typedef struct PsRequest
{
	PsRequestType type;
	uint64 reqid;
	XLogRecPtr request_lsn;
	XLogRecPtr not_modified_since;
	PsRel rel; /* FORKS: spc and db only */
	ForkNumber fork;
	uint16 count; /* PAGES */
	BlockNumber blocks[PS_MAX_BATCH];
} PsRequest;

typedef struct PsResponse
{
	PsResponseType type;
	uint64 reqid;
	XLogRecPtr lsn;
	bool exists; /* RELSIZE */
	BlockNumber nblocks;
	uint32 nforks;       /* FORKS */
	const char *forks;   /* FORKS: points into the message; ps_wire_get_fork() */
	uint16 count;        /* PAGES */
	const char *pages;   /* PAGES: points into the message */
	char sqlstate[6];    /* ERROR */
	const char *message; /* ERROR: these point into the message */
	const char *detail;
	const char *hint;
} PsResponse;

/*
 * The store's messages in a stream of WAL (serve/wal_push.c): 'r' and five
 * fields, as in PostgreSQL's Standby status update.
 */
typedef struct PsWalStatus
{
	XLogRecPtr written; /* received */
	XLogRecPtr flushed; /* durable, the end of a whole and checked record */
	XLogRecPtr applied; /* visible to reads */
	uint64 time;        /* microseconds since 2000 */
	bool reply_wanted;
} PsWalStatus;

/*
 * Name of the ParameterStatus by which the store says, in a stream of WAL, why it does
 * not accept more: a text, empty when it continues.
 */
#define PS_WAIT_PARAMETER "pageserver_wait"

/*
 * Name of the ParameterStatus by which a store with object storage says, in a stream of
 * WAL, from which LSN on ("X/X") the compute must keep WAL that was acknowledged: another
 * store that takes over may ask for it again.
 */
#define PS_KEEP_PARAMETER "pageserver_keep_wal"

/*
 * wire.c.  The encoders append one whole message to buf.  The decoders return NULL, or
 * a constant text that says what is wrong with the message; the result is undefined
 * then.  A decoder accepts exactly the bytes that the encoder makes: trailing bytes
 * are an error.
 */
extern void ps_wire_put_request(StringInfo buf, const PsRequest *req);
extern const char *ps_wire_get_request(const char *data, size_t len, PsRequest *req);
extern void ps_wire_put_response(StringInfo buf, const PsResponse *resp);
extern const char *ps_wire_get_response(const char *data, size_t len, PsResponse *resp);
extern void ps_wire_put_status(StringInfo buf, const PsWalStatus *status);
extern const char *ps_wire_get_status(const char *data, size_t len, PsWalStatus *status);

/*
 * Is this an answer to a request of that type and id, for "count" blocks?  NULL, or a
 * constant text that says what is wrong.  An error is a valid answer to any request.
 */
extern const char *ps_wire_check_response(const PsResponse *resp, PsRequestType type, uint64 reqid,
										  XLogRecPtr not_modified_since, int count);

/* One fork of a FORKS answer, PS_FORK_SIZE bytes. */
extern void ps_wire_put_fork(char *to, const PsForkSize *fork);
extern PsForkSize ps_wire_get_fork(const char *from);

#endif /* PS_WIRE_H */
