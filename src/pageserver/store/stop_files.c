/*
 * stop_files.c
 *	  Files that a stopped compute leaves for the next one: see stop_files.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bytes.h"
#include "sqlstate.h"
#include "store/stop_files.h"
#include "base/crc.h"
#include "base/fs.h"
#include "pg/record.h"
#include "timeline/engine.h"

#define STOP_FILES_NAME "stopped"

#define FILE_NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

#define MAGIC       0x50535346
#define VERSION     1
#define HEADER_SIZE 28
#define ENTRY_SIZE  8 /* of the lengths before the name of a file */
#define CRC_SIZE    4

void
stop_files_init(StopFiles *files)
{
	static const char header[HEADER_SIZE] = {0};

	files->nfiles = 0;
	initStringInfo(&files->bytes);
	appendBinaryStringInfo(&files->bytes, header, HEADER_SIZE);
}

void
stop_files_free(StopFiles *files)
{
	pfree(files->bytes.data);
}

/* Is it a file of pg_stat or of autoprewarm?  No other file may get into a data directory from here. */
static bool
is_stop_file(const char *name)
{
	const char *file = name + strlen("pg_stat/");

	if (strcmp(name, "autoprewarm.blocks") == 0)
		return true;
	return strncmp(name, "pg_stat/", strlen("pg_stat/")) == 0 && file[0] != '\0' && file[0] != '.' &&
		   strlen(file) < NAMEDATALEN && strspn(file, FILE_NAME_CHARS) == strlen(file);
}

PsError *
stop_files_add(StopFiles *files, const char *name, const char *data, size_t len)
{
	char entry[ENTRY_SIZE];

	if (!is_stop_file(name))
		return ps_error(PS_SQLSTATE_INVALID, "file \"%s\" is not kept for the next compute", name);
	if (files->bytes.len + ENTRY_SIZE + strlen(name) + len > STOP_FILES_MAX_SIZE)
		return ps_error(PS_SQLSTATE_INVALID, "files for the next compute have more than %d bytes", STOP_FILES_MAX_SIZE);
	ps_put32(entry, strlen(name));
	ps_put32(entry + 4, len);
	appendBinaryStringInfo(&files->bytes, entry, ENTRY_SIZE);
	appendBinaryStringInfo(&files->bytes, name, strlen(name));
	appendBinaryStringInfo(&files->bytes, data, len);
	files->nfiles++;
	return NULL;
}

static PsError *
write_stop_file(const char *dir, const char *data, size_t len)
{
	char path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s/" STOP_FILES_NAME, dir);
	return fs_replace_file(path, data, len, 0, NULL);
}

/* Fills in the header and appends the CRC. */
static void
finish_file(StringInfo bytes, uint64 generation, XLogRecPtr lsn, uint32 nfiles)
{
	char crc[CRC_SIZE];

	ps_put32(bytes->data, MAGIC);
	ps_put32(bytes->data + 4, VERSION);
	ps_put64(bytes->data + 8, generation);
	ps_put64(bytes->data + 16, lsn);
	ps_put32(bytes->data + 24, nfiles);
	ps_put32(crc, crc_of(bytes->data, bytes->len));
	appendBinaryStringInfo(bytes, crc, CRC_SIZE);
}

PsError *
stop_files_save(Timeline *tl, StopFiles *files, uint64 generation, XLogRecPtr lsn)
{
	XLogRecPtr end;
	PsError *err;

	finish_file(&files->bytes, generation, lsn, files->nfiles);
	pthread_mutex_lock(&tl->generation_lock);
	err = timeline_check_generation(tl, generation);
	pthread_mutex_lock(&tl->lock);
	end = tl->flushed_lsn;
	pthread_mutex_unlock(&tl->lock);
	if (err == NULL && end != lsn)
		err = ps_error(PS_SQLSTATE_STATE, "branch \"%s\" has WAL up to %X/%X, but the compute was stopped at %X/%X",
					   timeline_name(tl), LSN_FORMAT_ARGS(end), LSN_FORMAT_ARGS(lsn));
	if (err == NULL)
		err = write_stop_file(tl->spec->dir, files->bytes.data, files->bytes.len);
	pthread_mutex_unlock(&tl->generation_lock);
	return err;
}

