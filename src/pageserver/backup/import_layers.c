/*
 * import_layers.c
 *	  Writes the contents of a data directory as image layers.
 *
 * All values are written in the order of their keys, to one layer at a time.  A
 * layer is finished when it holds LAYER_BYTES of values.  Memory holds the list of
 * files and one chunk of one file.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "catalog/pg_tablespace_d.h"
#include "storage/bufpage.h"

#include "backup/backup_impl.h"
#include "conf.h"
#include "bytes.h"
#include "layer/layer_writer.h"
#include "pg/control.h"
#include "sqlstate.h"
#include "pg/relsize.h"

#define LAYER_BYTES         (UINT64CONST(256) * 1024 * 1024)
#define CHUNK_BLOCKS        128
#define REPORT_INTERVAL_SEC 1

typedef struct LayerImport
{
	const DataDir *dir;
	TimelineSeed *seed;
	const CancelCheck *cancel;
	const ProgressSink *progress;
	ImageWriter *writer; /* NULL between layers */
	uint64 bytes;        /* of values in the writer */
	uint64 blocks_done;
	time_t reported;
	char *chunk; /* CHUNK_BLOCKS pages */
} LayerImport;

static PsError *
finish_layer(LayerImport *imp)
{
	TimelineSeed *seed = imp->seed;
	Layer *layer;

	PS_TRY(image_writer_finish(imp->writer, &layer));
	imp->writer = NULL;
	imp->bytes = 0;
	seed->layers = pg_realloc(seed->layers, (seed->nlayers + 1) * sizeof(Layer *));
	seed->layers[seed->nlayers++] = layer;
	return NULL;
}

static PsError *
put_value(LayerImport *imp, const PsKey *key, const char *data, uint32 len)
{
	if (imp->writer == NULL)
		PS_TRY(image_writer_create(&imp->seed->space, imp->seed->lsn, &imp->writer));
	PS_TRY(image_writer_put(imp->writer, key, data, len));
	imp->bytes += len;
	return imp->bytes >= LAYER_BYTES ? finish_layer(imp) : NULL;
}

static PsError *
truncated_error(const LayerImport *imp, const char *path)
{
	return ps_error_hint(ps_error(PS_SQLSTATE_STATE, "file \"%s/%s\" was truncated while being read", imp->dir->path,
								  path),
						 "The data directory must not change during an import.");
}

static PsError *
put_file(LayerImport *imp, const PsKey *key, const char *path)
{
	StringInfoData data;
	PsError *err;

	initStringInfo(&data);
	err = datadir_read_file(imp->dir->path, path, &data, NULL);
	if (err == NULL)
		err = put_value(imp, key, data.data, data.len);
	pfree(data.data);
	return err;
}

/* ---- relations ---- */

/* Writes the lengths of all init forks, or of all other forks. */
static PsError *
put_sizes(LayerImport *imp, bool init)
{
	StringInfoData value;
	PsError *err = NULL;

	initStringInfo(&value);
	for (size_t i = 0; i < imp->dir->nforks && err == NULL; i++)
	{
		const ForkSize *fork = &imp->dir->forks[i];
		RelSize size = {.nblocks = fork->nblocks};
		PsKey key = ps_key_relsize(fork->rel, fork->fork);

		if ((fork->fork == INIT_FORKNUM) != init)
			continue;
		resetStringInfo(&value);
		relsize_encode(&size, &value);
		err = put_value(imp, &key, value.data, value.len);
	}
	pfree(value.data);
	return err;
}

/* Verifies the checksum of a page, if the cluster has checksums. */
static PsError *
check_page(const LayerImport *imp, const char *page, BlockNumber blk, const char *path)
{
	uint16 expected;

	if (imp->seed->data_checksum_version == 0 || page_checksum_matches(page, blk, &expected))
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED,
								  "block %u of the relation in file \"%s/%s\" has checksum %04X, expected %04X", blk,
								  imp->dir->path, path, ((PageHeader) page)->pd_checksum, expected),
						 "The page is damaged.  "
						 "Find all damaged pages with \"pg_checksums --check\" and restore them from a backup.");
}

