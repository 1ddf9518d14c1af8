/*
 * protect_mark.c
 *	  The file TIMELINE/protected, which marks a protected branch.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "store/store_impl.h"

bool
protect_mark_is_set(const char *timeline_dir)
{
	char *path = psprintf("%s/protected", timeline_dir);
	bool is_protected = access(path, F_OK) == 0;

	pfree(path);
	return is_protected;
}

PsError *
protect_mark_set(const char *timeline_dir, bool is_protected)
{
	char *path = psprintf("%s/protected", timeline_dir);
	PsError *err = fs_set_mark(path, is_protected);

	pfree(path);
	return err;
}
