/*
 * listen.c
 *	  Sockets that are listened on, and the list of sessions.
 */
#include "ps_fe.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/session.h"
#include "socket_dir.h"
#include "sqlstate.h"

/*
 * Connections that have not finished their startup, which takes a client no
 * time as a rule: they do not count against any limit, so that nobody is
 * kept out by clients that connect and say nothing.  When there are more than
 * this, the oldest is cut off; until that has ended there may be twice as many.
 */
#define MAX_STARTING 64

/* A session needs little of its stack; 128 pages of a batch would fit. */
#define SESSION_STACK_SIZE (2 * 1024 * 1024)

/* How long a stop waits before it cuts clients off that do not read, and before it gives up. */
#define STOP_PATIENCE_MS 2000
#define STOP_LIMIT_MS    60000

#define KEEPALIVE_IDLE_S     60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT      6

/* *missing: this machine does not have the address. */
static PsError *
add_listener(Server *server, int family, const struct sockaddr *addr, socklen_t len, const char *name, bool *missing)
{
	int one = 1;
	int fd;
	PsError *err;

	*missing = false;
	if (server->nlisteners == MAX_LISTENERS)
		return ps_error(PS_SQLSTATE_INVALID, "more than %d addresses to listen on", MAX_LISTENERS);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
	{
		*missing = errno == EAFNOSUPPORT;
		return ps_error(PS_SQLSTATE_IO, "could not create a socket for %s: %m", name);
	}
	if (family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, addr, len) < 0)
	{
		bool in_use = errno == EADDRINUSE;

		*missing = errno == EADDRNOTAVAIL;
		err = ps_error(PS_SQLSTATE_IO, "could not bind to %s: %m", name);
		if (in_use)
			ps_error_hint(err, "Is another server running on port %d? If not, wait a few seconds; or set \"port\" in %s to another number.",
						  server->config->port, CONFIG_FILE_NAME);
		close(fd);
		return err;
	}
	if (listen(fd, Min(server->config->max_connections * 2, SOMAXCONN)) < 0)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not listen on %s: %m", name);
		close(fd);
		return err;
	}
	server->listeners[server->nlisteners++] = (Listener) {.fd = fd, .is_unix = family == AF_UNIX};
	ps_log(PS_LOG, "listening on %s", name);
	return NULL;
}

/*
 * Removes a socket file that a killed server has left behind.  Nothing happens
 * if there is none; one that is listened on, or a file of another kind, is an
 * error.
 */
static PsError *
remove_stale_socket(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd;
	int rc;

	if (lstat(addr->sun_path, &st) < 0)
	{
		if (errno == ENOENT)
			return NULL;
		return ps_error(PS_SQLSTATE_IO, "could not stat \"%s\": %m", addr->sun_path);
	}
	if (!S_ISSOCK(st.st_mode))
		return ps_error(PS_SQLSTATE_IO, "\"%s\" is in the way: it is not a socket", addr->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ps_error(PS_SQLSTATE_IO, "could not create a socket: %m");
	rc = connect(fd, (const struct sockaddr *) addr, sizeof(*addr)) < 0 ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED)
		return ps_error_hint(ps_error(PS_SQLSTATE_IO, "another server listens on the Unix socket \"%s\"", addr->sun_path),
							 "Set \"port\" or \"unix_socket_directory\" in %s to something else.", CONFIG_FILE_NAME);
	if (unlink(addr->sun_path) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not remove the stale socket \"%s\": %m", addr->sun_path);
	return NULL;
}

static PsError *
listen_unix(Server *server)
{
	const Config *config = server->config;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char *name;
	bool missing;
	PsError *err;

	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/.s.PGSQL.%d", config->unix_socket_directory,
				 config->port) >= sizeof(addr.sun_path))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "the path of the Unix socket \"%s/.s.PGSQL.%d\" is longer than %d bytes",
									  config->unix_socket_directory, config->port, (int) sizeof(addr.sun_path) - 1),
							 "Set \"unix_socket_directory\" in %s to a directory with a shorter path.", CONFIG_FILE_NAME);
	if (config->own_socket_directory && !socket_dir_make(config->unix_socket_directory))
	{
		if (errno != 0)
			return ps_error(PS_SQLSTATE_IO, "could not create directory \"%s\": %m", config->unix_socket_directory);
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "\"%s\" is not a directory of this user with permissions 0700",
									  config->unix_socket_directory),
							 "Remove it, or set \"unix_socket_directory\" in %s.", CONFIG_FILE_NAME);
	}
	PS_TRY(remove_stale_socket(&addr));
	name = psprintf("Unix socket \"%s\"", addr.sun_path);
	err = add_listener(server, AF_UNIX, (struct sockaddr *) &addr, sizeof(addr), name, &missing);
	free(name);
	PS_TRY(err);
	server->socket_path = pg_strdup(addr.sun_path);

	/* whoever can connect can do everything: only the owner */
	if (chmod(addr.sun_path, 0700) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not set permissions of \"%s\": %m", addr.sun_path);
	return NULL;
}