/* Counts n imported blocks, reports the progress, and checks for a cancel. */
static PsError *
report_progress(LayerImport *imp, BlockNumber n)
{
	time_t now = time(NULL);

	PS_TRY(cancel_check(imp->cancel));
	imp->blocks_done += n;
	if (imp->progress != NULL && now >= imp->reported + REPORT_INTERVAL_SEC)
	{
		char line[128];

		snprintf(line, sizeof(line), "imported " UINT64_FORMAT " of " UINT64_FORMAT " MB",
				 imp->blocks_done * BLCKSZ / (1024 * 1024), imp->dir->nblocks * BLCKSZ / (1024 * 1024));
		imp->progress->report(imp->progress->arg, line);
		imp->reported = now;
	}
	return NULL;
}

/* Writes the pages of one file, except pages of zeros: a page without a value reads as zeros. */
static PsError *
put_segment(LayerImport *imp, const ForkSize *fork, uint32 segno)
{
	BlockNumber first = segno * (BlockNumber) RELSEG_SIZE;
	BlockNumber nblocks = Min(fork->nblocks - first, RELSEG_SIZE);
	char *path = pg_layout_fork_path(fork->rel, fork->fork, segno);
	char *full = psprintf("%s/%s", imp->dir->path, path);
	int fd = open(full, O_RDONLY | O_CLOEXEC);
	PsError *err = NULL;

	if (fd < 0)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not open file \"%s\": %m", full);
		goto done;
	}
	(void) posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (BlockNumber at = 0, n; at < nblocks; at += n)
	{
		ssize_t len;

		n = Min(nblocks - at, CHUNK_BLOCKS);
		len = pg_pread(fd, imp->chunk, (size_t) n * BLCKSZ, (off_t) at * BLCKSZ);
		if (len < 0)
		{
			err = ps_error(PS_SQLSTATE_IO, "could not read file \"%s\": %m", full);
			goto done;
		}
		n = len / BLCKSZ;
		if (n == 0)
		{
			err = truncated_error(imp, path);
			goto done;
		}
		for (BlockNumber i = 0; i < n; i++)
		{
			const char *page = imp->chunk + (size_t) i * BLCKSZ;
			PsKey key = ps_key_block(fork->rel, fork->fork, first + at + i);

			if (page_is_zero(page))
				continue;
			PS_GOTO(check_page(imp, page, first + at + i, path), done);
			PS_GOTO(put_value(imp, &key, page, BLCKSZ), done);
		}
		PS_GOTO(report_progress(imp, n), done);
	}

done:
	if (fd >= 0)
		close(fd);
	pfree(path);
	pfree(full);
	return err;
}

static PsError *
put_relations(LayerImport *imp)
{
	PS_TRY(put_sizes(imp, false));
	PS_TRY(put_sizes(imp, true));
	for (size_t i = 0; i < imp->dir->nforks; i++)
	{
		const ForkSize *fork = &imp->dir->forks[i];

		for (uint64 blk = 0; blk < fork->nblocks; blk += RELSEG_SIZE)
			PS_TRY(put_segment(imp, fork, blk / RELSEG_SIZE));
	}
	return NULL;
}

/* ---- other files ---- */

static PsError *
put_databases(LayerImport *imp, PsKeyKind kind, const char *file)
{
	for (size_t i = 0; i < imp->dir->ndatabases; i++)
	{
		const DataDirDatabase *db = &imp->dir->databases[i];
		PsKey key = ps_key_simple(kind, db->spc, db->db, 0);
		char *dir;
		char *path;
		PsError *err;

		if (kind == PS_KEY_DATABASE && db->spc == GLOBALTABLESPACE_OID)
			continue; /* shared relations have a map but no PG_VERSION */
		dir = pg_layout_database_path(db->spc, db->db);
		path = psprintf("%s/%s", dir, file);
		err = put_file(imp, &key, path);
		pfree(dir);
		pfree(path);
		PS_TRY(err);
	}
	return NULL;
}

