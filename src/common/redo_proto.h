/*
 * redo_proto.h
 *	  What a redo pool (src/pageserver/redo/redo_pool.c) and its helpers
 *	  (src/walredo) say to each other over two pipes.
 *
 * Both ends run on one machine and are built together, so structures travel in
 * memory's own byte order and alignment.  The helper says hello once, when it
 * is ready and locked in; from then on the pool sends requests, the helper
 * answers them in their order.  A request may be sent before the one before it
 * is answered, as long as all answers that are due fit into the pipe: else both
 * sides might wait until the other one reads.
 *
 *	  helper -> pool	RedoHello
 *	  pool -> helper	RedoRequest
 *						BLCKSZ bytes of base page, if has_base
 *						nrecords times: RedoRecordHeader, the record, and zeros
 *						up to the next multiple of REDO_ALIGN
 *	  helper -> pool	RedoAnswer, then BLCKSZ bytes of page (REDO_OK) or a text of
 *						RedoAnswer.length bytes without a zero byte (REDO_FAILED)
 *
 * End of file on the helper's standard input ends it.  Standard error carries
 * PostgreSQL's log lines.
 */
#ifndef PS_REDO_PROTO_H
#define PS_REDO_PROTO_H

#include "rel.h"

#define REDO_MAGIC         0x50535244 /* begins every message, so that a lost step is noticed */
#define REDO_PROTO_VERSION 3

#define REDO_ALIGN 8

/*
 * The longest record is PostgreSQL's (WAL_MAX_RECORD of pg/record.h): a DELETE
 * with REPLICA IDENTITY FULL has the whole old row in it, toasted values too.
 * A request is one record, or some of a few MB together, and a base page.
 */
#define REDO_MAX_RECORD  ((uint32) 0x3fffffff)
#define REDO_MAX_REQUEST (REDO_MAX_RECORD + 4 * 1024 * 1024)

/* Buffers of a helper are given back after a request that is longer. */
#define REDO_KEEP_REQUEST (8 * 1024 * 1024)

/* Longest text of a REDO_FAILED answer. */
#define REDO_MAX_TEXT 1024

/* What the helper's environment names the version of the pool by. */
#define REDO_ENV_VERSION "PAGESERVER_WALREDO_PROTOCOL"

typedef struct RedoHello
{
	uint32 magic;
	uint32 version; /* REDO_PROTO_VERSION */
	uint32 pg_version_num;
	uint32 block_size;
} RedoHello;

typedef struct RedoRequest
{
	uint32 magic;
	uint32 length; /* bytes that follow this header */
	PsRel rel;
	uint32 fork;
	BlockNumber blk;
	uint32 has_base; /* 0: the block was all zeros */
	uint32 nrecords;
	uint32 number; /* of the request: the helper's first is 0, the next 1, … */
} RedoRequest;

typedef struct RedoRecordHeader
{
	uint64 start; /* as WalRecord's */
	uint64 end;
	uint32 len; /* bytes of the record, without the zeros after it */
	uint32 pad;
} RedoRecordHeader;

typedef enum RedoStatus
{
	REDO_OK = 0,
	REDO_FAILED = 1
} RedoStatus;

typedef struct RedoAnswer
{
	uint32 magic;
	uint32 status;        /* RedoStatus */
	uint32 length;        /* bytes that follow this header */
	uint32 failed_record; /* REDO_FAILED: which of the request's records, or nrecords: none of them */
	uint32 number;        /* the request's */
} RedoAnswer;

#endif /* PS_REDO_PROTO_H */
