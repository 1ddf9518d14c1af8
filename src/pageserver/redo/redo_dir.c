/*
 * redo_dir.c
 *	  The data directory of a redo helper: just what "postgres --single" reads
 *	  before it loads shared_preload_libraries.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/heaptoast.h"
#include "catalog/catversion.h"
#include "catalog/pg_control.h"
#include "port/pg_crc32c.h"
#include "storage/large_object.h"

#include "sqlstate.h"
#include "redo/redo_dir.h"
#include "base/fs.h"

static PsError *
write_file(const char *dir, const char *name, const void *data, size_t len)
{
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return fs_write_new_file(path, data, len, false);
}

/* It may be there already. */
static PsError *
have_dir(const char *path)
{
	if (mkdir(path, 0700) != 0 && errno != EEXIST)
		return ps_error(ps_errno_state(), "could not create directory \"%s\": %m", path);
	return NULL;
}

/* All that ReadControlFile() (xlog.c) compares; everything else is zero, no data checksums. */
static void
make_control_file(uint32 segment_size, char out[PG_CONTROL_FILE_SIZE])
{
	ControlFileData *control = (ControlFileData *) out;

	memset(out, 0, PG_CONTROL_FILE_SIZE);
	control->pg_control_version = PG_CONTROL_VERSION;
	control->catalog_version_no = CATALOG_VERSION_NO;
	control->maxAlign = MAXIMUM_ALIGNOF;
	control->floatFormat = FLOATFORMAT_VALUE;
	control->blcksz = BLCKSZ;
	control->relseg_size = RELSEG_SIZE;
	control->xlog_blcksz = XLOG_BLCKSZ;
	control->xlog_seg_size = segment_size;
	control->nameDataLen = NAMEDATALEN;
	control->indexMaxKeys = INDEX_MAX_KEYS;
	control->toast_max_chunk_size = TOAST_MAX_CHUNK_SIZE;
	control->loblksize = LOBLKSIZE;
	control->float8ByVal = FLOAT8PASSBYVAL;
	INIT_CRC32C(control->crc);
	COMP_CRC32C(control->crc, out, offsetof(ControlFileData, crc));
	FIN_CRC32C(control->crc);
}

PsError *
redo_dir_make(const char *dir, uint32 segment_size)
{
	union
	{
		char data[PG_CONTROL_FILE_SIZE];
		int64 force_align;
	} control;
	char path[MAXPGPATH];

	PS_TRY(have_dir(dir));
	snprintf(path, sizeof(path), "%s/global", dir);
	PS_TRY(have_dir(path));
	snprintf(path, sizeof(path), "%s/postmaster.pid", dir);
	if (unlink(path) != 0 && errno != ENOENT)
		return ps_error(PS_SQLSTATE_IO, "could not remove file \"%s\": %m", path);

	make_control_file(segment_size, control.data);
	PS_TRY(write_file(dir, "global/pg_control", control.data, PG_CONTROL_FILE_SIZE));
	PS_TRY(write_file(dir, "PG_VERSION", PG_MAJORVERSION "\n", strlen(PG_MAJORVERSION "\n")));
	PS_TRY(write_file(dir, "postgresql.conf", "", 0));
	return write_file(dir, "postgresql.auto.conf", "", 0);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

PsError *
redo_dir_clean(const char *workdir)
{
	PsError *err;
	DIR *dir;
	struct dirent *entry;

	dir = opendir(workdir);
	if (dir == NULL && errno == ENOENT)
		return have_dir(workdir);
	if (dir == NULL)
		return ps_error(ps_errno_state(), "could not open directory \"%s\": %m", workdir);
	err = NULL;
	while (err == NULL && (errno = 0, entry = readdir(dir)) != NULL)
	{
		char path[MAXPGPATH];

		if (strncmp(entry->d_name, REDO_DIR_PREFIX, strlen(REDO_DIR_PREFIX)) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", workdir, entry->d_name);
		if (nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS) != 0)
			err = ps_error(ps_errno_state(), "could not remove directory \"%s\": %m", path);
	}
	if (err == NULL && errno != 0)
		err = ps_error(ps_errno_state(), "could not read directory \"%s\": %m", workdir);
	closedir(dir);
	return err;
}
