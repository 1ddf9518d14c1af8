/*
 * command_table.c
 *	  The commands of pageserver_ctl and their help.
 */
#include "ps_fe.h"

#include "ctl.h"

const CtlCommand command_table[] = {
	{"init", NULL, "DSUbpXqj", 0, 0, cmd_init,
	 "init [-D STORE] [--bindir DIR] [-p PORT] [--remote URL]", "create a new, empty store",
	 "STORE must not exist or must be an empty directory. The settings of the store are\n"
	 "in STORE/pageserver.conf; --bindir, -p and --remote (remote_storage) are written to\n"
	 "that file.\n"},
	{"start", NULL, "DSUltwWqj", 0, 0, cmd_start,
	 "start [-D STORE] [-l LOG] [-t SECS] [-W]", "start a store in the background",
	 "Waits until the store accepts connections. The default log file is\n"
	 "STORE/pageserver.log.\n"},
	{"stop", NULL, "DSmtwWqj", 0, 0, cmd_stop,
	 "stop [-D STORE] [-m smart|fast|immediate] [-t SECS] [-W]", "stop a store",
	 "For a store, \"smart\" and \"fast\" are the same; its computes wait until it is\n"
	 "started again. \"immediate\" stops the store at once; acknowledged commits are\n"
	 "not lost.\n"},
	{"restart", NULL, "DSUlmtwWqj", 0, 0, cmd_restart,
	 "restart [-D STORE] [-l LOG] [-m smart|fast|immediate] [-t SECS]", "stop a store and start it again",
	 "The settings are checked before the store is stopped. If the store is not\n"
	 "running, it is started.\n"},
	{"reload", NULL, "DSqj", 0, 0, cmd_reload,
	 "reload [-D STORE]", "make a store read its settings again",
	 "The settings are checked first. The store logs the settings that have changed,\n"
	 "and reopens its log file if the file was moved. \"pageserver_ctl status\" shows\n"
	 "the changed settings that take effect only after a restart.\n"},
	{"status", NULL, "DSjq", 0, 0, cmd_status,
	 "status [-D STORE] [--json]", "show whether a store is running",
	 "Exit code 0: the store is running; 3: it is not running; 4: the directory does\n"
	 "not contain a store. Changed settings that require a restart are shown as well.\n"},
	{"branch", "create", "Skrqj", 1, 1, cmd_branch_create,
	 "branch create NAME [--from PARENT[@LSN|@TIME] | --data-checksums]", "create a branch",
	 "With --from, the branch starts as a copy of PARENT: as it is now, as it was at an\n"
	 "LSN such as 0/16B3748, or as it was at a time such as \"10 minutes ago\" or\n"
	 "\"2026-11-20 12:00+00\" (just before the first commit after that time). The data\n"
	 "is shared, not copied.\n"
	 "Without --from, the branch is a new cluster, created by initdb with encoding UTF8,\n"
	 "locale C.UTF-8 and superuser postgres. Authentication is \"trust\" for the Unix\n"
	 "socket and \"scram-sha-256\" for TCP connections.\n"},
	{"branch", "delete", "SfPqj", 1, 1, cmd_branch_delete,
	 "branch delete NAME|ID [--force] [--purge]", "delete a branch",
	 "The branch is moved to the trash and kept there for trash_interval (default: 7\n"
	 "days). \"branch undelete\" brings it back; \"branch list --deleted\" lists the trash.\n"
	 "--purge removes the branch at once; it also removes a branch that is already in\n"
	 "the trash.\n"
	 "A branch that has child branches cannot be deleted. --force is required if the\n"
	 "branch has no parent, is protected, or is used by a compute.\n"
	 "ID is the timeline id. Use it for a branch without a name, which \"branch list\"\n"
	 "shows if the branch cannot be read.\n"},
	{"branch", "undelete", "Sqj", 1, 2, cmd_branch_undelete,
	 "branch undelete NAME|ID [NEW_NAME]", "bring back a deleted branch",
	 "If several deleted branches have the name, the one deleted last is brought back;\n"
	 "ID, the timeline id, selects another one. NEW_NAME is required if another branch\n"
	 "has the name now.\n"},
	{"branch", "protect", "Sqj", 1, 1, cmd_branch_protect,
	 "branch protect NAME", "require --force to delete, reset or restore a branch", ""},
	{"branch", "unprotect", "Sqj", 1, 1, cmd_branch_unprotect,
	 "branch unprotect NAME", "end the protection of a branch", ""},
	{"branch", "rename", "Sqj", 2, 2, cmd_branch_rename,
	 "branch rename NAME NEW_NAME", "rename a branch", ""},
	{"branch", "reset", "Sfqj", 1, 1, cmd_branch_reset,
	 "branch reset NAME [--force]", "reset a branch to the current state of its parent",
	 "The old state is moved to the trash, as a branch with another name. A branch that\n"
	 "has child branches cannot be reset. --force is required if the branch is protected\n"
	 "or is used by a compute.\n"},
	{"branch", "restore", "Sfqj", 1, 1, cmd_branch_restore,
	 "branch restore NAME@LSN|TIME [--force]", "restore a branch to an earlier point in time",
	 "The current state is kept, as a branch with another name. --force is required if\n"
	 "the branch is protected or is used by a compute; that compute continues to run on\n"
	 "the kept branch.\n"},
	{"branch", "compact", "Sqj", 1, 1, cmd_branch_compact,
	 "branch compact NAME", "compact a branch now",
	 "Merges the layer files of the branch and removes data that can no longer be read.\n"
	 "The store does this in the background; the command is meant for tests and for use\n"
	 "before a backup of the store.\n"},
	{"branch", "list", "Sjqd", 0, 0, cmd_branch_list,
	 "branch list [--deleted] [--json]", "list the branches or the contents of the trash", ""},
	{"tenant", "list", "Sjqd", 0, 0, cmd_tenant_list,
	 "tenant list [--deleted] [--json]", "list the tenants",
	 "A tenant is a cluster that was created or imported, together with all branches\n"
	 "that descend from it. The names shown are those of the branches without a parent.\n"},
	{"tenant", "detach", "Sqj", 1, 1, cmd_tenant_detach,
	 "tenant detach TENANT", "take a tenant out of service",
	 "TENANT is the id of the tenant or the name of one of its branches. Its computes\n"
	 "wait until it is attached again; other tenants are not affected. It stays detached\n"
	 "when the store is restarted. While it is detached, its directory,\n"
	 "STORE/tenants/ID, may be copied or moved.\n"},
	{"tenant", "attach", "Sfqj", 1, 1, cmd_tenant_attach,
	 "tenant attach TENANT [--force]", "put a detached tenant back into service",
	 "TENANT is the id of the tenant or the name of one of its branches. To move a tenant\n"
	 "to this store, detach it from the other store, copy its complete directory to\n"
	 "STORE/tenants/ID, sync it to disk, and attach it by its id. The names of its\n"
	 "branches must not exist in this store yet.\n"
	 "If there is no such directory, the tenant is taken from the object storage, by its\n"
	 "id. This requires --force unless the store that has it has released it: that store\n"
	 "must be lost, or it stops serving the tenant.\n"
	 "--force is also required for a copy of a tenant that was not detached (its store was\n"
	 "only stopped, for example), and for a tenant that another store on this machine\n"
	 "has in service. Make sure that only one of the two is used from then on.\n"},
	{"tenant", "delete", "SfPqj", 1, 1, cmd_tenant_delete,
	 "tenant delete TENANT [--force] [--purge]", "delete a tenant with all its branches",
	 "The tenant is moved to the trash and kept there for trash_interval (default: 7\n"
	 "days). \"tenant undelete\" brings it back. --purge removes the tenant at once; it\n"
	 "also removes a tenant that is already in the trash. --force is required if the\n"
	 "tenant is not detached.\n"},
	{"tenant", "undelete", "Sqj", 1, 1, cmd_tenant_undelete,
	 "tenant undelete TENANT", "bring back a deleted tenant",
	 "The tenant is detached afterward; \"tenant attach\" puts it back into service.\n"},
	{"compute", "start", "DSUbpotTqj", 1, 1, cmd_compute_start,
	 "compute start BRANCH -D COMPUTE [-p PORT] [-o OPTIONS] [-t SECS] [--takeover]", "start PostgreSQL on a branch",
	 "COMPUTE must not exist, must be an empty directory, or must be the directory of an\n"
	 "earlier compute of the branch. An earlier compute is stopped if it is running, and\n"
	 "replaced. Its settings, its log and your own files are kept, and so is its port\n"
	 "unless -p is given.\n"
	 "The command fails if another compute is connected to the branch. With --takeover,\n"
	 "the other compute is superseded and stops, but only after it has been verified\n"
	 "that the new compute can start.\n"
	 "The server log is COMPUTE/log/postgres.log. After a crash the compute is restarted\n"
	 "unless restart_after_crash is off.\n"
	 "Do not start a compute with pg_ctl: every start requires a new base backup.\n"},
	{"compute", "run", "DSUbpotTqj", 1, 1, cmd_compute_run,
	 "compute run BRANCH -D COMPUTE [-p PORT] [-o OPTIONS] [-t SECS] [--takeover]",
	 "run PostgreSQL on a branch in the foreground",
	 "Like \"compute start\", but stays in the foreground: for a service manager\n"
	 "(Type=notify), a container or a terminal. SIGTERM, SIGINT, SIGQUIT and SIGHUP are\n"
	 "passed on to PostgreSQL (smart, fast and immediate shutdown, reload). After a\n"
	 "crash the compute is restarted unless restart_after_crash is off. The exit code is\n"
	 "0 if the compute was stopped or was superseded by another compute.\n"},
	{"compute", "stop", "Dmtqj", 0, 0, cmd_compute_stop,
	 "compute stop -D COMPUTE [-m smart|fast|immediate] [-t SECS]", "stop a compute",
	 "The shutdown modes are those of pg_ctl.\n"},
	{"compute", "status", "Djq", 0, 0, cmd_compute_status,
	 "compute status -D COMPUTE [--json]", "show whether a compute is running",
	 "Exit code 0: the compute is running; 3: it is not running; 4: the directory is not\n"
	 "a compute; 5: it is running, but its commits or reads are waiting, for the reason\n"
	 "shown. The status is read from COMPUTE/pageserver_smgr.status, so the command also\n"
	 "works while the store is down.\n"},
	{"settings", "list", "Sjq", 1, 1, cmd_settings_list,
	 "settings list BRANCH [--json]", "list the versions of a branch's settings",
	 "The store keeps the settings for the computes of a branch: postgresql.conf,\n"
	 "postgresql.auto.conf, pg_hba.conf, pg_ident.conf and command-line options. The\n"
	 "last 20 versions are kept.\n"},
	{"settings", "get", "Sjq", 1, 2, cmd_settings_get,
	 "settings get BRANCH [NAME | FILE] [--json]", "show the settings of a branch",
	 "NAME is the name of a setting. FILE is the name of one of the files, or \"options\"\n"
	 "for the command-line options. The default is to show all settings.\n"},
	{"settings", "set", "Soqj", 1, 100, cmd_settings_set,
	 "settings set BRANCH [NAME=VALUE ...] [-o OPTIONS]", "change the settings of a branch",
	 "The settings take effect at the next start of a compute, as if they had been set\n"
	 "with ALTER SYSTEM. OPTIONS are used for each start of a compute without -o.\n"},
	{"settings", "reset", "Sqj", 2, 100, cmd_settings_reset,
	 "settings reset BRANCH NAME ...", "reset settings of a branch",
	 "Removes what \"settings set\" or ALTER SYSTEM has set. Settings in postgresql.conf\n"
	 "are not changed.\n"},
	{"settings", "edit", "Sqj", 1, 2, cmd_settings_edit,
	 "settings edit BRANCH [FILE]", "edit a settings file of a branch",
	 "The default for FILE is postgresql.conf. The editor is taken from the environment\n"
	 "variable VISUAL or EDITOR.\n"},
	{"settings", "revert", "Sqj", 2, 2, cmd_settings_revert,
	 "settings revert BRANCH VERSION", "revert the settings of a branch to an earlier version", ""},
	{"export", NULL, "DSUNZqj", 1, 1, cmd_export,
	 "export BRANCH[@LSN|@TIME] -D DIR [--no-sync] [--zero-damaged-pages]",
	 "export a branch as a plain data directory",
	 "DIR must not exist or must be an empty directory. Stock PostgreSQL can be started on\n"
	 "it. LSN is a WAL location such as 0/16B3748, TIME a time such as \"10 minutes ago\";\n"
	 "the default is the current state. Tablespaces become directories in DIR/pg_tblspc.\n"
	 "If a page cannot be read, the export fails with an error that names the page; with\n"
	 "--zero-damaged-pages, it warns about the page and writes zeros instead.\n"},
	{"import", NULL, "SgcGqj", 1, 1, cmd_import,
	 "import --pgdata DIR | --debian VERSION/CLUSTER [--settings-from DIR] NAME",
	 "import an existing cluster as a new branch",
	 "The cluster must have been shut down cleanly. Its data directory is not changed. The\n"
	 "store reads the directory itself if it can access it; otherwise the directory is sent\n"
	 "to the store. Unlogged tables become empty; replication slots and statistics are not\n"
	 "imported.\n"
	 "Settings are imported from the data directory. If they are elsewhere, as on Debian,\n"
	 "name their directory with --settings-from, or name the cluster with --debian, for\n"
	 "example 15/main. Otherwise only settings that affect the results of queries, such as\n"
	 "timezone, are imported.\n"},
	{"verify", NULL, "SAMqj", 0, 1, cmd_verify,
	 "verify BRANCH | --all [--rate=MB] [--json]", "read and check all files of a branch",
	 "Checks the branch's manifest, the layer files listed in it and its WAL against their\n"
	 "checksums and each other. The store must be running. A branch in the trash can be\n"
	 "checked, too; --all includes the trash. Damaged files are reported, and shown by\n"
	 "\"branch list\" until a later check finds no damage.\n"
	 "Exit code 0: no damage found; 9: something is damaged; 1: not everything could be\n"
	 "checked.\n"},
	{"remote", "check", "SEqj", 0, 1, cmd_remote_check,
	 "remote check [TENANT] [--read] [--json]", "check tenants in object storage",
	 "Checks that every object that the log of a tenant names is in the object storage of\n"
	 "the store, with its size, and that the WAL there has no gap. TENANT is a tenant's id;\n"
	 "the default is all, those of other stores included. With --read, the contents of\n"
	 "layer files are read and checked, too. Orphans are objects that the log does not\n"
	 "name: not yet, or not any more. Leave them to the store that owns the tenant.\n"
	 "Exit code 0: everything is there; 9: something is missing or damaged.\n"},
	{"layer", "dump", "VxRFBnqj", 1, 1, cmd_layer_dump,
	 "layer dump FILE [--values] [--hexdump] [-R T/D/R [-F FORK] [-B BLOCK]] [-n N] [--json]",
	 "show the contents of a layer file",
	 "FILE is a file in STORE/tenants/*/timelines/*/layers or a copy of one. The store need\n"
	 "not be running. Shows the summary of the file, the disk space used by each kind of\n"
	 "value, and the entries ordered by key and LSN. The complete file is always read and\n"
	 "checked. The exit code is 1 if damage is found.\n"},
};

