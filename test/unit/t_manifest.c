/*
 * t_manifest.c
 *	  The manifest of a timeline: round trip, every bit flipped, foreign and
 *	  newer files, a full disk, a failed sync, the one before, texts that JSON
 *	  cannot hold.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "sqlstate.h"
#include "store/store_impl.h"

static char dir[] = "/tmp/t_manifest.XXXXXX";
static char file[64];

static LayerInfo layers[] = {
	{.type = LAYER_IMAGE,
	 .key_min = {.kind = 1, .spc = 1663, .db = 5},
	 .key_max = {.kind = 13, .blk = 7},
	 .lsn_start = 0x1000000,
	 .lsn_end = 0x1000001,
	 .number = 1,
	 .entries = 7,
	 .file_size = 24576},
	{.type = LAYER_DELTA,
	 .key_min = {.kind = 1, .spc = 1663, .db = 5},
	 .key_max = {.kind = 255, .fork = 255, .spc = PG_UINT32_MAX, .db = 1, .rel = 2, .blk = 3},
	 .lsn_start = 0x1000001,
	 .lsn_end = PG_UINT64_MAX,
	 .number = PG_UINT64_MAX,
	 .level = 15,
	 .entries = PG_UINT64_MAX,
	 .file_size = 1},
};

static Manifest
sample(void)
{
	return (Manifest) {
		.tenant = {{1, 2, 3}},
		.timeline = {{4, 5, 6, 255}},
		.name = "main-1.x_Y",
		.system_identifier = PG_UINT64_MAX,
		.segment_size = 16 * 1024 * 1024,
		.data_checksum_version = 1,
		.start_lsn = UINT64CONST(0x123456789ABCDEF0),
		.disk_consistent_lsn = UINT64CONST(0xFFFFFFFF00000001),
		.generation = PG_UINT64_MAX - 1,
		.owner = "host \"x\":/dir\\\xc3\xa4",
		.layers = layers,
		.nlayers = 2,
	};
}

static void
assert_same(const Manifest *a, const Manifest *b)
{
	assert_true(ps_id_equal(&a->tenant, &b->tenant) && ps_id_equal(&a->timeline, &b->timeline));
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->owner, b->owner);
	assert_true(a->system_identifier == b->system_identifier && a->segment_size == b->segment_size &&
				a->data_checksum_version == b->data_checksum_version && a->start_lsn == b->start_lsn &&
				a->disk_consistent_lsn == b->disk_consistent_lsn && a->generation == b->generation);
	assert_int_equal(a->ncopies, b->ncopies);
	for (int i = 0; i < a->ncopies; i++)
		assert_true(a->copies[i].start == b->copies[i].start && a->copies[i].end == b->copies[i].end &&
					a->copies[i].spc == b->copies[i].spc && a->copies[i].db == b->copies[i].db);
	assert_int_equal(a->nlayers, b->nlayers);
	for (int i = 0; i < a->nlayers; i++)
	{
		const LayerInfo *x = &a->layers[i];
		const LayerInfo *y = &b->layers[i];

		assert_true(x->type == y->type && ps_key_cmp(&x->key_min, &y->key_min) == 0 &&
					ps_key_cmp(&x->key_max, &y->key_max) == 0 && x->lsn_start == y->lsn_start &&
					x->lsn_end == y->lsn_end && x->file_size == y->file_size && x->entries == y->entries &&
					x->number == y->number && x->level == y->level);
	}
}

static void
assert_refused(const char *sqlstate, const char *text)
{
	Manifest m;
	PsError *err = manifest_read(dir, &m);

	assert_non_null(err);
	if (!ps_error_is(err, sqlstate) || strstr(err->message, text) == NULL || strstr(err->message, file) == NULL)
		fail_msg("%s %s, expected %s %s", err->sqlstate, err->message, sqlstate, text);
	assert_int_equal(m.nlayers, 0);
	ps_error_free(err);
}

static void
write_manifest(const Manifest *m)
{
	Outcome outcome;

	assert_null(manifest_write(dir, m, &outcome));
	assert_int_equal(outcome, OUTCOME_DONE);
}

static void
write_file(const char *data, size_t len)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static size_t
read_file(char *data, size_t size)
{
	int fd = open(file, O_RDONLY);
	ssize_t len = read(fd, data, size);

	assert_true(len > 0 && (size_t) len < size);
	close(fd);
	data[len] = '\0';
	return len;
}

static void
test_round_trip(void **state)
{
	Manifest m = sample();
	Manifest back;

	write_manifest(&m);
	assert_null(manifest_read(dir, &back));
	assert_same(&m, &back);
	manifest_free(&back);

	/* databases that were copied */
	m.copies = (DbCopy[]) {{.start = UINT64CONST(0x1FFFFFFF0),
							.end = UINT64CONST(0x200000058),
							.spc = 1663,
							.db = PG_UINT32_MAX},
						   {.start = 16, .end = PG_UINT64_MAX, .spc = PG_UINT32_MAX, .db = 5}};
	m.ncopies = 2;
	write_manifest(&m);
	assert_null(manifest_read(dir, &back));
	assert_same(&m, &back);
	manifest_free(&back);
	m.ncopies = 0;

	/* over the old one; no layers, nobody */
	m.nlayers = 0;
	m.owner[0] = '\0';
	m.generation = 0;
	write_manifest(&m);
	assert_null(manifest_read(dir, &back));
	assert_same(&m, &back);
	manifest_free(&back);
}

