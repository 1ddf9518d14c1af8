/*
 * config.h
 *	  Settings of the store: STORE/pageserver.conf, "name = value" as in
 *	  postgresql.conf.  The table in config_table.c has names, units, defaults and
 *	  descriptions; the file is generated from it.
 */
#ifndef PS_CONFIG_H
#define PS_CONFIG_H

#include "lib/stringinfo.h"

#include "base/error.h"

typedef struct Config
{
	char *store_dir; /* absolute path of STORE */
	char *bindir;    /* PostgreSQL's programs: postgres, initdb; never empty once loaded */
	/* connections */
	char *listen_addresses; /* comma-separated, loopback only for now; "": Unix socket only */
	int port;
	char *unix_socket_directory; /* default: STORE itself */
	bool own_socket_directory;   /* neither a setting nor STORE: created at the start, removed at the stop */
	int max_connections;
	/* reading layer files */
	char *io_method; /* see aio_method.h; NULL: the default */
	int io_workers;  /* threads of the method "worker"; 0: the default */
	/* redo */
	int redo_helpers; /* most per tenant; 0: one per core */
	int redo_timeout; /* ms */
	/* ingest and flush */
	int checkpoint_distance; /* MB of WAL in the open layer before it is frozen */
	int checkpoint_timeout;  /* s */
	int open_layer_memory;   /* MB of index in memory before the open layer is frozen */
	int layer_memory;        /* MB of all layers in memory together */
	int max_ingest_lag;      /* MB of WAL received and not ingested before the sender is slowed */
	int page_cache_size;     /* MB of pages reconstructed and kept */
	int max_open_layer_files;
	char *wal_compression;     /* "zstd" or "none": WAL that is in layer files; NULL: the default */
	int min_free_space;        /* MB of disk below which no WAL is accepted */
	int wait_timeout;          /* ms that a read waits for WAL */
	int idle_timeline_timeout; /* s after which an unused timeline is closed; 0: never */
	/* compaction */
	int compaction_workers;   /* threads; 0: no compaction, no images, no garbage collection */
	int compaction_threshold; /* files of level 0 that are merged */
	int compaction_fanout;    /* runs of a level that are merged into the next */
	int compaction_backlog;   /* files of level 0 at which WAL is accepted only as fast as they are merged */
	int target_file_size;     /* approximate MB of a merged or image file */
	int compaction_memory;    /* approximate MB that a merge may use */
	int image_delta_records;  /* records per page above which an image is created */
	int image_delta_percent;  /* size of the deltas, in percent of an image, above which an image is created */
	int image_delta_layers;   /* stacked deltas above which a tenth of either is enough */
	/* history */
	int gc_horizon;     /* MB of WAL back from the newest that stay readable */
	int pitr_interval;  /* s back from now that stay readable */
	int trash_interval; /* s that deleted branches and tenants stay in the trash */
	/* object storage: see ObjectSettings in remote/object.h; NULL is like "" */
	char *remote_storage; /* s3://BUCKET[/PREFIX] or file:///DIRECTORY; "": none */
	char *remote_endpoint;
	char *remote_region;
	char *remote_path_style; /* auto, on, off */
	char *remote_ca_file;
	bool remote_verify_tls;
	char *remote_proxy;
	char *remote_key_file;
	char *remote_sse;
	char *remote_storage_class;
	int remote_connections;
	int remote_part_size;      /* MB */
	int remote_delete_delay;   /* s after which objects that are not needed any more are deleted */
	int remote_check_interval; /* s between two checks that no other store has taken over a tenant */
	bool remote_require_ownership;
	/* WAL in object storage */
	char *wal_acknowledge;    /* see config_wal_acknowledge() */
	char *wal_copy_directory; /* "": none */
	int wal_upload_interval;  /* ms */
	int wal_upload_max_lag;   /* s; 0: no limit */
	/* log */
	char *log_level; /* debug, log, warning: see config_log_level() */
	/* after a reload */
	char *restart_needed; /* settings changed in the file that need a restart, "a, b"; "" if there are none */
	struct Config *older; /* the one in force before, or NULL */
} Config;

#define CONFIG_FILE_NAME "pageserver.conf"

/*
 * Reads STORE/pageserver.conf.  An unknown name, or a value that is out of range
 * or of the wrong type, is an error that names file and line.
 *
 * A Config does not change once it is published, and lives as long as the daemon:
 * any thread may read it and keep the pointer.  A reload publishes another one: the
 * main thread swaps the atomic pointers to it (Store.config, Server.config).  Fetch
 * the pointer again for a current value; fetch it once for several that must agree.
 */
extern PsError *config_load(const char *store_dir, Config **config);
extern void config_free(Config *config);

/*
 * Reads the file again, after SIGHUP.  *fresh has the new values, except for
 * settings that need a restart: they keep their values, and are named in the log
 * and in restart_needed.  "running" stays valid, belongs to *fresh from now on and
 * is freed with it.  After an error nothing has changed.  For the main thread.
 */
extern PsError *config_reload(Config *running, Config **fresh);

/* The setting log_level. */
extern PsLogLevel config_log_level(const Config *config);

/* The setting wal_acknowledge: where WAL must be durable before commits are acknowledged. */
typedef enum WalAcknowledge
{
	WAL_ACKNOWLEDGE_LOCAL,     /* on the store's disk */
	WAL_ACKNOWLEDGE_DIRECTORY, /* also in wal_copy_directory, or in object storage already */
	WAL_ACKNOWLEDGE_BUCKET     /* also in object storage */
} WalAcknowledge;

extern WalAcknowledge config_wal_acknowledge(const Config *config);

/* Appends the documented file with all defaults, for "pageserver --init". */
extern void config_write_default(StringInfo out);

/* Splits listen_addresses into *n names; free them with config_free_addresses(). */
extern char **config_addresses(const char *listen_addresses, int *n);
extern void config_free_addresses(char **names, int n);

#endif /* PS_CONFIG_H */
