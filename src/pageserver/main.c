/*
 * main.c
 *	  pageserver: the command line of the daemon, its start, signals and stop.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/pg_crc32c.h"

#include "base/bindir.h"
#include "base/config.h"
#include "layer/layer.h"
#include "sqlstate.h"
#include "serve/serve.h"
#include "store/store_dir.h"
#include "store/store_running.h"
#include "base/version.h"

/* The limit on open files is not raised beyond this: some programs close all possible descriptors one by one. */
#define MAX_OPEN_FILES (1024 * 1024)

/*
 * Descriptors that are neither page streams nor layer files: other connections,
 * WAL, pipes to redo helpers, files being written.
 */
#define OTHER_FILES 300

/* How often the store checks whether its directory is still its own, as PostgreSQL's ServerLoop() does. */
#define LOCK_CHECK_MS 60000

/* The store does not start if it cannot open this many layer files. */
#define LAYER_FILES_MIN 8

static void
usage(void)
{
	printf("pageserver is the store of pageserver_smgr: it receives WAL and serves pages.\n\n"
		   "Usage:\n"
		   "  pageserver -D STORE                 run the store in the foreground\n"
		   "  pageserver --init -D STORE          create a new, empty store\n"
		   "  pageserver --check-config -D STORE  check its settings\n\n"
		   "Options:\n"
		   "  -D, --store=STORE    directory of the store\n"
		   "  -q, --quiet          do not print messages of success\n"
		   "  -V, --version        output version information, then exit\n"
		   "  -?, --help           show this help, then exit\n\n"
		   "Signals: SIGTERM and SIGINT stop the store, SIGQUIT ends it immediately (no\n"
		   "acknowledged WAL is lost), SIGHUP reloads the settings and reopens the log.\n\n"
		   "Use \"pageserver_ctl\" to start and stop the store in the background.\n");
}

/* Prints an error as PostgreSQL's programs do, and frees it.  Returns the exit status. */
static int
report_error(PsError *err)
{
	fprintf(stderr, "pageserver: error: %s\n", err->message);
	if (err->detail != NULL)
		fprintf(stderr, "pageserver: detail: %s\n", err->detail);
	if (err->hint != NULL)
		fprintf(stderr, "pageserver: hint: %s\n", err->hint);
	ps_error_free(err);
	return 1;
}

static PsError *
refuse_root(const char *dir)
{
	if (geteuid() != 0)
		return NULL;
	return ps_error_hint(ps_error_detail(ps_error(PS_SQLSTATE_STATE, "pageserver cannot be run as root"),
										 "It runs PostgreSQL's programs, which cannot be run as root, "
										 "and a store must belong to an unprivileged user."),
						 "Use pageserver_ctl, which runs it as user postgres, "
						 "or run: runuser -u postgres -- pageserver -D %s",
						 dir);
}

/*
 * Raises the limit on open files as far as possible, and sets how many layer files
 * may be open: max_open_layer_files, or as many as connections and other files
 * leave.
 */
static PsError *
set_file_limits(const Config *config)
{
	struct rlimit limit;
	int64 left;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return ps_error(PS_SQLSTATE_IO, "could not get the limit on open files: %m");
	if (limit.rlim_cur < Min(limit.rlim_max, MAX_OPEN_FILES))
	{
		limit.rlim_cur = Min(limit.rlim_max, MAX_OPEN_FILES);
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			return ps_error(PS_SQLSTATE_IO, "could not raise the limit on open files to %llu: %m",
							(unsigned long long) limit.rlim_cur);
	}
	left = (int64) Min(limit.rlim_cur, MAX_OPEN_FILES) - config->max_connections - OTHER_FILES;
	if (left < LAYER_FILES_MIN)
		return ps_error_hint(ps_error(PS_SQLSTATE_STATE,
									  "the system allows %llu open files, but at least %d are needed: "
									  "%d for connections, %d for layer files, %d others",
									  (unsigned long long) limit.rlim_cur,
									  config->max_connections + LAYER_FILES_MIN + OTHER_FILES, config->max_connections,
									  LAYER_FILES_MIN, OTHER_FILES),
							 "Increase the limit (ulimit -n, LimitNOFILE in systemd), or decrease max_connections.");
	if (left < config->max_open_layer_files)
		ps_log(PS_WARNING,
			   "the system allows %llu open files: at most %d layer files are kept open, not %d (max_open_layer_files)",
			   (unsigned long long) limit.rlim_cur, (int) left, config->max_open_layer_files);
	layer_set_max_open((int) Min(left, config->max_open_layer_files));
	return NULL;
}

