/*
 * layer_stream.c
 *	  Work that reads whole layers once, past the cache: see layer_stream.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/hashfn.h"
#include "common/logging.h"

#include "base/fs.h"
#include "layer/layer_stream.h"
#include "sqlstate.h"

/* The largest window, in units. */
#define WINDOW_UNITS 32

/* Files of a thread that stay open although nobody holds them. */
#define MAX_IDLE 64

uint64 layer_stream_keep = (uint64) 4 * WINDOW_UNITS * PRESENCE_UNIT;

/* Units that may be dropped. */
typedef struct Window
{
	uint32 first;
	uint32 n;
} Window;

/* Sequential access: to the values, or to the index. */
typedef struct Ahead
{
	uint32 next; /* unit after the last window */
	uint32 n;    /* units of that window; 0: there was none */
} Ahead;

struct StreamFile
{
	Layer *layer; /* referenced */
	LayerFile *file;
	LayerCache *cache;
	LayerFile *local; /* the part file, which is acquired; NULL: there is none, or it is not trusted */
	bool is_acquired; /* the part file */
	int users;
	int holds;
	uint64 last_use;
	Ahead ahead[2];
	uint32 last_page; /* of the index */
	Window *windows;  /* in the order in which they were fetched */
	int first;
	int nwindows;
	int cap;
	uint64 kept;    /* bytes in windows */
	uint64 limit;   /* of kept, while the file is not in use */
	uint64 fetched; /* bytes, since the limit was raised last */
};

typedef struct StreamEntry
{
	const Layer *layer;
	StreamFile *file;
	char status;
} StreamEntry;

#define SH_PREFIX          streamset
#define SH_ELEMENT_TYPE    StreamEntry
#define SH_KEY_TYPE        const Layer *
#define SH_KEY             layer
#define SH_HASH_KEY(tb, k) murmurhash32((uint32) ((uintptr_t) (k) >> 4))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE           static inline
#define SH_RAW_ALLOCATOR   pg_malloc0
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

/* Belongs to one thread. */
struct LayerStream
{
	struct streamset_hash *files;
	StreamFile *last; /* the one that was found last, or NULL */
	uint64 uses;
};

LayerStream *
layer_stream_begin(void)
{
	LayerStream *stream;

	if (layer_context.stream != NULL)
		return NULL;
	stream = pg_malloc0(sizeof(LayerStream));
	stream->files = streamset_create(16, NULL);
	layer_context.stream = stream;
	return stream;
}

static StreamFile *
find(LayerStream *stream, const Layer *layer)
{
	StreamEntry *entry;

	if (stream->last != NULL && stream->last->layer == layer)
		return stream->last;
	entry = streamset_lookup(stream->files, layer);
	if (entry == NULL)
		return NULL;
	stream->last = entry->file;
	return entry->file;
}

/* ---- opening and closing ---- */

/* Creates a file without a name in the directory of a space.  Returns -1 with errno set. */
static int
create_unnamed(const LayerSpace *space, const char *name)
{
	int fd = layer_open_descriptor(space->dir, O_TMPFILE | O_RDWR);
	char *path;

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	/* the file system has no such files */
	path = psprintf("%s/%s.tmp", space->dir, name);
	fd = layer_open_descriptor(path, O_CREAT | O_EXCL | O_RDWR);
	if (fd >= 0)
		(void) unlink(path);
	pfree(path);
	return fd;
}

/* Acquires the layer's part file if there is one; an error means that there is none. */
static void
acquire_local(StreamFile *stream, const char *path)
{
	char *part = psprintf("%s%s", path, PRESENCE_SUFFIX);
	PsError *err;

	if (access(part, F_OK) == 0)
	{
		err = layer_acquire_local(stream->layer);
		stream->is_acquired = err == NULL;
		if (err == NULL && stream->layer->file->cache != NULL)
			stream->local = stream->layer->file;
		ps_error_free(err);
	}
	pfree(part);
}

static void
free_stream_file(StreamFile *stream)
{
	if (stream->is_acquired)
		layer_release_local(stream->layer);
	if (stream->file != NULL)
		layer_discard_file(stream->file);
	layer_cache_free(stream->cache);
	layer_unref(stream->layer);
	free(stream->windows);
	free(stream);
}

static void
close_stream_file(LayerStream *stream, StreamFile *file)
{
	if (stream->last == file)
		stream->last = NULL;
	streamset_delete(stream->files, file->layer);
	free_stream_file(file);
}

