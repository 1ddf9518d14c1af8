/*
 * streams.c
 *	  Places of connections, and the distribution of page streams among
 *	  backends when there are fewer streams than backends that want one.
 *
 * Each kind of connection has places of its own, so no kind can keep another
 * out: page streams (max_connections), WAL streams (one for each branch, since
 * a newer one supersedes it), and all others.  The kind is known only with the
 * first command.  Therefore, when there are too many others, the one that has
 * been idle longest is ended to make room for a new connection.
 *
 * A backend keeps its page stream until it ends, although it needs one only
 * while it reads blocks that its compute does not have.  When a backend finds
 * all places taken, a stream that is waiting for its client is recalled: one of
 * the branch that has most streams, and of these the one that has waited
 * longest.  Its client reconnects when it next has something to ask.  If all
 * streams are working, the backend waits for the first that becomes idle; of
 * the waiting backends, one of the branch that has fewest streams comes first.
 * So every branch gets its share, and no backend waits for a stream whose owner
 * waits for that backend.
 */
#include "ps_fe.h"

#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "serve/serve_impl.h"
#include "sqlstate.h"

/* At least this many connections that are not streams, and this many waiting readers, are admitted. */
#define OTHERS_MIN 100

/* A stream that has not answered anything yet is not recalled before this time. */
#define FRESH_MS 1000

/* A recalled stream is cut off after this time if its client does not read the answers. */
#define CUT_MS 1000

/* A wait of this length is logged. */
#define SHORTAGE_MS 1000

/* A shortage of places is logged again if the last one was longer ago than this. */
#define SHORTAGE_LOG_MS 60000

/* A branch that has page streams, or readers that wait for one.  Protected by Server.lock. */
struct BranchStreams
{
	dlist_node link;    /* in Server.branches */
	const Timeline *tl; /* only compared; sessions of the branch hold it */
	int streams;
	int waiting;
};

struct StreamWait
{
	dlist_node link; /* in Server.waits, oldest first */
	Session *session;
	bool granted;
	pthread_cond_t changed; /* initialized by clock_cond_init() */
};

void
streams_init(Server *server)
{
	dlist_init(&server->branches);
	dlist_init(&server->waits);
	server->stream_wait_ms = STREAM_WAIT_MS;
}

/* Counts the session as another kind.  Caller holds the lock. */
static void
set_kind(Session *session, SessionKind kind)
{
	session->server->count[session->kind]--;
	session->server->count[kind]++;
	session->kind = kind;
}

/*
 * Ends the connection that has been idle longest among those that are not
 * streams.  Returns false if all of them are working.  Caller holds the lock.
 */
static bool
recall_other(Server *server)
{
	Session *best = NULL;
	int64 best_since = 0;
	int64 now = clock_now_ms();
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);
		int64 since = atomic_load(&session->idle_since);

		if (session->kind != SESSION_OTHER || session->recalled_at != 0 || since == 0 || now - since < FRESH_MS)
			continue;
		if (best == NULL || since < best_since)
		{
			best = session;
			best_since = since;
		}
	}
	if (best == NULL)
		return false;
	best->recalled_at = now;
	shutdown(best->conn.fd, SHUT_RD);
	return true;
}

PsError *
streams_admit(Session *session)
{
	Server *server = session->server;
	int max = Max(server->config->max_connections, OTHERS_MIN);
	bool room;

	pthread_mutex_lock(&server->lock);
	room = server->count[SESSION_OTHER] < max || recall_other(server);
	if (room)
		set_kind(session, SESSION_OTHER);
	pthread_mutex_unlock(&server->lock);
	if (room)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_TOO_MANY_CONNECTIONS,
								  "too many connections: there are %d besides those for pages and WAL", max),
						 "Close some of them.  The limit is max_connections in %s, or %d if that is more.",
						 CONFIG_FILE_NAME, OTHERS_MIN);
}

void
streams_begin_wal(Session *session)
{
	pthread_mutex_lock(&session->server->lock);
	set_kind(session, SESSION_WAL);
	pthread_mutex_unlock(&session->server->lock);
}

void
streams_end_wal(Session *session)
{
	pthread_mutex_lock(&session->server->lock);
	set_kind(session, SESSION_OTHER);
	pthread_mutex_unlock(&session->server->lock);
}

/* ---- page streams ---- */

/* The branch's entry, which is created if there is none.  Caller holds the lock. */
static BranchStreams *
find_branch_streams(Server *server, const Timeline *tl)
{
	BranchStreams *branch;
	dlist_iter iter;

	dlist_foreach (iter, &server->branches)
	{
		branch = dlist_container(BranchStreams, link, iter.cur);
		if (branch->tl == tl)
			return branch;
	}
	branch = pg_malloc0(sizeof(BranchStreams));
	branch->tl = tl;
	dlist_push_tail(&server->branches, &branch->link);
	return branch;
}

