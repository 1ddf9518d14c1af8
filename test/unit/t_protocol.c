/*
 * t_protocol.c
 *	  PostgreSQL's protocol as the store speaks it: messages over a socket pair
 *	  in pieces of any size, startup packets, commands, garbage.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "bytes.h"
#include "base/clock.h"
#include "serve/commands.h"
#include "sqlstate.h"
#include "wire.h"

static unsigned int seed;
static int fds[2]; /* 0: the client's end, 1: the server's */
static Conn conn;

static int
setup_all(void **state)
{
	const char *given = getenv("SEED");

	seed = given ? (unsigned int) atoi(given) : (unsigned int) time(NULL);
	print_message("t_protocol: SEED=%u\n", seed);
	srandom(seed);
	return 0;
}

static int
setup(void **state)
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0)
		return -1;
	conn_init(&conn, fds[1]);
	return 0;
}

static int
teardown(void **state)
{
	conn_free(&conn);
	if (fds[0] >= 0)
		close(fds[0]);
	close(fds[1]);
	return 0;
}

static void
send_bytes(const void *data, size_t len)
{
	assert_int_equal(send(fds[0], data, len, MSG_NOSIGNAL), len);
}

static void
put_message(StringInfo buf, char type, const char *body, uint32 len)
{
	char head[5];

	head[0] = type;
	ps_put32(head + 1, len + 4);
	appendBinaryStringInfo(buf, head, 5);
	appendBinaryStringInfo(buf, body, len);
}

static void
expect_error(PsError *err, const char *sqlstate)
{
	assert_non_null(err);
	assert_string_equal(err->sqlstate, sqlstate);
	ps_error_free(err);
}

/* ---- messages ---- */

typedef struct Sender
{
	StringInfoData bytes;
} Sender;

static void *
sender_main(void *arg)
{
	Sender *sender = arg;
	int pos = 0;
	unsigned int state = seed;

	while (pos < sender->bytes.len)
	{
		int n = 1 + rand_r(&state) % (rand_r(&state) % 3 == 0 ? 100000 : 50);

		n = Min(n, sender->bytes.len - pos);
		if (send(fds[0], sender->bytes.data + pos, n, MSG_NOSIGNAL) != n)
			break;
		pos += n;
	}
	return NULL;
}

/* Messages of all sizes, sent in pieces that do not care for their ends, come out as they went in. */
static void
messages_in_pieces(void **state)
{
	Sender sender;
	pthread_t thread;
	int nmessages = 400;
	int *lengths = malloc(nmessages * sizeof(int));
	Message msg;

	initStringInfo(&sender.bytes);
	conn.max_message = CONN_MAX_COPY;
	for (int i = 0; i < nmessages; i++)
	{
		char *body;

		lengths[i] = random() % (i % 50 == 0 ? 300000 : i % 5 == 0 ? 20000
																   : 40);
		body = malloc(lengths[i] + 1);
		memset(body, i, lengths[i]);
		put_message(&sender.bytes, 'd', body, lengths[i]);
		free(body);
	}
	put_message(&sender.bytes, 'c', "", 0);
	assert_int_equal(pthread_create(&thread, NULL, sender_main, &sender), 0);
	for (int i = 0; i < nmessages; i++)
	{
		Message peeked;
		bool complete = i % 3 == 0 && conn_wait_message(&conn, 10000);
		bool peekable = conn_peek_message(&conn, &peeked);

		assert_true(!complete || peekable);
		assert_null(conn_read_message(&conn, &msg));
		assert_int_equal(msg.type, 'd');
		assert_int_equal(msg.len, lengths[i]);
		if (peekable)
			assert_true(peeked.len == msg.len && peeked.body == msg.body);
		for (int j = 0; j < lengths[i]; j++)
			assert_true(msg.body[j] == (char) i);
	}
	assert_null(conn_read_message(&conn, &msg));
	assert_int_equal(msg.type, 'c');
	assert_int_equal(msg.len, 0);
	assert_false(conn_wait_message(&conn, 0));
	pthread_join(thread, NULL);
	assert_false(conn_is_closed(&conn));
	close(fds[0]);
	fds[0] = -1;
	assert_true(conn_is_closed(&conn));
	assert_true(conn_wait_message(&conn, 0));
	expect_error(conn_read_message(&conn, &msg), PS_SQLSTATE_CONNECTION);
	pfree(sender.bytes.data);
	free(lengths);
}

