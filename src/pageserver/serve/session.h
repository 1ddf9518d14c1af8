/*
 * session.h
 *	  What the parts of serve/ know of each other: the server with its list of
 *	  sessions, a session with its connection, the commands.
 */
#ifndef PS_SESSION_H
#define PS_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "read/read.h"
#include "ingest/ingest.h"
#include "base/cancel.h"
#include "lib/ilist.h"

#include "serve/audit.h"
#include "serve/protocol.h"
#include "serve/serve.h"
#include "wire.h"

#define MAX_LISTENERS 16

typedef struct Listener
{
	int fd;
	bool is_unix;
} Listener;

/* What a connection counts as: see streams.c. */
typedef enum SessionKind
{
	SESSION_STARTING, /* its startup is not over */
	SESSION_OTHER,
	SESSION_WAITING, /* for a page stream */
	SESSION_PAGES,
	SESSION_WAL
} SessionKind;

#define SESSION_KINDS (SESSION_WAL + 1)

/* So many removed timelines are remembered, and how it came about (removed.c). */
#define REMOVED_NOTES 256

typedef struct RemovedTimeline
{
	PsId id;
	char how[320]; /* a sentence */
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

	/* main thread's own */
	Listener listeners[MAX_LISTENERS];
	int nlisteners;
	int next_id;

	/* one way: false to true, under lock */
	atomic_bool stopping;

	/*
	 * Protects the list, the count and the fds in it: a session leaves the
	 * list before it closes its socket, so whoever holds the lock may shut
	 * down or look at any socket in the list.  Nothing else is locked, and
	 * nothing waited for, while it is held.
	 */
	pthread_mutex_t lock;
	pthread_cond_t session_ended; /* made with clock_cond_init() */
	dlist_head sessions;          /* oldest first */
	int nsessions;
	int count[SESSION_KINDS]; /* of them */

	/* under lock: a ring */
	RemovedTimeline removed[REMOVED_NOTES];
	uint64 nremoved;

	/* page streams and who waits for one (streams.c); under lock, but for nwaiting */
	dlist_head branches;  /* BranchStreams */
	dlist_head waits;     /* StreamWait, oldest first */
	atomic_int nwaiting;  /* changes under lock, is looked at without */
	int nrecalled;        /* streams that were recalled and have not ended yet */
	uint64 recalls;       /* since the start */
	int64 short_since;    /* clock_now_ms() since when the log says that readers wait; 0: it does not */
	int64 last_shortage;  /* clock_now_ms() when last all places were found taken; 0: never */
	int64 stream_wait_ms; /* fixed: STREAM_WAIT_MS */
};

/* Longest text that says what WAL waits for, its zero byte included. */
#define WAIT_TEXT 256

/* Most timelines that one command uses. */
#define SESSION_TIMELINES 4

typedef struct Session
{
	dlist_node link; /* Server.lock */
	Server *server;
	int id; /* "process id" in BackendKeyData */
	uint32 secret;
	bool is_unix;
	SessionKind kind;     /* Server.lock */
	bool cut;             /* Server.lock; ended because of too many that do not finish their startup */
	atomic_bool canceled; /* set by a cancel request, cleared when a command begins */

	/* timelines that the command uses; changed by the session's thread under Server.lock */
	Timeline *held[SESSION_TIMELINES];
	int nheld;

	/* of a WAL stream: what it waits for, "" if for nothing, and since when; Server.lock */
	char waits_for[WAIT_TEXT];
	time_t waits_since;

	/* of a page stream (streams.c) */
	BranchStreams *branch; /* Server.lock */
	bool leased;           /* Server.lock; it may not be recalled */

	/* of that, or of a connection that is no stream */
	int64 recalled_at;        /* Server.lock; clock_now_ms(); 0: it was not */
	_Atomic int64 idle_since; /* clock_now_ms() since when it waits for its client; 0: it does not.  Written by the session's thread */
	atomic_bool has_answered; /* written by the session's thread */

	/* the session thread's own */
	Conn conn;
	char *who;          /* is at the other end, for the log (audit.h); NULL until the startup is over */
	CancelCheck cancel; /* for waits in the store: see session_check_cancel() */
} Session;

/* ---- listen.c ---- */

/* A cancel request: the command of the session, if both numbers are right, ends soon. */
extern void server_cancel(Server *server, int id, uint32 secret);

