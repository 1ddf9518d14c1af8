/*
 * store_remote.c
 *	  The object storage of the setting remote_storage.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "base/clock.h"
#include "bucket/bucket.h"
#include "sqlstate.h"
#include "store/store_impl.h"
#include "upload/remote_layers.h"

/* For how long the start of the store waits for object storage that does not answer, ms. */
#define CHECK_TIMEOUT 10000

static ObjectAddressing
addressing(const Config *config)
{
	if (strcmp(config->remote_path_style, "on") == 0)
		return OBJECT_ADDRESS_PATH;
	return strcmp(config->remote_path_style, "off") == 0 ? OBJECT_ADDRESS_HOST : OBJECT_ADDRESS_AUTO;
}

bool
store_remote_is_outage(const PsError *err)
{
	return ps_error_is_transient(err) || ps_error_is(err, PS_SQLSTATE_IO);
}

PsError *
store_remote_check(Store *store, const ObjectWait *wait)
{
	char id_text[PS_ID_TEXT];
	PsId id;

	PS_TRY(bucket_open(store->remote, wait, &id));
	pthread_mutex_lock(&store->lock);
	if (!store->remote_checked || !ps_id_equal(&store->remote_id, &id))
		ps_log(PS_LOG, "object storage is \"%s\" (%s)", object_store_url(store->remote), ps_id_format(&id, id_text));
	store->remote_checked = true;
	store->remote_id = id;
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

PsError *
store_remote_bucket(Store *store, const ObjectWait *wait, PsId *id)
{
	bool checked;

	pthread_mutex_lock(&store->lock);
	checked = store->remote_checked;
	*id = store->remote_id;
	pthread_mutex_unlock(&store->lock);
	if (checked)
		return NULL;
	PS_TRY(store_remote_check(store, wait));
	return store_remote_bucket(store, wait, id);
}

PsError *
store_remote_open(Store *store)
{
	const Config *config = store->config;
	ObjectSettings settings;
	ObjectWait wait = {NULL, clock_now_ms() + CHECK_TIMEOUT};
	PsError *err;

	if (gethostname(store->host, sizeof(store->host) - 1) != 0)
		strlcpy(store->host, "unknown", sizeof(store->host));
	store->identity = (StoreIdentity) {ps_id_random(), store->host, config->store_dir};
	if (config->remote_storage == NULL || config->remote_storage[0] == '\0')
		return NULL;
	settings = (ObjectSettings) {.endpoint = config->remote_endpoint,
								 .region = config->remote_region,
								 .addressing = addressing(config),
								 .ca_file = config->remote_ca_file,
								 .no_verify_tls = !config->remote_verify_tls,
								 .proxy = config->remote_proxy,
								 .key_file = config->remote_key_file,
								 .sse = config->remote_sse,
								 .storage_class = config->remote_storage_class,
								 .connections = config->remote_connections,
								 .part_size = (int64) config->remote_part_size * 1024 * 1024};
	PS_TRY(object_store_open(config->remote_storage, &settings, &store->remote));
	store->remote_layers = remote_layers_create(store->remote, config->remote_connections, config->wait_timeout);
	err = store_remote_check(store, &wait);
	if (err != NULL && store_remote_is_outage(err))
	{
		ps_log_error(PS_WARNING, err, "object storage cannot be reached, starting without having checked it");
		store->remote_is_out = true;
		err = NULL;
	}
	return err;
}
