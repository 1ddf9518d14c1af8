/*
 * socket_dir.h
 *	  The directory of a server's Unix socket: its own directory, to which nobody
 *	  else has access, unless clients could not name that.
 */
#ifndef PS_SOCKET_DIR_H
#define PS_SOCKET_DIR_H

/*
 * libpq takes a comma in "host" as the end of a host, even in quotes, and the path of a
 * socket must be short.  For such a directory another one, below the directory of
 * PostgreSQL's sockets or /tmp, is returned, and *other is true.  malloc'd.
 */
extern char *socket_dir_for(const char *server_dir, bool *other);

/*
 * Creates that other directory, or checks that an existing one belongs to this user and
 * nobody else can write to it, since others can write to its parent.  False with errno
 * set, or with errno 0 if it belongs to somebody else or others can write to it.
 */
extern bool socket_dir_make(const char *dir);

#endif /* PS_SOCKET_DIR_H */