static void
bad_messages(void **state)
{
	static const struct
	{
		const char *bytes;
		int len;
	} bad[] = {
		{"\0", 1},
		{"x", 1},
		{"Z", 1},
		{"\377\377\377\377\377", 5}, /* no type that a client sends */
		{"Q\0\0\0\0", 5},
		{"Q\0\0\0\3", 5},
		{"Q\0\1\0\1", 5},
		{"Q\377\377\377\377", 5},
		{"Q\200\0\0\0", 5},
	};

	for (int i = 0; i < lengthof(bad); i++)
	{
		Message msg;
		char junk[64];

		send_bytes(bad[i].bytes, bad[i].len);
		assert_true(conn_wait_message(&conn, 1000));
		assert_false(conn_peek_message(&conn, &msg));
		expect_error(conn_read_message(&conn, &msg), PS_SQLSTATE_PROTOCOL);
		/* a fresh connection for the next */
		while (recv(fds[1], junk, sizeof(junk), MSG_DONTWAIT) > 0)
			;
		conn_free(&conn);
		conn_init(&conn, fds[1]);
	}
}

/* The end of the connection within a message is an end, not a message. */
static void
torn_message(void **state)
{
	Message msg;

	send_bytes("Q\0\0\0\10abc", 8);
	assert_false(conn_wait_message(&conn, 10));
	shutdown(fds[0], SHUT_WR);
	expect_error(conn_read_message(&conn, &msg), PS_SQLSTATE_CONNECTION);
}

/* Output stays in the buffer until the connection would wait; then the client has all of it. */
static void
output_is_sent_before_waiting(void **state)
{
	StringInfoData in;
	Message msg;
	char got[64];

	initStringInfo(&in);
	put_message(&in, 'Q', "a", 2);
	put_message(&in, 'Q', "b", 2);
	send_bytes(in.data, in.len);
	assert_null(conn_read_message(&conn, &msg));
	conn_send_complete(&conn, "A");
	assert_null(conn_read_message(&conn, &msg));
	assert_int_equal(recv(fds[0], got, sizeof(got), MSG_DONTWAIT), -1);
	conn_send_ready(&conn);
	assert_int_equal(conn_pending(&conn), 7 + 6);
	shutdown(fds[0], SHUT_WR);
	expect_error(conn_read_message(&conn, &msg), PS_SQLSTATE_CONNECTION);
	assert_int_equal(recv(fds[0], got, sizeof(got), 0), 13);
	assert_memory_equal(got, "C\0\0\0\6A\0Z\0\0\0\5I", 13);
	assert_int_equal(conn_pending(&conn), 0);
	pfree(in.data);
}

static void
output_messages(void **state)
{
	PsError *err = ps_error_hint(ps_error_detail(ps_error("XX001", "m"), "d"), "h");
	const Column columns[] = {{"c", 25}};
	const char *values[] = {"vv", NULL};
	char got[256];
	static const char expected[] =
		"E\0\0\0\043SERROR\0VERROR\0CXX001\0Mm\0Dd\0Hh\0\0"
		"T\0\0\0\032\0\1c\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0"
		"D\0\0\0\020\0\2\0\0\0\2vv\377\377\377\377"
		"W\0\0\0\7\1\0\0";

	conn_send_error(&conn, "ERROR", err);
	conn_send_row_description(&conn, columns, 1);
	conn_send_row(&conn, values, 2);
	conn_send_copy_response(&conn, 'W');
	assert_null(conn_flush(&conn));
	assert_int_equal(recv(fds[0], got, sizeof(got), 0), sizeof(expected) - 1);
	assert_memory_equal(got, expected, sizeof(expected) - 1);
	ps_error_free(err);

	/* a client that has gone: an error, and the next try does not send the rest */
	close(fds[0]);
	fds[0] = -1;
	conn_send_ready(&conn);
	expect_error(conn_flush(&conn), PS_SQLSTATE_CONNECTION);
	assert_int_equal(conn_pending(&conn), 0);
}

static void
startup_timeout(void **state)
{
	Message msg;
	int64 begin = clock_now_ms();

	send_bytes("\0\0\0\20abc", 7);
	conn.deadline = begin + 50;
	expect_error(conn_read_startup(&conn, &msg), PS_SQLSTATE_CONNECTION);
	assert_true(clock_now_ms() - begin >= 50);
}

