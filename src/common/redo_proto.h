/*
 * redo_proto.h
 *	  Messages between a redo pool (src/pageserver/redo/redo_pool.c) and its helpers
 *	  (src/walredo), over two pipes.
 *
 * Both ends run on one machine and are built together, so structs are sent as they are
 * in memory.  The helper says hello once, when it is ready and in its sandbox; from then
 * on the pool sends requests, which the helper answers in order.  Several requests may be
 * unanswered, as long as their answers fit into the pipe: otherwise both sides might
 * wait until the other one reads.
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

#define REDO_MAGIC         0x50535244 /* begins every message, so that lost synchronization is noticed */
#define REDO_PROTO_VERSION 3

#define REDO_ALIGN 8

/*
 * The longest record is PostgreSQL's (WAL_MAX_RECORD of pg/record.h).  A request has a
 * base page and one record, or several records of a few MB together.
 */
#define REDO_MAX_RECORD  ((uint32) 0x3fffffff)
#define REDO_MAX_REQUEST (REDO_MAX_RECORD + 4 * 1024 * 1024)

/* A helper frees its buffers after a request that is longer. */
#define REDO_KEEP_REQUEST (8 * 1024 * 1024)

/* Longest text of a REDO_FAILED answer. */
#define REDO_MAX_TEXT 1024

/* Environment variable that tells a helper the pool's version of the protocol. */
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
	uint32 number; /* of the request: 0 for a helper's first, then 1, … */
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
	uint32 failed_record; /* REDO_FAILED: index of the record; nrecords if it was none of them */
	uint32 number;        /* the request's */
} RedoAnswer;

#endif /* PS_REDO_PROTO_H */
