/*
 * copy.c
 *	  The client's side of a copy: single messages, a stream of bytes, and
 *	  conversations in which both sides send.
 */
#include "ps_fe.h"

#include "serve/serve_impl.h"
#include "sqlstate.h"

PsError *
copy_read(Session *session, Message *msg)
{
	PsError *err;
	PsError *reason;

	err = conn_read_message(&session->conn, msg);
	if (err != NULL)
	{
		/* a stop and a recall shut the socket down for reading */
		reason = session_check_stop(session);
		if (reason == NULL)
			reason = streams_check_recalled(session);
		if (reason == NULL)
			return err;
		ps_error_free(err);
		return reason;
	}
	switch (msg->type)
	{
		case 'd':
		case 'c':
		case 'H': /* Flush and Sync mean nothing in a copy, as in PostgreSQL */
		case 'S':
			return NULL;
		case 'f':
			return ps_error(PS_SQLSTATE_CANCELED, "the client aborted the copy: %.*s",
							(int) strnlen(msg->body, msg->len), msg->body);
		case 'X':
			return ps_error(PS_SQLSTATE_CONNECTION, "the client closed the connection");
		default:
			return ps_error(PS_SQLSTATE_PROTOCOL, "unexpected message type \"%c\" during a copy", msg->type);
	}
}

static PsError *
copy_source_read(void *arg, const char **data, size_t *len)
{
	Message msg;

	do
	{
		PS_TRY(session_check_stop(arg));
		PS_TRY(copy_read(arg, &msg));
	} while (msg.type != 'c' && (msg.type != 'd' || msg.len == 0));
	*data = msg.body;
	*len = msg.type == 'd' ? msg.len : 0;
	return NULL;
}

ByteSource
copy_source(Session *session)
{
	return (ByteSource) {copy_source_read, session};
}

PsError *
copy_serve(Session *session, const CopyHandler *handler, void *arg)
{
	Conn *conn = &session->conn;
	bool done = false;

	conn_send_copy_response(conn, 'W');
	while (!done)
	{
		PS_TRY(handler->wait(arg));
		do
		{
			Message msg;

			PS_TRY(copy_read(session, &msg));
			done = msg.type == 'c';
			if (msg.type == 'd')
				PS_TRY(handler->take(arg, &msg));
		} while (!done && handler->more(arg));
		PS_TRY(handler->answer(arg, done));
		if (!done)
			PS_TRY(session_check_stop(session));
	}
	conn_begin(conn, 'c');
	conn_end(conn);
	conn_send_complete(conn, handler->tag);
	return NULL;
}
