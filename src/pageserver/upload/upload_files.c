/*
 * upload_files.c
 *	  Puts the layer files of a batch into the bucket.
 *
 * Files that a merge has dropped meanwhile may not exist any more.  That merge has been noted
 * before it removed them: what is pending is added to the batch, which does not need them then.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/clock.h"
#include "sqlstate.h"
#include "upload/upload_impl.h"

static json_t *
timelines_of(const LogChange *change)
{
	return json_object_get(change->json, "timelines");
}

/* What was flushed comes first: it is what a lost machine would lose. */
static int
compare_files(const void *a, const void *b)
{
	const UploadFile *x = a;
	const UploadFile *y = b;

	if (x->level != y->level)
		return x->level - y->level;
	return x->key.number < y->key.number ? -1 : x->key.number > y->key.number;
}

/* Files that some threads put together.  Under TenantUpload.lock. */
typedef struct Round
{
	TenantUpload *up;
	UploadFileList list;
	int next;
	int running; /* threads */
	PsError *err;
	const UploadFile *vanished;
} Round;

static void *
put_main(void *arg)
{
	Round *round = arg;
	TenantUpload *up = round->up;

	pthread_mutex_lock(&up->lock);
	while (round->next < round->list.n && round->err == NULL && round->vanished == NULL)
	{
		const UploadFile *file = &round->list.files[round->next++];
		char key[BUCKET_KEY_TEXT];
		bool vanished;
		PsError *err;

		pthread_mutex_unlock(&up->lock);
		err = upload_put_file(up, file, &vanished);
		pthread_mutex_lock(&up->lock);
		round->err = ps_error_first(round->err, err);
		if (vanished)
			round->vanished = file;
		if (err == NULL && !vanished)
		{
			json_object_set_new(up->put, bucket_key_format(&file->key, key), json_string(file->name));
			up->batch_files--;
			up->batch_bytes -= file->bytes;
		}
	}
	round->running--;
	pthread_cond_broadcast(&up->changed);
	pthread_mutex_unlock(&up->lock);
	return NULL;
}

/* Puts the files of the list; commits members when somebody waits for them.  The lock is not held. */
static PsError *
put_round(Round *round)
{
	TenantUpload *up = round->up;
	pthread_t threads[UPLOAD_THREADS];
	int n = 0;
	int rc = 0;
	PsError *err = NULL;

	pthread_mutex_lock(&up->lock);
	while (n < Min(UPLOAD_THREADS, round->list.n))
	{
		round->running++;
		rc = pthread_create(&threads[n], NULL, put_main, round);
		if (rc != 0)
		{
			round->running--;
			break;
		}
		n++;
	}
	while (round->running > 0)
	{
		if (err != NULL || !upload_members_due(up))
		{
			pthread_cond_wait(&up->changed, &up->lock);
			continue;
		}
		pthread_mutex_unlock(&up->lock);
		err = upload_commit_members(up);
		pthread_mutex_lock(&up->lock);
		if (err != NULL)
			round->next = round->list.n;
	}
	pthread_mutex_unlock(&up->lock);
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	if (err != NULL)
	{
		ps_error_free(round->err);
		round->err = err;
	}
	if (n == 0 && round->list.n > 0)
	{
		errno = rc;
		round->err = ps_error(PS_SQLSTATE_OUT_OF_MEMORY, "could not start a thread that uploads files: %m");
	}
	return round->err;
}

/*
 * A file of the batch does not exist.  Adds what is pending to the batch; if there is nothing,
 * the file is missing, and its timeline is not uploaded any more, so that the others are.  If the
 * whole timeline does not exist, it is being removed for good.
 */
static void
note_vanished(TenantUpload *up, const UploadFile *file)
{
	char *dir = psprintf("%s/timelines/%s", up->dir, file->id);
	bool is_removed = access(dir, F_OK) != 0;

	pthread_mutex_lock(&up->lock);
	if (up->noted > up->sealed)
	{
		log_change_fold(&up->batch, &up->pending);
		log_change_free(&up->pending);
		log_change_init(&up->pending);
		up->sealed = up->noted;
	}
	else
	{
		if (!is_removed)
			ps_log(PS_WARNING, "layer file \"%s/layers/%s\" is missing: the branch is not uploaded any more", dir,
				   file->name);
		upload_find(up, file->id)->frozen = true;
		json_object_del(timelines_of(&up->batch), file->id);
	}
	pthread_mutex_unlock(&up->lock);
	pfree(dir);
}

static void
list_batch(TenantUpload *up, UploadFileList *list)
{
	const char *id;
	json_t *record;
	int64 bytes = 0;

	json_object_foreach(timelines_of(&up->batch), id, record)
		upload_list_missing(up, id, record, list);
	qsort(list->files, list->n, sizeof(UploadFile), compare_files);
	for (int i = 0; i < list->n; i++)
		bytes += list->files[i].bytes;
	pthread_mutex_lock(&up->lock);
	up->batch_files = list->n;
	up->batch_bytes = bytes;
	pthread_mutex_unlock(&up->lock);
}

PsError *
upload_put_files(TenantUpload *up)
{
	PsError *err = NULL;
	bool again = true;

	while (again && err == NULL)
	{
		Round round = {.up = up};

		list_batch(up, &round.list);
		if (round.list.n > 0)
			err = put_round(&round);
		again = round.vanished != NULL;
		if (again)
			note_vanished(up, round.vanished);
		upload_free_list(&round.list);
	}
	return err;
}
