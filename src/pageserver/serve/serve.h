/*
 * serve.h
 *	  The server of connections, and the log lines that say who asked for what:
 *	  all of serve/ that main.c uses.
 */
#ifndef PS_SERVE_H
#define PS_SERVE_H

#include "base/config.h"
#include "store/store.h"

typedef struct Server Server;

/*
 * Listens on the Unix socket and the TCP addresses of the settings.  Nothing is
 * accepted before server_run().
 */
extern PsError *server_create(const Config *config, Store *store, Server **server);

/*
 * Accepts connections, with a thread for each, until wake_fd is readable (the
 * caller then reads it) or timeout_ms have passed.  May be called again.  Main
 * thread only.
 */
extern void server_run(Server *server, int wake_fd, int timeout_ms);

/* Puts reloaded settings into effect.  Main thread only. */
extern void server_reload(Server *server, const Config *config);

/*
 * Stops listening, tells every session that the store is stopping, and waits
 * until all of them have ended.  A client that does not read its answers is cut
 * off after a few seconds.  Returns false if a session is still working in the
 * store after a minute: the store must not be closed then.  Main thread only.
 */
extern bool server_stop(Server *server);

/* May be called only after server_stop() has returned true. */
extern void server_free(Server *server);

/* Describes the sender of a signal for audit_log().  The caller frees the text. */
extern char *audit_sender(pid_t pid, uid_t uid);

/* Logs that something was done ("what"), and by whom, as audit_peer() or audit_sender() describes it. */
extern void audit_log(const char *who, const char *what, ...) pg_attribute_printf(2, 3);

#endif /* PS_SERVE_H */