/* Reads and checks the file of a timeline; bytes.len 0: there is no valid one.  Damage is logged. */
static void
read_stop_file(Timeline *tl, StringInfo bytes)
{
	char path[MAXPGPATH];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/" STOP_FILES_NAME, tl->spec->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
	{
		if (errno != ENOENT)
			ps_log(PS_WARNING, "could not open file \"%s\", statistics of the branch are lost: %m", path);
		return;
	}
	if (fstat(fd, &st) == 0 && st.st_size <= STOP_FILES_MAX_SIZE + CRC_SIZE)
	{
		enlargeStringInfo(bytes, st.st_size);
		bytes->len = (int) Max(pg_pread(fd, bytes->data, st.st_size, 0), 0);
	}
	close(fd);
	if (bytes->len >= HEADER_SIZE + CRC_SIZE && bytes->len == st.st_size && ps_get32(bytes->data) == MAGIC &&
		ps_get32(bytes->data + 4) == VERSION &&
		ps_get32(bytes->data + bytes->len - CRC_SIZE) == crc_of(bytes->data, bytes->len - CRC_SIZE))
		return;
	ps_log(PS_WARNING, "file \"%s\" is damaged or has another version: statistics of the branch are lost", path);
	bytes->len = 0;
}

static PsError *
visit_each(const char *data, size_t len, StopFileVisitor visit, void *arg)
{
	size_t pos = HEADER_SIZE;

	for (uint32 left = ps_get32(data + 24); left > 0; left--)
	{
		char name[MAXPGPATH];
		size_t name_len = ps_get32(data + pos);
		size_t size = ps_get32(data + pos + 4);

		if (name_len >= sizeof(name) || pos + ENTRY_SIZE + name_len + size > len)
			return ps_error(PS_SQLSTATE_CORRUPTED, "file \"" STOP_FILES_NAME "\" does not match its checksum");
		memcpy(name, data + pos + ENTRY_SIZE, name_len);
		name[name_len] = '\0';
		PS_TRY(visit(arg, name, data + pos + ENTRY_SIZE + name_len, size));
		pos += ENTRY_SIZE + name_len + size;
	}
	return NULL;
}

PsError *
stop_files_visit(Timeline *tl, uint64 generation, XLogRecPtr checkpoint_lsn, StopFileVisitor visit, void *arg)
{
	StringInfoData bytes;
	PsError *err = NULL;

	initStringInfo(&bytes);
	read_stop_file(tl, &bytes);
	if (bytes.len > 0)
	{
		XLogRecPtr lsn = ps_get64(bytes.data + 16);

		/* the checkpoint record follows directly, possibly after a page header */
		if (ps_get64(bytes.data + 8) + 1 == generation &&
			checkpoint_lsn >= lsn && checkpoint_lsn - lsn <= SizeOfXLogLongPHD)
			err = visit_each(bytes.data, bytes.len - CRC_SIZE, visit, arg);
	}
	pfree(bytes.data);
	return err;
}

void
stop_files_branch(Timeline *parent, XLogRecPtr lsn, const char *dir)
{
	StringInfoData bytes;

	initStringInfo(&bytes);
	read_stop_file(parent, &bytes);
	if (bytes.len > 0 && ps_get64(bytes.data + 16) == lsn)
	{
		char *path = psprintf("%s/" STOP_FILES_NAME, dir);
		PsError *err;

		bytes.len -= CRC_SIZE;
		finish_file(&bytes, 0, lsn, ps_get32(bytes.data + 24));
		err = fs_write_new_file(path, bytes.data, bytes.len, false);
		if (err != NULL)
			ps_log_error(PS_WARNING, err, "statistics were not copied to the new branch");
		pfree(path);
	}
	pfree(bytes.data);
}
