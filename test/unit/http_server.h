/*
 * http_server.h
 *	  A small HTTP server in threads of the test, with the faults of real ones.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

typedef struct HttpServer HttpServer;

typedef struct ServerRequest
{
	int number; /* from 1, of this server */
	char method[16];
	char target[4096];  /* path and query, as they came */
	char headers[8192]; /* lines with \r\n */
	char *body;
	size_t body_len;
} ServerRequest;

typedef enum ServerFault
{
	SERVER_ANSWERS,
	SERVER_CLOSES,   /* instead of answering */
	SERVER_DIES,     /* likewise, and accepts no connection any more */
	SERVER_CUTS,     /* closes after half of the answer's body */
	SERVER_TRICKLES, /* one byte of the body at a time, until the client closes or the server is stopped */
	SERVER_HANGS     /* no answer until the client closes or the server is stopped */
} ServerFault;

/* All texts are malloc'd, and freed by the server. */
typedef struct ServerAnswer
{
	int status;    /* preset: 200 */
	char *headers; /* lines with \r\n, or NULL */
	char *body;    /* or NULL */
	size_t body_len;
	ServerFault fault;
} ServerAnswer;

/* Called by one thread at a time. */
typedef void (*ServerHandler)(void *arg, const ServerRequest *request, ServerAnswer *answer);

extern HttpServer *http_server_start(ServerHandler handler, void *arg);
extern int http_server_port(HttpServer *server);
extern int http_server_connections(HttpServer *server); /* so far */
extern int http_server_requests(HttpServer *server);
extern void http_server_stop(HttpServer *server);

/* The value of a header of a request, malloc'd; NULL: there is none. */
extern char *server_request_header(const ServerRequest *request, const char *name);

/* Sets status and body of an answer; the text is copied. */
extern void server_answer_text(ServerAnswer *answer, int status, const char *body);

#endif /* HTTP_SERVER_H */
