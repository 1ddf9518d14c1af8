/*
 * config.h
 *	  Settings of the store: STORE/pageserver.conf, "name = value" as in
 *	  postgresql.conf.  config.c has the table of names, units, defaults and
 *	  texts, from which the file is generated and documented.
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
	bool own_socket_directory;   /* it is no setting and not STORE: made at the start, removed at the stop */
	int max_connections;
	/* reading layer files */
	char *io_method; /* see aio_method.h; NULL: the default */
	int io_workers;  /* threads of the method "worker"; 0: the default */
	/* redo */
	int redo_helpers; /* per tenant, most; 0: one per core */
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
	int idle_timeline_timeout; /* s after which a timeline that nobody uses is closed; 0: never */
	/* compaction */
	int compaction_workers;   /* threads; 0: no compaction, no images, no garbage collection */
	int compaction_threshold; /* files of level 0 that are merged */
	int compaction_fanout;    /* runs of a level that are merged into the next */
	int compaction_backlog;   /* files of level 0 at which WAL is taken only as fast as they are merged */
	int target_file_size;     /* MB of a merged or image file, about */
	int compaction_memory;    /* MB that a merge may use, about */
	int image_delta_records;  /* records for each page above which an image is made */
	int image_delta_percent;  /* deltas beside the size of an image, percent, above which an image is made */
	int image_delta_layers;   /* deltas above each other above which an image is made for a tenth of that */
	/* history */
	int gc_horizon;     /* MB of WAL back from the newest that stay readable */
	int pitr_interval;  /* s back from now that stay readable */
	int trash_interval; /* s that what was deleted stays in the trash */
	/* log */
	char *log_level; /* debug, log, warning: see config_log_level() */
	/* of a reloaded one */
	char *restart_needed; /* settings that the file has changed and only a restart does, "a, b"; "": none */
	struct Config *older; /* what was in force before it, or NULL */
} Config;

#define CONFIG_FILE_NAME "pageserver.conf"

/*
 * Reads STORE/pageserver.conf.  An unknown name, a value out of range or not
 * of its type is an error with file and line.
 *
 * A Config does not change any more once it is published, and lives as long as
 * the daemon does: any thread may read it, and keep the pointer.  When settings
 * are reloaded the main thread publishes another one, by swapping the atomic
 * pointers to it (Store.config, Server.config).  So whoever wants to know a
 * setting gets the pointer anew, and whoever needs several that agree gets it
 * once.
 */
extern PsError *config_load(const char *store_dir, Config **config);
extern void config_free(Config *config);

/*
 * SIGHUP: reads the file again.  *fresh has the new values, but for settings
 * that only a restart changes: these stay as they are, and are named in the log
 * and in restart_needed.  Takes running, which goes on being valid and is freed
 * with *fresh.  After an error nothing has changed.  Main thread.
 */
extern PsError *config_reload(Config *running, Config **fresh);

/* The log level as error.h has it. */
extern PsLogLevel config_log_level(const Config *config);

/* The documented file with all defaults, for "pageserver --init". */
extern void config_write_default(StringInfo out);

/* Splits listen_addresses: "n" names, to be freed with config_free_addresses(). */
extern char **config_addresses(const char *listen_addresses, int *n);
extern void config_free_addresses(char **names, int n);

#endif /* PS_CONFIG_H */
