/*
 * serve_impl.h
 *	  What the files of serve/ share: the server with its list of sessions, a
 *	  session with its connection, and the functions that work on them.
 */
#ifndef PS_SERVE_IMPL_H
#define PS_SERVE_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/ilist.h"

#include "base/bytesink.h"
#include "base/cancel.h"
#include "serve/protocol.h"
#include "serve/serve.h"
#include "wire.h"

#define MAX_LISTENERS 16

typedef struct Listener
{
	int fd;
	bool is_unix;
} Listener;

/* What a connection counts as (streams.c). */
typedef enum SessionKind
{
	SESSION_STARTING, /* has not finished its startup */
	SESSION_OTHER,    /* runs commands */
	SESSION_WAITING,  /* waits for a page stream */
	SESSION_PAGES,
	SESSION_WAL
} SessionKind;

#define SESSION_KINDS (SESSION_WAL + 1)

/* The server remembers this many removed timelines (removed.c). */
#define REMOVED_NOTES 256

typedef struct RemovedTimeline
{
	PsId id;
	char how[320]; /* a sentence that says how and when it was removed */
} RemovedTimeline;

typedef struct BranchStreams BranchStreams;
typedef struct StreamWait StreamWait;

struct Server
{
	const Config *_Atomic config; /* swapped when settings are reloaded: see config.h */

	/* fixed once created */
	Store *store;
	time_t started;
	char *socket_path;

	/* used by the main thread only */
	Listener listeners[MAX_LISTENERS];
	int nlisteners;
	int next_id;

	/* changes once, from false to true, under lock */
	atomic_bool stopping;

	/*
	 * Protects the list of sessions, the counts and the descriptors of the
	 * sessions in the list.  A session leaves the list before it closes its
	 * socket, so a thread that holds the lock may shut down or poll any socket in
	 * the list.  A holder takes no other lock and waits for nothing.
	 */
	pthread_mutex_t lock;
	pthread_cond_t session_ended; /* initialized by clock_cond_init() */
	dlist_head sessions;          /* oldest first */
	int nsessions;
	int count[SESSION_KINDS]; /* sessions of each kind */

	/* a ring, under lock (removed.c) */
	RemovedTimeline removed[REMOVED_NOTES];
	uint64 nremoved;

	/* page streams and the sessions that wait for one (streams.c); under lock, except nwaiting */
	dlist_head branches;  /* BranchStreams */
	dlist_head waits;     /* StreamWait, oldest first */
	atomic_int nwaiting;  /* changed under lock, read without it */
	int nrecalled;        /* streams that were recalled and have not ended yet */
	uint64 recalls;       /* since the start */
	int64 short_since;    /* clock_now_ms() of the log message that readers wait; 0: none is in force */
	int64 last_shortage;  /* clock_now_ms() when all places were last found taken; 0: never */
	int64 stream_wait_ms; /* STREAM_WAIT_MS, except in tests; fixed */
};

/* Longest text that says what WAL waits for, including its terminating zero byte. */
#define WAIT_TEXT 256

/* The most timelines that one command uses. */
#define SESSION_TIMELINES 4

typedef struct Session
{
	dlist_node link; /* Server.lock */
	Server *server;
	int id; /* "process id" in BackendKeyData */
	uint32 secret;
	bool is_unix;
	SessionKind kind;     /* Server.lock */
	bool cut;             /* Server.lock; cut off because too many connections had not finished their startup */
	atomic_bool canceled; /* set by a cancel request, cleared when a command begins */

	/* timelines that the command uses; changed by the session's thread under Server.lock */
	Timeline *held[SESSION_TIMELINES];
	int nheld;

	/* WAL streams: what the stream waits for ("": nothing) and since when; Server.lock */
	char waits_for[WAIT_TEXT];
	time_t waits_since;

	/* page streams (streams.c) */
	BranchStreams *branch; /* Server.lock */
	bool leased;           /* Server.lock; may not be recalled */

	/* page streams and connections that are not streams */
	int64 recalled_at;        /* Server.lock; clock_now_ms(); 0: not recalled */
	_Atomic int64 idle_since; /* clock_now_ms() when it began to wait for its client; 0: working; set by its thread */
	atomic_bool has_answered; /* written by the session's thread */

	/* used by the session's thread only */
	Conn conn;
	char *who;          /* audit_peer(); NULL until the startup is over */
	CancelCheck cancel; /* for waits in the store: session_check_cancel() */
} Session;

/* ---- audit.c ---- */

/*
 * Describes the other end of a connection for audit_log().  For a Unix socket
 * these are the user and process that the kernel reports, for a TCP connection
 * only the address.  What the client claims to be (user, application_name) is
 * appended in quotes.  The caller frees the text.
 */
extern char *audit_peer(int fd, const Startup *startup);

/* ---- listen.c ---- */

/* Opens the listening sockets that the settings ask for.  listen_close() must follow, also after an error. */
extern PsError *listen_open(Server *server);

/* Closes the listening sockets and removes the Unix socket. */
extern void listen_close(Server *server);

/* ---- sessions.c: the list of sessions ---- */

/*
 * Adds a session for an accepted connection to the list.  NULL if too many
 * connections have not finished their startup.  Main thread.
 */
extern Session *session_create(Server *server, int fd, bool is_unix);

/* Removes the session from the list, closes its socket, and frees it. */
extern void session_free(Session *session);

/* Handles a cancel request: ends the command of the session soon, if id and secret match. */
extern void sessions_cancel(Server *server, int id, uint32 secret);

/* Ends the connections of all sessions that use the timeline, except "except". */
extern void sessions_end_users(Server *server, const Branch *branch, const Session *except);

