/*
 * import_initdb.c
 *	  A new cluster: initdb in STORE/tmp, then its import.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "backup/backup_impl.h"
#include "backup/program.h"
#include "base/config.h"

static PsError *
run_initdb(const Config *config, const char *dir, bool data_checksums, const CancelCheck *cancel)
{
	char *initdb = psprintf("%s/initdb", config->bindir);
	const char *argv[PG_LAYOUT_INITDB_ARGS];
	PsError *err;

	pg_layout_initdb_args(initdb, dir, data_checksums, argv);
	err = program_run((char *const *) argv, cancel);
	pfree(initdb);
	return err;
}

PsError *
import_initdb(Store *store, const char *name, bool data_checksums, const CancelCheck *cancel,
			  const ProgressSink *progress, Timeline **tl)
{
	const Config *config = store_config(store);
	PsId unique = ps_id_random();
	char id[PS_ID_TEXT];
	char *dir;
	PsError *err;

	PS_TRY(store_check_new_name(store, name)); /* fail early: initdb takes a second */
	dir = psprintf("%s/tmp/initdb-%s", config->store_dir, ps_id_format(&unique, id));
	err = run_initdb(config, dir, data_checksums, cancel);
	if (err == NULL)
		err = import_cluster(store, name, dir, cancel, progress, tl);
	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true); /* reports what it cannot remove; the next start of the store removes it */
	pfree(dir);
	return err;
}
