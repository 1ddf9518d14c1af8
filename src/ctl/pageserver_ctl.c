/*
 * pageserver_ctl.c
 *	  The command line of pageserver_smgr: which command, which options, help.
 */
#include "ps_fe.h"

#include <getopt.h>
#include <limits.h>

#include "ctl.h"
#include "base/version.h"

static const CtlCommand commands[] = {
	{"init", NULL, "DSUbpqj", 0, 0, cmd_init,
	 "init [-D STORE] [--bindir DIR] [-p PORT]", "make a new, empty store",
	 "STORE must not exist, or be empty. Its settings are in STORE/pageserver.conf.\n"
	 "With --bindir or -p these settings are written there.\n"},
	{"start", NULL, "DSUltwWqj", 0, 0, cmd_start,
	 "start [-D STORE] [-l LOG] [-t SECS] [-W]", "start a store in the background",
	 "Waits until the store takes connections. Without -l the log is STORE/pageserver.log.\n"},
	{"stop", NULL, "DSmtwWqj", 0, 0, cmd_stop,
	 "stop [-D STORE] [-m smart|fast|immediate] [-t SECS] [-W]", "stop a store",
	 "Smart and fast are the same for a store: computes wait for it to come back.\n"
	 "Immediate ends it on the spot; nothing that was acknowledged is lost.\n"},
	{"restart", NULL, "DSUlmtwWqj", 0, 0, cmd_restart,
	 "restart [-D STORE] [-l LOG] [-m smart|fast|immediate] [-t SECS]", "stop a store and start it again",
	 "A store that does not run is started. The settings are checked before the store\n"
	 "is stopped.\n"},
	{"reload", NULL, "DSqj", 0, 0, cmd_reload,
	 "reload [-D STORE]", "have a store read its settings again",
	 "The settings are checked first. The store's log says what has changed, and opens\n"
	 "its file anew if that was moved away; \"status\" names what needs a restart.\n"},
	{"status", NULL, "DSjq", 0, 0, cmd_status,
	 "status [-D STORE] [--json]", "show whether a store runs",
	 "Exit code 0: it runs; 3: it does not; 4: there is no store in the directory.\n"
	 "If it runs it is asked whether settings were changed that need a restart.\n"},
	{"branch", "create", "Skrqj", 1, 1, cmd_branch_create,
	 "branch create NAME [--from PARENT[@LSN|@TIME] | --data-checksums]", "make a branch",
	 "With --from, the branch begins as PARENT is now, or was at an LSN such as\n"
	 "0/16B3748, or at a time such as \"10 minutes ago\" or \"2026-11-20 12:00+00\": just\n"
	 "before the first commit that is later. No data is copied.\n"
	 "Without --from it is a fresh cluster, made by initdb: encoding UTF8, locale\n"
	 "C.UTF-8, superuser postgres, trust on the unix socket, passwords (scram-sha-256)\n"
	 "for TCP connections.\n"},
	{"branch", "delete", "SfPqj", 1, 1, cmd_branch_delete,
	 "branch delete NAME [--force] [--purge]", "delete a branch",
	 "It is in the trash then, for trash_interval (7 days), and can be had back with\n"
	 "\"branch undelete\"; \"branch list --deleted\" shows what is there. With --purge it\n"
	 "is gone at once; also one that is in the trash already, by its name or id.\n"
	 "Not while other branches begin in it. A branch that begins in no other, one that\n"
	 "is protected, and one with a compute on it are deleted with --force only.\n"
	 "A branch that cannot be read may have no name: its timeline id, which the list\n"
	 "shows then, does as well.\n"},
	{"branch", "undelete", "Sqj", 1, 2, cmd_branch_undelete,
	 "branch undelete NAME|ID [NEW_NAME]", "bring a branch back that was deleted",
	 "Of several of the same name it is the one that was deleted last, unless it is\n"
	 "named by its id. NEW_NAME if its name has been taken by another one.\n"},
	{"branch", "protect", "Sqj", 1, 1, cmd_branch_protect,
	 "branch protect NAME", "have a branch deleted, reset or restored with --force only", ""},
	{"branch", "unprotect", "Sqj", 1, 1, cmd_branch_unprotect,
	 "branch unprotect NAME", "end the protection of a branch", ""},
	{"branch", "rename", "Sqj", 2, 2, cmd_branch_rename,
	 "branch rename NAME NEW_NAME", "rename a branch", ""},
	{"branch", "reset", "Sfqj", 1, 1, cmd_branch_reset,
	 "branch reset NAME [--force]", "make a branch what its parent is now",
	 "What it was is in the trash, as a branch of another name. Not while other branches\n"
	 "begin in it; with a compute on it, or if it is protected, only with --force.\n"},
	{"branch", "restore", "Sfqj", 1, 1, cmd_branch_restore,
	 "branch restore NAME@LSN|TIME [--force]", "make a branch what it was at an earlier moment",
	 "What it is now stays, as a branch of another name. With a compute on it, or if it\n"
	 "is protected, only with --force; that compute goes on with what the branch was.\n"},
	{"branch", "compact", "Sqj", 1, 1, cmd_branch_compact,
	 "branch compact NAME", "merge a branch's layer files and remove what cannot be read any more, now",
	 "The store does that by itself; this is for tests, and before a backup of a store.\n"},
	{"branch", "list", "Sjqd", 0, 0, cmd_branch_list,
	 "branch list [--deleted] [--json]", "list the branches, or what is in the trash", ""},
	{"tenant", "list", "Sjqd", 0, 0, cmd_tenant_list,
	 "tenant list [--deleted] [--json]", "show the tenants: clusters and all their branches",
	 "A tenant is a cluster that was created or imported, with all branches that come\n"
	 "from it. Shown by name: the branches that begin in no other.\n"},
	{"tenant", "detach", "Sqj", 1, 1, cmd_tenant_detach,
	 "tenant detach TENANT", "take a cluster and all its branches out of service",
	 "TENANT is its id, or the name of one of its branches. Its computes wait until it\n"
	 "is attached again; others notice nothing. It stays detached when the store is\n"
	 "started again. Its directory, STORE/tenants/ID, may be copied or moved meanwhile.\n"},
	{"tenant", "attach", "Sfqj", 1, 1, cmd_tenant_attach,
	 "tenant attach TENANT [--force]", "put a cluster and all its branches into service again",
	 "TENANT is its id, or the name of one of its branches. A tenant of another store,\n"
	 "that was detached there, is attached by its id when its directory has been copied\n"
	 "to STORE/tenants/ID, whole and synced. Its branches must have names that the store\n"
	 "does not have yet. A copy of one that was not detached (its store was stopped, say),\n"
	 "and a tenant that another store of this machine has in service, are attached with\n"
	 "--force only: two would go on with the same cluster.\n"},
	{"tenant", "delete", "SfPqj", 1, 1, cmd_tenant_delete,
	 "tenant delete TENANT [--force] [--purge]", "delete a cluster and all its branches",
	 "It is in the trash then, for trash_interval (7 days), and can be had back with\n"
	 "\"tenant undelete\". One that is not detached is deleted with --force only. With\n"
	 "--purge it is gone at once; also if it is in the trash already.\n"},
	{"tenant", "undelete", "Sqj", 1, 1, cmd_tenant_undelete,
	 "tenant undelete TENANT", "bring a cluster back that was deleted",
	 "It is detached then: \"tenant attach\" puts it into service.\n"},
	{"compute", "start", "DSUbpotTqj", 1, 1, cmd_compute_start,
	 "compute start BRANCH -D COMPUTE [-p PORT] [-o OPTIONS] [-t SECS] [--takeover]", "start PostgreSQL on a branch",
	 "COMPUTE must not exist, be empty, or be an earlier compute of the branch. That is\n"
	 "stopped if it runs, and replaced; its settings, its log and all files of yours\n"
	 "stay, and its port unless -p gives another.\n"
	 "Refused if a compute of the branch is connected from elsewhere. With --takeover\n"
	 "that is superseded and stops, once it is clear that this one can start.\n"
	 "OPTIONS are passed on to postgres. The server's log is COMPUTE/log/postgres.log.\n"
	 "After a crash the compute is started anew, unless restart_after_crash is off.\n"
	 "A compute cannot be started with pg_ctl: each start takes a new base backup.\n"},
	{"compute", "run", "DSUbpotTqj", 1, 1, cmd_compute_run,
	 "compute run BRANCH -D COMPUTE [-p PORT] [-o OPTIONS] [-t SECS] [--takeover]", "run PostgreSQL on a branch in the foreground",
	 "As compute start, but this program stays: for a service manager (Type=notify), a\n"
	 "container, or a terminal. SIGTERM, SIGINT, SIGQUIT and SIGHUP are passed on to\n"
	 "PostgreSQL: smart, fast and immediate stop, reload. After a crash the compute is\n"
	 "started anew, unless restart_after_crash is off. Exit code 0: it was stopped, or\n"
	 "another compute has taken the branch over.\n"},
	{"compute", "stop", "Dmtqj", 0, 0, cmd_compute_stop,
	 "compute stop -D COMPUTE [-m smart|fast|immediate] [-t SECS]", "stop a compute",
	 "The modes are those of pg_ctl; fast is the default.\n"},
	{"compute", "status", "Djq", 0, 0, cmd_compute_status,
	 "compute status -D COMPUTE [--json]", "show whether a compute runs",
	 "Exit code 0: it runs; 3: it does not; 4: the directory is no compute; 5: it runs,\n"
	 "but its commits or reads wait, for the reason that is shown. That is known from\n"
	 "DIR/pageserver_smgr.status, also while the store is down.\n"},
	{"settings", "list", "Sjq", 1, 1, cmd_settings_list,
	 "settings list BRANCH [--json]", "list the versions of a branch's settings",
	 "The settings of a branch's computes are kept with it: postgresql.conf,\n"
	 "postgresql.auto.conf, pg_hba.conf, pg_ident.conf and options of the command line.\n"
	 "The last 20 versions stay.\n"},
	{"settings", "get", "Sjq", 1, 2, cmd_settings_get,
	 "settings get BRANCH [NAME | FILE] [--json]", "show settings of a branch",
	 "NAME is a setting; FILE one of the files, or \"options\". Without either, all that\n"
	 "is set is listed.\n"},
	{"settings", "set", "Soqj", 1, 100, cmd_settings_set,
	 "settings set BRANCH [NAME=VALUE ...] [-o OPTIONS]", "change settings of a branch",
	 "They are for the next start of a compute, as if it had been ALTER SYSTEM. OPTIONS\n"
	 "are passed on to postgres at each start that gives no others.\n"},
	{"settings", "reset", "Sqj", 2, 100, cmd_settings_reset,
	 "settings reset BRANCH NAME ...", "take settings of a branch back",
	 "What \"settings set\" or ALTER SYSTEM has set; what is in postgresql.conf stays.\n"},
	{"settings", "edit", "Sqj", 1, 2, cmd_settings_edit,
	 "settings edit BRANCH [FILE]", "edit a settings file of a branch",
	 "FILE is postgresql.conf unless another is given. VISUAL or EDITOR name the editor.\n"},
	{"settings", "revert", "Sqj", 2, 2, cmd_settings_revert,
	 "settings revert BRANCH VERSION", "make an earlier version of the settings the newest", ""},
	{"export", NULL, "DSUNZqj", 1, 1, cmd_export,
	 "export BRANCH[@LSN|@TIME] -D DIR [--no-sync] [--zero-damaged-pages]", "write a branch as a plain data directory",
	 "DIR must not exist, or be empty. Stock PostgreSQL starts on it, without this\n"
	 "library. LSN is a WAL position such as 0/16B3748, TIME such as \"10 minutes ago\";\n"
	 "without them the newest state is written. Tablespaces become directories in\n"
	 "DIR/pg_tblspc. A page that cannot be read ends it with an error that names the\n"
	 "page; with --zero-damaged-pages it is listed, and the rest is written.\n"},
	{"import", NULL, "SgcGqj", 1, 1, cmd_import,
	 "import --pgdata DIR | --debian VERSION/CLUSTER [--settings-from DIR] NAME", "make a branch out of an existing cluster",
	 "DIR is the data directory of a cluster that was shut down cleanly. It is only\n"
	 "read: by the store, if that finds the same cluster there, else it is sent to the\n"
	 "store. Unlogged tables become empty; replication slots and statistics stay behind.\n"
	 "Settings are taken from DIR. Where they are elsewhere, as Debian has them, they\n"
	 "are taken with --settings-from, the directory of postgresql.conf, or --debian,\n"
	 "such as 15/main; else only what decides what queries answer, such as timezone.\n"},
	{"verify", NULL, "SAMqj", 0, 1, cmd_verify,
	 "verify BRANCH | --all [--rate=MB] [--json]", "read and check all files of a branch",
	 "Its manifest, the layer files that it names and its WAL are read and checked\n"
	 "against their checksums and each other, while the store runs. A branch that is in\n"
	 "the trash is checked, too, and with --all, those are as well. What is damaged is\n"
	 "named, and shows in \"branch list\" until it is checked again and found well.\n"
	 "Exit code 0: all is well; 9: something is damaged; 1: not all could be checked.\n"},
	{"layer", "dump", "VxRFBnqj", 1, 1, cmd_layer_dump,
	 "layer dump FILE [--values] [--hexdump] [-R T/D/R [-F FORK] [-B BLOCK]] [-n N] [--json]", "show what is in a layer file",
	 "FILE is one of STORE/tenants/*/timelines/*/layers, or a copy of it; the store need not run.\n"
	 "Its summary is shown, what takes how much room, and its entries by key and LSN.\n"
	 "All of the file is read and checked, whatever is shown: exit code 1 if something\n"
	 "is damaged.\n"},
};

