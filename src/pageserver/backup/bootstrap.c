/*
 * bootstrap.c
 *	  A fresh cluster: initdb in STORE/tmp, then its import.
 */
#include "ps_fe.h"

#include <unistd.h>

#include "backup/backup.h"
#include "base/config.h"
#include "backup/program.h"

/*
 * Settings that do not depend on the environment that the daemon was started
 * in.  As initdb's own default, whoever may use the unix socket is trusted;
 * connections by TCP need a password.
 */
static PsError *
run_initdb(const Config *config, const char *dir, bool data_checksums, const CancelCheck *cancel)
{
	char *initdb = psprintf("%s/initdb", config->bindir);
	char *argv[] = {
		initdb, "-D", (char *) dir, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
		"--auth-local=trust", "--auth-host=scram-sha-256",
		"--no-sync", /* the import reads it back, and makes that durable */
		"--no-instructions", data_checksums ? "--data-checksums" : NULL, NULL};
	PsError *err = program_run(argv, cancel);

	pfree(initdb);
	return err;
}

PsError *
branch_create(Store *store, const char *name, bool data_checksums, const CancelCheck *cancel, const ProgressSink *progress,
			  Timeline **tl)
{
	const Config *config = store_config(store);
	PsId unique = ps_id_random();
	char id[PS_ID_TEXT];
	char *dir;
	PsError *err;

	PS_TRY(store_check_new_name(store, name)); /* before the second that initdb takes */
	dir = psprintf("%s/tmp/initdb-%s", config->store_dir, ps_id_format(&unique, id));
	err = run_initdb(config, dir, data_checksums, cancel);
	if (err == NULL)
		err = import_cluster(store, name, dir, cancel, progress, tl);
	if (access(dir, F_OK) == 0)
		(void) rmtree(dir, true); /* says itself what it cannot remove; the next start does */
	pfree(dir);
	return err;
}
