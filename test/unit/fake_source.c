/*
 * fake_source.c
 *	  A source of layers that is a directory: see fake_source.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fake_source.h"
#include "sqlstate.h"
#include "store/store_impl.h"

/* These also hold in threads, and without cmocka. */
static void
check(bool ok, const char *what, const char *path)
{
	if (ok)
		return;
	fprintf(stderr, "fake source: could not %s \"%s\": %s\n", what, path, strerror(errno));
	abort();
}

const char *
fake_source_path(FakeSource *fake, const LayerSpace *space, const LayerInfo *info, char *buf, size_t size)
{
	char name[LAYER_NAME_MAX];
	char id[PS_ID_TEXT];

	snprintf(buf, size, "%s/%s_%s", fake->dir, ps_id_format(&space->timeline, id), layer_name_format(info, name));
	return buf;
}

static const char *
object_name(LayerSource *source, const LayerSpace *space, const LayerInfo *info, char *buf, size_t size)
{
	char name[LAYER_NAME_MAX];

	snprintf(buf, size, "fake:%s", layer_name_format(info, name));
	return buf;
}

/* Waits while answers are held back. */
static PsError *
wait_held(FakeSource *fake, const CancelCheck *cancel)
{
	CancelWait wait = {.cancel = cancel};
	PsError *err = NULL;

	fake->held++;
	pthread_cond_broadcast(&fake->changed);
	while (fake->hold && err == NULL)
		err = cancel_wait(&wait, &fake->changed, &fake->lock, 1000);
	fake->held--;
	return err;
}

static PsError *
read_range(FakeSource *fake, LayerFetch *fetch, bool flip)
{
	char path[1024];
	ssize_t n;
	int fd = open(fake_source_path(fake, fetch->space, fetch->info, path, sizeof(path)), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" does not exist", path);
	n = pread(fd, fetch->buf, fetch->len, (off_t) fetch->offset);
	close(fd);
	if (n != (ssize_t) fetch->len || fake->truncate)
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" is too short", path);
	for (size_t i = 32; flip && i < fetch->len; i += 64)
		fetch->buf[i] ^= 0x10;
	return NULL;
}

static void
fetch_all(LayerSource *source, LayerFetch *fetches, int n, bool patient, const CancelCheck *cancel)
{
	FakeSource *fake = (FakeSource *) source;
	PsError *err = NULL;
	int nflip = 0;

	pthread_mutex_lock(&fake->lock);
	fake->rounds++;
	pthread_cond_broadcast(&fake->changed);
	fake->requests += n;
	fake->impatient += !patient;
	for (int i = 0; i < n; i++)
		fake->bytes += fetches[i].len;
	if (fake->hold)
		err = wait_held(fake, cancel);
	if (err == NULL && fake->full)
		err = ps_error(PS_SQLSTATE_DISK_FULL, "there is no room for what was fetched");
	if (err == NULL && fake->down)
		err = ps_error(PS_SQLSTATE_TRY_AGAIN, "the fake source is out of reach");
	if (fake->flip > 0 && !(fake->flip_one && fake->flipped == fetches[0].info->number))
	{
		nflip = fake->flip_one ? 1 : n;
		fake->flip--;
		fake->flipped = fetches[0].info->number;
	}
	else
		fake->flipped = 0;
	pthread_mutex_unlock(&fake->lock);
	for (int i = 0; i < n; i++)
		fetches[i].err = err != NULL ? ps_error_copy(err) : read_range(fake, &fetches[i], i < nflip);
	ps_error_free(err);
}

void
fake_source_begin(FakeSource *fake, const char *dir)
{
	memset(fake, 0, sizeof(*fake));
	fake->source.fetch = fetch_all;
	fake->source.object_name = object_name;
	strlcpy(fake->dir, dir, sizeof(fake->dir));
	check(mkdir(dir, 0700) == 0, "create", dir);
	pthread_mutex_init(&fake->lock, NULL);
	clock_cond_init(&fake->changed);
}

void
fake_source_end(FakeSource *fake)
{
	DIR *dir = opendir(fake->dir);
	struct dirent *de;

	check(dir != NULL, "open", fake->dir);
	while ((de = readdir(dir)) != NULL)
		if (de->d_name[0] != '.')
			(void) unlinkat(dirfd(dir), de->d_name, 0);
	closedir(dir);
	check(rmdir(fake->dir) == 0, "remove", fake->dir);
	pthread_mutex_destroy(&fake->lock);
	pthread_cond_destroy(&fake->changed);
}

void
fake_source_attach(FakeSource *fake, Store *store)
{
	int n;
	Branch **list = store_list(store, &n);

	for (int i = 0; i < n; i++)
		list[i]->tenant->env.source = &fake->source;
	store_list_free(list, n);
}

void
fake_source_put(FakeSource *fake, Layer *layer)
{
	const LayerSpace *space = layer->space;
	const LayerInfo *info = layer_info(layer);
	char name[LAYER_NAME_MAX];
	char from[1024];
	char to[1024];
	char *bytes;
	FILE *f;

	layer_set_remote(layer);
	if (access(fake_source_path(fake, space, info, to, sizeof(to)), F_OK) == 0)
		return;
	bytes = pg_malloc(info->file_size);
	snprintf(from, sizeof(from), "%s/%s", space->dir, layer_name(layer, name));
	f = fopen(from, "r");
	check(f != NULL && fread(bytes, 1, info->file_size, f) == info->file_size, "read", from);
	fclose(f);
	f = fopen(to, "w");
	check(f != NULL && fwrite(bytes, 1, info->file_size, f) == info->file_size && fclose(f) == 0, "write", to);
	free(bytes);
}

void
fake_source_reset(FakeSource *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->rounds = fake->requests = fake->impatient = 0;
	fake->bytes = 0;
	pthread_mutex_unlock(&fake->lock);
}

void
fake_source_flip(FakeSource *fake, int n)
{
	pthread_mutex_lock(&fake->lock);
	fake->flip = n;
	fake->flip_one = true;
	pthread_mutex_unlock(&fake->lock);
}

void
fake_source_set_hold(FakeSource *fake, bool hold)
{
	pthread_mutex_lock(&fake->lock);
	fake->hold = hold;
	pthread_cond_broadcast(&fake->changed);
	pthread_mutex_unlock(&fake->lock);
}

void
fake_source_wait_rounds(FakeSource *fake, int n)
{
	pthread_mutex_lock(&fake->lock);
	while (fake->rounds < n)
		clock_cond_wait(&fake->changed, &fake->lock, 1000);
	pthread_mutex_unlock(&fake->lock);
}

void
fake_source_wait_held(FakeSource *fake, int n)
{
	pthread_mutex_lock(&fake->lock);
	while (fake->held < n)
		clock_cond_wait(&fake->changed, &fake->lock, 1000);
	pthread_mutex_unlock(&fake->lock);
}
