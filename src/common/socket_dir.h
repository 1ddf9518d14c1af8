/*
 * socket_dir.h
 *	  The directory of a server's Unix socket: its own directory, which is
 *	  nobody else's, unless clients could not name that.
 */
#ifndef PS_SOCKET_DIR_H
#define PS_SOCKET_DIR_H

/*
 * libpq takes a comma in "host" for the end of a host, whatever quotes are
 * around it, and the path of a socket is short.  In the place of such a
 * directory there is one below the directory of PostgreSQL's sockets, or /tmp,
 * that is made for it: *other is true.  malloc'd.
 */
extern char *socket_dir_for(const char *server_dir, bool *other);

/*
 * Makes that other directory, or checks that one that is there is this user's
 * and nobody else's to write: it is in one that others may write to.  False:
 * it is not, or errno tells (0: it is somebody else's).
 */
extern bool socket_dir_make(const char *dir);

#endif /* PS_SOCKET_DIR_H */
