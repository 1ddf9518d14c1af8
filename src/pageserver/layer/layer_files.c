/*
 * layer_files.c
 *	  Layers of files, and which of the files are open.
 *
 * A file is opened, mapped and checked when it is used first, and stays open
 * until another file needs its place.  Among the files that are not in use, the
 * one to close is chosen by the clock algorithm, as for PostgreSQL's buffers.
 * If all are in use the limit is exceeded while this lasts: nobody waits.
 *
 * Layer.users is the number of users of an open file, or FILE_CLOSED, or
 * FILE_OPENING.  It alone says whether Layer.file may be used, so a file that is
 * open is found without a lock.  The thread that changes it from FILE_CLOSED to
 * FILE_OPENING, which takes no lock, owns the layer's file, and Layer.cache, until
 * it changes it back, or to 1, under files.lock.  Others that need the file wait
 * for that, and nobody else does.  It changes from 0 to FILE_CLOSED, or to
 * FILE_OPENING for an eviction, under files.lock, and otherwise without a lock.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "layer/layer_cache.h"
#include "layer/layer_dict.h"
#include "layer/layer_impl.h"
#include "layer/layer_stream.h"

/* Before layer_set_max_open() is called, as in tests and tools. */
#define DEFAULT_MAX_OPEN 512

/* Interval for checking again whether a file was opened, ms; not needed for the wait to end. */
#define WAIT_MS 1000

/* The wait for a thread that opens a file.  Protected by files.lock. */
struct OpeningWait
{
	int users; /* threads that wait, or will look at err */
	bool done;
	PsError *err; /* why the file was not opened; NULL: it was, or is worth another attempt */
};

/* All layer files of the process. */
static struct
{
	/* a leaf in the lock order; protects the fields below, and Layer.place, file and opening */
	pthread_mutex_t lock;
	int max_open;
	int nopen;    /* number of files that are open or being opened */
	Layer **open; /* the layers whose files are open */
	int n;
	int cap;
	int hand;              /* of the clock: where the next search for a file to close begins */
	atomic_bool exceeded;  /* nopen > max_open; read without the lock */
	pthread_cond_t opened; /* OpeningWait.done was set */
	pthread_once_t once;   /* for "opened" */
} files = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT, .max_open = DEFAULT_MAX_OPEN};

void
layer_set_max_open(int max_open)
{
	pthread_mutex_lock(&files.lock);
	files.max_open = max_open;
	pthread_mutex_unlock(&files.lock);
}

int
layer_count_open(void)
{
	int n;

	pthread_mutex_lock(&files.lock);
	n = files.nopen;
	pthread_mutex_unlock(&files.lock);
	return n;
}

/* ---- opening and closing a file ---- */

static void
close_file(LayerFile *file)
{
	btree_close(&file->index);
	layer_dict_free(file->dict);
	close(file->fd);
	pfree(file->path);
	free(file);
}

int
layer_open_descriptor(const char *path, int flags)
{
	int fd;

	/* if other parts of the process have used up the descriptors, close layer files that are not in use */
	do
		fd = open(path, flags | O_CLOEXEC, 0600);
	while (fd < 0 && (errno == EMFILE || errno == ENFILE) && layer_close_unused());
	return fd;
}

static LayerFile *
make_file(int fd, char *path, LayerCache *cache)
{
	LayerFile *file = pg_malloc0(sizeof(LayerFile));

	file->path = path;
	file->fd = fd;
	file->cache = cache;
	return file;
}

/*
 * Opens a file, or the part file of a layer that the caller is opening, without
 * reading anything.  layer: NULL if there is none yet.  The caller has reserved a
 * place for the file.
 */
