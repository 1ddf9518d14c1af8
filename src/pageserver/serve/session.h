/*
 * session.h
 *	  What the parts of serve/ know of each other: the server with its list of
 *	  sessions, a session with its connection, the commands.
 */
#ifndef PS_SESSION_H
#define PS_SESSION_H

#include <pthread.h>
#include <stdatomic.h>

#include "lib/ilist.h"

#include "serve/protocol.h"
#include "serve/serve.h"

#define MAX_LISTENERS 16

typedef struct Listener
{
	int			fd;
	bool		is_unix;
} Listener;

struct Server
{
	/* fixed once created */
	const Config *config;
	Store	   *store;
	time_t		started;
	char	   *socket_path;

	/* main thread's own */
	Listener	listeners[MAX_LISTENERS];
	int			nlisteners;
	int			next_id;

	/* one way: false to true, under lock */
	atomic_bool stopping;

	/*
	 * Protects the list, the count and the fds in it: a session leaves the
	 * list before it closes its socket, so whoever holds the lock may shut
	 * down or look at any socket in the list.  Nothing else is locked, and
	 * nothing waited for, while it is held.
	 */
	pthread_mutex_t lock;
	pthread_cond_t session_ended;	/* CLOCK_MONOTONIC */
	dlist_head	sessions;		/* oldest first */
	int			nsessions;
	int			nadmitted;		/* of them, those whose startup is over */
};

/* Most timelines that one command uses. */
#define SESSION_TIMELINES 4

typedef struct Session
{
	dlist_node	link;			/* Server.lock */
	Server	   *server;
	int			id;				/* "process id" in BackendKeyData */
	uint32		secret;
	bool		is_unix;
	bool		admitted;		/* Server.lock; counts against max_connections */
	bool		cut;			/* Server.lock; ended because of too many that do not finish their startup */
	atomic_bool canceled;		/* set by a cancel request, cleared when a command begins */

	/* timelines that the command uses; changed by the session's thread under Server.lock */
	Timeline   *held[SESSION_TIMELINES];
	int			nheld;

	/* the session thread's own */
	Conn		conn;
	Waiter		waiter;			/* for waits in the store: see session_is_canceled() */
} Session;

/* ---- listen.c ---- */

/* A cancel request: the command of the session, if both numbers are right, ends soon. */
extern void server_cancel(Server *server, int id, uint32 secret);
extern int	server_session_count(Server *server);	/* those whose startup is over */

/* The startup is over: an error if there are max_connections sessions already. */
extern PsError *server_admit(Session *session);

/* Ends the connections of sessions that use the timeline, but for this one. */
extern void server_end_users(Server *server, Timeline *tl, const Session *but);

/* ---- session.c ---- */

/* The command uses the timeline, which store_use() or another has given: released when the command ends. */
extern void session_hold(Session *session, Timeline *tl);
extern void session_release_all(Session *session);

/* The thread of a connection; arg is a Session in the server's list, which it frees. */
extern void *session_main(void *arg);

/* Leaves the list, closes the socket, frees. */
extern void session_free(Session *session);

/*
 * Is there a reason to end a wait: the store is stopping, the client has gone,
 * or asked for it?  An IsCanceled; arg is the Session.
 */
extern bool session_is_canceled(void *arg);

/*
 * The error of a wait that ended early (PS_SQLSTATE_CANCELED) as what was the
 * reason; any other error as it is.
 */
extern PsError *session_interruption(Session *session, PsError *err);

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
extern int	command_split(char *text, char **words, int max);

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

#endif							/* PS_SESSION_H */