static const struct option long_options[] = {
	{"directory", required_argument, NULL, 'D'},
	{"store", required_argument, NULL, 'S'},
	{"user", required_argument, NULL, 'U'},
	{"bindir", required_argument, NULL, 'b'},
	{"log", required_argument, NULL, 'l'},
	{"mode", required_argument, NULL, 'm'},
	{"port", required_argument, NULL, 'p'},
	{"options", required_argument, NULL, 'o'},
	{"timeout", required_argument, NULL, 't'},
	{"pgdata", required_argument, NULL, 'g'},
	{"settings-from", required_argument, NULL, 'c'},
	{"debian", required_argument, NULL, 'G'},
	{"wait", no_argument, NULL, 'w'},
	{"no-wait", no_argument, NULL, 'W'},
	{"json", no_argument, NULL, 'j'},
	{"quiet", no_argument, NULL, 'q'},
	{"data-checksums", no_argument, NULL, 'k'},
	{"no-sync", no_argument, NULL, 'N'},
	{"zero-damaged-pages", no_argument, NULL, 'Z'},
	{"from", required_argument, NULL, 'r'},
	{"force", no_argument, NULL, 'f'},
	{"takeover", no_argument, NULL, 'T'},
	{"purge", no_argument, NULL, 'P'},
	{"deleted", no_argument, NULL, 'd'},
	{"values", no_argument, NULL, 'V'},
	{"hexdump", no_argument, NULL, 'x'},
	{"relation", required_argument, NULL, 'R'},
	{"fork", required_argument, NULL, 'F'},
	{"block", required_argument, NULL, 'B'},
	{"limit", required_argument, NULL, 'n'},
	{"all", no_argument, NULL, 'A'},
	{"rate", required_argument, NULL, 'M'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0}};