static PsError *
open_descriptor(const LayerSpace *space, const char *name, Layer *layer, LayerFile **result)
{
	char *path = psprintf("%s/%s", space->dir, name);
	LayerCache *cache = layer != NULL ? layer->cache : NULL;
	PsError *err = NULL;
	int fd = -1;

	if (cache == NULL)
		fd = layer_open_descriptor(path, O_RDONLY);
	if (fd < 0 && layer != NULL && space->source != NULL && (cache != NULL || errno == ENOENT))
	{
		char *part = psprintf("%s%s", path, PRESENCE_SUFFIX);

		pfree(path);
		path = part;
		err = layer_cache_open(space, &layer->info, path, &layer->cache, &fd);
		cache = layer->cache;
	}
	else if (fd < 0)
		err = ps_error(ps_errno_state(), "could not open layer file \"%s\": %m", path);
	if (err != NULL)
	{
		pfree(path);
		return err;
	}
	*result = make_file(fd, path, cache);
	return NULL;
}

/* ---- the set of open files; caller holds files.lock ---- */

static void
put_in(Layer *layer)
{
	if (files.n == files.cap)
	{
		files.cap = Max(64, files.cap * 2);
		files.open = pg_realloc(files.open, files.cap * sizeof(Layer *));
	}
	layer->place = files.n;
	files.open[files.n++] = layer;
}

static LayerFile *
take_out(Layer *layer)
{
	LayerFile *file = layer->file;

	files.open[layer->place] = files.open[--files.n];
	files.open[layer->place]->place = layer->place;
	layer->file = NULL;
	return file;
}

/* Closes a file that is not in use; returns false if there is none. */
static bool
close_one(void)
{
	for (int tries = 0; tries < 2 * files.n; tries++)
	{
		Layer *layer;
		int nobody = 0;

		files.hand = (files.hand + 1) % files.n;
		layer = files.open[files.hand];
		if (atomic_exchange_explicit(&layer->used, false, memory_order_relaxed))
			continue;
		if (!atomic_compare_exchange_strong_explicit(&layer->users, &nobody, FILE_CLOSED, memory_order_acq_rel,
													 memory_order_relaxed))
			continue;
		close_file(take_out(layer));
		return true;
	}
	return false;
}

/* ---- places for open files ---- */

/* Reserves places for "more" files, and closes others until the limit is met, if possible. */
static void
make_room(int more)
{
	pthread_mutex_lock(&files.lock);
	while (files.nopen + more > files.max_open && close_one())
		files.nopen--;
	files.nopen += more;
	atomic_store_explicit(&files.exceeded, files.nopen > files.max_open, memory_order_relaxed);
	pthread_mutex_unlock(&files.lock);
}

bool
layer_close_unused(void)
{
	int save_errno = errno;
	bool closed;

	pthread_mutex_lock(&files.lock);
	closed = close_one();
	if (closed)
		files.nopen--;
	pthread_mutex_unlock(&files.lock);
	errno = save_errno;
	return closed;
}

/* Reserves a place for one file, unless this would exceed the limit: then it returns false. */
static bool
reserve_if_room(void)
{
	bool room;

	pthread_mutex_lock(&files.lock);
	while (files.nopen >= files.max_open && close_one())
		files.nopen--;
	room = files.nopen < files.max_open;
	files.nopen += room;
	pthread_mutex_unlock(&files.lock);
	return room;
}

static void
unreserve(void)
{
	pthread_mutex_lock(&files.lock);
	files.nopen--;
	pthread_mutex_unlock(&files.lock);
}

bool
layer_begin_opening(Layer *layer)
{
	int closed = FILE_CLOSED;

	return atomic_compare_exchange_strong_explicit(&layer->users, &closed, FILE_OPENING, memory_order_acquire,
												   memory_order_relaxed);
}

/*
 * Sets the number of users after opening a file, or FILE_CLOSED.  err: why it was not
 * opened, for those that wait; not if it concerns this thread alone.  Caller holds
 * files.lock.
 */
static void
end_opening(Layer *layer, int users, const PsError *err)
{
	OpeningWait *wait = layer->opening;

	atomic_store_explicit(&layer->users, users, memory_order_release);
	if (wait == NULL)
		return;
	if (err != NULL && !err->is_cancel)
		wait->err = ps_error_copy(err);
	wait->done = true;
	layer->opening = NULL;
	pthread_cond_broadcast(&files.opened);
}

