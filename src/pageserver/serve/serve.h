/*
 * serve.h
 *	  The servers of connections, as main.c sees them.
 */
#ifndef PS_SERVE_H
#define PS_SERVE_H

#include "base/config.h"
#include "store/store.h"

typedef struct Server Server;

/* Listens on the Unix socket and the TCP addresses of the settings; nothing is accepted yet. */
extern PsError *server_create(const Config *config, Store *store, Server **server);

/*
 * Accepts connections, a thread for each, until wake_fd is readable (which the
 * caller then reads), or timeout_ms have passed.  May be called again.
 */
extern void server_run(Server *server, int wake_fd, int timeout_ms);

/* Settings were reloaded: these are in force from now on.  Main thread. */
extern void server_reload(Server *server, const Config *config);

/*
 * Stops listening, tells every session that the store is stopping, and waits
 * until they are gone; a client that does not take its answers is cut off
 * after a few seconds.  False: some session is still at work in the store
 * after a minute, so the store cannot be closed.
 */
extern bool server_stop(Server *server);
extern void server_free(Server *server); /* after server_stop() was true */

#endif /* PS_SERVE_H */
