/*
 * protocol.h
 *	  The server side of PostgreSQL's frontend/backend protocol, version 3:
 *	  reading and sending messages on one connection.  It does not depend on the
 *	  store.
 *
 * Input and output are buffered.  One recv() may read many messages.  Output is
 * sent when conn_flush() is called, and before conn_read_message() waits for a
 * message that has not arrived in full.
 *
 * A Conn belongs to one thread.  Errors of the connection itself have
 * PS_SQLSTATE_CONNECTION (the connection has ended or failed; nothing can be
 * sent) or PS_SQLSTATE_PROTOCOL (the peer violated the protocol; the caller
 * sends the error and ends the connection, since it is not known where the next
 * message begins).
 */
#ifndef PS_PROTOCOL_H
#define PS_PROTOCOL_H

#include "lib/stringinfo.h"

#include "base/error.h"
#include "sqlstate.h"

/* Maximum size of a startup packet, PostgreSQL's MAX_STARTUP_PACKET_LENGTH. */
#define CONN_MAX_STARTUP 10000

/* Maximum size of other messages: values of Conn.max_message. */
#define CONN_MAX_COMMAND (64 * 1024)
#define CONN_MAX_COPY    (16 * 1024 * 1024)

/* Callers that answer many requests flush when this much output is pending. */
#define CONN_FLUSH_SIZE (128 * 1024)

typedef struct Conn
{
	int fd;
	int wake_fd;        /* an eventfd by which another thread ends conn_wait_message(); -1: none */
	uint32 max_message; /* maximum size of a message in bytes, including its length word */
	int64 deadline;     /* clock_now_ms() until which a read may wait; 0: no limit */

	/* input: bytes in[in_pos] to in[in_end - 1] are not yet consumed */
	char *in;
	size_t in_cap;
	size_t in_min; /* capacity to which an empty buffer is shrunk */
	size_t in_pos;
	size_t in_end;

	/* output: whole messages, and perhaps an unfinished one; data begins at CONN_OUT_PAD */
	StringInfoData out;
	int message; /* offset of the length word of the unfinished message */
} Conn;

/*
 * Offset of the output in its buffer, which malloc() aligns.  The pages in the
 * first answer of a page stream follow 5 bytes of CopyData and 20 bytes of
 * header, so they begin at a multiple of 32 and can be read in place.
 */
#define CONN_OUT_PAD 7

/* A message from the client.  body points into the input buffer and is valid until the next call that reads. */
typedef struct Message
{
	char type;
	const char *body;
	uint32 len; /* of body */
} Message;

/* The caller keeps fd; conn_free() does not close it. */
extern void conn_init(Conn *conn, int fd);
extern void conn_free(Conn *conn);

/* ---- input ---- */

/* Reads a startup packet, which has no type byte.  body begins after the length word. */
extern PsError *conn_read_startup(Conn *conn, Message *msg);

/* Reads the next message.  Sends the buffered output before it waits. */
extern PsError *conn_read_message(Conn *conn, Message *msg);

/*
 * Returns the next message without consuming it, if it is in the input buffer
 * in full.  conn_read_message() then returns it without waiting.
 */
extern bool conn_peek_message(Conn *conn, Message *msg);

/*
 * Waits up to timeout_ms (0: not at all) for a complete message.  Returns true if
 * there is one, and also if the connection has failed or ended, which
 * conn_read_message() then reports.  Sends nothing.  Unless timeout_ms is 0, also returns
 * when wake_fd can be read, which this call does.
 */
extern bool conn_wait_message(Conn *conn, int timeout_ms);

/* Has the peer closed the connection, or its sending side?  Reads nothing. */
extern bool conn_is_closed(const Conn *conn);

/* Sets the size to which an empty input buffer is shrunk, and enlarges the buffer to it. */
extern void conn_set_input_size(Conn *conn, size_t size);

/* ---- output: goes to the buffer, so only conn_flush() can fail ---- */

/* A message begins with conn_begin() and ends with conn_end(). */
extern void conn_begin(Conn *conn, char type);
extern void conn_put8(Conn *conn, uint8 v);
extern void conn_put16(Conn *conn, uint16 v);
extern void conn_put32(Conn *conn, uint32 v);
extern void conn_put_bytes(Conn *conn, const char *data, size_t len);
extern void conn_put_string(Conn *conn, const char *s); /* including its zero byte */
extern void conn_end(Conn *conn);

/* Bytes of output that have not been sent. */
extern int conn_pending(const Conn *conn);

/*
 * Sends all buffered output.  Waits as long as the client is slow to read; a
 * stop of the server ends that by shutting the socket down.
 */
extern PsError *conn_flush(Conn *conn);

/* These send whole messages. */
extern void conn_send_error(Conn *conn, const char *severity, const PsError *err); /* ERROR or FATAL */
extern void conn_send_notice(Conn *conn, const char *message);
extern void conn_send_warning(Conn *conn, const char *message);
extern void conn_send_parameter(Conn *conn, const char *name, const char *value);
extern void conn_send_ready(Conn *conn);
extern void conn_send_complete(Conn *conn, const char *tag);

/* 'G' CopyIn, 'H' CopyOut or 'W' CopyBoth; binary, without columns. */
extern void conn_send_copy_response(Conn *conn, char type);

/* Results of commands.  All values are sent as text. */
typedef struct Column
{
	const char *name;
	Oid type; /* TEXTOID, INT8OID, ...: psql right-aligns numbers */
} Column;

extern void conn_send_row_description(Conn *conn, const Column *columns, int n);
extern void conn_send_row(Conn *conn, const char *const *values, int n); /* NULL: null value */

/* ---- startup packets ---- */
typedef enum StartupKind
{
	STARTUP_SSL,
	STARTUP_GSS,
	STARTUP_CANCEL,
	STARTUP_SESSION
} StartupKind;

typedef struct Startup
{
	StartupKind kind;
	/* CANCEL */
	uint32 session_id;
	uint32 secret;
	/* SESSION; strings point into the packet, "" if not sent */
	uint32 protocol; /* as requested: major << 16 | minor */
	const char *user;
	const char *database;
	const char *application_name;
	int nunknown;        /* number of protocol options (_pq_.*), none of which is supported */
	const char *unknown; /* the first of them */
	const char *end;
} Startup;

/* Parses a startup packet.  Returns NULL, or a constant string that says what is wrong. */
extern const char *startup_parse(const char *body, uint32 len, Startup *startup);

/* Sends NegotiateProtocolVersion if the client requested a newer minor version or protocol options. */
extern void conn_send_negotiation(Conn *conn, const Startup *startup);

/* CLOCK_MONOTONIC in ms. */
extern int64 monotonic_ms(void);

#endif /* PS_PROTOCOL_H */