void
layer_give_up_opening(Layer *layer, const PsError *err)
{
	pthread_mutex_lock(&files.lock);
	end_opening(layer, FILE_CLOSED, err);
	pthread_mutex_unlock(&files.lock);
}

static void
init_condition(void)
{
	clock_cond_init(&files.opened);
}

/* Waits while another thread is opening the file; returns that thread's error, or why the wait was canceled. */
static PsError *
wait_opened(Layer *layer)
{
	CancelWait cancel_state = {.cancel = layer_context.cancel};
	OpeningWait *wait;
	PsError *err = NULL;

	pthread_once(&files.once, init_condition);
	pthread_mutex_lock(&files.lock);
	if (atomic_load_explicit(&layer->users, memory_order_relaxed) == FILE_OPENING)
	{
		if (layer->opening == NULL)
			layer->opening = pg_malloc0(sizeof(OpeningWait));
		wait = layer->opening;
		wait->users++;
		while (!wait->done && err == NULL)
			err = cancel_wait(&cancel_state, &files.opened, &files.lock, WAIT_MS);
		if (wait->done && wait->err != NULL)
			err = ps_error_first(err, ps_error_copy(wait->err));
		if (--wait->users == 0)
		{
			if (!wait->done)
				layer->opening = NULL;
			ps_error_free(wait->err);
			free(wait);
		}
	}
	pthread_mutex_unlock(&files.lock);
	return err;
}

bool
layer_wait_opened(const Layer *shared)
{
	Layer *layer = (Layer *) shared;

	/* a search that needs the file will meet the same error */
	ps_error_free(wait_opened(layer));
	return atomic_load_explicit(&layer->users, memory_order_relaxed) >= 0;
}

/* Sets the layer's file, which takes the place that was reserved; the caller becomes its user. */
static void
set_file(Layer *layer, LayerFile *file)
{
	pthread_mutex_lock(&files.lock);
	layer->file = file;
	put_in(layer);
	atomic_store_explicit(&layer->used, true, memory_order_relaxed);
	end_opening(layer, 1, NULL);
	pthread_mutex_unlock(&files.lock);
}

LayerFile *
layer_adopt_descriptor(int fd, const char *path, LayerCache *cache)
{
	make_room(1);
	return make_file(fd, pg_strdup(path), cache);
}

void
layer_discard_file(LayerFile *file)
{
	close_file(file);
	unreserve();
}

/*
 * Makes an open file the layer's file, or closes it after an error, which is
 * returned.  The caller has begun to open it, and becomes its user.
 */
static PsError *
finish_opening(Layer *layer, LayerFile *file, PsError *err)
{
	if (err == NULL)
		set_file(layer, file);
	else
	{
		layer_discard_file(file);
		layer_give_up_opening(layer, err);
	}
	return err;
}

/* Opens the layer's file, even if this exceeds the limit; the caller has begun to open it, and becomes its user. */
static PsError *
open_file(Layer *layer)
{
	LayerFile *file;
	char name[LAYER_NAME_MAX];
	PsError *err;

	make_room(1);
	err = open_descriptor(layer->space, layer_name(layer, name), layer, &file);
	if (err == NULL)
		return finish_opening(layer, file, layer_file_read_and_prepare(file, layer->space, name, layer));
	unreserve();
	layer_give_up_opening(layer, err);
	return err;
}

/* For the choice of files to close, and to evict. */
static void
note_use(Layer *layer)
{
	if (!atomic_load_explicit(&layer->used, memory_order_relaxed))
		atomic_store_explicit(&layer->used, true, memory_order_relaxed);
	if (unlikely(layer->space->source != NULL) && layer_context.by_client && layer_context.stream == NULL)
		atomic_store_explicit(&layer->last_read, (uint32) (clock_now_ms() / 60000), memory_order_relaxed);
}

bool
layer_acquire_if_open(const Layer *shared)
{
	Layer *layer = (Layer *) shared;
	int users = atomic_load_explicit(&layer->users, memory_order_relaxed);

	while (users >= 0)
		if (atomic_compare_exchange_weak_explicit(&layer->users, &users, users + 1, memory_order_acquire,
												  memory_order_relaxed))
		{
			note_use(layer);
			return true;
		}
	return false;
}