static bool
is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *) addr)->sin_addr.s_addr) >> 24) == 127;
	return addr->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) addr)->sin6_addr);
}

/*
 * All addresses that a name stands for.  One that this machine does not have
 * (::1 where there is no IPv6) is skipped, if there is another.
 */
static PsError *
listen_tcp(Server *server, const char *host)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	PsError *skipped = NULL;
	bool any = false;
	char port[16];
	int rc;

	snprintf(port, sizeof(port), "%d", server->config->port);
	rc = getaddrinfo(host, port, &hints, &list);
	if (rc != 0)
		return ps_error(PS_SQLSTATE_IO, "could not find the address of \"%s\": %s", host, gai_strerror(rc));
	for (struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
	{
		char text[NI_MAXHOST];
		char *name;
		PsError *err;
		bool missing = false;

		if (getnameinfo(ai->ai_addr, ai->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) != 0)
			strlcpy(text, host, sizeof(text));
		name = psprintf("address \"%s\", port %s", text, port);
		if (is_loopback(ai->ai_addr))
			err = add_listener(server, ai->ai_family, ai->ai_addr, ai->ai_addrlen, name, &missing);
		else
			err = ps_error(PS_SQLSTATE_INVALID, "\"%s\" is the address \"%s\": only loopback addresses may be listened on, for clients are not authenticated yet",
						   host, text);
		free(name);
		if (err == NULL)
			any = true;
		else if (missing)
		{
			ps_error_free(skipped);
			skipped = err;
		}
		else
		{
			ps_error_free(skipped);
			freeaddrinfo(list);
			return err;
		}
	}
	freeaddrinfo(list);
	if (!any)
		return skipped;
	if (skipped != NULL)
		ps_log_error(PS_LOG, skipped, "address skipped");
	return NULL;
}

static void
close_listeners(Server *server)
{
	for (int i = 0; i < server->nlisteners; i++)
		close(server->listeners[i].fd);
	server->nlisteners = 0;
	if (server->socket_path != NULL)
		unlink(server->socket_path);
	if (server->socket_path != NULL && server->config->own_socket_directory)
		rmdir(server->config->unix_socket_directory);
	free(server->socket_path);
	server->socket_path = NULL;
}

PsError *
server_create(const Config *config, Store *store, Server **result)
{
	Server *server = pg_malloc0(sizeof(Server));
	char **names;
	int n;
	PsError *err;

	server->config = config;
	server->store = store;
	server->started = time(NULL);
	dlist_init(&server->sessions);
	server_init_counts(server);
	pthread_mutex_init(&server->lock, NULL);
	clock_cond_init(&server->session_ended);

	names = config_addresses(config->listen_addresses, &n);
	err = listen_unix(server);
	for (int i = 0; i < n && err == NULL; i++)
		err = listen_tcp(server, names[i]);
	config_free_addresses(names, n);
	if (err != NULL)
	{
		close_listeners(server);
		server_free(server);
		return err;
	}
	*result = server;
	return NULL;
}

void
server_reload(Server *server, const Config *config)
{
	atomic_store(&server->config, config);
}

void
server_free(Server *server)
{
	pthread_cond_destroy(&server->session_ended);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

static void
set_tcp_options(int fd)
{
	int one = 1;
	int idle = KEEPALIVE_IDLE_S;
	int interval = KEEPALIVE_INTERVAL_S;
	int count = KEEPALIVE_COUNT;
	unsigned int unacknowledged_ms = (KEEPALIVE_IDLE_S + KEEPALIVE_INTERVAL_S * KEEPALIVE_COUNT) * 1000;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unacknowledged_ms, sizeof(unacknowledged_ms));
}

/* Cuts the oldest connection off that has not finished its startup. */
static void
cut_oldest(Server *server)
{
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		if (session->kind != SESSION_STARTING || session->cut)
			continue;
		session->cut = true;
		shutdown(session->conn.fd, SHUT_RDWR);
		return;
	}
}