/* Closes the file that was not used for longest, if there are many. */
static void
limit_idle(LayerStream *stream)
{
	streamset_iterator it;
	StreamEntry *entry;
	StreamFile *oldest = NULL;

	if (stream->files->members < MAX_IDLE)
		return;
	streamset_start_iterate(stream->files, &it);
	while ((entry = streamset_iterate(stream->files, &it)) != NULL)
		if (entry->file->users == 0 && entry->file->holds == 0 &&
			(oldest == NULL || entry->file->last_use < oldest->last_use))
			oldest = entry->file;
	if (oldest != NULL)
		close_stream_file(stream, oldest);
}

static PsError *
open_stream_file(LayerStream *stream, const Layer *layer, const char *path, StreamFile **result)
{
	StreamFile *file = pg_malloc0(sizeof(StreamFile));
	char name[LAYER_NAME_MAX];
	int fd;
	bool found;
	PsError *err;

	limit_idle(stream);
	file->layer = layer_ref((Layer *) layer);
	file->last_page = BTREE_NO_PART;
	file->limit = layer->info.type == LAYER_DELTA && layer->info.level == 0 ? PG_UINT64_MAX : layer_stream_keep;
	fd = create_unnamed(layer->space, layer_name(layer, name));
	if (fd < 0 || ftruncate(fd, (off_t) presence_part_size(layer->info.file_size)) != 0)
	{
		err = ps_error(ps_errno_state(), "could not create a file in \"%s\": %m", layer->space->dir);
		if (fd >= 0)
			close(fd);
		free_stream_file(file);
		return err;
	}
	file->cache = pg_malloc0(sizeof(LayerCache));
	file->cache->space = layer->space;
	file->cache->info = &file->layer->info;
	file->cache->presence = presence_create(layer->info.file_size);
	file->cache->stream = file;
	file->file = layer_adopt_descriptor(fd, path, file->cache);
	acquire_local(file, path);
	err = layer_file_read_and_prepare(file->file, layer->space, name, layer);
	if (err != NULL)
	{
		free_stream_file(file);
		return err;
	}
	streamset_insert(stream->files, layer, &found)->file = file;
	*result = file;
	return NULL;
}

void
layer_stream_end(LayerStream *stream)
{
	streamset_iterator it;
	StreamEntry *entry;

	if (stream == NULL)
		return;
	Assert(layer_context.stream == stream);
	layer_context.stream = NULL;
	streamset_start_iterate(stream->files, &it);
	while ((entry = streamset_iterate(stream->files, &it)) != NULL)
		free_stream_file(entry->file);
	streamset_destroy(stream->files);
	free(stream);
}

/* ---- using a file ---- */

PsError *
layer_stream_acquire(const Layer *layer, bool *acquired)
{
	LayerStream *stream = layer_context.stream;
	StreamFile *file = find(stream, layer);

	*acquired = true;
	if (file == NULL)
	{
		char name[LAYER_NAME_MAX];
		char *path;
		PsError *err = NULL;

		if (layer_acquire_if_open(layer))
		{
			if (layer->file->cache == NULL)
				return NULL;
			layer_release_local(layer);
		}
		path = psprintf("%s/%s", layer->space->dir, layer_name(layer, name));
		*acquired = access(path, F_OK) != 0;
		if (*acquired)
			err = open_stream_file(stream, layer, path, &file);
		pfree(path);
		if (err != NULL || !*acquired)
			return err;
	}
	file->users++;
	file->last_use = ++stream->uses;
	return NULL;
}

LayerFile *
layer_stream_file(const Layer *layer)
{
	StreamFile *file = find(layer_context.stream, layer);

	return file != NULL ? file->file : layer->file;
}

/* Drops the oldest windows until the rest is below the limit. */
static void
trim(StreamFile *file)
{
	while (file->kept > file->limit && file->nwindows > 0)
	{
		Window window = file->windows[file->first];
		uint64 offset = (uint64) window.first * PRESENCE_UNIT;
		uint64 len = 0;

		file->first++;
		file->nwindows--;
		for (uint32 i = 0; i < window.n; i++)
		{
			presence_clear(file->cache->presence, window.first + i);
			len += presence_unit_len(file->cache->presence, window.first + i);
		}
		btree_forget(&file->file->index, offset, len);
		file->last_page = BTREE_NO_PART;
		/* if the file system cannot do this, the bytes stay until the file is closed */
		(void) fallocate(file->file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t) offset, (off_t) len);
		file->kept -= len;
	}
}