static void
quit_at_once(int signo)
{
	_exit(2);
}

/*
 * Blocks the signals that the main thread reads from the returned descriptor.
 * Threads inherit the mask.  SIGQUIT is not blocked.
 */
static PsError *
setup_signals(int *fd)
{
	struct sigaction quit = {.sa_handler = quit_at_once};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGHUP);
	sigaction(SIGQUIT, &quit, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL); /* exceeding a file size limit is handled like a full disk */
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	*fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*fd < 0)
		return ps_error(PS_SQLSTATE_IO, "could not create a signalfd: %m");
	return NULL;
}

/* Lets the CRC code choose its implementation, which it does at its first call, without a lock. */
static void
warm_up_crc(void)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, "pageserver", 10);
	FIN_CRC32C(crc);
}

/*
 * Ends the process if the store's directory was removed or replaced: WAL that it
 * acknowledged from now on would be lost.  A lock file or socket of that name now
 * belongs to another process, so they are left alone.
 */
static void
check_store_directory(const LockFile *lock)
{
	PsError *err = lock_file_check(lock);

	if (err == NULL)
		return;
	ps_log_error(PS_FATAL, err, "ending the store immediately");
	_exit(2);
}

/* Handles SIGHUP: reopens the log if it was moved away, and reloads the settings.  *config is updated. */
static void
reload_settings(Server *server, Store *store, Config **config)
{
	Config *fresh;
	PsError *err;

	err = ps_log_reopen();
	ps_log(PS_LOG, "reloading settings after SIGHUP");
	if (err != NULL)
		ps_log_error(PS_WARNING, err, "could not reopen the log, continuing with the old file");
	err = config_reload(*config, &fresh);
	if (err != NULL)
	{
		ps_log_error(PS_WARNING, err, "settings were not reloaded");
		return;
	}
	*config = fresh;
	err = set_file_limits(fresh);
	if (err != NULL)
		ps_log_error(PS_WARNING, err, "limits on open files were not changed");
	__atomic_store_n(&ps_log_level, config_log_level(fresh), __ATOMIC_RELAXED);
	store_reload(store, fresh);
	server_reload(server, fresh);
}

