/*
 * netproxy.c
 *	  The network between a compute and its store, for tests that break it.
 *
 *	  netproxy PORT SOCKET
 *
 * Accepts TCP connections on 127.0.0.1:PORT and forwards each to the Unix
 * socket SOCKET.  Reads commands from its standard input, one per line, and
 * answers each with "ok N", where N is the current number of connections; exits
 * when its standard input ends, so that it never outlives the test.
 *
 *	  pass		forwards at once (the initial state), including data that was held
 *	  delay MS	forwards data that arrives from now on after MS milliseconds
 *	  hold D	a black hole: nothing is forwarded, neither data nor ends of
 *				connections; D is "out" (to the store), "in" or "both"
 *	  cut		resets all connections and refuses new ones
 *	  reset N	resets one connection, the Nth modulo their number
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINKS  200
#define MAX_QUEUED (1024 * 1024)
#define CHUNK      16384

/* Data that one read() returned from one side, to be written to the other side when it is due. */
typedef struct Chunk
{
	struct Chunk *next;
	double due;
	size_t len;
	size_t done;
	char data[];
} Chunk;

typedef struct Queue
{
	Chunk *first;
	Chunk **last; /* where the next one is linked */
	size_t size;
	bool eof;  /* its source has ended */
	bool shut; /* and its target was shut down */
} Queue;

/* fd[0] is the compute's, fd[1] the store's side; queue[d] goes from fd[d] to fd[1 - d]. */
typedef struct Link
{
	int fd[2];
	Queue queue[2];
} Link;

static Link links[MAX_LINKS];
static int nlinks;
static int listener = -1;
static int port;
static const char *socket_path;
static double delay;
static bool held[2];