/* What the help of a command says of each option. */
static const struct
{
	char letter;
	const char *text;
} option_help[] = {
	{'D', "  -D, --directory=DIR    the directory (see above)\n"},
	{'S', "  -S, --store=STORE      the store: its directory, or a connection string of libpq\n"
		  "                         (default: environment variable PAGESERVER_STORE,\n"
		  "                         else " DEFAULT_STORE ")\n"},
	{'A', "      --all              all branches of the store\n"},
	{'M', "      --rate=MB          megabytes read in a second, at most (default: 100)\n"},
	{'B', "  -B, --block=N          only this block of the relation\n"},
	{'b', "      --bindir=DIR       PostgreSQL's programs (default: this program's directory)\n"},
	{'F', "  -F, --fork=FORK        only this fork of the relation: main, fsm, vm or init\n"},
	{'g', "      --pgdata=DIR       data directory to import\n"},
	{'G', "      --debian=V/NAME    cluster of Debian's postgresql-common to import, such as 15/main\n"},
	{'c', "      --settings-from=DIR  directory of the cluster's postgresql.conf\n"},
	{'f', "  -f, --force            do it in spite of what speaks against it\n"},
	{'P', "      --purge            for good, not into the trash\n"},
	{'d', "      --deleted          what is in the trash\n"},
	{'j', "      --json             output as JSON\n"},
	{'k', "  -k, --data-checksums   the cluster has checksums on data pages\n"},
	{'l', "  -l, --log=FILE         append the log to this file\n"},
	{'m', "  -m, --mode=MODE        smart, fast or immediate (default: fast)\n"},
	{'n', "  -n, --limit=N          only so many entries\n"},
	{'N', "  -N, --no-sync          do not wait until all is safely on disk\n"},
	{'o', "  -o, --options=OPTIONS  options for postgres, such as \"-c work_mem=64MB\"\n"},
	{'p', "  -p, --port=PORT        port to listen on\n"},
	{'q', "  -q, --quiet            do not tell of success\n"},
	{'R', "  -R, --relation=T/D/R   only what is of the relation: tablespace, database, relfilenode\n"},
	{'r', "      --from=PARENT      the branch in which it begins, @ a moment\n"},
	{'T', "      --takeover         also if another compute runs the branch; that stops\n"},
	{'t', "  -t, --timeout=SECS     seconds to wait (default: 60)\n"},
	{'U', "      --user=NAME        as root: the user to run as (default: " DEFAULT_USER ")\n"},
	{'V', "      --values           also what is in each value\n"},
	{'w', "  -w, --wait             wait until it is done (the default)\n"},
	{'W', "  -W, --no-wait          do not wait until it is done\n"},
	{'x', "      --hexdump          also each value's bytes\n"},
	{'Z', "      --zero-damaged-pages\n"
		  "                         zeros in the place of pages that cannot be read\n"},
};

