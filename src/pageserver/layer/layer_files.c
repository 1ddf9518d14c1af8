/*
 * layer_files.c
 *	  Which layer files are open: at most as many as layer_set_max_open() says.
 *
 * A file is opened, mapped and checked when somebody uses it for the first
 * time, and stays open until others need its place.  Of those that nobody uses
 * the one goes that has not been used for about the longest time (the clock
 * algorithm, as PostgreSQL's buffers have it).  If all are in use the number is
 * exceeded for as long as that lasts: nobody waits.
 *
 * Layer.users is -1 while the file is closed, else the number of users.  It
 * alone says whether Layer.file may be looked at, so finding a file open takes
 * no lock.  From -1 to 1 it goes under the layer's open lock, from 0 to -1 under
 * files.lock.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <unistd.h>

#include "layer/layer_impl.h"

/* Until layer_set_max_open() is called, as in tests and tools. */
#define DEFAULT_MAX_OPEN 512

/* Of all layers of the process. */
static struct
{
	pthread_mutex_t lock; /* a leaf; protects what follows, Layer.place and removal from Layer.file */
	int max_open;
	int nopen;    /* files that are open or being opened */
	Layer **open; /* those that are open */
	int n;
	int cap;
	int hand;             /* where the search for one to close goes on */
	atomic_bool exceeded; /* more than max_open are; looked at without the lock */
} files = {.lock = PTHREAD_MUTEX_INITIALIZER, .max_open = DEFAULT_MAX_OPEN};

/* Held while a file is opened, so that it is opened once: by the layer's number. */
static pthread_mutex_t open_locks[16] = {
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER,
	PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER};

static pthread_mutex_t *
open_lock_of(const Layer *layer)
{
	return &open_locks[layer->info.number % lengthof(open_locks)];
}

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

/* ---- under files.lock ---- */

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

/* Closes a file that nobody uses; false: there is none. */
static bool
close_one(void)
{
	for (int looks = 0; looks < 2 * files.n; looks++)
	{
		Layer *layer;
		int nobody = 0;

		files.hand = (files.hand + 1) % files.n;
		layer = files.open[files.hand];
		if (atomic_exchange_explicit(&layer->used, false, memory_order_relaxed))
			continue;
		if (!atomic_compare_exchange_strong_explicit(&layer->users, &nobody, -1, memory_order_acq_rel, memory_order_relaxed))
			continue;
		layer_file_close(take_out(layer));
		return true;
	}
	return false;
}

/* ---- */

/* Closes what must be closed before "more" are opened, which then count as open. */
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

/* The same of one for who can do without: false if so many are in use that there is no room. */
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

/* A file that was opened becomes the layer's, whose user the caller is. */
static void
set_file(Layer *layer, LayerFile *file)
{
	pthread_mutex_lock(&files.lock);
	layer->file = file;
	put_in(layer);
	atomic_store_explicit(&layer->used, true, memory_order_relaxed);
	atomic_store_explicit(&layer->users, 1, memory_order_release);
	pthread_mutex_unlock(&files.lock);
}

/* Is it the file that the manifest means? */
static PsError *
check_info(const Layer *layer, const LayerFile *file)
{
	const LayerInfo *info = &layer->info;
	const LayerSummary *summary = &file->summary;

	if (info->level == summary->level && info->entries == summary->entries && info->file_size == summary->file_size)
		return NULL;
	return layer_damaged(file->path, 0,
						 "by its summary it has level %d, %llu entries and %llu bytes, by the manifest level %d, %llu entries and %llu bytes",
						 summary->level, (unsigned long long) summary->entries, (unsigned long long) summary->file_size, info->level,
						 (unsigned long long) info->entries, (unsigned long long) info->file_size);
}

static void
discard(LayerFile *file)
{
	layer_file_close(file);
	unreserve();
}

/*
 * A file whose first block was read becomes the layer's, or after an error is
 * closed.  Caller holds the layer's open lock.
 */
static PsError *
begin_use(Layer *layer, LayerFile *file, const uint8 *block)
{
	char name[LAYER_NAME_MAX];
	PsError *err = layer_file_begin(file, layer->space, layer_name(layer, name), block);

	if (err == NULL)
		err = check_info(layer, file);
	if (err != NULL)
		discard(file);
	else
		set_file(layer, file);
	return err;
}

/* Opens a file, whatever their number, and reads its first block. */
static PsError *
open_and_read(const LayerSpace *space, const char *name, LayerFile **file, uint8 *block)
{
	PsError *err;

	make_room(1);
	err = layer_file_open(space, name, file);
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

/* Caller holds the layer's open lock. */
static PsError *
open_file(Layer *layer)
{
	LayerFile *file;
	char name[LAYER_NAME_MAX];
	uint8 block[LAYER_BLOCK_SIZE];

	PS_TRY(open_and_read(layer->space, layer_name(layer, name), &file, block));
	return begin_use(layer, file, block);
}

bool
layer_acquire_if_open(const Layer *shared)
{
	Layer *layer = (Layer *) shared;
	int users = atomic_load_explicit(&layer->users, memory_order_relaxed);

	while (users >= 0)
		if (atomic_compare_exchange_weak_explicit(&layer->users, &users, users + 1, memory_order_acquire, memory_order_relaxed))
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
	pthread_mutex_t *lock = open_lock_of(layer);
	PsError *err = NULL;

	if (layer_acquire_if_open(layer))
		return NULL;
	pthread_mutex_lock(lock);
	if (!layer_acquire_if_open(layer))
		err = open_file(layer);
	pthread_mutex_unlock(lock);
	return err;
}

bool
layer_open_ahead(const Layer *layer, LayerFile **file)
{
	char name[LAYER_NAME_MAX];
	PsError *err;

	if (!reserve_if_room())
		return false;
	err = layer_file_open(layer->space, layer_name(layer, name), file);
	if (err == NULL)
		return true;
	unreserve();
	ps_error_free(err);
	return false;
}

bool
layer_opened_ahead(const Layer *shared, LayerFile *file, const uint8 *block)
{
	Layer *layer = (Layer *) shared;
	pthread_mutex_t *lock = open_lock_of(layer);
	PsError *err = NULL;

	if (block == NULL)
	{
		discard(file);
		return false;
	}
	pthread_mutex_lock(lock);
	if (layer_acquire_if_open(layer))
		discard(file); /* another thread was faster */
	else
		err = begin_use(layer, file, block);
	pthread_mutex_unlock(lock);
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

void
layer_space_skip(LayerSpace *space, uint64 number)
{
	unsigned long long next = atomic_load(&space->next_number);

	while (next <= number && !atomic_compare_exchange_weak(&space->next_number, &next, number + 1))
		;
}

static Layer *
make_layer(LayerSpace *space, const LayerInfo *info)
{
	Layer *layer = pg_malloc0(sizeof(Layer));

	layer_space_skip(space, info->number);
	layer->info = *info;
	layer->space = space;
	atomic_init(&layer->refs, 1);
	atomic_init(&layer->users, -1);
	return layer;
}

Layer *
layer_known(LayerSpace *space, const LayerInfo *info)
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
	err = layer_file_begin(file, space, name, block);
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
		layer_file_close(file);
	if (atomic_load_explicit(&layer->removed, memory_order_relaxed))
	{
		char name[LAYER_NAME_MAX];
		char *path = psprintf("%s/%s", layer->space->dir, layer_name(layer, name));

		/* with a deleted branch its directory may have gone elsewhere, to be removed whole */
		if (unlink(path) != 0 && errno != ENOENT)
			ps_log(PS_WARNING, "could not remove layer file \"%s\": %m", path);
		pfree(path);
	}
}
