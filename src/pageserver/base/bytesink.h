/*
 * bytesink.h
 *	  Where a producer of bytes (a base backup's tar) or of progress messages
 *	  (an import) puts them, and where a consumer has them from, without knowing
 *	  of connections: serve/ makes CopyData and NoticeResponse messages of them,
 *	  a test a file.
 */
#ifndef PS_BYTESINK_H
#define PS_BYTESINK_H

#include "base/error.h"

/*
 * write: takes all len bytes, in any portions, or fails (the client has disconnected,
 * the store is stopping); the producer then stops and returns that error.
 * Called from one thread at a time.
 */
typedef struct ByteSink
{
	PsError *(*write)(void *arg, const char *data, size_t len);
	void *arg;
} ByteSink;

/*
 * read: gives the next bytes, which stay valid until the next call; *len 0:
 * there are no more.  Called from one thread at a time.
 */
typedef struct ByteSource
{
	PsError *(*read)(void *arg, const char **data, size_t *len);
	void *arg;
} ByteSource;

/*
 * report: shows a line of text (no newline at its end) to the client that waits
 * for a long command.  Cannot fail: a lost connection is noticed elsewhere
 * (ByteSink, CancelCheck).
 */
typedef struct ProgressSink
{
	void (*report)(void *arg, const char *message);
	void *arg;
} ProgressSink;

#endif /* PS_BYTESINK_H */
