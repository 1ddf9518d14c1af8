/*
 * listen.c
 *	  The sockets that the server listens on.
 */
#include "ps_fe.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/serve_impl.h"
#include "socket_dir.h"
#include "sqlstate.h"

/* Listens on one address, named "name" in messages.  *missing: this machine does not have the address. */
static PsError *
add_listener(Server *server, int family, const struct sockaddr *addr, socklen_t len, const char *name, bool *missing)
{
	int one = 1;
	int fd;
	PsError *err;

	*missing = false;
	if (server->nlisteners == MAX_LISTENERS)
		return ps_error(PS_SQLSTATE_INVALID, "cannot listen on more than %d addresses", MAX_LISTENERS);
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
	{
		*missing = errno == EAFNOSUPPORT;
		return ps_error(PS_SQLSTATE_IO, "could not create a socket for %s: %m", name);
	}
	if (family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, addr, len) < 0)
	{
		bool in_use = errno == EADDRINUSE;

		*missing = errno == EADDRNOTAVAIL;
		err = ps_error(PS_SQLSTATE_IO, "could not bind to %s: %m", name);
		if (in_use)
			ps_error_hint(err,
						  "Is another server running on port %d?  "
						  "If not, wait a few seconds and retry, or set \"port\" in %s to another number.",
						  server->config->port, CONFIG_FILE_NAME);
		close(fd);
		return err;
	}
	if (listen(fd, Min(server->config->max_connections * 2, SOMAXCONN)) < 0)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not listen on %s: %m", name);
		close(fd);
		return err;
	}
	server->listeners[server->nlisteners++] = (Listener) {.fd = fd, .is_unix = family == AF_UNIX};
	ps_log(PS_LOG, "listening on %s", name);
	return NULL;
}

/*
 * Removes the socket file of a server that was killed, if there is one.  It is
 * an error if another server listens on it, or if the file is not a socket.
 */
static PsError *
remove_stale_socket(const struct sockaddr_un *addr)
{
	struct stat st;
	int fd;
	int rc;

	if (lstat(addr->sun_path, &st) < 0)
	{
		if (errno == ENOENT)
			return NULL;
		return ps_error(PS_SQLSTATE_IO, "could not stat \"%s\": %m", addr->sun_path);
	}
	if (!S_ISSOCK(st.st_mode))
		return ps_error(PS_SQLSTATE_IO, "file \"%s\" exists and is not a socket", addr->sun_path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ps_error(PS_SQLSTATE_IO, "could not create a socket: %m");
	rc = connect(fd, (const struct sockaddr *) addr, sizeof(*addr)) < 0 ? errno : 0;
	close(fd);
	if (rc != ECONNREFUSED)
		return ps_error_hint(ps_error(PS_SQLSTATE_IO, "another server is listening on the Unix socket \"%s\"",
									  addr->sun_path),
							 "Change \"port\" or \"unix_socket_directory\" in %s.", CONFIG_FILE_NAME);
	if (unlink(addr->sun_path) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not remove the stale socket \"%s\": %m", addr->sun_path);
	return NULL;
}

static PsError *
listen_unix(Server *server)
{
	const Config *config = server->config;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char *name;
	bool missing;
	PsError *err;

	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/.s.PGSQL.%d", config->unix_socket_directory,
				 config->port) >= sizeof(addr.sun_path))
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
									  "Unix socket path \"%s/.s.PGSQL.%d\" is too long (maximum %d bytes)",
									  config->unix_socket_directory, config->port, (int) sizeof(addr.sun_path) - 1),
							 "Set \"unix_socket_directory\" in %s to a directory with a shorter path.",
							 CONFIG_FILE_NAME);
	if (config->own_socket_directory && !socket_dir_make(config->unix_socket_directory))
	{
		if (errno != 0)
			return ps_error(PS_SQLSTATE_IO, "could not create directory \"%s\": %m", config->unix_socket_directory);
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "\"%s\" is not a directory that belongs to this user and has permissions 0700",
									  config->unix_socket_directory),
							 "Remove it, or set \"unix_socket_directory\" in %s.", CONFIG_FILE_NAME);
	}
	PS_TRY(remove_stale_socket(&addr));
	name = psprintf("Unix socket \"%s\"", addr.sun_path);
	err = add_listener(server, AF_UNIX, (struct sockaddr *) &addr, sizeof(addr), name, &missing);
	free(name);
	PS_TRY(err);
	server->socket_path = pg_strdup(addr.sun_path);

	/* clients are not authenticated, so only the owner may connect */
	if (chmod(addr.sun_path, 0700) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not set permissions of \"%s\": %m", addr.sun_path);
	return NULL;
}

static bool
is_loopback(const struct sockaddr *addr)
{
	if (addr->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *) addr)->sin_addr.s_addr) >> 24) == 127;
	return addr->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *) addr)->sin6_addr);
}

/*
 * Listens on all addresses of a host name.  An address that this machine does
 * not have (::1 without IPv6) is skipped, unless it is the only one.
 */
static PsError *
listen_tcp(Server *server, const char *host)
{
	struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list;
	PsError *skipped = NULL;
	bool any = false;
	char port[16];
	int rc;

	snprintf(port, sizeof(port), "%d", server->config->port);
	rc = getaddrinfo(host, port, &hints, &list);
	if (rc != 0)
		return ps_error(PS_SQLSTATE_IO, "could not translate host name \"%s\" to address: %s", host, gai_strerror(rc));
	for (struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next)
	{
		char text[NI_MAXHOST];
		char *name;
		PsError *err;
		bool missing = false;

		if (getnameinfo(ai->ai_addr, ai->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) != 0)
			strlcpy(text, host, sizeof(text));
		name = psprintf("address \"%s\", port %s", text, port);
		if (is_loopback(ai->ai_addr))
			err = add_listener(server, ai->ai_family, ai->ai_addr, ai->ai_addrlen, name, &missing);
		else
			err = ps_error(PS_SQLSTATE_INVALID,
						   "cannot listen on \"%s\" (%s): only loopback addresses are allowed, "
						   "because clients are not authenticated",
						   host, text);
		free(name);
		if (err == NULL)
			any = true;
		else if (missing)
		{
			ps_error_free(skipped);
			skipped = err;
		}
		else
		{
			ps_error_free(skipped);
			freeaddrinfo(list);
			return err;
		}
	}
	freeaddrinfo(list);
	if (!any)
		return skipped;
	if (skipped != NULL)
		ps_log_error(PS_LOG, skipped, "skipping address");
	return NULL;
}

void
listen_close(Server *server)
{
	for (int i = 0; i < server->nlisteners; i++)
		close(server->listeners[i].fd);
	server->nlisteners = 0;
	if (server->socket_path != NULL)
		unlink(server->socket_path);
	if (server->socket_path != NULL && server->config->own_socket_directory)
		rmdir(server->config->unix_socket_directory);
	free(server->socket_path);
	server->socket_path = NULL;
}

PsError *
listen_open(Server *server)
{
	char **names;
	int n;
	PsError *err;

	names = config_addresses(server->config->listen_addresses, &n);
	err = listen_unix(server);
	for (int i = 0; i < n && err == NULL; i++)
		err = listen_tcp(server, names[i]);
	config_free_addresses(names, n);
	return err;
}