/* Ends the connections of sessions that use the timeline, but for this one. */
extern void server_end_users(Server *server, const Branch *branch, const Session *but);

/* ---- streams.c ---- */

/* A reader waits so long for a page stream.  Less than computes wait for the answer to a command. */
#define STREAM_WAIT_MS 5000

/* For server_create(). */
extern void server_init_counts(Server *server);

/* The startup is over: an error if there are too many connections already. */
extern PsError *server_admit(Session *session);

/* The connection becomes a stream of WAL, for which there is always room, or is one no longer. */
extern void server_count_wal(Session *session, bool begins);

/*
 * The connection becomes a page stream of the timeline, which it holds.  Waits
 * for a place if there is none; PS_SQLSTATE_TOO_MANY_CONNECTIONS after
 * STREAM_WAIT_MS.  leased: it is not to be recalled.  To be given back.
 */
extern PsError *server_take_stream(Session *session, const Timeline *tl, bool leased);
extern void server_give_stream(Session *session);

/* The session waits for its client, and may be recalled; it has got something to do. */
extern void server_session_idle(Session *session);
extern void server_session_works(Session *session);

/* PS_SQLSTATE_RECALLED if it was recalled: the connection is to end. */
extern PsError *server_recalled(Session *session);

/* The WAL stream waits for this now; "": for nothing.  Tells the log when a wait begins, and when it ends. */
extern void server_set_wait(Session *session, const char *branch, const char *waits_for);

/*
 * What WAL of the timeline waits for, as "TEXT, since TIME"; malloc'd.  NULL:
 * for nothing.
 */
extern char *server_wal_wait(Server *server, const Branch *branch);

typedef struct ServerCounts
{
	int pages; /* page streams */
	int wal;
	int others;
	int waiting; /* for a page stream */
	uint64 recalls;
} ServerCounts;

extern void server_counts(Server *server, ServerCounts *counts);

/* ---- removed.c ---- */

/* The timeline is about to be removed; fmt says how, and goes before "at TIME". */
extern void server_note_removed(Server *server, const PsId *timeline, const char *fmt, ...) pg_attribute_printf(3, 4);

/* Returns err; says how that came about if the timeline does not exist any more. */
extern PsError *server_explain_removed(Server *server, const PsId *timeline, PsError *err);

/* ---- session.c ---- */

/* The command uses the timeline, which store_use() or another has given: released when the command ends. */
extern void session_hold(Session *session, Timeline *tl);
extern void session_release_all(Session *session);

/* The thread of a connection; arg is a Session in the server's list, which it frees. */
extern void *session_main(void *arg);

/* Leaves the list, closes the socket, frees. */
extern void session_free(Session *session);

/*
 * For a CancelCheck, arg being the Session: an error if the store is stopping, the
 * client has closed its connection, or has asked to cancel the command.
 */
extern PsError *session_check_cancel(void *arg);

/* An error if the store is stopping; asked wherever a session would go on for long. */
extern PsError *session_check_stop(Session *session);

/* Can the session not go on after this error? */
extern bool error_ends_session(const PsError *err);

/* ---- commands.c ---- */

/*
 * Splits a command in place at blanks; 'single quotes' hold a word together
 * ('' is a quote inside), a semicolon at the end is ignored.  Returns the
 * number of words; -1: a quote is not closed; max + 1: there are more.
 */
extern int command_split(char *text, char **words, int max);

/* Runs one command and sends its results, but for the error that it returns. */
extern PsError *command_execute(Session *session, const char *text, uint32 len);

/* ---- pagestream.c, wal_push.c: conversations that last ---- */
/* lease: an LSN that can be read as long as the stream goes on, or InvalidXLogRecPtr. */
extern PsError *pagestream_run(Session *session, Timeline *tl, uint64 generation, XLogRecPtr lease);
extern PsError *wal_push_run(Session *session, Timeline *tl, uint64 generation);

/* Bytes of a PAGES answer before the pages: CopyData's type and length, header, count. */
#define PAGES_HEADER_SIZE (5 + 18 + 2)

/* Everything of a PAGES answer but the pages, which are read into place behind it. */
extern void pagestream_put_header(char *p, const PsRequest *req, XLogRecPtr lsn);

#endif /* PS_SESSION_H */