/* ---- startup packets ---- */

/* Parses a copy of exactly this size, so that a sanitizer finds a read beyond it. */
static const char *
parse(const char *body, uint32 len, Startup *startup, char **copy)
{
	*copy = malloc(len > 0 ? len : 1);
	memcpy(*copy, body, len);
	return startup_parse(*copy, len, startup);
}

static void
startup_packets(void **state)
{
	static const char good[] = "\0\3\0\0user\0me\0database\0db\0other\0thing\0application_name\0app\0";
	Startup s;
	char *copy;

	assert_null(parse(good, sizeof(good), &s, &copy));
	assert_int_equal(s.kind, STARTUP_SESSION);
	assert_string_equal(s.user, "me");
	assert_string_equal(s.database, "db");
	assert_string_equal(s.application_name, "app");
	assert_int_equal(s.nunknown, 0);
	conn_send_negotiation(&conn, &s);
	assert_int_equal(conn_pending(&conn), 0);
	free(copy);
	for (uint32 len = 0; len < sizeof(good); len++)
	{
		assert_non_null(parse(good, len, &s, &copy));
		free(copy);
	}
	assert_non_null(parse("\0\3\0\0\0x", 6, &s, &copy));
	free(copy);
	assert_non_null(parse("\0\2\0\0\0", 5, &s, &copy));
	free(copy);

	assert_null(parse("\4\322\26\57", 4, &s, &copy));
	assert_int_equal(s.kind, STARTUP_SSL);
	free(copy);
	assert_null(parse("\4\322\26\60", 4, &s, &copy));
	assert_int_equal(s.kind, STARTUP_GSS);
	free(copy);
	assert_null(parse("\4\322\26\56\0\0\0\7\1\2\3\4", 12, &s, &copy));
	assert_int_equal(s.kind, STARTUP_CANCEL);
	assert_int_equal(s.session_id, 7);
	assert_int_equal(s.secret, 0x01020304);
	free(copy);
	assert_non_null(parse("\4\322\26\56\0\0\0\7\1\2\3", 11, &s, &copy));
	free(copy);
}

static void
startup_negotiation(void **state)
{
	static const char newer[] = "\0\3\0\2_pq_.a\0_pq_.value\0user\0me\0_pq_.b\0\0";
	static const char expected[] = "v\0\0\0\32\0\3\0\0\0\0\0\2_pq_.a\0_pq_.b";
	Startup s;
	char *copy;
	char got[64];

	assert_null(parse(newer, sizeof(newer), &s, &copy));
	assert_int_equal(s.nunknown, 2);
	assert_string_equal(s.user, "me");
	conn_send_negotiation(&conn, &s);
	assert_null(conn_flush(&conn));
	assert_int_equal(recv(fds[0], got, sizeof(got), 0), sizeof(expected));
	assert_memory_equal(got, expected, sizeof(expected));
	free(copy);
}

static void
startup_garbage(void **state)
{
	for (int round = 0; round < 20000; round++)
	{
		static const char *const pieces[] = {"user", "", "_pq_.", "_pq_.x", "database", "\377", "application_name"};
		StringInfoData buf;
		Startup s;
		char *copy;

		initStringInfo(&buf);
		appendBinaryStringInfo(&buf, round % 4 == 0 ? "\0\3\0\1" : "\0\3\0\0", 4);
		for (int n = random() % 6; n > 0; n--)
		{
			const char *piece = pieces[random() % lengthof(pieces)];

			appendBinaryStringInfo(&buf, piece, strlen(piece) + random() % 2);
		}
		if (round % 3 == 0)
			buf.data[random() % buf.len] = (char) random();
		if (round % 2 == 0)
			appendStringInfoChar(&buf, '\0');
		if (parse(buf.data, buf.len, &s, &copy) == NULL && s.kind == STARTUP_SESSION)
		{
			int before = conn_pending(&conn);

			assert_true(strlen(s.user) + strlen(s.database) + strlen(s.application_name) < buf.len);
			conn_send_negotiation(&conn, &s);
			assert_true(conn_pending(&conn) - before <= 13 + buf.len);
			conn.out.len = CONN_OUT_PAD;
		}
		free(copy);
		pfree(buf.data);
	}
}

