/*
 * server.c
 *	  The server of connections: its start, its accept loop, its stop.
 */
#include "ps_fe.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "serve/serve_impl.h"

/* Sessions use little stack, even for the 128 pages of a batch. */
#define SESSION_STACK_SIZE (2 * 1024 * 1024)

/* How long server_stop() waits before it cuts off clients that do not read, and before it gives up. */
#define STOP_PATIENCE_MS 2000
#define STOP_LIMIT_MS    60000

#define KEEPALIVE_IDLE_S     60
#define KEEPALIVE_INTERVAL_S 10
#define KEEPALIVE_COUNT      6

/* Of a branch whose tenant is out of service. */
static void
end_users(void *arg, const Branch *branch)
{
	sessions_end_users(arg, branch, NULL);
}

PsError *
server_create(const Config *config, Store *store, Server **result)
{
	Server *server = pg_malloc0(sizeof(Server));
	PsError *err;

	server->config = config;
	server->store = store;
	server->started = time(NULL);
	dlist_init(&server->sessions);
	streams_init(server);
	pthread_mutex_init(&server->lock, NULL);
	clock_cond_init(&server->session_ended);

	err = listen_open(server);
	if (err != NULL)
	{
		listen_close(server);
		server_free(server);
		return err;
	}
	store_on_fenced(store, end_users, server);
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

/* Accepts one connection.  Returns false if the system has no resources for another one now. */
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
		return true; /* the client has closed it already */
	}
	if (!listener->is_unix)
		set_tcp_options(fd);
	session = session_create(server, fd, listener->is_unix);
	if (session == NULL)
	{
		ps_log(PS_DEBUG, "connection closed: too many connections have not finished their startup");
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
			continue; /* EINTR is the only possible error */
		if (pfds[0].revents != 0)
			return;
		for (int i = 0; i < server->nlisteners; i++)
		{
			if (pfds[i + 1].revents != 0)
				room = accept_connection(server, &server->listeners[i]) && room;
		}

		/* out of descriptors or threads: other programs may release some, so try again after a while */
		if (!room)
			poll(pfds, 1, 500);
	}
}

bool
server_stop(Server *server)
{
	int64 now = clock_now_ms();
	bool done;

	listen_close(server);
	store_on_fenced(server->store, NULL, NULL);
	pthread_mutex_lock(&server->lock);
	atomic_store(&server->stopping, true);

	/* a session that waits for its client reads an end of file, then sees "stopping"; it can still write */
	sessions_shutdown(server, SHUT_RD);
	done = sessions_wait(server, now + STOP_PATIENCE_MS);
	if (!done)
	{
		ps_log(PS_LOG, "%d sessions have not ended yet: closing their connections", server->nsessions);
		sessions_shutdown(server, SHUT_RDWR);
		done = sessions_wait(server, now + STOP_LIMIT_MS);
	}
	if (!done)
		ps_log(PS_WARNING, "%d sessions are still working", server->nsessions);
	pthread_mutex_unlock(&server->lock);
	return done;
}