const int command_table_size = lengthof(command_table);

/* The lines of a command's help that describe its options. */
static const struct
{
	char letter;
	const char *text;
} option_help[] = {
	{'D', "  -D, --directory=DIR    the directory (see above)\n"},
	{'S', "  -S, --store=STORE      the store: its directory or a libpq connection string\n"
		  "                         (default: environment variable PAGESERVER_STORE,\n"
		  "                         then " DEFAULT_STORE ")\n"},
	{'A', "      --all              check all branches of the store\n"},
	{'M', "      --rate=MB          maximum read rate, in MB per second (default: 100)\n"},
	{'B', "  -B, --block=N          show only this block of the relation\n"},
	{'b', "      --bindir=DIR       directory of PostgreSQL's programs (default: this program's\n"
		  "                         directory)\n"},
	{'F', "  -F, --fork=FORK        show only this fork of the relation: main, fsm, vm or init\n"},
	{'g', "      --pgdata=DIR       data directory to import\n"},
	{'G', "      --debian=V/NAME    Debian cluster to import, for example 15/main\n"},
	{'c', "      --settings-from=DIR\n"
		  "                         directory of the cluster's postgresql.conf\n"},
	{'f', "  -f, --force            override safety checks (see above)\n"},
	{'P', "      --purge            remove permanently instead of moving to the trash\n"},
	{'d', "      --deleted          list the contents of the trash\n"},
	{'j', "      --json             print output as JSON\n"},
	{'k', "  -k, --data-checksums   use data page checksums\n"},
	{'l', "  -l, --log=FILE         write (or append) the server log to FILE\n"},
	{'m', "  -m, --mode=MODE        MODE can be \"smart\", \"fast\" or \"immediate\" (default: fast)\n"},
	{'n', "  -n, --limit=N          show at most N entries\n"},
	{'N', "  -N, --no-sync          do not wait for changes to be written safely to disk\n"},
	{'o', "  -o, --options=OPTIONS  command-line options to pass to postgres, for example\n"
		  "                         \"-c work_mem=64MB\"\n"},
	{'p', "  -p, --port=PORT        port number to listen on\n"},
	{'q', "  -q, --quiet            print nothing on success\n"},
	{'R', "  -R, --relation=T/D/R   show only this relation: tablespace/database/relfilenode\n"},
	{'r', "      --from=PARENT      parent branch, optionally with @LSN or @TIME\n"},
	{'T', "      --takeover         take the branch over from another compute, which stops\n"},
	{'t', "  -t, --timeout=SECS     seconds to wait (default: 60)\n"},
	{'U', "      --user=NAME        user to run as when started by root (default: " DEFAULT_USER ")\n"},
	{'V', "      --values           show the contents of each value\n"},
	{'w', "  -w, --wait             wait until the operation completes (default)\n"},
	{'W', "  -W, --no-wait          do not wait until the operation completes\n"},
	{'x', "      --hexdump          show the bytes of each value\n"},
	{'Z', "      --zero-damaged-pages\n"
		  "                         write zeros in place of pages that cannot be read\n"},
};