/* Calls shutdown(2) on the sockets of all sessions.  Caller holds Server.lock. */
extern void sessions_shutdown(Server *server, int how);

/*
 * Waits until there are no sessions any more; false if there still are some at
 * until_ms (clock_now_ms()).  Caller holds Server.lock.
 */
extern bool sessions_wait(Server *server, int64 until_ms);

/* ---- sessions.c: one session, called by its own thread ---- */

/*
 * Notes that the command uses the timeline, which the caller has got from
 * store_use() or a similar function.  It is released when the command ends.
 */
extern void session_hold(Session *session, Timeline *tl);
extern void session_release_all(Session *session);

/*
 * The check of Session.cancel; arg is the Session.  Returns an error if the store is
 * stopping, the client has closed its connection, or has sent a cancel request.
 */
extern PsError *session_check_cancel(void *arg);

/* Returns an error if the store is stopping.  To be called wherever a session could work for long. */
extern PsError *session_check_stop(Session *session);

/* Does this error end the connection? */
extern bool session_error_is_fatal(const PsError *err);

/* ---- session.c ---- */

/* The thread of a connection.  arg is a Session in the server's list, which the thread frees at its end. */
extern void *session_main(void *arg);

/* ---- streams.c: places of connections ---- */

/*
 * How long a reader waits for a page stream.  Shorter than the time that
 * computes wait for the answer to a command.
 */
#define STREAM_WAIT_MS 5000

/* Initializes the server's fields for streams. */
extern void streams_init(Server *server);

/*
 * Counts a connection whose startup is over.  PS_SQLSTATE_TOO_MANY_CONNECTIONS
 * if there are too many already.
 */
extern PsError *streams_admit(Session *session);

/* Counts the connection as a WAL stream, for which there is always room, until streams_end_wal(). */
extern void streams_begin_wal(Session *session);
extern void streams_end_wal(Session *session);

/*
 * Makes the connection a page stream of the timeline, which the session holds,
 * until streams_end_pages().  Waits if there is no place;
 * PS_SQLSTATE_TOO_MANY_CONNECTIONS after STREAM_WAIT_MS.  A leased stream is
 * not recalled.
 */
extern PsError *streams_begin_pages(Session *session, const Timeline *tl, bool leased);
extern void streams_end_pages(Session *session);

/* The session begins to wait for its client, and may be recalled until streams_busy(). */
extern void streams_idle(Session *session);
extern void streams_busy(Session *session);

/* Returns PS_SQLSTATE_RECALLED if the session was recalled: its connection must end. */
extern PsError *streams_check_recalled(Session *session);

typedef struct StreamCounts
{
	int pages; /* page streams */
	int wal;   /* WAL streams */
	int others;
	int waiting;    /* for a page stream */
	uint64 recalls; /* since the start */
} StreamCounts;

extern void streams_count(Server *server, StreamCounts *counts);

/* ---- wal_waits.c ---- */

/*
 * Notes what the session's WAL stream waits for ("": nothing), and logs when a
 * wait begins and when it ends.
 */
extern void wal_waits_set(Session *session, const char *branch, const char *waits_for);

/*
 * What the WAL of the timeline waits for, as "TEXT, since TIME".  NULL if it
 * does not wait.  The caller frees the text.
 */
extern char *wal_waits_get(Server *server, const Branch *branch);

/* ---- removed.c ---- */

/* Remembers that the timeline is about to be removed.  fmt says how; " at TIME." is appended. */
extern void removed_note(Server *server, const PsId *timeline, const char *fmt, ...) pg_attribute_printf(3, 4);

/*
 * Adds to err (PS_SQLSTATE_NOT_FOUND) how the timeline was removed, if that is
 * known.  Returns err, which may be NULL.
 */
extern PsError *removed_explain(Server *server, const PsId *timeline, PsError *err);

/* ---- copy.c ---- */

/*
 * Reads the next message of a copy from the client.  msg->type is 'd'
 * (CopyData), 'c' (CopyDone), or a message that must be ignored.  Everything
 * else is an error: the client ended the copy or the connection, or violated the
 * protocol.  If the connection was shut down for reading because the store is
 * stopping or the session was recalled, the error says so.
 */
extern PsError *copy_read(Session *session, Message *msg);

/* The contents of the client's CopyData messages, up to CopyDone. */
extern ByteSource copy_source(Session *session);

/*
 * A CopyBoth conversation.  Messages are taken in batches, each of which is
 * answered as a whole.
 */
typedef struct CopyHandler
{
	const char *tag; /* of CommandComplete at the end */

	/* Called before the first message of a batch is read: may wait for it, and send meanwhile. */
	PsError *(*wait)(void *arg);

	/* Takes a CopyData message. */
	PsError *(*take)(void *arg, const Message *msg);

	/* Does another message belong to the batch?  It must have arrived in full. */
	bool (*more)(void *arg);

	/* Answers the batch.  done: the client has sent CopyDone. */
	PsError *(*answer)(void *arg, bool done);
} CopyHandler;

/*
 * Sends CopyBothResponse, then serves the client until it sends CopyDone (NULL) or
 * something fails.  A stop of the store takes effect between two batches.
 */
extern PsError *copy_serve(Session *session, const CopyHandler *handler, void *arg);

/* ---- pagestream.c ---- */

/* Bytes of a PAGES answer before the pages: CopyData's type and length, header, count. */
#define PAGES_HEADER_SIZE (5 + 18 + 2)

/* Writes everything of a PAGES answer except the pages, which are read into place behind it. */
extern void pagestream_put_header(char *p, const PsRequest *req, XLogRecPtr lsn);

#endif /* PS_SERVE_IMPL_H */