/* Detaches the session from its branch's entry, and frees the entry if it is no longer used.  Caller holds the lock. */
static void
leave_branch_streams(Session *session)
{
	BranchStreams *branch = session->branch;

	session->branch = NULL;
	if (branch->streams > 0 || branch->waiting > 0)
		return;
	dlist_delete(&branch->link);
	free(branch);
}

/* Recalls a page stream that waits for its client.  Returns false if there is none.  Caller holds the lock. */
static bool
recall_page_stream(Server *server)
{
	Session *best = NULL;
	int64 best_since = 0;
	int64 now = clock_now_ms();
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);
		int64 since = atomic_load(&session->idle_since);

		if (session->kind != SESSION_PAGES || session->leased || session->recalled_at != 0 || since == 0)
			continue;
		if (!atomic_load(&session->has_answered) && now - since < FRESH_MS)
			continue;
		if (best == NULL || session->branch->streams > best->branch->streams ||
			(session->branch->streams == best->branch->streams && since < best_since))
		{
			best = session;
			best_since = since;
		}
	}
	if (best == NULL)
		return false;
	best->recalled_at = now;
	server->nrecalled++;
	server->recalls++;

	/* the session answers what has arrived, then reads an end of file */
	shutdown(best->conn.fd, SHUT_RD);
	return true;
}

/* Cuts off recalled streams whose clients do not read the answers.  Caller holds the lock. */
static void
cut_recalled(Server *server)
{
	int64 before = clock_now_ms() - CUT_MS;
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		if (session->kind == SESSION_PAGES && session->recalled_at != 0 && session->recalled_at <= before &&
			atomic_load(&session->idle_since) != 0)
			shutdown(session->conn.fd, SHUT_RDWR);
	}
}

/* The wait that gets the next place.  Caller holds the lock. */
static StreamWait *
choose_wait(Server *server)
{
	StreamWait *best = NULL;
	dlist_iter iter;

	dlist_foreach (iter, &server->waits)
	{
		StreamWait *wait = dlist_container(StreamWait, link, iter.cur);

		if (best == NULL || wait->session->branch->streams < best->session->branch->streams)
			best = wait;
	}
	return best;
}

/* Gives free places to waiting sessions, and recalls streams for the rest.  Caller holds the lock. */
static void
distribute_places(Server *server)
{
	while (!dlist_is_empty(&server->waits) && server->count[SESSION_PAGES] < server->config->max_connections)
	{
		StreamWait *wait = choose_wait(server);

		dlist_delete(&wait->link);
		wait->granted = true;
		wait->session->branch->waiting--;
		wait->session->branch->streams++;
		set_kind(wait->session, SESSION_PAGES);
		pthread_cond_signal(&wait->changed);
	}
	if (dlist_is_empty(&server->waits))
		return;
	if (server->nrecalled > 0)
		cut_recalled(server);
	while (server->nrecalled < server->count[SESSION_WAITING] && recall_page_stream(server))
		;
}

static PsError *
no_place_error(const Server *server)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_TOO_MANY_CONNECTIONS, "all %d page streams of the store are in use",
								  server->config->max_connections),
						 "Increase max_connections in %s, or decrease it in the computes.", CONFIG_FILE_NAME);
}

/*
 * Notes that readers begin to wait, or that none waits any more.  Returns true
 * if that must be logged; *since is when the wait began (clock_now_ms()).
 * Caller holds the lock.
 */
static bool
note_shortage(Server *server, bool begins, int64 *since)
{
	*since = server->short_since;
	if (begins == (*since != 0))
		return false;
	server->short_since = begins ? clock_now_ms() : 0;
	return true;
}

