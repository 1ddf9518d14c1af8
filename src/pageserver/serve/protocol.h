/*
 * protocol.h
 *	  The server's side of PostgreSQL's frontend/backend protocol, version 3:
 *	  messages in and out of one connection.  Nothing here knows of stores.
 *
 * Input and output are buffered.  One read() may bring many messages, and what
 * is written goes out when the buffer is large, or when the connection is about
 * to wait for a message of which not all has arrived.
 *
 * A Conn belongs to one thread.  Errors of the connection itself have
 * PS_SQLSTATE_CONNECTION (it has ended or failed: nothing can be sent) or
 * PS_SQLSTATE_PROTOCOL (the peer broke the protocol: it is told, then the
 * connection ends, for it is not known where the next message begins).
 */
#ifndef PS_PROTOCOL_H
#define PS_PROTOCOL_H

#include "lib/stringinfo.h"

#include "base/error.h"
#include "sqlstate.h"

/* Greatest startup packet, as PostgreSQL has it (MAX_STARTUP_PACKET_LENGTH). */
#define CONN_MAX_STARTUP 10000

/* Greatest message otherwise, by what the connection does (Conn.max_message). */
#define CONN_MAX_COMMAND (64 * 1024)
#define CONN_MAX_COPY    (16 * 1024 * 1024)

/* More output than this is sent although further requests wait in the input buffer. */
#define CONN_FLUSH_SIZE (128 * 1024)

typedef struct Conn
{
	int fd;
	uint32 max_message; /* bytes of a message, its length word included */
	int64 deadline;     /* clock_now_ms() until which a read may wait; 0: for ever */

	/* input: bytes in[in_pos] to in[in_end - 1] are not yet consumed */
	char *in;
	size_t in_cap;
	size_t in_min; /* capacity to which an empty buffer shrinks again */
	size_t in_pos;
	size_t in_end;

	/* output: whole messages and perhaps one that is being made; data begins at CONN_OUT_PAD */
	StringInfoData out;
	int message; /* offset of the length word of the message being made */
} Conn;

/*
 * Output begins at this offset of the buffer, which malloc() aligns: the pages
 * in the first answer of a page stream, after 5 bytes of CopyData and 20 of the
 * answer's header, are then at a multiple of 32 and can be read in place.
 */
#define CONN_OUT_PAD 7

/* A message that came in.  body points into the input buffer: valid until the next call that reads. */
typedef struct Message
{
	char type;
	const char *body;
	uint32 len; /* of body */
} Message;

extern void conn_init(Conn *conn, int fd);
extern void conn_free(Conn *conn); /* buffers only: fd stays open */

/* ---- input ---- */

/* The startup packet, which has no type byte; body without the length word. */
extern PsError *conn_read_startup(Conn *conn, Message *msg);

/* The next message.  Sends what is buffered before it waits. */
extern PsError *conn_read_message(Conn *conn, Message *msg);

/* The next message if all of it has been read already; conn_read_message() then takes it. */
extern bool conn_peek_message(Conn *conn, Message *msg);

/*
 * Waits up to timeout_ms (0: not at all) for input, reads what there is, and
 * tells if a message is complete; also true if the connection has failed or
 * ended, which conn_read_message() then tells.  Sends nothing.
 */
extern bool conn_wait_message(Conn *conn, int timeout_ms);

/* Has the peer closed the connection (or its sending side)?  Does not read. */
extern bool conn_is_closed(const Conn *conn);

/* Sets the size of the input buffer that is kept while it is empty. */
extern void conn_set_input_size(Conn *conn, size_t size);

/* ---- output: buffered, except conn_flush() nothing here can fail ---- */
extern void conn_begin(Conn *conn, char type);
extern void conn_put8(Conn *conn, uint8 v);
extern void conn_put16(Conn *conn, uint16 v);
extern void conn_put32(Conn *conn, uint32 v);
extern void conn_put_bytes(Conn *conn, const char *data, size_t len);
extern void conn_put_string(Conn *conn, const char *s); /* with its zero byte */
extern void conn_end(Conn *conn);
extern int conn_pending(const Conn *conn); /* bytes not yet sent */
extern PsError *conn_flush(Conn *conn);

/* Whole messages. */
extern void conn_send_error(Conn *conn, const char *severity, const PsError *err); /* ERROR or FATAL */
extern void conn_send_notice(Conn *conn, const char *message);
extern void conn_send_warning(Conn *conn, const char *message);
extern void conn_send_parameter(Conn *conn, const char *name, const char *value);
extern void conn_send_ready(Conn *conn);
extern void conn_send_complete(Conn *conn, const char *tag);
extern void conn_send_copy_response(Conn *conn, char type); /* 'G' CopyIn, 'H' CopyOut, 'W' CopyBoth; binary, no columns */

/* Results of commands: all values are sent as text. */
typedef struct Column
{
	const char *name;
	Oid type; /* TEXTOID, INT8OID, ...: psql aligns numbers to the right */
} Column;

extern void conn_send_row_description(Conn *conn, const Column *columns, int n);
extern void conn_send_row(Conn *conn, const char *const *values, int n); /* NULL: null */

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
	/* SESSION; texts point into the packet, "" if not given */
	uint32 protocol; /* as asked for: major << 16 | minor */
	const char *user;
	const char *database;
	const char *application_name;
	int nunknown;        /* names beginning with _pq_. that are not known here */
	const char *unknown; /* the first of them: see startup_next_unknown() */
	const char *end;
} Startup;

/* Takes a startup packet apart; returns NULL or a constant text that says what is wrong. */
extern const char *startup_parse(const char *body, uint32 len, Startup *startup);

/* NegotiateProtocolVersion, if the client asked for a newer minor version or for options unknown here. */
extern void conn_send_negotiation(Conn *conn, const Startup *startup);

#endif /* PS_PROTOCOL_H */
