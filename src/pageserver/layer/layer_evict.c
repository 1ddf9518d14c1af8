/*
 * layer_evict.c
 *	  Removal of what is on this disk of layers: because the layer is no longer
 *	  needed, or because it can be fetched again (layer_source.h).
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer/layer_cache.h"
#include "layer/layer_impl.h"

static char *
path_of(const LayerSpace *space, const char *name, const char *suffix)
{
	return psprintf("%s/%s%s", space->dir, name, suffix);
}

void
layer_remove_file(const LayerSpace *space, const char *name, const char *suffix)
{
	char *path = path_of(space, name, suffix);

	/* the directory of a deleted branch may have been moved, to be removed as a whole */
	if (unlink(path) != 0 && errno != ENOENT)
		ps_log(PS_WARNING, "could not remove layer file \"%s\": %m", path);
	pfree(path);
}

void
layer_set_remote(Layer *layer)
{
	atomic_store_explicit(&layer->remote, true, memory_order_release);
}

bool
layer_is_remote(const Layer *layer)
{
	return atomic_load_explicit(&layer->remote, memory_order_acquire);
}

uint32
layer_last_read(const Layer *layer)
{
	return atomic_load_explicit(&layer->last_read, memory_order_relaxed);
}

uint64
layer_local_bytes(const Layer *layer)
{
	char name[LAYER_NAME_MAX];
	char *path = path_of(layer->space, layer_name(layer, name), "");
	char *part = path_of(layer->space, name, PRESENCE_SUFFIX);
	struct stat st;
	uint64 bytes = 0;

	if (stat(path, &st) == 0)
		bytes += st.st_size;
	if (stat(part, &st) == 0)
		bytes += (uint64) st.st_blocks * 512;
	pfree(path);
	pfree(part);
	return bytes;
}

/* Neither the removal nor the map need be durable: a file that comes back is right as it is. */
bool
layer_evict(Layer *layer)
{
	char name[LAYER_NAME_MAX];

	if (layer->space->source == NULL || !layer_is_remote(layer))
		return false;
	if (!layer_begin_opening(layer) && !layer_close_if_unused(layer, FILE_OPENING))
		return false;
	layer_remove_file(layer->space, layer_name(layer, name), "");
	layer_remove_file(layer->space, name, PRESENCE_SUFFIX);
	layer_cache_free(layer->cache);
	layer->cache = NULL;
	layer_give_up_opening(layer, NULL);
	return true;
}

/* Saves the map of a layer whose file is closed, and owned by the caller. */
static PsError *
save_closed(Layer *layer)
{
	char name[LAYER_NAME_MAX];
	char *path;
	PsError *err;
	int fd;

	if (layer->cache == NULL || !presence_is_unsaved(layer->cache->presence))
		return NULL;
	path = path_of(layer->space, layer_name(layer, name), PRESENCE_SUFFIX);
	fd = layer_open_descriptor(path, O_RDWR);
	if (fd >= 0)
	{
		err = presence_save(layer->cache->presence, fd, path);
		close(fd);
	}
	else
		err = ps_error(ps_errno_state(), "could not open layer file \"%s\": %m", path);
	pfree(path);
	return err;
}

PsError *
layer_save_fetched(Layer *layer)
{
	PsError *err = NULL;

	if (layer->space->source == NULL)
		return NULL;
	if (layer_acquire_if_open(layer))
	{
		if (layer->file->cache != NULL)
			err = presence_save(layer->file->cache->presence, layer->file->fd, layer->file->path);
		layer_release(layer);
	}
	else if (layer_begin_opening(layer))
	{
		err = save_closed(layer);
		layer_give_up_opening(layer, NULL);
	}
	return err;
}

void
layer_file_free(Layer *layer)
{
	char name[LAYER_NAME_MAX];

	(void) layer_close_if_unused(layer, FILE_CLOSED);
	if (atomic_load_explicit(&layer->removed, memory_order_relaxed))
	{
		layer_remove_file(layer->space, layer_name(layer, name), "");
		if (layer->space->source != NULL)
			layer_remove_file(layer->space, name, PRESENCE_SUFFIX);
	}
	else
	{
		PsError *err = save_closed(layer);

		if (err != NULL)
			ps_log_error(PS_WARNING, err, "what was fetched of a layer is not kept");
	}
	layer_cache_free(layer->cache);
}
