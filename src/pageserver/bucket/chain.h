/*
 * chain.h
 *	  The WAL of a timeline in the bucket, as far as it is not in layer files there.
 *
 * A chain is a sequence of numbered objects.  The tenant's log says from which number
 * on they are needed; those have no gaps.  An object is a chunk of WAL, a fence or a cut.
 * Each is created by object_put_once() under the next free number, whoever the writer
 * is, so a chain has one order, upon which all owners of the tenant agree.
 *
 * A new owner of the tenant reads the chain to its end and puts a fence there before
 * it appends anything.  Whatever older owners have appended until then is in the chain,
 * since they may have acknowledged it.  After that, the number under which an older
 * owner would append is taken, so its request fails, however late it is executed.
 * This is why fences are never deleted.
 *
 * An object is an envelope (envelope.h) with WAL, or nothing unless it is a chunk, and
 *	  16	timeline
 *	   8	number of the object
 *	   8	the owner's generation
 *	   4	kind: 1 chunk, 2 fence, 3 cut
 *	   8	generation of the compute that has sent the WAL
 *	   8	LSN at which the WAL starts
 *	   8	LSN at which it ends; of a fence and a cut, both are the end of the chain
 *
 * A chunk starts where the one before ends, or earlier: then it replaces the WAL from
 * there on.  A cut says that the WAL from its LSN on, the beginning of a record that was
 * never complete, is not part of the chain any more.
 */
#ifndef PS_CHAIN_H
#define PS_CHAIN_H

#include "access/xlogdefs.h"

#include "bucket/claim.h"
#include "bucket/deleter.h"

#define CHAIN_CHUNK_MAX (16 * 1024 * 1024) /* bytes of WAL in a chunk */
#define CHAIN_FENCE_MAX 256                /* bytes of an object that is a fence */

/* A chunk, or a cut: its start and end are the same. */
typedef struct ChainChunk
{
	uint64 number;
	uint64 generation; /* of the owner that put it */
	uint64 compute_generation;
	XLogRecPtr start;
	XLogRecPtr end;
} ChainChunk;

/*
 * Accepts chunks and cuts, in order, with the WAL of a chunk, which is valid during the call.
 * Called by the thread that opens the chain; an error ends that and is returned.
 */
typedef struct ChainSink
{
	PsError *(*chunk)(void *arg, const ChainChunk *chunk, const char *wal);
	void *arg;
} ChainSink;

/*
 * One thread opens, appends, settles and closes; the other functions may be called by
 * any thread meanwhile.  Chain.lock, which protects what they share, is a leaf except
 * for Deleter.lock, and not held during a request.
 */
typedef struct Chain Chain;

/*
 * Opens the chain of a timeline for appending.  Reads it from the number and the LSN on
 * that the tenant's log has; layer files contain what is before that LSN.  The chain of
 * a new timeline begins at number 0.  To be called before anybody writes to the
 * timeline, and again if the outcome of chain_append() is unknown and chain_settle()
 * is not called.
 *
 * PS_SQLSTATE_FENCED: somebody else owns the tenant; what the sink has received is of no use.
 */
extern PsError *chain_open(const TenantOwner *owner, const PsId *timeline, uint64 number, XLogRecPtr lsn,
						   const ChainSink *sink, const ObjectWait *wait, Chain **chain);
extern void chain_close(Chain *chain);

/*
 * Appends a chunk of at most CHAIN_CHUNK_MAX bytes, which must start at chain_end() or
 * before.  On success it is durable, and whoever takes over finds it.
 *
 * PS_SQLSTATE_FENCED: somebody else owns the tenant, and the WAL has not been
 * appended.  After another error it may have been: chain_settle() tries again, and
 * until that succeeds nothing else can be appended.
 */
extern PsError *chain_append(Chain *chain, XLogRecPtr start, const char *wal, size_t len, uint64 compute_generation,
							 const ObjectWait *wait);

/* Cuts off what the chain has after an LSN.  Errors are those of chain_append(). */
extern PsError *chain_cut(Chain *chain, XLogRecPtr lsn, const ObjectWait *wait);

/* Appends the chunk or cut whose outcome is unknown, if there is one. */
extern PsError *chain_settle(Chain *chain, const ObjectWait *wait);
extern bool chain_is_unsettled(const Chain *chain);

/* The end of the WAL that is known to be in the chain. */
extern XLogRecPtr chain_end(Chain *chain);

/* Where that WAL begins, of what was read or appended and not removed; InvalidXLogRecPtr: there is none. */
extern XLogRecPtr chain_start(Chain *chain);

/*
 * The number of the first object with WAL behind an LSN, which the caller writes to the
 * tenant's log together with that LSN.
 */
extern uint64 chain_first_needed(Chain *chain, XLogRecPtr lsn);

/* Gives objects before this number to the deleter: a committed entry of the tenant's log does not need them. */
extern void chain_remove_before(Chain *chain, uint64 number, Deleter *deleter);

/* ---- reading, by anybody ---- */

/*
 * What an object is, from its beginning alone, which is not checked for damage.  *found
 * false and no error: there is none.
 */
extern PsError *chain_peek(ObjectStore *store, const BucketKey *key, const ObjectWait *wait, ChainChunk *chunk,
						   bool *fence, bool *found);

/*
 * Reads a chain like chain_open(), as far as it is there, and writes nothing.  *end:
 * the end of its WAL.
 */
extern PsError *chain_read(ObjectStore *store, const PsId *tenant, const PsId *timeline, uint64 number, XLogRecPtr lsn,
						   const ChainSink *sink, const ObjectWait *wait, XLogRecPtr *end);

#endif /* PS_CHAIN_H */