bool
layer_stream_release(const Layer *layer)
{
	StreamFile *file = find(layer_context.stream, layer);

	if (file == NULL)
		return false;
	if (--file->users == 0)
		trim(file);
	return true;
}

void
layer_stream_trim(const Layer *layer)
{
	StreamFile *file = layer_is_in_stream(layer) ? find(layer_context.stream, layer) : NULL;

	if (file != NULL && file->users == 1)
		trim(file);
}

void
layer_stream_hold(const Layer *layer)
{
	StreamFile *file = layer_is_in_stream(layer) ? find(layer_context.stream, layer) : NULL;

	if (file != NULL)
		file->holds++;
}

void
layer_stream_let_go(const Layer *layer, bool done)
{
	StreamFile *file = layer_is_in_stream(layer) ? find(layer_context.stream, layer) : NULL;

	if (file == NULL)
		return;
	file->holds -= file->holds > 0;
	if (done && file->holds == 0 && file->users == 0)
		close_stream_file(layer_context.stream, file);
}

/* ---- fetching ---- */

void
layer_stream_copy(StreamFile *stream, uint64 offset, size_t len)
{
	const LayerFile *local = stream->local;
	Presence *presence = stream->cache->presence;
	uint64 end = (offset + len + PRESENCE_UNIT - 1) / PRESENCE_UNIT;
	char *buf;

	if (local == NULL || presence_has(presence, offset, len))
		return;
	buf = pg_malloc(PRESENCE_UNIT);
	for (uint32 unit = (uint32) (offset / PRESENCE_UNIT); unit < end; unit++)
	{
		size_t n = presence_unit_len(presence, unit);
		off_t at = (off_t) unit * PRESENCE_UNIT;

		/* after a failure it is fetched */
		if (presence_has_unit(presence, unit) || !presence_has_unit(local->cache->presence, unit) ||
			pread(local->fd, buf, n, at) != (ssize_t) n || !fs_pwrite(stream->file->fd, buf, n, at))
			continue;
		presence_set(presence, unit);
		layer_stream_stored(stream, unit, 1);
	}
	free(buf);
}

uint32
layer_stream_window(StreamFile *stream, uint32 unit)
{
	const LayerInfo *info = stream->cache->info;
	uint64 index_start = stream->file->summary.index_start;
	Ahead *ahead = &stream->ahead[(uint64) unit * PRESENCE_UNIT >= index_start];

	/* the ends of the file, when it is opened */
	if (index_start == 0)
		return 1;
	if (info->type == LAYER_DELTA && info->level == 0)
		ahead->n = WINDOW_UNITS;
	else if (ahead->n > 0 && unit == ahead->next)
		ahead->n = Min(2 * ahead->n, WINDOW_UNITS);
	else
		ahead->n = 1;
	ahead->next = unit + ahead->n;
	return ahead->n;
}

void
layer_stream_stored(StreamFile *stream, uint32 first, uint32 n)
{
	uint32 last = presence_units(stream->cache->presence) - 1;

	/* the ends of the file are never dropped */
	if (first == 0)
	{
		first++;
		n--;
	}
	if (n > 0 && first + n - 1 == last)
		n--;
	if (n == 0)
		return;
	if (stream->first + stream->nwindows == stream->cap)
	{
		if (stream->first > 0)
			memmove(stream->windows, stream->windows + stream->first, stream->nwindows * sizeof(Window));
		stream->first = 0;
		stream->cap = Max(stream->cap, 2 * stream->nwindows + 64);
		stream->windows = pg_realloc(stream->windows, stream->cap * sizeof(Window));
	}
	stream->windows[stream->first + stream->nwindows++] = (Window) {first, n};
	stream->kept += (uint64) n * PRESENCE_UNIT;
	stream->fetched += (uint64) n * PRESENCE_UNIT;
	if (stream->fetched > stream->cache->info->file_size && stream->limit < PG_UINT64_MAX / 2)
	{
		/* what was dropped is needed again */
		stream->limit *= 2;
		stream->fetched = 0;
	}
}

bool
layer_stream_is_last_page(StreamFile *stream, uint32 number)
{
	bool same = stream->last_page == number;

	stream->last_page = number;
	return same;
}

void
layer_stream_distrust(StreamFile *stream)
{
	stream->local = NULL;
}
