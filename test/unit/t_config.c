/*
 * t_config.c
 *	  Settings of a store, and the store's directory: made, recognised, locked.
 */
#include "ps_fe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/config.h"
#include "store/store_dir.h"

static char dir[64];

static int
setup(void **state)
{
	strcpy(dir, "/tmp/t_config.XXXXXX");
	return mkdtemp(dir) == NULL;
}

static int
teardown(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static const char *
path_of(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void
write_bytes(const char *name, const char *text, size_t len)
{
	FILE *file = fopen(path_of(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, len, file), len);
	fclose(file);
}

static void
write_text(const char *name, const char *text)
{
	write_bytes(name, text, strlen(text));
}

/* The first bytes of a file. */
static const char *
text_of(const char *name)
{
	static char text[128];
	FILE *file = fopen(path_of(name), "r");

	assert_non_null(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	return text;
}

static Config *
load(const char *text)
{
	Config *config = NULL;
	PsError *err;

	write_text(CONFIG_FILE_NAME, text);
	err = config_load(dir, &config);
	if (err != NULL)
		fail_msg("\"%s\": %s", text, err->message);
	return config;
}

/* The file is refused with a message that holds the words. */
static void
refused(const char *text, const char *words)
{
	Config *config = NULL;
	PsError *err;

	write_text(CONFIG_FILE_NAME, text);
	err = config_load(dir, &config);
	if (err == NULL)
		fail_msg("\"%s\" was taken", text);
	if (strstr(err->message, words) == NULL)
		fail_msg("\"%s\": the message is \"%s\", expected it to hold \"%s\"", text, err->message, words);
	assert_null(config);
	ps_error_free(err);
}

static void
defaults(void **state)
{
	Config *config = load("");

	assert_string_equal(config->store_dir, dir);
	assert_string_equal(config->unix_socket_directory, dir);
	assert_string_equal(config->listen_addresses, "");
	assert_int_equal(config->port, 5480);
	assert_int_equal(config->redo_timeout, 60000);
	assert_int_equal(config->checkpoint_timeout, 600);
	assert_int_equal(config->checkpoint_distance, 256);
	assert_int_equal(config_log_level(config), PS_LOG);
	assert_string_equal(config->remote_storage, "");
	assert_true(config->remote_verify_tls);
	assert_true(access(config->bindir, X_OK) == 0);
	config_free(config);
}

static void
values_and_units(void **state)
{
	Config *config = load("port=1\n"
						  "  max_connections   7   # a comment\r\n"
						  "# port = 2\n"
						  "\n"
						  "checkpoint_distance = 2GB\n"
						  "open_layer_memory = '3 MB'\n"
						  "page_cache_size = 4096kB\n"
						  "min_free_space = 0\n"
						  "redo_timeout = 2min\n"
						  "wait_timeout = 1500\n"
						  "checkpoint_timeout = 1h\n"
						  "listen_addresses = 'localhost, 127.0.0.1,::1,127.3.2.1'\n"
						  "unix_socket_directory = '/a dir/it''s\\'#'\n"
						  "bindir = /usr/bin\n"
						  "remote_storage = 's3://bucket/prefix'\n"
						  "remote_path_style = on\n"
						  "remote_verify_tls = No\n"
						  "remote_part_size = 1GB\n"
						  "log_level = warning\n"
						  "port = 65535"); /* the last one counts; no newline at the end */

	assert_int_equal(config->port, 65535);
	assert_int_equal(config->max_connections, 7);
	assert_int_equal(config->checkpoint_distance, 2048);
	assert_int_equal(config->open_layer_memory, 3);
	assert_int_equal(config->page_cache_size, 4);
	assert_int_equal(config->min_free_space, 0);
	assert_int_equal(config->redo_timeout, 120000);
	assert_int_equal(config->wait_timeout, 1500);
	assert_int_equal(config->checkpoint_timeout, 3600);
	assert_string_equal(config->listen_addresses, "localhost, 127.0.0.1,::1,127.3.2.1");
	assert_string_equal(config->unix_socket_directory, "/a dir/it's'#");
	assert_string_equal(config->bindir, "/usr/bin");
	assert_int_equal(config_log_level(config), PS_WARNING);
	assert_string_equal(config->remote_storage, "s3://bucket/prefix");
	assert_string_equal(config->remote_path_style, "on");
	assert_false(config->remote_verify_tls);
	assert_int_equal(config->remote_part_size, 1024);
	config_free(config);

	/* 2048kB is a whole number of MB, 1000ms of seconds */
	config = load("checkpoint_distance = 2048kB\ncheckpoint_timeout = 2000ms\n");
	assert_int_equal(config->checkpoint_distance, 2);
	assert_int_equal(config->checkpoint_timeout, 2);
	config_free(config);
}

static void
bad_lines(void **state)
{
	refused("\n\nport = 1\nfoo = 1\n", ":4: unknown setting \"foo\"");
	refused("port\n", ":1: a line must be");
	refused("= 5\n", ":1: a line must be");
	refused("port =\n", ":1: a value is missing");
	refused("port = # 5\n", ":1: a value is missing");
	refused("port = 5 6\n", ":1: there is more");
	refused("bindir = '/a\n", ":1: a quote is not closed");
	refused("bindir = '/a' b\n", ":1: there is more");
	refused("bindir = '/a\\\n", ":1: a quote is not closed");
	refused("port = 0\n", "between 1 and 65535");
	refused("port = 65536\n", "between 1 and 65535");
	refused("port = -1\n", "between 1 and 65535");
	refused("port = 99999999999999999999\n", "whole number");
	refused("port = 9223372036854775807\n", "between 1 and 65535");
	refused("checkpoint_distance = 9223372036854775807GB\n", "between");
	refused("checkpoint_distance = 64TB\n", "between 1MB and 65536MB");
	refused("port = five\n", "whole number");
	refused("port = 5.5\n", "whole number");
	refused("port = 5MB\n", "whole number");
	refused("port = ''\n", "whole number");
	refused("checkpoint_distance = 5s\n", "kB, MB, GB, TB");
	refused("checkpoint_distance = 5mb\n", "kB, MB, GB, TB");
	refused("checkpoint_distance = 1500kB\n", "not a multiple of 1MB");
	refused("checkpoint_timeout = 1500ms\n", "not a multiple of 1s");
	refused("wait_timeout = 30d\n", "between");
	refused("log_level = fatal\n", "debug, log or warning");
	refused("bindir = bin\n", "absolute path");
	refused("remote_storage = bucket\n", "s3://BUCKET/PREFIX or file:///DIRECTORY");
	refused("remote_storage = 'file://dir'\n", "s3://BUCKET/PREFIX or file:///DIRECTORY");
	refused("remote_path_style = yes\n", "auto, on or off");
	refused("remote_verify_tls = maybe\n", "on or off");
	refused("remote_verify_tls = ''\n", "on or off");
}

/* Whatever is not surely loopback is refused, for there is no authentication. */
/* Each within its limits, but not together. */
static void
together(void **state)
{
	refused("compaction_threshold = 50\n", "\"compaction_backlog\", which is 40");
	refused("wal_acknowledge = bucket\n", "there is no object storage");
	refused("wal_acknowledge = directory\nremote_storage = 's3://bucket'\n", "\"wal_copy_directory\" is empty");
	refused("wal_acknowledge = remote\n", "it must be local, directory or bucket");
	refused("compaction_backlog = 3\n", "\"compaction_threshold\" is 4");
	config_free(load("compaction_backlog = 4\ncompaction_threshold = 4\n"));
	config_free(load("compaction_threshold = 50\ncompaction_backlog = 50\n"));
}

static void
only_loopback(void **state)
{
	static const char *const others[] = {"*", "0.0.0.0", "::", "192.168.1.1", "localhost,10.0.0.1", "128.0.0.1",
										 "example.org", "localhost.example.org", "::2", "::ffff:10.0.0.1", "127.1",
										 "127.0.0.1.2"};

	for (int i = 0; i < lengthof(others); i++)
	{
		char *text = psprintf("listen_addresses = '%s'\n", others[i]);

		refused(text, "loopback");
		pfree(text);
	}
}

static void
unreadable(void **state)
{
	Config *config = NULL;
	PsError *err;

	write_bytes(CONFIG_FILE_NAME, "port = 1\0\n", 10);
	err = config_load(dir, &config);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "zero byte"));
	ps_error_free(err);
	unlink(path_of(CONFIG_FILE_NAME));
	err = config_load(dir, &config);
	assert_non_null(err);
	ps_error_free(err);
	err = config_load("/nonexistent/store", &config);
	assert_non_null(err);
	ps_error_free(err);
}

/* The generated file is all comments, and says what the defaults are: without the "#" it means the same. */
static void
generated_file(void **state)
{
	StringInfoData text;
	StringInfoData active;
	Config *plain;
	Config *config;
	int settings = 0;

	initStringInfo(&text);
	initStringInfo(&active);
	config_write_default(&text);
	for (char *line = strtok(pstrdup(text.data), "\n"); line != NULL; line = strtok(NULL, "\n"))
	{
		assert_int_equal(line[0], '#');
		assert_true(strlen(line) < 85);
		if (line[1] != ' ' && line[1] != '\0')
		{
			appendStringInfo(&active, "%s\n", line + 1);
			settings++;
		}
	}
	assert_true(settings >= 15);
	plain = load(text.data);
	config = load(active.data);
	assert_int_equal(config->port, plain->port);
	assert_int_equal(config->redo_timeout, plain->redo_timeout);
	assert_int_equal(config->checkpoint_timeout, plain->checkpoint_timeout);
	assert_int_equal(config->min_free_space, plain->min_free_space);
	assert_string_equal(config->listen_addresses, plain->listen_addresses);
	assert_string_equal(config->unix_socket_directory, plain->unix_socket_directory);
	assert_string_equal(config->bindir, plain->bindir);
	config_free(plain);
	config_free(config);
	pfree(text.data);
	pfree(active.data);
}

static void
reload(void **state)
{
	Config *first = load("port = 1000\nio_method = sync\npitr_interval = 2d\n");
	Config *second;
	Config *third;
	PsLogLevel before = ps_log_level;
	PsError *err;

	ps_log_level = PS_FATAL; /* no noise from this test */
	write_text(CONFIG_FILE_NAME, "log_level = nonsense\n");
	second = first;
	err = config_reload(first, &second);
	assert_non_null(err);
	ps_error_free(err);
	assert_ptr_equal(second, first);
	assert_string_equal(first->restart_needed, "");

	write_text(CONFIG_FILE_NAME, "log_level = warning\nport = 1001\nio_method = worker\ngc_horizon = 1GB\n"
								 "remote_verify_tls = off\n");
	assert_null(config_reload(first, &second));
	assert_int_equal(config_log_level(second), PS_WARNING);
	assert_int_equal(second->gc_horizon, 1024);
	assert_int_equal(second->pitr_interval, 7 * 86400);
	/* what needs a restart stays, and is named */
	assert_int_equal(second->port, 1000);
	assert_string_equal(second->io_method, "sync");
	assert_true(second->remote_verify_tls);
	assert_string_equal(second->restart_needed, "port, io_method, remote_verify_tls");
	/* who has the first one may go on with it */
	assert_int_equal(first->pitr_interval, 2 * 86400);

	/* this one can be changed, but needs one that cannot */
	write_text(CONFIG_FILE_NAME, "remote_storage = 's3://bucket'\nwal_acknowledge = bucket\n");
	err = config_reload(second, &third);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "there is no object storage"));
	ps_error_free(err);

	write_text(CONFIG_FILE_NAME, "port = 1000\nio_method = sync\n");
	assert_null(config_reload(second, &third));
	assert_string_equal(third->restart_needed, "");
	assert_int_equal(third->gc_horizon, 64);
	ps_log_level = before;
	config_free(third);
}