static PsError *
put_slru_segment(LayerImport *imp, const DataDirSlru *segment, StringInfo data)
{
	char *path = pg_layout_slru_path(segment->slru, segment->segno);
	PsError *err = datadir_read_file(imp->dir->path, path, data, NULL);

	if (err == NULL && data->len < segment->pages * BLCKSZ)
		err = truncated_error(imp, path);
	free(path);
	PS_TRY(err);
	for (uint32 page = 0; page < segment->pages; page++)
	{
		PsKey key = ps_key_slru_block(segment->slru, segment->segno * PG_LAYOUT_SLRU_PAGES + page);

		PS_TRY(put_value(imp, &key, data->data + (size_t) page * BLCKSZ, BLCKSZ));
	}
	return NULL;
}

static PsError *
put_slrus(LayerImport *imp)
{
	StringInfoData data;
	PsError *err = NULL;

	for (size_t i = 0; i < imp->dir->nslrus; i++)
	{
		const DataDirSlru *segment = &imp->dir->slrus[i];
		PsKey key = ps_key_slru_segment(segment->slru, segment->segno);
		char pages[4];

		ps_put32(pages, segment->pages);
		PS_TRY(put_value(imp, &key, pages, sizeof(pages)));
	}
	initStringInfo(&data);
	for (size_t i = 0; i < imp->dir->nslrus && err == NULL; i++)
	{
		resetStringInfo(&data);
		err = put_slru_segment(imp, &imp->dir->slrus[i], &data);
	}
	pfree(data.data);
	return err;
}

static PsError *
put_twophase(LayerImport *imp)
{
	for (size_t i = 0; i < imp->dir->ntwophase; i++)
	{
		PsKey key = ps_key_simple(PS_KEY_TWOPHASE, 0, 0, imp->dir->twophase[i]);
		char *path = pg_layout_twophase_path(imp->dir->twophase[i]);
		PsError *err = put_file(imp, &key, path);

		free(path);
		PS_TRY(err);
	}
	return NULL;
}

static int
compare_origins(const void *a, const void *b)
{
	return ((const ReplicationStateOnDisk *) a)->roident - ((const ReplicationStateOnDisk *) b)->roident;
}

/* Reads the file that CheckPointReplicationOrigin() writes: magic, entries in no order, CRC over both. */
static PsError *
put_origins(LayerImport *imp)
{
	const char *name = PG_LAYOUT_ORIGINS;
	StringInfoData data;
	bool found;
	uint32 magic;
	size_t n;
	ReplicationStateOnDisk *origins;
	pg_crc32c crc;
	PsError *err;

	initStringInfo(&data);
	PS_GOTO(datadir_read_file(imp->dir->path, name, &data, &found), done);
	if (!found)
		goto done;
	n = data.len >= 8 ? (data.len - 8) / sizeof(ReplicationStateOnDisk) : 0;
	magic = 0;
	crc = 0;
	if (data.len == 8 + n * sizeof(ReplicationStateOnDisk))
	{
		memcpy(&magic, data.data, sizeof(magic));
		INIT_CRC32C(crc);
		COMP_CRC32C(crc, data.data, data.len - sizeof(crc));
		FIN_CRC32C(crc);
	}
	if (magic != REPLICATION_STATE_MAGIC || memcmp(&crc, data.data + data.len - sizeof(crc), sizeof(crc)) != 0)
	{
		err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s/%s\" is damaged: its length, magic number or CRC is wrong",
					   imp->dir->path, name);
		goto done;
	}
	origins = pg_malloc(Max(n, 1) * sizeof(ReplicationStateOnDisk));
	memcpy(origins, data.data + sizeof(magic), n * sizeof(ReplicationStateOnDisk));
	qsort(origins, n, sizeof(ReplicationStateOnDisk), compare_origins);
	for (size_t i = 0; i < n && err == NULL; i++)
	{
		PsKey key = ps_key_simple(PS_KEY_ORIGIN, 0, 0, origins[i].roident);
		char lsn[8];

		ps_put64(lsn, origins[i].remote_lsn);
		err = put_value(imp, &key, lsn, sizeof(lsn));
	}
	free(origins);