/* Serves connections until a signal says to stop. */
static void
serve_until_stopped(Server *server, Store *store, Config **config, const LockFile *lock, int signal_fd)
{
	for (;;)
	{
		struct signalfd_siginfo info;
		char *who;

		server_run(server, signal_fd, LOCK_CHECK_MS);
		check_store_directory(lock);
		if (read(signal_fd, &info, sizeof(info)) != sizeof(info))
			continue;
		who = audit_sender(info.ssi_pid, info.ssi_uid);
		if (info.ssi_signo != SIGHUP)
			audit_log(who, "received signal %s: stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
		else
			audit_log(who, "received signal SIGHUP: reloading settings");
		free(who);
		if (info.ssi_signo != SIGHUP)
			return;
		reload_settings(server, store, config);
	}
}

static PsError *
run_store(const char *dir)
{
	Config *config = NULL;
	LockFile *lock = NULL;
	Store *store = NULL;
	Server *server = NULL;
	int signal_fd = -1;
	PsError *err;

	ps_log_begin();
	PS_GOTO(store_dir_check(dir), done);
	PS_GOTO(config_load(dir, &config), done);
	PS_GOTO(bindir_check(config->bindir), done);
	ps_log_level = config_log_level(config);
	if (chdir(config->store_dir) < 0)
	{
		err = ps_error(PS_SQLSTATE_IO, "could not change to the directory \"%s\": %m", config->store_dir);
		goto done;
	}
	PS_GOTO(setup_signals(&signal_fd), done);
	PS_GOTO(set_file_limits(config), done);
	warm_up_crc();
	PS_GOTO(lock_file_take(config->store_dir, config->port, config->unix_socket_directory, &lock), done);
	ps_log(PS_LOG, "starting pageserver %s for PostgreSQL %s on \"%s\"", PS_VERSION, PG_MAJORVERSION,
		   config->store_dir);

	PS_GOTO(store_running_begin(config->store_dir), done);
	PS_GOTO(store_dir_raise_format(config->store_dir), done);
	PS_GOTO(store_open(config, &store), done);
	PS_GOTO(server_create(config, store, &server), done);
	PS_GOTO(lock_file_set_state(lock, "ready"), done);
	ps_log(PS_LOG, "the store is ready");

	serve_until_stopped(server, store, &config, lock, signal_fd);
	ps_error_free(lock_file_set_state(lock, "stopping"));

done:
	if (server != NULL)
	{
		store_stop(store);
		if (!server_stop(server))
		{
			/* sessions are using the store, so it cannot be closed; all acknowledged WAL is on disk */
			ps_log(PS_WARNING, "exiting without closing the store");
			_exit(1);
		}
		server_free(server);
	}
	if (store != NULL)
	{
		store_close(store);
		store_running_end(config->store_dir);
	}
	if (lock != NULL)
	{
		lock_file_release(lock);
		if (err == NULL)
			ps_log(PS_LOG, "the store is shut down");
	}
	if (signal_fd >= 0)
		close(signal_fd);
	config_free(config);
	return err;
}

/*
 * Makes glibc return freed memory to the system.  Allocations of 1 MB and more, as
 * layers in memory have them, are mapped separately.  By default glibc raises this
 * threshold to up to 32 MB when such a piece is freed; after some layers its
 * heaps, one for each thread, would hold twice the memory that is in use.
 */
static void
set_allocator(void)
{
	mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 16 * 1024 * 1024);
	mallopt(M_MMAP_MAX, 1024 * 1024);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"store", required_argument, NULL, 'D'},
		{"init", no_argument, NULL, 'i'},
		{"check-config", no_argument, NULL, 'c'},
		{"quiet", no_argument, NULL, 'q'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, '?'},
		{NULL, 0, NULL, 0}};
	enum
	{
		RUN,
		INIT,
		CHECK_CONFIG
	} action = RUN;
	const char *dir = NULL;
	bool quiet = false;
	Config *config;
	PsError *err = NULL;
	int c;

	set_allocator();

	/* getopt also returns '?' for errors */
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0))
	{
		usage();
		return 0;
	}
	while ((c = getopt_long(argc, argv, "D:qV", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'D':
				dir = optarg;
				break;
			case 'i':
				action = INIT;
				break;
			case 'c':
				action = CHECK_CONFIG;
				break;
			case 'q':
				quiet = true;
				break;
			case 'V':
				printf("pageserver (pageserver_smgr) %s for PostgreSQL %s\n", PS_VERSION, PG_MAJORVERSION);
				return 0;
			default:
				fprintf(stderr, "Try \"pageserver --help\" for more information.\n");
				return 1;
		}
	}
	if (optind < argc || dir == NULL || dir[0] == '\0')
	{
		if (optind < argc)
			fprintf(stderr, "pageserver: error: too many arguments (first is \"%s\")\n", argv[optind]);
		else
			fprintf(stderr, "pageserver: error: no store directory specified (option -D)\n");
		fprintf(stderr, "Try \"pageserver --help\" for more information.\n");
		return 1;
	}
	umask(077);
	switch (action)
	{
		case INIT:
			err = refuse_root(dir);
			if (err == NULL)
				err = store_dir_init(dir);
			if (err == NULL && !quiet)
				printf("Created a new store in \"%s\".  Its settings are in \"%s/%s\".\n", dir, dir, CONFIG_FILE_NAME);
			break;
		case CHECK_CONFIG:
			err = config_load(dir, &config);
			if (err == NULL)
			{
				err = bindir_check(config->bindir);
				config_free(config);
			}
			if (err == NULL && !quiet)
				printf("The settings in \"%s/%s\" are valid.\n", dir, CONFIG_FILE_NAME);
			break;
		case RUN:
			err = refuse_root(dir);
			if (err == NULL)
				err = run_store(dir);
			break;
	}
	return err != NULL ? report_error(err) : 0;
}
