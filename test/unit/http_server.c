/*
 * http_server.c
 *	  A small HTTP server for tests: see http_server.h.
 */
#include "ps_fe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "http_server.h"

#define MAX_CONNECTIONS 256

typedef struct Connection
{
	HttpServer *server;
	pthread_t thread;
	int fd;
	char buf[65536];
	size_t len; /* bytes in buf that no request has taken */
} Connection;

struct HttpServer
{
	ServerHandler handler;
	void *arg;
	int fd;
	int port;
	int wake[2]; /* a pipe that becomes readable when the server is stopped */
	pthread_t thread;
	pthread_mutex_t lock; /* protects requests and the calls of the handler */
	int requests;
	Connection *connections[MAX_CONNECTIONS];
	int nconnections;
};

/* Waits until there is something to read; false: the server is stopped. */
static bool
wait_readable(HttpServer *server, int fd)
{
	struct pollfd fds[2] = {{fd, POLLIN}, {server->wake[0], POLLIN}};

	while (poll(fds, 2, -1) < 0)
		;
	return fds[1].revents == 0;
}

/* Reads more; false: the peer has closed, or the server is stopped. */
static bool
read_some(Connection *connection, char *buf, size_t size, size_t *len)
{
	ssize_t n;

	if (!wait_readable(connection->server, connection->fd))
		return false;
	n = recv(connection->fd, buf, size, 0);
	*len = Max(n, 0);
	return n > 0;
}