static void
test_every_bit(void **state)
{
	Manifest m = sample();
	char right[8192];
	char wrong[8192];
	size_t len;

	write_manifest(&m);
	len = read_file(right, sizeof(right));
	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit++)
		{
			Manifest back;
			PsError *err;

			memcpy(wrong, right, len);
			wrong[i] ^= (char) (1 << bit);
			write_file(wrong, len);
			err = manifest_read(dir, &back);
			if (err == NULL)
				fail_msg("bit %d of byte %zu (\"%.20s\") can change", bit, i, right + i);
			ps_error_free(err);
		}
	/* and cut anywhere, or longer */
	for (size_t i = 0; i < len; i++)
	{
		write_file(right, i);
		assert_refused(PS_SQLSTATE_CORRUPTED, "");
	}
	memcpy(wrong, right, len);
	wrong[len] = '}';
	write_file(wrong, len + 1);
	assert_refused(PS_SQLSTATE_CORRUPTED, "could not read manifest");
}

static void
replace(const char *what, const char *with)
{
	char text[8192];
	char out[8192];
	char *at;

	read_file(text, sizeof(text));
	at = strstr(text, what);
	assert_non_null(at);
	*at = '\0';
	snprintf(out, sizeof(out), "%s%s%s", text, with, at + strlen(what));
	write_file(out, strlen(out));
}

static void
test_foreign(void **state)
{
	Manifest m = sample();

	write_manifest(&m);
	replace("pageserver timeline", "pageserver tenant");
	assert_refused(PS_SQLSTATE_CORRUPTED, "does not have the format");

	write_manifest(&m);
	replace("\"version\": 3", "\"version\": 5");
	assert_refused(PS_SQLSTATE_STATE, "format version 5, this pageserver reads versions 3 to 4");

	write_manifest(&m);
	replace("\"version\": 3", "\"version\": 2");
	assert_refused(PS_SQLSTATE_STATE, "format version 2");

	write_manifest(&m);
	replace("main-1.x_Y", "main-1.x_Z");
	assert_refused(PS_SQLSTATE_CORRUPTED, "wrong checksum");

	write_file("[]", 2);
	assert_refused(PS_SQLSTATE_CORRUPTED, "does not have the format");
	write_file("", 0);
	assert_refused(PS_SQLSTATE_CORRUPTED, "could not read manifest");
	unlink(file);
	assert_refused(PS_SQLSTATE_CORRUPTED, "could not read manifest");
}

