/*
 * socket_dir.c
 *	  The directory of a server's Unix socket: see socket_dir.h.
 */
#include "ps_fe.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/hashfn.h"

#include "socket_dir.h"

/* Longest name of a socket in its directory. */
#define SOCKET_NAME_LONGEST "/.s.PGSQL.65535"

char *
socket_dir_for(const char *server_dir, bool *other)
{
	const char *parent = DEFAULT_PGSOCKET_DIR;
	uint64 hash = hash_bytes_extended((const unsigned char *) server_dir, strlen(server_dir), 0);

	*other = strpbrk(server_dir, ",\"") != NULL ||
			 strlen(server_dir) + sizeof(SOCKET_NAME_LONGEST) > sizeof(((struct sockaddr_un *) NULL)->sun_path);
	if (!*other)
		return pg_strdup(server_dir);
	if (parent[0] == '\0' || access(parent, W_OK | X_OK) != 0)
		parent = "/tmp";
	return psprintf("%s/pageserver.%016llx", parent, (unsigned long long) hash);
}

bool
socket_dir_make(const char *dir)
{
	struct stat st;

	if (mkdir(dir, S_IRWXU) == 0)
		return true;
	if (errno != EEXIST || lstat(dir, &st) != 0)
		return false;
	errno = 0;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & (S_IRWXG | S_IRWXO)) == 0;
}
