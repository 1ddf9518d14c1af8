/*
 * sync.c
 *	  Directories made, files and the names in directories made durable: see sync.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ps_wire.h"
#include "sync.h"

static PsError *
sync_and_say(const char *path, bool is_new)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	PsError    *err = NULL;

	if (fd < 0)
		return ps_error(ps_errno_state(), "could not open \"%s\" to sync it: %m", path);
	if (fsync(fd) != 0)
		err = ps_error(is_new ? ps_errno_state() : PS_SQLSTATE_IO, "could not sync \"%s\": %m", path);
	close(fd);
	return err;
}

PsError *
sync_path(const char *path)
{
	return sync_and_say(path, false);
}

PsError *
sync_new_path(const char *path)
{
	return sync_and_say(path, true);
}

PsError *
sync_parent(const char *path)
{
	char		parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	get_parent_directory(parent);
	return sync_path(parent[0] != '\0' ? parent : ".");
}

PsError *
make_dir(const char *path)
{
	if (mkdir(path, 0700) != 0)
		return ps_error(ps_errno_state(), "could not create directory \"%s\": %m", path);
	return NULL;
}

void
rename_back(const char *from, const char *to)
{
	PsError    *err = NULL;

	if (rename(from, to) != 0)
		ps_log(PS_WARNING, "could not rename \"%s\" to \"%s\": %m", from, to);
	else if ((err = sync_parent(to)) != NULL)
		ps_log_error(PS_WARNING, err, "\"%s\" may be called \"%s\" again after a power failure", to, from);
}
