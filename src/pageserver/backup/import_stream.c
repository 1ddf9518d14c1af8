/*
 * import_stream.c
 *	  Importing a data directory that a client sends.
 *
 * The client may be on another machine.  It sends a tar of the directory, in which
 * directories (pg_tblspc/OID, as for in-place tablespaces) replace the links to
 * tablespaces.  The tar is unpacked in STORE/tmp and imported from there, so for a
 * while the cluster needs its space twice.  After a crash, the next start removes
 * what is in STORE/tmp.
 */
#include "ps_fe.h"

#include <ftw.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backup/backup_impl.h"
#include "base/config.h"
#include "backup/program.h"
#include "sqlstate.h"
#include "base/fs.h"

/* Free disk space is checked each time that this much has been received. */
#define CHECK_SPACE_BYTES (64 * 1024 * 1024)

static PsError *
check_space(const Config *config)
{
	uint64 need = (uint64) config->min_free_space * 1024 * 1024 + CHECK_SPACE_BYTES;
	struct statvfs vfs;

	if (statvfs(config->store_dir, &vfs) != 0 || (uint64) vfs.f_bavail * vfs.f_frsize >= need)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_DISK_FULL,
								  "not enough disk space for the cluster in \"%s\": min_free_space is %d MB",
								  config->store_dir, config->min_free_space),
						 "The import temporarily needs twice the size of the cluster.");
}

static PsError *
unpack_tar(const Config *config, const char *dir, ByteSource source)
{
	char *argv[] = {"/bin/tar", "-x", "--no-same-owner", "--no-same-permissions", "--warning=no-timestamp",
					"-f", "-", "-C", (char *) dir, NULL};
	Program tar;
	size_t unchecked = 0;
	const char *data;
	size_t len;
	PsError *err;
	PsError *end;

	PS_TRY(check_space(config));
	PS_TRY(program_start(&tar, argv, true));
	for (;;)
	{
		err = source.read(source.arg, &data, &len);
		if (err != NULL || len == 0)
			break;
		err = program_write(&tar, data, len);
		if (err != NULL)
			break;
		unchecked += len;
		if (unchecked >= CHECK_SPACE_BYTES)
		{
			unchecked = 0;
			err = check_space(config);
			if (err != NULL)
				break;
		}
	}
	/* if tar has stopped reading, its exit status and messages say why */
	end = program_finish(&tar, err != NULL && !ps_error_is(err, PS_SQLSTATE_INTERNAL), NULL);
	if (err == NULL || (ps_error_is(err, PS_SQLSTATE_INTERNAL) && end != NULL))
	{
		ps_error_free(err);
		return end;
	}
	ps_error_free(end);
	return err;
}

/* An nftw() callback: ends the walk at the first file of another kind. */
static int
is_regular(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) ? 0 : 1;
}

/* Rejects links: the import would read the files of this machine that they point to. */
static PsError *
check_contents(const char *dir)
{
	int rc = nftw(dir, is_regular, 64, FTW_PHYS);

	if (rc < 0)
		return ps_error(PS_SQLSTATE_IO, "could not read directory \"%s\": %m", dir);
	if (rc > 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID,
									  "the received data directory contains links or special files"),
							 "Follow links when sending it (tar --dereference).");
	return NULL;
}

PsError *
import_stream(Store *store, const char *name, ByteSource source, const CancelCheck *cancel,
			  const ProgressSink *progress, Timeline **tl)
{
	const Config *config = store_config(store);
	PsId unique = ps_id_random();
	char id[PS_ID_TEXT];
	char *dir;
	PsError *err;

	PS_TRY(store_check_new_name(store, name));
	dir = psprintf("%s/tmp/import-%s", config->store_dir, ps_id_format(&unique, id));
	PS_GOTO(fs_make_dir(dir), done);
	PS_GOTO(unpack_tar(config, dir, source), done);
	PS_GOTO(check_contents(dir), done);
	err = import_cluster(store, name, dir, cancel, progress, tl);

done:
	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true); /* reports what it cannot remove; the next start of the store removes it */
	pfree(dir);
	return err;
}
