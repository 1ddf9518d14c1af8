/*
 * t_sqlstates.c
 *	  The list of SQLSTATEs (sqlstate.h): what follows from it, and that each is
 *	  really made, here or by test/t/181_sqlstates.pl.
 */
#include "wal_gen.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bucket/claim.h"
#include "io/aio.h"
#include "serve/protocol.h"
#include "sqlstate.h"
#include "base/fs.h"

#define SEG (1024 * 1024)

/* The states, with a mark for those that were made here. */
static struct
{
	const char *name;
	const char *code;
	bool made;
} states[] = {
#define STATE(name, code, store, compute, exit_code) {#name, code, false},
	PS_SQLSTATES(STATE)
#undef STATE
};

static char dir[MAXPGPATH];
static int sync_to_fail; /* the n-th from now on; 0: none */

extern int __real_fsync(int fd);
extern int __wrap_fsync(int fd);

int
__wrap_fsync(int fd)
{
	if (sync_to_fail > 0 && --sync_to_fail == 0)
	{
		errno = EIO;
		return -1;
	}
	return __real_fsync(fd);
}

static int
make_test_dir(void **state)
{
	snprintf(dir, sizeof(dir), "%s/t_sqlstates_XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
remove_test_dir(void **state)
{
	char command[MAXPGPATH + 16];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

/* The error has the state, which is noted. */
static void
made(PsError *err, const char *code)
{
	assert_non_null(err);
	assert_string_equal(err->sqlstate, code);
	ps_error_free(err);
	for (int i = 0; i < lengthof(states); i++)
		if (strcmp(states[i].code, code) == 0)
			states[i].made = true;
}

/* Files: none, no space, no descriptors, not readable, a sync that fails after the rename. */
static void
files(void **state)
{
	struct rlimit limit;
	struct rlimit none = {0};
	Outcome outcome;
	char *missing = psprintf("%s/none", dir);
	char *file = psprintf("%s/file", dir);

	made(fs_sync(missing), PS_SQLSTATE_IO);

	/* a device whose every write says ENOSPC */
	made(fs_write_new_file("/dev/full", "x", 1, false), PS_SQLSTATE_DISK_FULL);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none.rlim_max = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	made(fs_sync(dir), PS_SQLSTATE_NO_RESOURCES);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);

	/* the file's, then the directory's after the rename */
	sync_to_fail = 1;
	made(fs_replace_file(file, "x", 1, 0, &outcome), PS_SQLSTATE_IO);
	assert_int_equal(outcome, OUTCOME_NOT_DONE);
	sync_to_fail = 2;
	made(fs_replace_file(file, "x", 1, 0, &outcome), PS_SQLSTATE_UNKNOWN);
	assert_int_equal(outcome, OUTCOME_UNKNOWN);
	pfree(missing);
	pfree(file);
}

/* No address space for the stack of a thread. */
static void
no_thread(void **state)
{
	pthread_attr_t attr;
	size_t size;
	Aio *aio;

	assert_int_equal(pthread_getattr_default_np(&attr), 0);
	assert_int_equal(pthread_attr_getstacksize(&attr, &size), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, (size_t) 1 << 50), 0);
	assert_int_equal(pthread_setattr_default_np(&attr), 0);
	made(aio_create(AIO_WORKER, 1, &aio), PS_SQLSTATE_OUT_OF_MEMORY);
	assert_int_equal(pthread_attr_setstacksize(&attr, size), 0);
	assert_int_equal(pthread_setattr_default_np(&attr), 0);
	pthread_attr_destroy(&attr);
}

static PsError *
cancel_always(void *arg)
{
	return cancel_error(CANCEL_BY_CLIENT, NULL);
}

/* WAL files: compressing is canceled; a compressed one cannot be written. */
static void
wal_files(void **state)
{
	static const CancelCheck canceled = {cancel_always, NULL};
	char *zeros = pg_malloc0(SEG);
	WalSegments *segs;

	assert_ok(wal_segments_open(dir, SEG, &segs));
	for (int s = 1; s <= 3; s++)
		assert_ok(wal_segments_write(segs, (XLogRecPtr) s * SEG, zeros, SEG));
	made(wal_segments_pack(segs, 3, &canceled), PS_SQLSTATE_CANCELED);
	assert_ok(wal_segments_pack(segs, 3, NULL));
	made(wal_segments_write(segs, SEG, zeros, 8), PS_SQLSTATE_INTERNAL);
	wal_segments_close(segs);
	free(zeros);
}

/* A tenant in object storage that a second store takes over. */
static void
bucket(void **state)
{
	const StoreIdentity who = {ps_id_random(), "host", "/store"};
	PsId tenant = ps_id_random();
	char *url = psprintf("file://%s", dir);
	ObjectStore *store;
	TenantOwner owner;
	Claim claim;
	Claim newer;

	assert_ok(object_store_open(url, NULL, &store));
	claim_make(&claim, NULL, &who);
	assert_ok(claim_put(store, &tenant, &claim, NULL, &owner));
	claim_make(&newer, &claim, &who);
	assert_ok(claim_put(store, &tenant, &newer, NULL, &(TenantOwner) {0}));
	made(claim_check(&owner, NULL), PS_SQLSTATE_FENCED);
	object_store_close(store);
	free(url);
}

static void
connection(void **state)
{
	int fds[2];
	Conn conn;
	Message msg;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn_init(&conn, fds[1]);
	close(fds[0]);
	made(conn_read_startup(&conn, &msg), PS_SQLSTATE_CONNECTION);
	conn_free(&conn);
	close(fds[1]);
}

static char *
slurp_text(const char *path)
{
	StringInfoData text;
	FILE *f = fopen(path, "r");
	char line[1024];

	assert_non_null(f);
	initStringInfo(&text);
	while (fgets(line, sizeof(line), f) != NULL)
		appendStringInfoString(&text, line);
	fclose(f);
	return text.data;
}

/* What was not made above is in the table of the TAP test, which makes each state that it has. */
static void
all_are_made(void **state)
{
	char *tap = slurp_text("../t/181_sqlstates.pl");
	int missing = 0;

	for (int i = 0; i < lengthof(states); i++)
	{
		char *entry = psprintf("\n\t[ '%s',", states[i].code);

		if (!states[i].made && strstr(tap, entry) == NULL)
		{
			print_error("%s (%s) is made by no test\n", states[i].name, states[i].code);
			missing++;
		}
		pfree(entry);
	}
	assert_int_equal(missing, 0);
	pfree(tap);
}

/* No code twice, five characters each; what follows from unknown ones. */
static void
the_list(void **state)
{
	for (int i = 0; i < lengthof(states); i++)
	{
		assert_int_equal(strspn(states[i].code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 5);
		assert_int_equal(ps_sqlstate_find(states[i].code), i);
	}
	assert_true(ps_sqlstate_compute_retries("08003") && ps_sqlstate_compute_retries("57P01"));
	assert_false(ps_sqlstate_compute_retries("28P01"));
	assert_false(ps_sqlstate_compute_retries("XX002"));
	assert_false(ps_sqlstate_store_retries(PS_SQLSTATE_IO));
	assert_true(ps_sqlstate_store_retries(PS_SQLSTATE_DISK_FULL));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_list),
		cmocka_unit_test(files),
		cmocka_unit_test(no_thread),
		cmocka_unit_test(wal_files),
		cmocka_unit_test(bucket),
		cmocka_unit_test(connection),
		cmocka_unit_test(all_are_made),
	};

	return cmocka_run_group_tests(tests, make_test_dir, remove_test_dir);
}