static void
usage(void)
{
	printf("pageserver_ctl manages stores of pageserver_smgr, their branches and computes.\n\nUsage:\n");
	for (int i = 0; i < lengthof(commands); i++)
		printf("  pageserver_ctl %s\n      %s\n", commands[i].usage, commands[i].summary);
	printf("\nGeneral options:\n"
		   "  -S, --store=STORE      the store: its directory, or a connection string of libpq;\n"
		   "                         default: environment variable PAGESERVER_STORE,\n"
		   "                         else " DEFAULT_STORE "\n"
		   "      --help             help for the program or, after a command, for that\n"
		   "      --version          show the version\n\n"
		   "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 does not run, 4 does not exist,\n"
		   "5 exists already, 6 refused (its state does not allow it, or only with --force),\n"
		   "7 the store cannot be reached, 8 not done in time, 9 damaged.\n"
		   "Variables of libpq (PGHOST, PGOPTIONS, ...) are not looked at.\n");
}

static void
command_usage(const CtlCommand *command)
{
	printf("Usage:\n  pageserver_ctl %s\n\nTo %s.\n%s\nOptions:\n", command->usage, command->summary, command->details);
	for (int i = 0; i < lengthof(option_help); i++)
		if (strchr(command->options, option_help[i].letter) != NULL)
			fputs(option_help[i].text, stdout);
	printf("      --help             show this help\n");
}

