/*
 * purged.c
 *	  The timelines of a tenant that were removed for good: see purged.h.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/json_file.h"
#include "sqlstate.h"
#include "upload/ownership.h"
#include "upload/purged.h"

#define PURGED_FILE    "purged.json"
#define PURGED_VERSION 1

static const JsonFormat purged_format = {"file", "pageserver purged timelines", "version", PURGED_VERSION,
										 PURGED_VERSION, NULL};

/* One thread at a time changes a file; a leaf, held over its I/O. */
static pthread_mutex_t purged_lock = PTHREAD_MUTEX_INITIALIZER;

static PsError *
read_list(const char *path, PsId **list, int *n)
{
	json_t *root;
	const json_t *ids;
	PsError *err = NULL;

	*list = NULL;
	*n = 0;
	if (access(path, F_OK) != 0)
		return errno == ENOENT ? NULL : ps_error(ps_errno_state(), "could not access file \"%s\": %m", path);
	PS_TRY(json_file_read(&purged_format, path, &root));
	ids = json_object_get(root, "timelines");
	*list = pg_malloc((json_array_size(ids) + 1) * sizeof(PsId));
	for (size_t i = 0; i < json_array_size(ids) && err == NULL; i++)
	{
		const char *text = json_string_value(json_array_get(ids, i));

		if (text == NULL || !ps_id_parse(text, &(*list)[(*n)++]))
			err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" has an invalid member", path);
	}
	json_decref(root);
	if (err == NULL)
		return NULL;
	free(*list);
	*list = NULL;
	*n = 0;
	return err;
}

static PsError *
write_list(const char *path, const PsId *list, int n)
{
	json_t *ids = json_array();
	char id[PS_ID_TEXT];
	char *text;
	PsError *err;

	for (int i = 0; i < n; i++)
		json_array_append_new(ids, json_string(ps_id_format(&list[i], id)));
	PS_TRY(json_file_text(&purged_format, PURGED_VERSION, json_pack("{s:o}", "timelines", ids), path, &text));
	err = fs_replace_file(path, text, strlen(text), 0, NULL);
	free(text);
	return err;
}

PsError *
purged_add(const char *tenant_dir, const PsId *timeline)
{
	char *path;
	PsId *list;
	int n;
	PsError *err;

	if (!ownership_exists(tenant_dir))
		return NULL;
	path = psprintf("%s/" PURGED_FILE, tenant_dir);
	pthread_mutex_lock(&purged_lock);
	err = read_list(path, &list, &n);
	if (err == NULL)
	{
		list = pg_realloc(list, (n + 1) * sizeof(PsId));
		list[n++] = *timeline;
		err = write_list(path, list, n);
		free(list);
	}
	pthread_mutex_unlock(&purged_lock);
	pfree(path);
	return err;
}

PsError *
purged_read(const char *tenant_dir, PsId **list, int *n)
{
	char *path = psprintf("%s/" PURGED_FILE, tenant_dir);
	PsError *err;

	pthread_mutex_lock(&purged_lock);
	err = read_list(path, list, n);
	pthread_mutex_unlock(&purged_lock);
	pfree(path);
	return err;
}

static bool
contains(const PsId *list, int n, const PsId *id)
{
	for (int i = 0; i < n; i++)
		if (ps_id_equal(&list[i], id))
			return true;
	return false;
}

PsError *
purged_forget(const char *tenant_dir, const PsId *list, int n)
{
	char *path = psprintf("%s/" PURGED_FILE, tenant_dir);
	PsId *now;
	int nnow;
	int left = 0;
	PsError *err;

	pthread_mutex_lock(&purged_lock);
	err = read_list(path, &now, &nnow);
	for (int i = 0; i < nnow; i++)
		if (!contains(list, n, &now[i]))
			now[left++] = now[i];
	if (err == NULL && left < nnow)
		err = write_list(path, now, left);
	free(now);
	pthread_mutex_unlock(&purged_lock);
	pfree(path);
	return err;
}
