/*
 * protocol.c
 *	  Reading and sending messages of PostgreSQL's protocol (protocol.h).
 */
#include "ps_fe.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "libpq/pqcomm.h"

#include "bytes.h"
#include "serve/protocol.h"
#include "sqlstate.h"

#define IN_MIN_SIZE (16 * 1024)

/* Larger buffers are freed when the client has sent nothing for QUIET_MS. */
#define OUT_KEEP_SIZE (64 * 1024)
#define QUIET_MS      1000

/* The message types that a client may send. */
#define CLIENT_MESSAGE_TYPES "QXPBDECHSFdcfp"

void
conn_init(Conn *conn, int fd)
{
	memset(conn, 0, sizeof(*conn));
	conn->fd = fd;
	conn->wake_fd = -1;
	conn->max_message = CONN_MAX_COMMAND;
	conn->in_min = conn->in_cap = IN_MIN_SIZE;
	conn->in = pg_malloc(conn->in_cap);
	initStringInfo(&conn->out);
	appendStringInfoSpaces(&conn->out, CONN_OUT_PAD);
}

void
conn_free(Conn *conn)
{
	free(conn->in);
	pfree(conn->out.data);
}

/* ---- input ---- */

void
conn_set_input_size(Conn *conn, size_t size)
{
	conn->in_min = size;
	if (conn->in_cap < size)
	{
		conn->in = pg_realloc(conn->in, size);
		conn->in_cap = size;
	}
}

/* Makes room for a message of "total" bytes that begins at in_pos, and for at least one byte of input. */
static void
make_room(Conn *conn, size_t total)
{
	size_t used = conn->in_end - conn->in_pos;

	total = Max(total, used + 1);
	if (used == 0)
		conn->in_pos = conn->in_end = 0;
	else if (conn->in_pos + total > conn->in_cap)
	{
		memmove(conn->in, conn->in + conn->in_pos, used);
		conn->in_pos = 0;
		conn->in_end = used;
	}
	if (conn->in_pos + total > conn->in_cap)
	{
		conn->in_cap = conn->in_pos + total;
		conn->in = pg_realloc(conn->in, conn->in_cap);
	}
}

/*
 * Called before waiting for a client to which everything has been sent.  Shrinks
 * large buffers if the client sends nothing for QUIET_MS.
 */
static void
shrink_buffers(Conn *conn)
{
	struct pollfd pfd = {conn->fd, POLLIN, 0};
	bool in_large = conn->in_cap > conn->in_min && conn->in_pos == conn->in_end;
	bool out_large = conn->out.maxlen > OUT_KEEP_SIZE && conn_pending(conn) == 0;

	if (!(in_large || out_large) || poll(&pfd, 1, QUIET_MS) != 0)
		return;
	if (in_large)
	{
		conn->in = pg_realloc(conn->in, conn->in_min);
		conn->in_cap = conn->in_min;
		conn->in_pos = conn->in_end = 0;
	}
	if (out_large)
	{
		pfree(conn->out.data);
		initStringInfo(&conn->out);
		appendStringInfoSpaces(&conn->out, CONN_OUT_PAD);
	}
}

/* Reads with one recv() into the free part of the buffer: at least one byte, unless it fails. */
static PsError *
receive_input(Conn *conn, size_t total, int flags)
{
	ssize_t n;

	make_room(conn, total);
	for (;;)
	{
		if (conn->deadline != 0)
		{
			struct pollfd pfd = {conn->fd, POLLIN, 0};
			int64 left = conn->deadline - clock_now_ms();

			if (left <= 0 || (n = poll(&pfd, 1, (int) left)) == 0)
				return ps_error(PS_SQLSTATE_CONNECTION, "client did not complete its startup in time");
			if (n < 0 && errno != EINTR)
				return ps_error(PS_SQLSTATE_CONNECTION, "could not wait for the client: %m");
		}
		n = recv(conn->fd, conn->in + conn->in_end, conn->in_cap - conn->in_end, flags);
		if (n > 0)
		{
			conn->in_end += n;
			return NULL;
		}
		if (n == 0)
			return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
		if (errno != EINTR)
			return ps_error(PS_SQLSTATE_CONNECTION, "could not read from the client: %m");
	}
}