static void
bad_usage(const CtlCommand *command)
{
	if (command == NULL)
		pg_log_error_hint("Try \"%s --help\" for more information.", get_progname("pageserver_ctl"));
	else
		pg_log_error_hint("Try \"pageserver_ctl %s%s%s --help\" for more information.", command->name,
						  command->sub ? " " : "", command->sub ? command->sub : "");
	exit(EXIT_USAGE);
}

/* The command that the first one or two words name. */
static const CtlCommand *
find_command(int argc, char **argv)
{
	bool known = false;

	for (int i = 0; i < lengthof(commands); i++)
	{
		if (strcmp(argv[1], commands[i].name) != 0)
			continue;
		known = true;
		if (commands[i].sub == NULL || (argc > 2 && strcmp(argv[2], commands[i].sub) == 0))
			return &commands[i];
	}
	if (!known)
		pg_log_error("unknown command \"%s\"", argv[1]);
	else if (argc > 2)
		pg_log_error("unknown command \"%s %s\"", argv[1], argv[2]);
	else
		pg_log_error("\"%s\" is not a whole command", argv[1]);
	bad_usage(NULL);
	return NULL;
}

static const char *
option_name(int letter)
{
	for (int i = 0; long_options[i].name != NULL; i++)
		if (long_options[i].val == letter)
			return psprintf("--%s", long_options[i].name);
	return "";
}