static bool
send_all(Connection *connection, const char *data, size_t len)
{
	while (len > 0)
	{
		ssize_t n = send(connection->fd, data, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		data += n;
		len -= n;
	}
	return true;
}

static bool
read_request(Connection *connection, ServerRequest *request)
{
	char *end;
	char *line_end;
	char *length;
	char *expect;
	size_t head;
	size_t got;

	while (connection->buf[connection->len] = '\0', (end = strstr(connection->buf, "\r\n\r\n")) == NULL)
	{
		size_t n;

		if (connection->len + 1 >= sizeof(connection->buf) ||
			!read_some(connection, connection->buf + connection->len,
					   sizeof(connection->buf) - 1 - connection->len, &n))
			return false;
		connection->len += n;
	}
	head = end + 4 - connection->buf;
	line_end = strstr(connection->buf, "\r\n");
	if (sscanf(connection->buf, "%15s %4095s", request->method, request->target) != 2 ||
		end + 2 - line_end - 2 >= sizeof(request->headers))
		return false;
	memcpy(request->headers, line_end + 2, end - line_end);
	request->headers[end - line_end] = '\0';

	length = server_request_header(request, "content-length");
	request->body_len = length != NULL ? strtoull(length, NULL, 10) : 0;
	free(length);
	request->body = malloc(request->body_len + 1);
	request->body[request->body_len] = '\0';
	got = Min(connection->len - head, request->body_len);
	memcpy(request->body, connection->buf + head, got);
	connection->len -= head + got;
	memmove(connection->buf, connection->buf + head + got, connection->len);

	expect = server_request_header(request, "expect");
	if (expect != NULL && !send_all(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25))
		return false;
	free(expect);
	while (got < request->body_len)
	{
		size_t n;

		if (!read_some(connection, request->body + got, request->body_len - got, &n))
			return false;
		got += n;
	}
	return true;
}

/* False: the connection is to be closed. */
static bool
send_answer(Connection *connection, const ServerRequest *request, const ServerAnswer *answer)
{
	char *head = psprintf("HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n", answer->status, answer->body_len,
						  answer->headers != NULL ? answer->headers : "");
	bool ok = answer->fault != SERVER_CLOSES && answer->fault != SERVER_DIES;
	size_t len = strcmp(request->method, "HEAD") == 0 ? 0 : answer->body_len;
	char unused;
	size_t n;

	if (answer->fault == SERVER_DIES)
		shutdown(connection->server->fd, SHUT_RDWR);
	if (answer->fault == SERVER_HANGS)
	{
		/* also if the client only sends */
		while (read_some(connection, &unused, 1, &n))
			;
		ok = false;
	}
	ok = ok && send_all(connection, head, strlen(head));
	if (answer->fault == SERVER_TRICKLES)
		for (size_t i = 0; ok && i < len; i++)
		{
			struct pollfd fds[2] = {{connection->server->wake[0], POLLIN}, {connection->fd, POLLIN}};

			ok = send_all(connection, answer->body + i, 1) && poll(fds, 2, 20) == 0;
		}
	else if (answer->fault == SERVER_CUTS)
	{
		if (ok)
			(void) send_all(connection, answer->body, len / 2);
		ok = false;
	}
	else
		ok = ok && send_all(connection, answer->body, len);
	free(head);
	return ok;
}

static void *
run_connection(void *arg)
{
	Connection *connection = arg;
	HttpServer *server = connection->server;
	bool ok = true;

	while (ok)
	{
		ServerRequest request = {0};
		ServerAnswer answer = {.status = 200};

		ok = read_request(connection, &request);
		if (ok)
		{
			pthread_mutex_lock(&server->lock);
			request.number = ++server->requests;
			server->handler(server->arg, &request, &answer);
			pthread_mutex_unlock(&server->lock);
			ok = send_answer(connection, &request, &answer);
		}
		free(request.body);
		free(answer.headers);
		free(answer.body);
	}
	/* the descriptor stays, so that its number is not used again while the server may shut it down */
	shutdown(connection->fd, SHUT_RDWR);
	return NULL;
}

static void *
run_server(void *arg)
{
	HttpServer *server = arg;

	while (wait_readable(server, server->fd))
	{
		int fd = accept(server->fd, NULL, NULL);
		int on = 1;
		Connection *connection;

		if (fd < 0 && errno == EINVAL)
			break; /* SERVER_DIES */
		if (fd < 0)
			continue;
		if (server->nconnections == MAX_CONNECTIONS)
			abort();
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		connection = calloc(1, sizeof(Connection));
		connection->server = server;
		connection->fd = fd;
		if (pthread_create(&connection->thread, NULL, run_connection, connection) != 0)
			abort();
		server->connections[server->nconnections] = connection;
		__atomic_add_fetch(&server->nconnections, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

HttpServer *
http_server_start(ServerHandler handler, void *arg)
{
	HttpServer *server = calloc(1, sizeof(HttpServer));
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);

	server->handler = handler;
	server->arg = arg;
	pthread_mutex_init(&server->lock, NULL);
	server->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server->fd < 0 || pipe(server->wake) != 0 || bind(server->fd, (struct sockaddr *) &addr, len) != 0 ||
		listen(server->fd, 64) != 0 || getsockname(server->fd, (struct sockaddr *) &addr, &len) != 0 ||
		pthread_create(&server->thread, NULL, run_server, server) != 0)
		abort();
	server->port = ntohs(addr.sin_port);
	return server;
}

int
http_server_port(HttpServer *server)
{
	return server->port;
}

int
http_server_connections(HttpServer *server)
{
	return __atomic_load_n(&server->nconnections, __ATOMIC_RELAXED);
}

int
http_server_requests(HttpServer *server)
{
	int requests;

	pthread_mutex_lock(&server->lock);
	requests = server->requests;
	pthread_mutex_unlock(&server->lock);
	return requests;
}

void
http_server_stop(HttpServer *server)
{
	if (write(server->wake[1], "", 1) != 1)
		abort();
	pthread_join(server->thread, NULL);
	close(server->fd);
	for (int i = 0; i < server->nconnections; i++)
	{
		shutdown(server->connections[i]->fd, SHUT_RDWR);
		pthread_join(server->connections[i]->thread, NULL);
		close(server->connections[i]->fd);
		free(server->connections[i]);
	}
	close(server->wake[0]);
	close(server->wake[1]);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

char *
server_request_header(const ServerRequest *request, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = request->headers; *line != '\0'; line = strstr(line, "\r\n") + 2)
		if (pg_strncasecmp(line, name, len) == 0 && line[len] == ':')
		{
			const char *value = line + len + 1 + strspn(line + len + 1, " ");

			return strndup(value, strcspn(value, "\r"));
		}
	return NULL;
}

void
server_answer_text(ServerAnswer *answer, int status, const char *body)
{
	answer->status = status;
	free(answer->body);
	answer->body = strdup(body);
	answer->body_len = strlen(body);
}