PsError *
conn_read_startup(Conn *conn, Message *msg)
{
	size_t total = 4;

	for (;;)
	{
		size_t have = conn->in_end - conn->in_pos;

		if (have >= 4)
		{
			total = ps_get32(conn->in + conn->in_pos);
			if (total < 8 || total > CONN_MAX_STARTUP)
				return ps_error(PS_SQLSTATE_PROTOCOL,
								"invalid length of startup packet: the client does not use PostgreSQL's protocol");
			if (have >= total)
				break;
		}
		PS_TRY(receive_input(conn, total, 0));
	}
	msg->type = '\0';
	msg->body = conn->in + conn->in_pos + 4;
	msg->len = (uint32) total - 4;
	conn->in_pos += total;
	return NULL;
}

/*
 * Parses the message at in_pos.  *found: it has arrived in full.  *total is its
 * size as far as known.  The type is checked before the length, as in
 * PostgreSQL's SocketBackend(), so garbage is rejected at its first byte.
 */
static PsError *
parse_message(Conn *conn, Message *msg, size_t *total, bool *found)
{
	const char *p = conn->in + conn->in_pos;
	size_t have = conn->in_end - conn->in_pos;
	uint32 len;

	*found = false;
	*total = 5;
	if (have == 0)
		return NULL;
	if (*p == '\0' || strchr(CLIENT_MESSAGE_TYPES, *p) == NULL)
		return ps_error(PS_SQLSTATE_PROTOCOL, "invalid message type %d from the client", (unsigned char) *p);
	if (have < 5)
		return NULL;
	len = ps_get32(p + 1);
	if (len < 4 || len > conn->max_message)
		return ps_error(PS_SQLSTATE_PROTOCOL, "invalid message length %u for type \"%c\": expected 4 to %u", len, *p,
						conn->max_message);
	*total = (size_t) len + 1;
	if (have < *total)
		return NULL;
	msg->type = *p;
	msg->body = p + 5;
	msg->len = len - 4;
	*found = true;
	return NULL;
}

PsError *
conn_read_message(Conn *conn, Message *msg)
{
	for (;;)
	{
		size_t total;
		bool found;

		PS_TRY(parse_message(conn, msg, &total, &found));
		if (found)
		{
			conn->in_pos += total;
			return NULL;
		}
		PS_TRY(conn_flush(conn));
		shrink_buffers(conn);
		PS_TRY(receive_input(conn, total, 0));
	}
}

bool
conn_peek_message(Conn *conn, Message *msg)
{
	size_t total;
	bool found;
	PsError *err = parse_message(conn, msg, &total, &found);

	ps_error_free(err); /* conn_read_message() will return it */
	return err == NULL && found;
}