/* What cannot be written leaves the old one, and nothing beside it. */
static void
test_full_disk(void **state)
{
	Manifest m = sample();
	Manifest back;
	struct rlimit limit;
	struct rlimit unlimited;
	Outcome outcome;
	char tmp[80];
	PsError *err;

	write_manifest(&m);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	limit = unlimited;
	for (limit.rlim_cur = 0; limit.rlim_cur < 400; limit.rlim_cur += 37)
	{
		Manifest other = sample();

		other.generation = 5;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		err = manifest_write(dir, &other, &outcome);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
		assert_non_null(err);
		assert_true(ps_error_is(err, PS_SQLSTATE_DISK_FULL));
		assert_int_equal(outcome, OUTCOME_NOT_DONE);
		ps_error_free(err);
		snprintf(tmp, sizeof(tmp), "%s.tmp", file);
		assert_int_equal(access(tmp, F_OK), -1);
		assert_null(manifest_read(dir, &back));
		assert_same(&m, &back);
		manifest_free(&back);
	}

	/* no directory: an error, and the reason is the right one */
	err = manifest_write("/tmp/t_manifest.none", &m, &outcome);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "No such file"));
	ps_error_free(err);
}

extern int __real_fsync(int fd);
extern int __wrap_fsync(int fd);

static int sync_to_fail; /* the n-th from now on; 0: none */

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

static void
assert_generation(const char *name, uint64 generation)
{
	char copy[] = "/tmp/t_manifest.copy.XXXXXX";
	char command[256];
	Manifest m;

	assert_non_null(mkdtemp(copy));
	snprintf(command, sizeof(command), "cp %s/%s %s/timeline.json", dir, name, copy);
	assert_int_equal(system(command), 0);
	assert_null(manifest_read(copy, &m));
	assert_true(m.generation == generation);
	manifest_free(&m);
	snprintf(command, sizeof(command), "rm -r %s", copy);
	assert_int_equal(system(command), 0);
}

/*
 * If the file cannot be synced nothing has changed.  If its name cannot be, the
 * new one is there, and the outcome says that it may not stay.  The one before
 * is there in any case.
 */
static void
test_failed_sync(void **state)
{
	Manifest m = sample();
	Outcome outcome;
	PsError *err;

	m.generation = 1;
	write_manifest(&m);
	m.generation = 2;
	write_manifest(&m);
	assert_generation("timeline.json", 2);
	assert_generation("timeline.json.old", 1);

	m.generation = 3;
	sync_to_fail = 1;
	err = manifest_write(dir, &m, &outcome);
	assert_non_null(err);
	assert_int_equal(outcome, OUTCOME_NOT_DONE);
	assert_false(ps_error_is(err, PS_SQLSTATE_UNKNOWN));
	ps_error_free(err);
	assert_generation("timeline.json", 2);
	assert_generation("timeline.json.old", 1);

	sync_to_fail = 2;
	err = manifest_write(dir, &m, &outcome);
	assert_non_null(err);
	assert_int_equal(outcome, OUTCOME_UNKNOWN);
	assert_true(ps_error_is(err, PS_SQLSTATE_UNKNOWN));
	ps_error_free(err);
	assert_int_equal(sync_to_fail, 0);
	assert_generation("timeline.json", 3);
	assert_generation("timeline.json.old", 2);
}

/* A text that is no UTF-8 would make a manifest that cannot be read. */
static void
test_not_utf8(void **state)
{
	Manifest m = sample();
	Manifest bad = sample();
	Manifest back;
	Outcome outcome;
	PsError *err;

	write_manifest(&m);
	strcpy(bad.owner, "host:/\xc3");
	err = manifest_write(dir, &bad, &outcome);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "UTF-8"));
	ps_error_free(err);
	assert_null(manifest_read(dir, &back));
	assert_same(&m, &back);
	manifest_free(&back);
}

static int
begin(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/timeline.json", dir);
	return 0;
}

static int
remove_dir(void **state)
{
	char old[80];

	snprintf(old, sizeof(old), "%s.old", file);
	unlink(old);
	unlink(file);
	return rmdir(dir);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_failed_sync),
		cmocka_unit_test(test_not_utf8),
	};

	return cmocka_run_group_tests(tests, begin, remove_dir);
}
