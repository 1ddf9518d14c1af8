/*
 * upload_put.c
 *	  Puts layer files into the bucket.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "layer/layer.h"
#include "sqlstate.h"
#include "upload/upload_impl.h"

/* How long a request for a file may take: this, and as long as 1 MB/s takes, ms. */
#define FILE_TIMEOUT 60000

static json_t *
timelines_of(const LogChange *change)
{
	return json_object_get(change->json, "timelines");
}

/* ---- which files ---- */

void
upload_free_list(UploadFileList *list)
{
	for (int i = 0; i < list->n; i++)
		free(list->files[i].name);
	free(list->files);
}

void
upload_list_missing(TenantUpload *up, const char *id, const json_t *record, UploadFileList *list)
{
	json_t *there = json_object_get(json_object_get(timelines_of(tenant_log_state(up->log)), id), "layers");
	json_t *layers = json_object_get(record, "layers");
	const char *name;
	json_t *text;

	json_object_foreach(layers != NULL ? layers : json_object_get(record, "add"), name, text)
	{
		UploadFile file = {.key = {.kind = BUCKET_KEY_LAYER, .tenant = up->options.tenant}};
		char key[BUCKET_KEY_TEXT];
		const char *size = strstr(json_string_value(text), " level ");
		LayerInfo info;
		long long bytes;
		bool was_put;

		if (json_object_get(there, name) != NULL || !layer_name_parse(name, &info) ||
			!ps_id_parse(id, &file.key.timeline))
			continue;
		file.key.number = info.number;
		pthread_mutex_lock(&up->lock);
		was_put = json_object_get(up->put, bucket_key_format(&file.key, key)) != NULL;
		pthread_mutex_unlock(&up->lock);
		if (was_put)
			continue;
		if (size != NULL && sscanf(size, " level %d entries %*u bytes %lld", &file.level, &bytes) == 2)
			file.bytes = bytes;
		strlcpy(file.id, id, sizeof(file.id));
		file.name = pg_strdup(name);
		list->files = pg_realloc(list->files, (list->n + 1) * sizeof(UploadFile));
		list->files[list->n++] = file;
	}
}

/* ---- putting ---- */

PsError *
upload_put_file(TenantUpload *up, const UploadFile *file, bool *vanished)
{
	CancelCheck cancel;
	ObjectWait wait = upload_request(up, &cancel, FILE_TIMEOUT + file->bytes / 1000);
	char *path = psprintf("%s/timelines/%s/layers/%s", up->dir, file->id, file->name);
	char key[BUCKET_KEY_TEXT];
	PsError *err = object_put_file(up->owner.store, bucket_key_format(&file->key, key), path, &wait);

	*vanished = err != NULL && access(path, F_OK) != 0 && errno == ENOENT;
	if (*vanished)
	{
		ps_error_free(err);
		err = NULL;
	}
	pfree(path);
	return err;
}

PsError *
upload_put_record(TenantUpload *up, const char *id, const json_t *record, bool *vanished)
{
	UploadFileList list = {0};
	PsError *err = NULL;

	*vanished = false;
	upload_list_missing(up, id, record, &list);
	for (int i = 0; i < list.n && err == NULL && !*vanished; i++)
	{
		char key[BUCKET_KEY_TEXT];

		err = upload_put_file(up, &list.files[i], vanished);
		if (err == NULL && !*vanished)
		{
			pthread_mutex_lock(&up->lock);
			json_object_set_new(up->put, bucket_key_format(&list.files[i].key, key),
								json_string(list.files[i].name));
			pthread_mutex_unlock(&up->lock);
		}
	}
	upload_free_list(&list);
	return err;
}