bool
conn_wait_message(Conn *conn, int timeout_ms)
{
	int64 until = timeout_ms > 0 ? clock_now_ms() + timeout_ms : 0;

	for (;;)
	{
		struct pollfd pfd[2] = {{conn->fd, POLLIN, 0}, {conn->wake_fd, POLLIN, 0}};
		Message msg;
		size_t total;
		bool found;
		PsError *err = parse_message(conn, &msg, &total, &found);
		int64 left;
		int n;

		if (err != NULL)
		{
			ps_error_free(err);
			return true;
		}
		if (found)
			return true;
		left = until > 0 ? Max(until - clock_now_ms(), 0) : 0;
		n = poll(pfd, timeout_ms > 0 && conn->wake_fd >= 0 ? 2 : 1, (int) left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return true;
		if (n == 0)
			return false;
		if (pfd[1].revents != 0)
		{
			uint64 ignored;

			(void) !read(conn->wake_fd, &ignored, sizeof(ignored));
			return false;
		}
		err = receive_input(conn, total, MSG_DONTWAIT);
		if (err != NULL)
		{
			ps_error_free(err);
			return true;
		}
	}
}

bool
conn_is_closed(const Conn *conn)
{
	struct pollfd pfd = {conn->fd, POLLRDHUP, 0};

	return poll(&pfd, 1, 0) > 0 && (pfd.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

/* ---- output ---- */

void
conn_begin(Conn *conn, char type)
{
	appendStringInfoCharMacro(&conn->out, type);
	conn->message = conn->out.len;
	conn_put32(conn, 0);
}

void
conn_put8(Conn *conn, uint8 v)
{
	conn_put_bytes(conn, (const char *) &v, 1);
}

void
conn_put16(Conn *conn, uint16 v)
{
	v = pg_hton16(v);
	conn_put_bytes(conn, (const char *) &v, 2);
}

void
conn_put32(Conn *conn, uint32 v)
{
	v = pg_hton32(v);
	conn_put_bytes(conn, (const char *) &v, 4);
}

void
conn_put_bytes(Conn *conn, const char *data, size_t len)
{
	appendBinaryStringInfoNT(&conn->out, data, (int) len);
}

void
conn_put_string(Conn *conn, const char *s)
{
	conn_put_bytes(conn, s, strlen(s) + 1);
}

void
conn_end(Conn *conn)
{
	ps_put32(conn->out.data + conn->message, (uint32) (conn->out.len - conn->message));
}

int
conn_pending(const Conn *conn)
{
	return conn->out.len - CONN_OUT_PAD;
}

PsError *
conn_flush(Conn *conn)
{
	int pos = CONN_OUT_PAD;
	PsError *err = NULL;

	while (pos < conn->out.len)
	{
		ssize_t n = send(conn->fd, conn->out.data + pos, conn->out.len - pos, MSG_NOSIGNAL);

		if (n >= 0)
			pos += n;
		else if (errno != EINTR)
		{
			err = ps_error(PS_SQLSTATE_CONNECTION, "could not send to the client: %m");
			break;
		}
	}
	conn->out.len = CONN_OUT_PAD;
	return err;
}

static void
put_field(Conn *conn, char code, const char *value)
{
	conn_put8(conn, code);
	conn_put_string(conn, value);
}

void
conn_send_error(Conn *conn, const char *severity, const PsError *err)
{
	conn_begin(conn, 'E');
	put_field(conn, 'S', severity);
	put_field(conn, 'V', severity);
	put_field(conn, 'C', err->sqlstate);
	put_field(conn, 'M', err->message);
	if (err->detail != NULL)
		put_field(conn, 'D', err->detail);
	if (err->hint != NULL)
		put_field(conn, 'H', err->hint);
	conn_put8(conn, 0);
	conn_end(conn);
}

static void
send_notice(Conn *conn, const char *severity, const char *sqlstate, const char *message)
{
	conn_begin(conn, 'N');
	put_field(conn, 'S', severity);
	put_field(conn, 'V', severity);
	put_field(conn, 'C', sqlstate);
	put_field(conn, 'M', message);
	conn_put8(conn, 0);
	conn_end(conn);
}

void
conn_send_notice(Conn *conn, const char *message)
{
	send_notice(conn, "NOTICE", PS_SQLSTATE_NOTICE, message);
}

void
conn_send_warning(Conn *conn, const char *message)
{
	send_notice(conn, "WARNING", PS_SQLSTATE_WARNING, message);
}

void
conn_send_parameter(Conn *conn, const char *name, const char *value)
{
	conn_begin(conn, 'S');
	conn_put_string(conn, name);
	conn_put_string(conn, value);
	conn_end(conn);
}

void
conn_send_ready(Conn *conn)
{
	conn_begin(conn, 'Z');
	conn_put8(conn, 'I');
	conn_end(conn);
}

void
conn_send_complete(Conn *conn, const char *tag)
{
	conn_begin(conn, 'C');
	conn_put_string(conn, tag);
	conn_end(conn);
}

void
conn_send_copy_response(Conn *conn, char type)
{
	conn_begin(conn, type);
	conn_put8(conn, 1);
	conn_put16(conn, 0);
	conn_end(conn);
}

void
conn_send_row_description(Conn *conn, const Column *columns, int n)
{
	conn_begin(conn, 'T');
	conn_put16(conn, (uint16) n);
	for (int i = 0; i < n; i++)
	{
		conn_put_string(conn, columns[i].name);
		conn_put32(conn, 0); /* table */
		conn_put16(conn, 0); /* its column */
		conn_put32(conn, columns[i].type);
		conn_put16(conn, (uint16) -1); /* typlen and typmod are not known */
		conn_put32(conn, (uint32) -1);
		conn_put16(conn, 0); /* text format */
	}
	conn_end(conn);
}

void
conn_send_row(Conn *conn, const char *const *values, int n)
{
	conn_begin(conn, 'D');
	conn_put16(conn, (uint16) n);
	for (int i = 0; i < n; i++)
	{
		if (values[i] == NULL)
		{
			conn_put32(conn, (uint32) -1);
			continue;
		}
		conn_put32(conn, (uint32) strlen(values[i]));
		conn_put_bytes(conn, values[i], strlen(values[i]));
	}
	conn_end(conn);
}

/* ---- startup packets ---- */

static const char *
parse_parameters(const char *p, Startup *startup)
{
	const char *end = startup->end;

	startup->user = startup->database = startup->application_name = "";
	for (;;)
	{
		const char *name = p;
		const char *value;
		const char *zero = memchr(p, '\0', end - p);

		if (zero == NULL)
			return "invalid startup packet: the parameter list is not terminated";
		if (*name == '\0')
			return zero + 1 == end ? NULL : "invalid startup packet: data after the last parameter";
		value = zero + 1;
		zero = memchr(value, '\0', end - value);
		if (zero == NULL)
			return "invalid startup packet: a parameter has no value";
		if (strcmp(name, "user") == 0)
			startup->user = value;
		else if (strcmp(name, "database") == 0)
			startup->database = value;
		else if (strcmp(name, "application_name") == 0)
			startup->application_name = value;
		else if (strncmp(name, "_pq_.", 5) == 0)
		{
			if (startup->nunknown++ == 0)
				startup->unknown = name;
		}
		p = zero + 1;
	}
}

/* Mirrors ProcessStartupPacket() of postmaster.c. */
const char *
startup_parse(const char *body, uint32 len, Startup *startup)
{
	memset(startup, 0, sizeof(*startup));
	if (len < 4)
		return "invalid startup packet: it is too short";
	startup->protocol = ps_get32(body);
	startup->end = body + len;
	switch (startup->protocol)
	{
		case NEGOTIATE_SSL_CODE:
			startup->kind = STARTUP_SSL;
			return NULL;
		case NEGOTIATE_GSS_CODE:
			startup->kind = STARTUP_GSS;
			return NULL;
		case CANCEL_REQUEST_CODE:
			startup->kind = STARTUP_CANCEL;
			if (len != 12)
				return "invalid length of cancel request packet";
			startup->session_id = ps_get32(body + 4);
			startup->secret = ps_get32(body + 8);
			return NULL;
		default:
			break;
	}
	startup->kind = STARTUP_SESSION;
	if (PG_PROTOCOL_MAJOR(startup->protocol) != 3)
		return "unsupported frontend protocol version: server supports 3.0";
	return parse_parameters(body + 4, startup);
}

void
conn_send_negotiation(Conn *conn, const Startup *startup)
{
	const char *p = startup->unknown;

	if (PG_PROTOCOL_MINOR(startup->protocol) == 0 && startup->nunknown == 0)
		return;
	conn_begin(conn, 'v');
	conn_put32(conn, PG_PROTOCOL(3, 0));
	conn_put32(conn, startup->nunknown);
	for (int left = startup->nunknown; left > 0;)
	{
		if (strncmp(p, "_pq_.", 5) == 0)
		{
			conn_put_string(conn, p);
			left--;
		}
		p += strlen(p) + 1; /* its value */
		p += strlen(p) + 1; /* the next name */
	}
	conn_end(conn);
}
