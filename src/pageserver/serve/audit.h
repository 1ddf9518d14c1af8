/*
 * audit.h
 *	  Who asked for what: every change of a store is one line in its log, with
 *	  the user, process, program and address that it came from.
 */
#ifndef PS_AUDIT_H
#define PS_AUDIT_H

#include "lib/stringinfo.h"

#include "serve/protocol.h"

/*
 * Who is at the other end of a connection, as it stands in the log: of a Unix
 * socket the kernel says which user and process that is, of a TCP connection
 * only the address is known.  What the client says of itself, its user and
 * application_name, is in quotes.  malloc'd.
 */
extern char *audit_peer(int fd, const Startup *startup);

/* The same of whoever sent a signal. */
extern char *audit_sender(pid_t pid, uid_t uid);

/* Logs that something was done, "what", by who. */
extern void audit_log(const char *who, const char *what, ...) pg_attribute_printf(2, 3);

#endif /* PS_AUDIT_H */