static void
fail(const char *what)
{
	fprintf(stderr, "netproxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void
open_listener(void)
{
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int one = 1;

	if (listener >= 0)
		return;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (listener < 0 || bind(listener, (struct sockaddr *) &addr, sizeof(addr)) < 0 ||
		listen(listener, 100) < 0)
		fail("could not listen");
}

/* Ends a link; the compute sees a connection reset. */
static void
drop_link(int i)
{
	struct linger reset = {.l_onoff = 1, .l_linger = 0};

	setsockopt(links[i].fd[0], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	for (int d = 0; d < 2; d++)
	{
		close(links[i].fd[d]);
		for (Chunk *c = links[i].queue[d].first, *next; c != NULL; c = next)
		{
			next = c->next;
			free(c);
		}
	}
	nlinks--;
	if (i < nlinks)
	{
		links[i] = links[nlinks];
		for (int d = 0; d < 2; d++)
			if (links[i].queue[d].first == NULL)
				links[i].queue[d].last = &links[i].queue[d].first;
	}
}

static void
accept_link(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int one = 1;
	Link *l = &links[nlinks];

	memset(l, 0, sizeof(*l));
	l->fd[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (l->fd[0] < 0)
		return;
	setsockopt(l->fd[0], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", socket_path);
	l->fd[1] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	for (int d = 0; d < 2; d++)
		l->queue[d].last = &l->queue[d].first;
	nlinks++;
	if (l->fd[1] < 0 || connect(l->fd[1], (struct sockaddr *) &addr, sizeof(addr)) < 0)
		drop_link(nlinks - 1); /* no store, or too busy */
}

/* False: the connection is broken. */
static bool
read_some(Link *l, int d)
{
	Queue *q = &l->queue[d];
	Chunk *c = malloc(sizeof(Chunk) + CHUNK);
	ssize_t n;

	if (c == NULL)
		fail("malloc");
	n = read(l->fd[d], c->data, CHUNK);
	if (n <= 0)
	{
		free(c);
		if (n == 0)
			q->eof = true;
		return n == 0 || errno == EAGAIN || errno == EINTR;
	}
	c->next = NULL;
	c->due = now() + delay;
	c->len = n;
	c->done = 0;
	*q->last = c;
	q->last = &c->next;
	q->size += n;
	return true;
}

static bool
write_some(Link *l, int d)
{
	Queue *q = &l->queue[d];

	while (q->first != NULL && q->first->due <= now())
	{
		Chunk *c = q->first;
		ssize_t n = send(l->fd[1 - d], c->data + c->done, c->len - c->done, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		c->done += n;
		q->size -= n;
		if (c->done < c->len)
			return true;
		q->first = c->next;
		if (q->first == NULL)
			q->last = &q->first;
		free(c);
	}
	if (q->first == NULL && q->eof && !q->shut)
	{
		shutdown(l->fd[1 - d], SHUT_WR);
		q->shut = true;
	}
	return true;
}

static void
command(char *line)
{
	char word[16] = "";
	int number;

	if (strcmp(line, "pass") == 0)
	{
		held[0] = held[1] = false;
		delay = 0;
		open_listener();
	}
	else if (sscanf(line, "delay %d", &number) == 1)
		delay = number / 1000.0;
	else if (sscanf(line, "hold %15s", word) == 1)
	{
		held[0] = strcmp(word, "in") != 0;
		held[1] = strcmp(word, "out") != 0;
	}
	else if (strcmp(line, "cut") == 0)
	{
		while (nlinks > 0)
			drop_link(0);
		if (listener >= 0)
			close(listener);
		listener = -1;
	}
	else if (sscanf(line, "reset %d", &number) == 1)
	{
		if (nlinks > 0)
			drop_link(number % nlinks);
	}
	else
	{
		fprintf(stderr, "netproxy: unknown command \"%s\"\n", line);
		exit(1);
	}
	printf("ok %d\n", nlinks);
	fflush(stdout);
}

static void
read_commands(void)
{
	static char buf[256];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, buf + len, sizeof(buf) - 1 - len);
	char *end;

	if (n <= 0)
		exit(0);
	len += n;
	buf[len] = '\0';
	while ((end = strchr(buf, '\n')) != NULL)
	{
		*end = '\0';
		command(buf);
		len -= end + 1 - buf;
		memmove(buf, end + 1, len + 1);
	}
}

static void
serve_once(void)
{
	struct pollfd fds[2 + 2 * MAX_LINKS];
	double wake = now() + 3600;
	int n = nlinks;

	fds[0] = (struct pollfd) {.fd = STDIN_FILENO, .events = POLLIN};
	fds[1] = (struct pollfd) {.fd = nlinks < MAX_LINKS && !held[0] && !held[1] ? listener : -1,
							  .events = POLLIN};
	for (int i = 0; i < n; i++)
	{
		for (int d = 0; d < 2; d++)
			fds[2 + 2 * i + d] = (struct pollfd) {.fd = links[i].fd[d]};
		for (int d = 0; d < 2; d++)
		{
			Queue *q = &links[i].queue[d];

			if (held[d])
				continue;
			if (!q->eof && q->size < MAX_QUEUED)
				fds[2 + 2 * i + d].events |= POLLIN;
			if (q->first != NULL && q->first->due <= now())
				fds[2 + 2 * i + 1 - d].events |= POLLOUT;
			else if (q->first != NULL && q->first->due < wake)
				wake = q->first->due;
		}
		/* poll() would return at once, again and again, for the end of a connection that is held back */
		for (int d = 0; d < 2; d++)
			if (fds[2 + 2 * i + d].events == 0)
				fds[2 + 2 * i + d].fd = -1;
	}
	if (poll(fds, 2 + 2 * n, (int) ((wake - now()) * 1000) + 1) < 0 && errno != EINTR)
		fail("poll");

	/* backwards, because a link that is dropped is replaced by the last one */
	for (int i = n - 1; i >= 0; i--)
	{
		bool ok = true;

		for (int d = 0; d < 2 && ok; d++)
		{
			if (held[d])
				continue;
			if (fds[2 + 2 * i + d].revents & (POLLIN | POLLHUP | POLLERR))
				ok = links[i].queue[d].eof || read_some(&links[i], d);
			ok = ok && write_some(&links[i], d);
		}
		if (!ok || (links[i].queue[0].shut && links[i].queue[1].shut))
			drop_link(i);
	}
	if (fds[1].fd >= 0 && (fds[1].revents & POLLIN))
		accept_link();
	if (fds[0].revents)
		read_commands();
}

int
main(int argc, char **argv)
{
	if (argc != 3)
	{
		fprintf(stderr, "usage: netproxy PORT SOCKET\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	port = atoi(argv[1]);
	socket_path = argv[2];
	open_listener();
	for (;;)
		serve_once();
}
