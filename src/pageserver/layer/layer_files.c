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
 * FILE_OPENING, which takes no lock, owns the layer's file until it changes it
 * back, or to 1, under files.lock.  Others that need the file wait for that, and
 * nobody else does.  It changes from 0 to FILE_CLOSED under files.lock, and
 * otherwise without a lock.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "layer/layer_dict.h"
#include "layer/layer_impl.h"

/* Values of Layer.users if it is not the number of users; layer_new() sets the first one. */
#define FILE_CLOSED  (-1)
#define FILE_OPENING (-2)

/* Before layer_set_max_open() is called, as in tests and tools. */
#define DEFAULT_MAX_OPEN 512

/* All layer files of the process. */
static struct
{
	pthread_mutex_t lock; /* a leaf in the lock order; protects the fields below, Layer.place and Layer.file */
	int max_open;
	int nopen;    /* number of files that are open or being opened */
	Layer **open; /* the layers whose files are open */
	int n;
	int cap;
	int hand;              /* of the clock: where the next search for a file to close begins */
	atomic_bool exceeded;  /* nopen > max_open; read without the lock */
	int waiting;           /* threads that wait for a file that another thread is opening */
	pthread_cond_t opened; /* the users of a layer have changed from FILE_OPENING */
} files = {.lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER, .max_open = DEFAULT_MAX_OPEN};

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

/* Opens a file, without reading anything.  The caller has reserved a place for it. */
static PsError *
open_descriptor(const LayerSpace *space, const char *name, LayerFile **result)
{
	char *path = psprintf("%s/%s", space->dir, name);
	LayerFile *file;
	int fd;

	/* if other parts of the process have used up the descriptors, close layer files that are not in use */
	do
		fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd < 0 && (errno == EMFILE || errno == ENFILE) && layer_close_unused());
	if (fd < 0)
	{
		PsError *err = ps_error(ps_errno_state(), "could not open layer file \"%s\": %m", path);

		pfree(path);
		return err;
	}
	file = pg_malloc0(sizeof(LayerFile));
	file->path = path;
	file->fd = fd;
	*result = file;
	return NULL;
}

/* Checks a file's first block, and maps its index.  After an error the caller closes the file. */
static PsError *
prepare_file(LayerFile *file, const LayerSpace *space, const char *name, const uint8 *block)
{
	PS_TRY(layer_file_set_summary(file, space, name, block));
	return btree_open(&file->index, file);
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

/* Makes the calling thread the one that opens the file; false if it is open, or another thread is opening it. */
static bool
begin_opening(Layer *layer)
{
	int closed = FILE_CLOSED;

	return atomic_compare_exchange_strong_explicit(&layer->users, &closed, FILE_OPENING, memory_order_acquire,
												   memory_order_relaxed);
}

/* Sets the number of users after opening a file, or FILE_CLOSED.  Caller holds files.lock. */
static void
end_opening(Layer *layer, int users)
{
	atomic_store_explicit(&layer->users, users, memory_order_release);
	if (files.waiting > 0)
		pthread_cond_broadcast(&files.opened);
}

/* The file could not be opened. */
static void
give_up_opening(Layer *layer)
{
	pthread_mutex_lock(&files.lock);
	end_opening(layer, FILE_CLOSED);
	pthread_mutex_unlock(&files.lock);
}

bool
layer_wait_opened(const Layer *layer)
{
	int users;

	pthread_mutex_lock(&files.lock);
	files.waiting++;
	while ((users = atomic_load_explicit(&layer->users, memory_order_acquire)) == FILE_OPENING)
		pthread_cond_wait(&files.opened, &files.lock);
	files.waiting--;
	pthread_mutex_unlock(&files.lock);
	return users != FILE_CLOSED;
}

/* Sets the layer's file, which takes the place that was reserved; the caller becomes its user. */
static void
set_file(Layer *layer, LayerFile *file)
{
	pthread_mutex_lock(&files.lock);
	layer->file = file;
	put_in(layer);
	atomic_store_explicit(&layer->used, true, memory_order_relaxed);
	end_opening(layer, 1);
	pthread_mutex_unlock(&files.lock);
}

/* Is it the file that the manifest lists? */
static PsError *
check_info(const Layer *layer, const LayerFile *file)
{
	const LayerInfo *info = &layer->info;
	const LayerSummary *summary = &file->summary;

	if (info->level == summary->level && info->entries == summary->entries && info->file_size == summary->file_size)
		return NULL;
	return layer_damaged(file->path, 0,
						 "by its summary it has level %d, %llu entries and %llu bytes, "
						 "by the manifest level %d, %llu entries and %llu bytes",
						 summary->level, (unsigned long long) summary->entries, (unsigned long long) summary->file_size,
						 info->level, (unsigned long long) info->entries, (unsigned long long) info->file_size);
}

/* Closes a file that has not become a layer's, and gives up its place. */
static void
discard(LayerFile *file)
{
	close_file(file);
	unreserve();
}

/*
 * Makes an open file, whose first block was read, the layer's file; closes it
 * after an error.  The caller has begun to open it, and becomes its user.
 */
static PsError *
begin_use(Layer *layer, LayerFile *file, const uint8 *block)
{
	char name[LAYER_NAME_MAX];
	PsError *err = prepare_file(file, layer->space, layer_name(layer, name), block);

	if (err == NULL)
		err = check_info(layer, file);
	if (err == NULL)
	{
		set_file(layer, file);
		return NULL;
	}
	discard(file);
	give_up_opening(layer);
	return err;
}

/* Opens a file, even if this exceeds the limit, and reads its first block. */
static PsError *
open_and_read(const LayerSpace *space, const char *name, LayerFile **file, uint8 *block)
{
	PsError *err;

	make_room(1);
	err = open_descriptor(space, name, file);
	if (err != NULL)
	{
		unreserve();
		return err;
	}
	err = layer_file_read(*file, 0, block, LAYER_BLOCK_SIZE);
	if (err != NULL)
		discard(*file);
	return err;
}

/* Opens the layer's file; the caller has begun to open it, and becomes its user. */
static PsError *
open_file(Layer *layer)
{
	LayerFile *file;
	char name[LAYER_NAME_MAX];
	uint8 block[LAYER_BLOCK_SIZE];
	PsError *err = open_and_read(layer->space, layer_name(layer, name), &file, block);

	if (err == NULL)
		return begin_use(layer, file, block);
	give_up_opening(layer);
	return err;
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
			if (!atomic_load_explicit(&layer->used, memory_order_relaxed))
				atomic_store_explicit(&layer->used, true, memory_order_relaxed);
			return true;
		}
	return false;
}