static void
bad_value(const char *what, const char *value, const char *expected)
{
	pg_log_error("invalid %s \"%s\": %s is expected", what, value, expected);
	exit(EXIT_USAGE);
}

static int
parse_timeout(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 1 || value > INT_MAX / 1000)
		bad_value("timeout", text, "a number of seconds");
	return value;
}

static int
parse_rate(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || value < 1 || value > 1000000)
		bad_value("rate", text, "a number of megabytes");
	return value;
}

static void
parse_option(Options *options, int c)
{
	switch (c)
	{
		case 'D':
			options->directory = optarg;
			break;
		case 'S':
			options->store = optarg;
			break;
		case 'U':
			options->user = optarg;
			break;
		case 'b':
			options->bindir = optarg;
			break;
		case 'l':
			options->log = optarg;
			break;
		case 'm':
			options->mode = optarg;
			if (strcmp(optarg, "smart") != 0 && strcmp(optarg, "fast") != 0 && strcmp(optarg, "immediate") != 0)
				bad_value("mode", optarg, "smart, fast or immediate");
			break;
		case 'p':
			options->port = optarg;
			if (strspn(optarg, "0123456789") != strlen(optarg) || atoi(optarg) < 1 || atoi(optarg) > 65535)
				bad_value("port", optarg, "a number from 1 to 65535");
			break;
		case 'o':
			options->server_options = optarg;
			break;
		case 't':
			options->timeout = parse_timeout(optarg);
			break;
		case 'g':
			options->pgdata = optarg;
			break;
		case 'c':
			options->settings_from = optarg;
			break;
		case 'G':
			options->debian = optarg;
			break;
		case 'w':
			options->no_wait = false;
			break;
		case 'W':
			options->no_wait = true;
			break;
		case 'j':
			options->json = true;
			break;
		case 'q':
			options->quiet = true;
			break;
		case 'k':
			options->data_checksums = true;
			break;
		case 'r':
			options->from = optarg;
			break;
		case 'f':
			options->force = true;
			break;
		case 'T':
			options->takeover = true;
			break;
		case 'P':
			options->purge = true;
			break;
		case 'd':
			options->deleted = true;
			break;
		case 'N':
			options->no_sync = true;
			break;
		case 'Z':
			options->zero_damaged_pages = true;
			break;
		case 'V':
			options->values = true;
			break;
		case 'x':
			options->hexdump = true;
			break;
		case 'R':
			options->relation = optarg;
			break;
		case 'F':
			options->fork = optarg;
			break;
		case 'B':
			options->block = optarg;
			break;
		case 'n':
			options->limit = optarg;
			break;
		case 'A':
			options->all = true;
			break;
		case 'M':
			options->rate = parse_rate(optarg);
			break;
	}
}