/* ---- store_dir.c ---- */

static void
expect_error(PsError *err, const char *words)
{
	assert_non_null(err);
	if (strstr(err->message, words) == NULL)
		fail_msg("the message is \"%s\", expected it to hold \"%s\"", err->message, words);
	ps_error_free(err);
}

static void
init_and_check(void **state)
{
	char store[96];
	struct stat st;
	Config *config;

	snprintf(store, sizeof(store), "%s/a/store", dir);
	expect_error(store_dir_check(store), "could not find");
	assert_null(store_dir_init(store));
	assert_int_equal(stat(store, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_null(store_dir_check(store));
	assert_null(config_load(store, &config));
	config_free(config);

	/* not a second time, and nothing changes */
	expect_error(store_dir_init(store), "not empty");
	assert_null(store_dir_check(store));

	/* other formats */
	write_text("a/store/" STORE_VERSION_FILE, "3\n");
	expect_error(store_dir_check(store), "has format 3, and this pageserver reads formats 1 to 2");
	expect_error(store_dir_raise_format(store), "format 3");
	write_text("a/store/" STORE_VERSION_FILE, "1");
	expect_error(store_dir_check(store), "does not hold");
	write_text("a/store/" STORE_VERSION_FILE, "");
	expect_error(store_dir_check(store), "does not hold");
	write_text("a/store/" STORE_VERSION_FILE, "1\n");
	assert_null(store_dir_check(store));
	assert_string_equal(text_of("a/store/" STORE_VERSION_FILE), "1\n");

	/* which a daemon raises when it starts */
	assert_null(store_dir_raise_format(store));
	assert_string_equal(text_of("a/store/" STORE_VERSION_FILE), "2\n");
	assert_null(store_dir_raise_format(store));
	assert_null(store_dir_check(store));

	chmod(store, 0701);
	expect_error(store_dir_check(store), "can be accessed by others");
	chmod(store, 0750);
	assert_null(store_dir_check(store));
	unlink(path_of("a/store/" STORE_VERSION_FILE));
	expect_error(store_dir_check(store), "is not a store");

	/* an empty directory is as good as none; one with files is left alone */
	assert_int_equal(mkdir(path_of("b"), 0755), 0);
	assert_null(store_dir_init(path_of("b")));
	assert_int_equal(stat(path_of("b"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	expect_error(store_dir_init(dir), "not empty");
}

static char *
read_lock_file(void)
{
	static char text[512];
	FILE *file = fopen(path_of(STORE_LOCK_FILE), "r");
	size_t len;

	assert_non_null(file);
	len = fread(text, 1, sizeof(text) - 1, file);
	text[len] = '\0';
	fclose(file);
	return text;
}

static void
lock_file(void **state)
{
	LockFile *lock;
	LockFile *other;
	char expected[256];
	PsLogLevel before = ps_log_level;
	pid_t child;
	int status;

	assert_null(lock_file_take(dir, 5555, "/sock", &lock));
	snprintf(expected, sizeof(expected), "%d\n%s\n", (int) getpid(), dir);
	assert_int_equal(strncmp(read_lock_file(), expected, strlen(expected)), 0);
	assert_non_null(strstr(read_lock_file(), "\n5555\n/sock\nstarting\n"));
	assert_null(lock_file_set_state(lock, "ready"));
	assert_non_null(strstr(read_lock_file(), "\n5555\n/sock\nready   \n"));

	/* held: also within one process, for it is the open file that counts */
	expect_error(lock_file_take(dir, 1, "", &other), "is in use");
	assert_non_null(strstr(read_lock_file(), "ready"));
	lock_file_release(lock);
	assert_int_not_equal(access(path_of(STORE_LOCK_FILE), F_OK), 0);

	/* a killed holder leaves the file, not the lock */
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
	{
		if (lock_file_take(dir, 7777, "", &lock) != NULL)
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_non_null(strstr(read_lock_file(), "7777"));
	ps_log_level = PS_FATAL;
	assert_null(lock_file_take(dir, 5556, "/a/longer/path/than/before", &lock));
	ps_log_level = before;
	assert_null(strstr(read_lock_file(), "7777"));
	lock_file_release(lock);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(values_and_units, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(together, setup, teardown),
		cmocka_unit_test_setup_teardown(only_loopback, setup, teardown),
		cmocka_unit_test_setup_teardown(unreadable, setup, teardown),
		cmocka_unit_test_setup_teardown(generated_file, setup, teardown),
		cmocka_unit_test_setup_teardown(reload, setup, teardown),
		cmocka_unit_test_setup_teardown(init_and_check, setup, teardown),
		cmocka_unit_test_setup_teardown(lock_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