/* A session for an accepted connection, in the list; NULL if there are too many. */
static Session *
session_create(Server *server, int fd, bool is_unix)
{
	Session *session;
	int starting;

	pthread_mutex_lock(&server->lock);
	starting = server->count[SESSION_STARTING];
	if (starting >= MAX_STARTING)
		cut_oldest(server);
	pthread_mutex_unlock(&server->lock);
	if (starting >= 2 * MAX_STARTING)
		return NULL;
	session = pg_malloc0(sizeof(Session));
	session->server = server;
	session->is_unix = is_unix;
	session->cancel = (CancelCheck) {session_check_cancel, session};
	conn_init(&session->conn, fd);
	if (!pg_strong_random(&session->secret, sizeof(session->secret)))
	{
		ps_log(PS_FATAL, "could not get random bytes from the system");
		exit(1);
	}
	server->next_id = server->next_id == PG_INT32_MAX ? 1 : server->next_id + 1;
	session->id = server->next_id;
	pthread_mutex_lock(&server->lock);
	dlist_push_tail(&server->sessions, &session->link);
	server->nsessions++;
	server->count[session->kind]++;
	pthread_mutex_unlock(&server->lock);
	return session;
}

/* Accepts one connection.  False if this machine has no room for more now. */
static bool
accept_connection(Server *server, const Listener *listener)
{
	pthread_attr_t attr;
	pthread_t thread;
	Session *session;
	int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
	{
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		{
			ps_log(PS_WARNING, "could not accept a connection: %m");
			return false;
		}
		return true; /* it has gone already */
	}
	if (!listener->is_unix)
		set_tcp_options(fd);
	session = session_create(server, fd, listener->is_unix);
	if (session == NULL)
	{
		ps_log(PS_DEBUG, "connection closed: too many have not finished their startup");
		close(fd);
		return true;
	}
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, SESSION_STACK_SIZE);
	errno = pthread_create(&thread, &attr, session_main, session);
	pthread_attr_destroy(&attr);
	if (errno != 0)
	{
		ps_log(PS_WARNING, "could not start a thread for a connection: %m");
		session_free(session);
		return false;
	}
	return true;
}

void
server_run(Server *server, int wake_fd, int timeout_ms)
{
	struct pollfd pfds[MAX_LISTENERS + 1];
	int64 until = clock_now_ms() + timeout_ms;

	pfds[0] = (struct pollfd) {wake_fd, POLLIN, 0};
	for (int i = 0; i < server->nlisteners; i++)
		pfds[i + 1] = (struct pollfd) {server->listeners[i].fd, POLLIN, 0};
	for (;;)
	{
		int64 left = until - clock_now_ms();
		bool room = true;

		if (left <= 0)
			return;
		if (poll(pfds, server->nlisteners + 1, (int) left) < 0)
			continue; /* EINTR: nothing else can happen here */
		if (pfds[0].revents != 0)
			return;
		for (int i = 0; i < server->nlisteners; i++)
		{
			if (pfds[i + 1].revents != 0)
				room = accept_connection(server, &server->listeners[i]) && room;
		}

		/* out of files or threads: others in the machine may hold them, so look again after a while */
		if (!room)
			poll(pfds, 1, 500);
	}
}

void
server_end_users(Server *server, const Branch *branch, const Session *but)
{
	dlist_iter iter;

	pthread_mutex_lock(&server->lock);
	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		for (int i = 0; i < session->nheld && session != but; i++)
			if (branch_of(session->held[i]) == branch)
				shutdown(session->conn.fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&server->lock);
}

void
server_cancel(Server *server, int id, uint32 secret)
{
	dlist_iter iter;

	pthread_mutex_lock(&server->lock);
	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);

		if (session->id == id && session->secret == secret)
			atomic_store(&session->canceled, true);
	}
	pthread_mutex_unlock(&server->lock);
}

/* Caller holds the lock. */
static void
shutdown_all(Server *server, int how)
{
	dlist_iter iter;

	dlist_foreach (iter, &server->sessions)
		shutdown(dlist_container(Session, link, iter.cur)->conn.fd, how);
}

/* Waits until no session is left or the time has come.  Caller holds the lock. */
static bool
wait_for_sessions(Server *server, int64 until_ms)
{
	struct timespec ts = {until_ms / 1000, until_ms % 1000 * 1000000};

	while (server->nsessions > 0)
	{
		if (pthread_cond_timedwait(&server->session_ended, &server->lock, &ts) == ETIMEDOUT)
			return server->nsessions == 0;
	}
	return true;
}

bool
server_stop(Server *server)
{
	int64 now = clock_now_ms();
	bool done;

	close_listeners(server);
	pthread_mutex_lock(&server->lock);
	atomic_store(&server->stopping, true);

	/* a session that waits for its client reads an end of file now, looks at "stopping", and can still write */
	shutdown_all(server, SHUT_RD);
	done = wait_for_sessions(server, now + STOP_PATIENCE_MS);
	if (!done)
	{
		ps_log(PS_LOG, "%d sessions have not ended yet: cutting their connections", server->nsessions);
		shutdown_all(server, SHUT_RDWR);
		done = wait_for_sessions(server, now + STOP_LIMIT_MS);
	}
	if (!done)
		ps_log(PS_WARNING, "%d sessions are still at work", server->nsessions);
	pthread_mutex_unlock(&server->lock);
	return done;
}
