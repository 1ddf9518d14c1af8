/*
 * layer_cache.c
 *	  Part files of layers whose files are elsewhere: see layer_cache.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer/layer_cache.h"
#include "layer/layer_impl.h"

/* Opens or creates a part file, and gives it its size.  Returns -1 with errno set. */
static int
open_part(const char *path, uint64 size)
{
	int fd = layer_open_descriptor(path, O_RDWR | O_CREAT);
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) == 0 &&
		((uint64) st.st_size == size || (ftruncate(fd, 0) == 0 && ftruncate(fd, (off_t) size) == 0)))
		return fd;
	close(fd);
	return -1;
}

PsError *
layer_cache_open(const LayerSpace *space, const LayerInfo *info, const char *path, LayerCache **result, int *fd)
{
	LayerCache *cache = *result;
	PsError *err;

	if (cache != NULL)
	{
		*fd = layer_open_descriptor(path, O_RDWR);
		if (*fd >= 0)
			return NULL;
		if (errno != ENOENT)
			return ps_error(ps_errno_state(), "could not open layer file \"%s\": %m", path);
		/* removed by someone else: its map must not be used for another file */
		layer_cache_free(cache);
		*result = NULL;
	}
	*fd = open_part(path, presence_part_size(info->file_size));
	if (*fd < 0)
		return ps_error(ps_errno_state(), "could not create layer file \"%s\": %m", path);
	cache = pg_malloc0(sizeof(LayerCache));
	cache->space = space;
	cache->info = info;
	cache->presence = presence_create(info->file_size);
	err = presence_load(cache->presence, *fd, path);
	if (err != NULL)
	{
		close(*fd);
		layer_cache_free(cache);
		return err;
	}
	*result = cache;
	return NULL;
}

void
layer_cache_free(LayerCache *cache)
{
	if (cache == NULL)
		return;
	Assert(cache->fetches == NULL);
	presence_free(cache->presence);
	free(cache);
}