static void
startup_lengths(void **state)
{
	static const uint32 bad[] = {0, 4, 7, CONN_MAX_STARTUP + 1, 0x47455420, 0x80000000, 0xFFFFFFFF};

	for (int i = 0; i < lengthof(bad); i++)
	{
		char head[4];
		Message msg;

		ps_put32(head, bad[i]);
		send_bytes(head, 4);
		expect_error(conn_read_startup(&conn, &msg), PS_SQLSTATE_PROTOCOL);
		conn.in_pos = conn.in_end;
	}
}

/* ---- commands ---- */

static int
split(const char *text, char **words, int max)
{
	static char copy[256];

	strlcpy(copy, text, sizeof(copy));
	return command_split(copy, words, max);
}

static void
commands(void **state)
{
	char *w[4];

	assert_int_equal(split("", w, 4), 0);
	assert_int_equal(split(" ; ;\n", w, 4), 0);
	assert_int_equal(split("a", w, 4), 1);
	assert_string_equal(w[0], "a");
	assert_int_equal(split("  one\ttwo\n'three and more' ''; ", w, 4), 4);
	assert_string_equal(w[0], "one");
	assert_string_equal(w[1], "two");
	assert_string_equal(w[2], "three and more");
	assert_string_equal(w[3], "");
	assert_int_equal(split("'it''s' a'b c'd 'x'", w, 4), 3);
	assert_string_equal(w[0], "it's");
	assert_string_equal(w[1], "ab cd");
	assert_string_equal(w[2], "x");
	assert_int_equal(split("a b c d", w, 4), 4);
	assert_string_equal(w[3], "d");
	assert_int_equal(split("a b c d e", w, 4), 5);
	assert_int_equal(split("a 'b", w, 4), -1);
	assert_int_equal(split("'", w, 4), -1);
	assert_int_equal(split("'''", w, 4), -1);
	assert_int_equal(split("''''", w, 4), 1);
	assert_string_equal(w[0], "'");
}

/* What pagestream.c writes by hand is what the encoder of wire.h makes. */
static void
pages_header(void **state)
{
	static char pages[2 * BLCKSZ];
	PsRequest req = {.type = PS_REQ_PAGES, .reqid = 0x0102030405060708, .count = 2};
	PsResponse resp = {.type = PS_RESP_PAGES,
					   .reqid = req.reqid,
					   .lsn = 0x1122334455667788,
					   .count = 2,
					   .pages = pages};
	char header[PAGES_HEADER_SIZE];

	conn_begin(&conn, 'd');
	ps_wire_put_response(&conn.out, &resp);
	conn_end(&conn);
	assert_int_equal(conn_pending(&conn), PAGES_HEADER_SIZE + sizeof(pages));
	pagestream_put_header(header, &req, resp.lsn);
	assert_memory_equal(header, conn.out.data + CONN_OUT_PAD, PAGES_HEADER_SIZE);

	/* and the pages of a first answer are aligned */
	assert_int_equal((CONN_OUT_PAD + PAGES_HEADER_SIZE) % 16, 0);
}

/* Another thread may end a wait for a message, once for each time; one that does not wait leaves that to the next. */
static void
wake_up(void **state)
{
	uint64 one = 1;

	conn.wake_fd = eventfd(0, EFD_NONBLOCK);
	assert_false(conn_wait_message(&conn, 10));
	assert_int_equal(write(conn.wake_fd, &one, sizeof(one)), sizeof(one));
	assert_false(conn_wait_message(&conn, 0));
	assert_false(conn_wait_message(&conn, 60000));
	assert_int_equal(write(conn.wake_fd, &one, sizeof(one)), sizeof(one));
	send_bytes("Q\0\0\0\5", 5);
	assert_false(conn_wait_message(&conn, 60000));
	send_bytes("", 1);
	assert_true(conn_wait_message(&conn, 60000));
	close(conn.wake_fd);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(messages_in_pieces),
		TEST(bad_messages),
		TEST(torn_message),
		TEST(wake_up),
		TEST(output_is_sent_before_waiting),
		TEST(output_messages),
		TEST(startup_timeout),
		TEST(startup_packets),
		TEST(startup_negotiation),
		TEST(startup_garbage),
		TEST(startup_lengths),
		TEST(commands),
		TEST(pages_header),
	};

	return cmocka_run_group_tests(tests, setup_all, NULL);
}