done:
	pfree(data.data);
	return err;
}

static PsError *
put_tablespaces(LayerImport *imp)
{
	for (size_t i = 0; i < imp->dir->ntablespaces; i++)
	{
		const DataDirTablespace *spc = &imp->dir->tablespaces[i];
		PsKey key = ps_key_simple(PS_KEY_TABLESPACE, spc->oid, 0, 0);

		PS_TRY(put_value(imp, &key, spc->location, strlen(spc->location)));
	}
	return NULL;
}

static int
compare_aux(const void *a, const void *b)
{
	PsKey x = datadir_aux_key(*(const char *const *) a);
	PsKey y = datadir_aux_key(*(const char *const *) b);

	return ps_key_cmp(&x, &y);
}

/* Writes the settings files.  Settings that name files of the old machine are commented out. */
static PsError *
put_settings(LayerImport *imp)
{
	const char *names[] = {"postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"};
	StringInfoData text;
	StringInfoData value;
	PsError *err = NULL;

	initStringInfo(&text);
	initStringInfo(&value);
	qsort(names, lengthof(names), sizeof(names[0]), compare_aux);
	for (int i = 0; i < lengthof(names) && err == NULL; i++)
	{
		PsKey key = datadir_aux_key(names[i]);
		bool found;

		resetStringInfo(&text);
		resetStringInfo(&value);
		err = datadir_read_file(imp->dir->path, names[i], &text, &found);
		if (err != NULL || !found)
			continue;
		appendBinaryStringInfo(&value, names[i], strlen(names[i]) + 1);
		if (strncmp(names[i], "postgresql", strlen("postgresql")) == 0)
			conf_adopt(&value, text.data);
		else
			appendBinaryStringInfo(&value, text.data, text.len);
		err = put_value(imp, &key, value.data, value.len);
	}
	pfree(text.data);
	pfree(value.data);
	return err;
}

static PsError *
put_state(LayerImport *imp, const char *control, const WalState *state)
{
	PsKey key = ps_key_simple(PS_KEY_CONTROL, 0, 0, 0);
	StringInfoData value;
	PsError *err;

	PS_TRY(put_value(imp, &key, control, PG_CONTROL_FILE_SIZE));
	key.kind = PS_KEY_STATE;
	initStringInfo(&value);
	wal_state_encode(state, &value);
	err = put_value(imp, &key, value.data, value.len);
	pfree(value.data);
	return err;
}

/* Writes all kinds of values in the order of PsKeyKind. */
static PsError *
put_contents(LayerImport *imp, const char *control, const WalState *state)
{
	PS_TRY(put_relations(imp));
	PS_TRY(put_databases(imp, PS_KEY_DATABASE, "PG_VERSION"));
	PS_TRY(put_databases(imp, PS_KEY_RELMAP, PG_LAYOUT_RELMAP));
	PS_TRY(put_slrus(imp));
	PS_TRY(put_twophase(imp));
	PS_TRY(put_origins(imp));
	PS_TRY(put_tablespaces(imp));
	PS_TRY(put_state(imp, control, state));
	PS_TRY(put_settings(imp));
	return imp->writer != NULL ? finish_layer(imp) : NULL;
}

PsError *
import_layers(const DataDir *dir, const char *control, const WalState *state,
			  const CancelCheck *cancel, const ProgressSink *progress, TimelineSeed *seed)
{
	LayerImport imp = {
		.dir = dir,
		.seed = seed,
		.cancel = cancel,
		.progress = progress,
		.reported = time(NULL),
		.chunk = pg_malloc((size_t) CHUNK_BLOCKS * BLCKSZ),
	};
	PsError *err = put_contents(&imp, control, state);

	if (imp.writer != NULL)
		image_writer_abort(imp.writer);
	free(imp.chunk);
	return err;
}