/* Waits until the session gets a place, or too long. */
static PsError *
wait_for_place(Session *session)
{
	Server *server = session->server;
	StreamWait wait = {.session = session};
	int64 begin = clock_now_ms();
	int64 now = begin;
	int64 since;
	PsError *canceled = NULL;
	bool tell = false;

	clock_cond_init(&wait.changed);
	pthread_mutex_lock(&server->lock);
	set_kind(session, SESSION_WAITING);
	session->branch->waiting++;
	dlist_push_tail(&server->waits, &wait.link);
	atomic_fetch_add(&server->nwaiting, 1);
	distribute_places(server);
	while (!wait.granted && canceled == NULL && now - begin < server->stream_wait_ms)
	{
		clock_cond_wait(&wait.changed, &server->lock, CANCEL_CHECK_MS);
		now = clock_now_ms();
		if (wait.granted)
			break;
		if (now - begin >= SHORTAGE_MS)
			tell = note_shortage(server, true, &since);
		pthread_mutex_unlock(&server->lock);
		if (tell)
			ps_log(PS_WARNING, "readers are waiting for a page stream: all %d (max_connections) are in use",
				   server->config->max_connections);
		tell = false;
		canceled = session_check_cancel(session);
		pthread_mutex_lock(&server->lock);
		if (!wait.granted)
			distribute_places(server);
	}
	if (!wait.granted)
	{
		dlist_delete(&wait.link);
		session->branch->waiting--;
		leave_branch_streams(session);
		set_kind(session, SESSION_OTHER);
	}
	if (atomic_fetch_sub(&server->nwaiting, 1) == 1)
		tell = note_shortage(server, false, &since);
	pthread_mutex_unlock(&server->lock);
	if (tell)
		ps_log(PS_LOG, "no reader is waiting for a page stream any longer, after " INT64_FORMAT " s",
			   (clock_now_ms() - since + 500) / 1000);
	pthread_cond_destroy(&wait.changed);
	if (!wait.granted)
		return canceled != NULL ? canceled : no_place_error(server);
	ps_error_free(canceled);
	return NULL;
}

PsError *
streams_begin_pages(Session *session, const Timeline *tl, bool leased)
{
	Server *server = session->server;
	int max = server->config->max_connections;
	bool taken;
	bool crowded;
	bool tell;

	pthread_mutex_lock(&server->lock);
	session->leased = leased;
	session->recalled_at = 0;
	atomic_store(&session->idle_since, 0);
	atomic_store(&session->has_answered, false);

	/* sessions that wait come first, and no more may wait than there are streams */
	taken = dlist_is_empty(&server->waits) && server->count[SESSION_PAGES] < max;
	crowded = !taken && server->count[SESSION_WAITING] >= Max(max, OTHERS_MIN);
	tell = !taken && (server->last_shortage == 0 || clock_now_ms() - server->last_shortage >= SHORTAGE_LOG_MS);
	if (!taken)
		server->last_shortage = clock_now_ms();
	if (!crowded)
		session->branch = find_branch_streams(server, tl);
	if (taken)
	{
		session->branch->streams++;
		set_kind(session, SESSION_PAGES);
	}
	pthread_mutex_unlock(&server->lock);
	if (tell)
		ps_log(PS_LOG, "all %d page streams (max_connections) are taken: backends share them from now on", max);
	if (crowded)
		return no_place_error(server);
	return taken ? NULL : wait_for_place(session);
}

void
streams_end_pages(Session *session)
{
	Server *server = session->server;

	pthread_mutex_lock(&server->lock);
	server->nrecalled -= session->recalled_at != 0;
	session->branch->streams--;
	leave_branch_streams(session);
	set_kind(session, SESSION_OTHER);
	distribute_places(server);
	pthread_mutex_unlock(&server->lock);
}

void
streams_idle(Session *session)
{
	Server *server = session->server;

	/*
	 * A session that begins to wait first increments nwaiting and then checks
	 * idle_since.  So one of the two threads sees what the other one did.
	 */
	atomic_store(&session->idle_since, clock_now_ms());
	if (atomic_load(&server->nwaiting) == 0)
		return;
	pthread_mutex_lock(&server->lock);
	distribute_places(server);
	pthread_mutex_unlock(&server->lock);
}

void
streams_busy(Session *session)
{
	atomic_store(&session->idle_since, 0);
	if (!atomic_load_explicit(&session->has_answered, memory_order_relaxed))
		atomic_store(&session->has_answered, true);
}

PsError *
streams_check_recalled(Session *session)
{
	bool recalled;

	pthread_mutex_lock(&session->server->lock);
	recalled = session->recalled_at != 0;
	pthread_mutex_unlock(&session->server->lock);
	if (!recalled)
		return NULL;
	return ps_error(PS_SQLSTATE_RECALLED, "terminating idle connection because another one needs its place");
}

void
streams_count(Server *server, StreamCounts *counts)
{
	pthread_mutex_lock(&server->lock);
	counts->pages = server->count[SESSION_PAGES];
	counts->wal = server->count[SESSION_WAL];
	counts->others = server->count[SESSION_OTHER];
	counts->waiting = server->count[SESSION_WAITING];
	counts->recalls = server->recalls;
	pthread_mutex_unlock(&server->lock);
}
