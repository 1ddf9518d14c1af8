/*
 * store_remote.c
 *	  The object storage of the setting remote_storage.
 */
#include "ps_fe.h"

#include "base/clock.h"
#include "bucket/bucket.h"
#include "sqlstate.h"
#include "store/store_impl.h"

/* For how long the start of the store waits for object storage that does not answer, ms. */
#define CHECK_TIMEOUT 10000

static ObjectAddressing
addressing(const Config *config)
{
	if (strcmp(config->remote_path_style, "on") == 0)
		return OBJECT_ADDRESS_PATH;
	return strcmp(config->remote_path_style, "off") == 0 ? OBJECT_ADDRESS_HOST : OBJECT_ADDRESS_AUTO;
}

PsError *
store_remote_open(Store *store)
{
	const Config *config = store->config;
	ObjectSettings settings;
	ObjectWait wait = {NULL, clock_now_ms() + CHECK_TIMEOUT};
	PsId id;
	char id_text[PS_ID_TEXT];
	PsError *err;

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
	err = bucket_open(store->remote, &wait, &id);
	if (err == NULL)
		ps_log(PS_LOG, "object storage is \"%s\" (%s)", config->remote_storage, ps_id_format(&id, id_text));
	else if (ps_error_is(err, PS_SQLSTATE_TRY_AGAIN))
	{
		/* what is local can be served without it */
		ps_log_error(PS_WARNING, err, "object storage cannot be reached, starting without having checked it");
		err = NULL;
	}
	return err;
}