/* Has the command a second word, as "branch list"? */
static bool
has_second_word(const char *name)
{
	for (int i = 0; i < lengthof(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].sub != NULL;
	return false;
}

/*
 * What the caller has set for psql and others is not meant for the store, nor
 * for the servers that are started here, which are clients of the store.
 * PGPORT stays: it is the default of a server's port, too.
 */
static void
forget_libpq_variables(void)
{
	PQconninfoOption *known = PQconndefaults();

	for (PQconninfoOption *option = known; option != NULL && option->keyword != NULL; option++)
		if (option->envvar != NULL && strcmp(option->envvar, "PGPORT") != 0)
			unsetenv(option->envvar);
	PQconninfoFree(known);
	unsetenv("PGSERVICEFILE");
	unsetenv("PGSYSCONFDIR");
}

int
main(int argc, char **argv)
{
	Options options = {.user = DEFAULT_USER, .bindir = NULL, .mode = "fast", .timeout = DEFAULT_TIMEOUT};
	const CtlCommand *command;
	int skip;
	int c;

	pg_logging_init(argv[0]);
	signal(SIGPIPE, SIG_IGN);
	forget_libpq_variables();

	/* what stands before the command */
	while ((c = getopt_long(argc, argv, "+S:qh?V", long_options, NULL)) != -1)
	{
		if (c == 'h' || (c == '?' && optopt == '?'))
		{
			usage();
			return 0;
		}
		if (c == 'v' || (c == 'V' && argv[optind - 1][1] == 'V'))
		{
			printf("pageserver_ctl (pageserver_smgr) %s for PostgreSQL %s\n", PS_VERSION, PG_MAJORVERSION);
			return 0;
		}
		if (c != 'S' && c != 'q')
		{
			if (c != '?')
				pg_log_error("the option \"%s\" belongs after the command", option_name(c));
			bad_usage(NULL);
		}
		parse_option(&options, c);
	}
	argv[optind - 1] = argv[0];
	argc -= optind - 1;
	argv += optind - 1;
	if (argc < 2)
	{
		pg_log_error("no command was given");
		bad_usage(NULL);
	}
	if (strcmp(argv[1], "help") == 0 || (argc == 3 && strcmp(argv[2], "--help") == 0 && has_second_word(argv[1])))
	{
		usage();
		return 0;
	}
	command = find_command(argc, argv);
	skip = command->sub ? 2 : 1;
	argv[skip] = argv[0];
	argc -= skip;
	argv += skip;
	optind = 0; /* glibc: begin anew */
	while ((c = getopt_long(argc, argv, "D:S:l:m:p:o:t:wWkNfqR:F:B:n:h?", long_options, NULL)) != -1)
	{
		if (c == 'h' || (c == '?' && optopt == '?'))
		{
			command_usage(command);
			return 0;
		}
		if (c == '?')
			bad_usage(command);
		if (strchr(command->options, c) == NULL)
		{
			pg_log_error("this command does not take the option \"%s\"", option_name(c));
			bad_usage(command);
		}
		parse_option(&options, c);
	}
	options.args = argv + optind;
	options.nargs = argc - optind;
	if (options.nargs < command->least || options.nargs > command->most)
	{
		if (options.nargs < command->least)
			pg_log_error("an argument is missing");
		else
			pg_log_error("too many arguments (first is \"%s\")", options.args[command->most]);
		bad_usage(command);
	}
	return command->run(&options);
}
