/*
 * sync.c
 *	  Making files and the names in directories durable: see sync.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "ps_wire.h"
#include "sync.h"

PsError *
sync_path(const char *path)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	PsError    *err = NULL;

	if (fd < 0 || fsync(fd) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not sync \"%s\": %m", path);
	if (fd >= 0)
		close(fd);
	return err;
}

PsError *
sync_parent(const char *path)
{
	char		parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	get_parent_directory(parent);
	return sync_path(parent[0] != '\0' ? parent : ".");
}