PsError *
layer_acquire(const Layer *layer)
{
	bool acquired;

	if (layer_is_in_stream(layer))
	{
		PS_TRY(layer_stream_acquire(layer, &acquired));
		if (acquired)
			return NULL;
	}
	return layer_acquire_local(layer);
}

PsError *
layer_acquire_local(const Layer *shared)
{
	Layer *layer = (Layer *) shared;
	PsError *err;

	while (!layer_acquire_if_open(layer))
	{
		if (layer_begin_opening(layer))
		{
			note_use(layer);
			err = open_file(layer);
			if (err == NULL)
				return NULL;
		}
		else
			err = wait_opened(layer);
		if (err == NULL)
			continue;
		if (layer->space->source == NULL || !layer_should_retry(err))
			return err;
		ps_error_free(err);
		PS_TRY(layer_pause_retry());
	}
	return NULL;
}

bool
layer_open_ahead(const Layer *shared, LayerFile **file, bool *elsewhere)
{
	Layer *layer = (Layer *) shared;
	char name[LAYER_NAME_MAX];
	PsError *err = NULL;

	*elsewhere = !layer_begin_opening(layer);
	if (*elsewhere)
		return false;
	if (reserve_if_room())
	{
		err = open_descriptor(layer->space, layer_name(layer, name), layer, file);
		if (err == NULL)
			return true;
		unreserve();
		ps_error_free(err);
	}
	layer_give_up_opening(layer, NULL);
	return false;
}

bool
layer_opened_ahead(const Layer *shared, LayerFile *file, const uint8 *block)
{
	Layer *layer = (Layer *) shared;
	char name[LAYER_NAME_MAX];
	PsError *err;

	if (block == NULL)
	{
		layer_discard_file(file);
		layer_give_up_opening(layer, NULL);
		return false;
	}
	err = finish_opening(layer, file, layer_file_prepare(file, layer->space, layer_name(layer, name), layer, block));
	if (err == NULL)
		layer_release(layer);
	ps_error_free(err);
	return err == NULL;
}

void
layer_release(const Layer *layer)
{
	if (!layer_is_in_stream(layer) || !layer_stream_release(layer))
		layer_release_local(layer);
}

void
layer_release_local(const Layer *layer)
{
	atomic_fetch_sub_explicit(&((Layer *) layer)->users, 1, memory_order_release);
	if (atomic_load_explicit(&files.exceeded, memory_order_relaxed))
		make_room(0);
}

/* ---- layers of files ---- */

PsError *
layer_open(LayerSpace *space, const char *name, Layer **layer)
{
	LayerFile *file;
	LayerInfo info;
	PsError *err;

	make_room(1);
	err = open_descriptor(space, name, NULL, &file);
	if (err != NULL)
	{
		unreserve();
		return err;
	}
	err = layer_file_read_and_prepare(file, space, name, NULL);
	if (err != NULL)
	{
		layer_discard_file(file);
		return err;
	}
	layer_summary_info(&file->summary, &info);
	*layer = layer_new(space, &info);
	set_file(*layer, file);
	layer_release(*layer);
	return NULL;
}

PsError *
layer_open_written(LayerSpace *space, const LayerSummary *summary, Layer **layer)
{
	LayerInfo info;
	char name[LAYER_NAME_MAX];
	PsError *err;

	layer_summary_info(summary, &info);
	err = layer_open(space, layer_name_format(&info, name), layer);
	if (err != NULL)
		layer_remove_file(space, name, "");
	return err;
}

bool
layer_close_if_unused(Layer *layer, int users)
{
	LayerFile *file = NULL;
	int nobody = 0;

	pthread_mutex_lock(&files.lock);
	if (atomic_compare_exchange_strong_explicit(&layer->users, &nobody, users, memory_order_acq_rel,
												memory_order_relaxed))
	{
		file = take_out(layer);
		files.nopen--;
	}
	pthread_mutex_unlock(&files.lock);
	if (file != NULL)
		close_file(file);
	return file != NULL;
}
