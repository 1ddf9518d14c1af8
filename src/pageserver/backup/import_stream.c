/*
 * import_stream.c
 *	  A data directory that a client sends becomes a branch.
 *
 * The client may be on another machine, and of its path here nothing is known.
 * It sends a tar of the directory with what tablespaces hold in the place of
 * their links (pg_tblspc/OID, as in-place tablespaces have it).  That is
 * unpacked below STORE/tmp, which a crash leaves to be cleaned at the next
 * start, and imported from there: for a while it takes its room twice.
 */
#include "ps_fe.h"

#include <ftw.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "backup/backup.h"
#include "base/config.h"
#include "backup/program.h"
#include "sqlstate.h"
#include "base/fs.h"

/* So much is taken between two looks at the room that is left. */
#define CHECK_ROOM_BYTES (64 * 1024 * 1024)

static PsError *
check_room(const Config *config)
{
	uint64 need = (uint64) config->min_free_space * 1024 * 1024 + CHECK_ROOM_BYTES;
	struct statvfs vfs;

	if (statvfs(config->store_dir, &vfs) != 0 || (uint64) vfs.f_bavail * vfs.f_frsize >= need)
		return NULL;
	return ps_error_hint(ps_error(PS_SQLSTATE_DISK_FULL, "no room for the cluster in \"%s\": min_free_space (%d MB) is left free",
								  config->store_dir, config->min_free_space),
						 "What is received and the branch that is made of it need twice the cluster's size for a while.");
}

static PsError *
unpack(const Config *config, const char *dir, ByteSource source)
{
	char *argv[] = {"/bin/tar", "-x", "--no-same-owner", "--no-same-permissions", "--warning=no-timestamp",
					"-f", "-", "-C", (char *) dir, NULL};
	Program tar;
	size_t unchecked = 0;
	const char *data;
	size_t len;
	PsError *err;
	PsError *end;

	PS_TRY(check_room(config));
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
		if (unchecked >= CHECK_ROOM_BYTES)
		{
			unchecked = 0;
			err = check_room(config);
			if (err != NULL)
				break;
		}
	}
	/* a tar that does not read any more says why when it ends */
	end = program_finish(&tar, err != NULL && !ps_error_is(err, PS_SQLSTATE_INTERNAL), NULL);
	if (err == NULL || (ps_error_is(err, PS_SQLSTATE_INTERNAL) && end != NULL))
	{
		ps_error_free(err);
		return end;
	}
	ps_error_free(end);
	return err;
}

static int
refuse_link(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) ? 0 : 1;
}

/* A link would make the import read whatever it points to, here. */
static PsError *
check_contents(const char *dir)
{
	int rc = nftw(dir, refuse_link, 64, FTW_PHYS);

	if (rc < 0)
		return ps_error(PS_SQLSTATE_IO, "could not look through directory \"%s\": %m", dir);
	if (rc > 0)
		return ps_error_hint(ps_error(PS_SQLSTATE_INVALID, "the data directory that was sent has links or special files in it"),
							 "Send it with links followed (tar --dereference).");
	return NULL;
}

PsError *
import_stream(Store *store, const char *name, ByteSource source, const CancelCheck *cancel, const ProgressSink *progress,
			  Timeline **tl)
{
	const Config *config = store_config(store);
	PsId unique = ps_id_random();
	char id[PS_ID_TEXT];
	char *dir;
	PsError *err;

	PS_TRY(store_check_new_name(store, name));
	dir = psprintf("%s/tmp/import-%s", config->store_dir, ps_id_format(&unique, id));
	PS_GOTO(fs_make_dir(dir), done);
	PS_GOTO(unpack(config, dir, source), done);
	PS_GOTO(check_contents(dir), done);
	err = import_cluster(store, name, dir, cancel, progress, tl);

done:
	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true); /* says itself what it cannot remove; the next start does */
	pfree(dir);
	return err;
}