void
command_table_usage(void)
{
	printf("pageserver_ctl manages stores of pageserver_smgr, their branches and computes.\n\nUsage:\n");
	for (int i = 0; i < command_table_size; i++)
		printf("  pageserver_ctl %s\n      %s\n", command_table[i].usage, command_table[i].summary);
	printf("\nCommon options:\n"
		   "  -S, --store=STORE      the store: its directory or a libpq connection string\n"
		   "                         (default: environment variable PAGESERVER_STORE,\n"
		   "                         then " DEFAULT_STORE ")\n"
		   "  -q, --quiet            print nothing on success\n"
		   "  -V, --version          output version information, then exit\n"
		   "  -?, --help             show this help, or after a command the help of that\n"
		   "                         command, then exit\n\n"
		   "Exit codes:\n"
		   "  0  success\n"
		   "  1  failure\n"
		   "  2  invalid command line\n"
		   "  3  the server is not running\n"
		   "  4  the directory, store, branch or tenant does not exist\n"
		   "  5  it already exists or is already running\n"
		   "  6  not possible in its current state, or only with --force or --takeover\n"
		   "  7  the store cannot be reached\n"
		   "  8  timeout\n"
		   "  9  damaged files\n\n"
		   "libpq environment variables such as PGHOST and PGOPTIONS are ignored.\n");
}

void
command_table_help(const CtlCommand *command)
{
	printf("Usage:\n  pageserver_ctl %s\n\n%c%s.\n%s\nOptions:\n", command->usage, pg_toupper(command->summary[0]),
		   command->summary + 1, command->details);
	for (int i = 0; i < lengthof(option_help); i++)
		if (strchr(command->options, option_help[i].letter) != NULL)
			fputs(option_help[i].text, stdout);
	printf("  -?, --help             show this help, then exit\n");
}