PsError *
layer_acquire(const Layer *shared)
{
	Layer *layer = (Layer *) shared;

	while (!layer_acquire_if_open(layer))
	{
		if (begin_opening(layer))
			return open_file(layer);
		(void) layer_wait_opened(layer);
	}
	return NULL;
}

bool
layer_open_ahead(const Layer *shared, LayerFile **file, bool *elsewhere)
{
	Layer *layer = (Layer *) shared;
	char name[LAYER_NAME_MAX];
	PsError *err = NULL;

	*elsewhere = !begin_opening(layer);
	if (*elsewhere)
		return false;
	if (reserve_if_room())
	{
		err = open_descriptor(layer->space, layer_name(layer, name), file);
		if (err == NULL)
			return true;
		unreserve();
		ps_error_free(err);
	}
	give_up_opening(layer);
	return false;
}

bool
layer_opened_ahead(const Layer *shared, LayerFile *file, const uint8 *block)
{
	Layer *layer = (Layer *) shared;
	PsError *err;

	if (block == NULL)
	{
		discard(file);
		give_up_opening(layer);
		return false;
	}
	err = begin_use(layer, file, block);
	if (err == NULL)
		layer_release(layer);
	ps_error_free(err);
	return err == NULL;
}

void
layer_release(const Layer *layer)
{
	atomic_fetch_sub_explicit(&((Layer *) layer)->users, 1, memory_order_release);
	if (atomic_load_explicit(&files.exceeded, memory_order_relaxed))
		make_room(0);
}

/* ---- layers of files ---- */

const char *
layer_name(const Layer *layer, char name[LAYER_NAME_MAX])
{
	return layer_name_format(&layer->info, name);
}

void
layer_space_skip(LayerSpace *space, uint64 number)
{
	unsigned long long next = atomic_load(&space->next_number);

	while (next <= number && !atomic_compare_exchange_weak(&space->next_number, &next, number + 1))
		;
}

static void
remove_file(const LayerSpace *space, const char *name)
{
	char *path = psprintf("%s/%s", space->dir, name);

	/* the directory of a deleted branch may have been moved, to be removed as a whole */
	if (unlink(path) != 0 && errno != ENOENT)
		ps_log(PS_WARNING, "could not remove layer file \"%s\": %m", path);
	pfree(path);
}

static Layer *
make_layer(LayerSpace *space, const LayerInfo *info)
{
	Layer *layer = pg_malloc0(sizeof(Layer));

	layer_space_skip(space, info->number);
	layer->info = *info;
	layer->space = space;
	atomic_init(&layer->refs, 1);
	atomic_init(&layer->users, FILE_CLOSED);
	return layer;
}

Layer *
layer_new(LayerSpace *space, const LayerInfo *info)
{
	return make_layer(space, info);
}

PsError *
layer_open(LayerSpace *space, const char *name, Layer **layer)
{
	LayerFile *file;
	LayerInfo info;
	uint8 block[LAYER_BLOCK_SIZE];
	PsError *err;

	PS_TRY(open_and_read(space, name, &file, block));
	err = prepare_file(file, space, name, block);
	if (err != NULL)
	{
		discard(file);
		return err;
	}
	layer_summary_info(&file->summary, &info);
	*layer = make_layer(space, &info);
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
		remove_file(space, name);
	return err;
}

void
layer_remove(Layer *layer)
{
	atomic_store_explicit(&layer->removed, true, memory_order_relaxed);
}

void
layer_file_free(Layer *layer)
{
	LayerFile *file = NULL;

	pthread_mutex_lock(&files.lock);
	if (layer->file != NULL)
	{
		file = take_out(layer);
		files.nopen--;
	}
	pthread_mutex_unlock(&files.lock);
	if (file != NULL)
		close_file(file);
	if (atomic_load_explicit(&layer->removed, memory_order_relaxed))
	{
		char name[LAYER_NAME_MAX];

		remove_file(layer->space, layer_name(layer, name));
	}
}
