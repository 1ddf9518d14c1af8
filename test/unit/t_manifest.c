/*
 * t_manifest.c
 *	  The manifest of a timeline and its log: round trips, changes, torn ends,
 *	  every flipped bit, foreign and newer files, full disks, failed syncs,
 *	  damaged logs, texts that are not UTF-8, manifests of stores of format 1.
 *
 * t_manifest_save.c tests how open timelines and the store use it.
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

#include "base/crc.h"
#include "manifest_util.h"
#include "sqlstate.h"
#include "timeline_util.h"

#define FILE_MAX 16384

/* In memory, because the tests write many thousands of files. */
static char dir[] = "/dev/shm/t_manifest.XXXXXX";
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

static DbCopy copies[] = {
	{.start = UINT64CONST(0x1FFFFFFF0), .end = UINT64CONST(0x200000058), .spc = 1663, .db = PG_UINT32_MAX},
	{.start = 16, .end = PG_UINT64_MAX, .spc = PG_UINT32_MAX, .db = 5}};

static XLogRecPtr imaged[] = {0x1000010, UINT64CONST(0x123456789ABCDEF0), PG_UINT64_MAX};

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

static bool
same_layer(const LayerInfo *x, const LayerInfo *y)
{
	return x->type == y->type && ps_key_cmp(&x->key_min, &y->key_min) == 0 &&
		   ps_key_cmp(&x->key_max, &y->key_max) == 0 && x->lsn_start == y->lsn_start && x->lsn_end == y->lsn_end &&
		   x->file_size == y->file_size && x->entries == y->entries && x->number == y->number && x->level == y->level;
}

static bool
is_same(const Manifest *a, const Manifest *b)
{
	bool same = ps_id_equal(&a->tenant, &b->tenant) && ps_id_equal(&a->timeline, &b->timeline) &&
				strcmp(a->name, b->name) == 0 && strcmp(a->owner, b->owner) == 0 &&
				a->system_identifier == b->system_identifier && a->segment_size == b->segment_size &&
				a->data_checksum_version == b->data_checksum_version && a->has_ancestor == b->has_ancestor &&
				ps_id_equal(&a->ancestor, &b->ancestor) && a->has_replaced == b->has_replaced &&
				ps_id_equal(&a->replaced, &b->replaced) && a->start_lsn == b->start_lsn &&
				a->disk_consistent_lsn == b->disk_consistent_lsn && a->gc_cutoff == b->gc_cutoff &&
				a->generation == b->generation && a->ncopies == b->ncopies && a->nlayers == b->nlayers &&
				a->nimaged == b->nimaged && a->marks.images_lsn == b->marks.images_lsn &&
				a->marks.gc_number == b->marks.gc_number && a->marks.gc_time == b->marks.gc_time &&
				ps_id_equal(&a->marks.gc_clock, &b->marks.gc_clock) && a->marks.gc_readable == b->marks.gc_readable;

	for (int i = 0; i < a->ncopies && same; i++)
		same = a->copies[i].start == b->copies[i].start && a->copies[i].end == b->copies[i].end &&
			   a->copies[i].spc == b->copies[i].spc && a->copies[i].db == b->copies[i].db;
	for (int i = 0; i < a->nimaged && same; i++)
		same = a->imaged[i] == b->imaged[i];
	for (int i = 0; i < a->nlayers && same; i++)
		same = same_layer(&a->layers[i], &b->layers[i]);
	return same && b->ndropped == 0;
}

/* Checks that the file contains this manifest; *log is set to where it ends. */
static void
assert_reads(const Manifest *m, ManifestLog *log)
{
	Manifest back;

	OK(manifest_read(dir, &back, log));
	assert_true(is_same(m, &back));
	manifest_free(&back);
}

static void
assert_refused(const char *sqlstate, const char *text)
{
	Manifest m;
	PsError *err = manifest_read(dir, &m, NULL);

	assert_non_null(err);
	if (!ps_error_is(err, sqlstate) || strstr(err->message, text) == NULL || strstr(err->message, file) == NULL)
		fail_msg("%s %s, expected %s %s", err->sqlstate, err->message, sqlstate, text);
	assert_int_equal(m.nlayers, 0);
	ps_error_free(err);
}

static void
write_whole(const Manifest *m, ManifestLog *log)
{
	Outcome outcome;

	OK(manifest_write(dir, m, log, &outcome));
	assert_int_equal(outcome, OUTCOME_DONE);
}

/* Appends the change from "was" to "now". */
static void
append(ManifestLog *log, const Manifest *was, const Manifest *now, Layer *const *add, int nadd, Layer *const *drop,
	   int ndrop)
{
	Outcome outcome;

	OK(manifest_log_append(dir, log, manifest_change_json(was, now, add, nadd, drop, ndrop), &outcome));
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
read_file(char *data)
{
	int fd = open(file, O_RDONLY);
	ssize_t len = read(fd, data, FILE_MAX);

	assert_true(len > 0 && (size_t) len < FILE_MAX);
	close(fd);
	data[len] = '\0';
	return len;
}

static void
test_round_trip(void **state)
{
	Manifest m = sample();
	ManifestLog log;

	write_whole(&m, NULL);
	assert_reads(&m, &log);
	assert_true(!log.write_whole && log.last == 0 && log.size == log.state_size);

	/* with all optional members */
	m.copies = copies;
	m.ncopies = lengthof(copies);
	m.imaged = imaged;
	m.nimaged = lengthof(imaged);
	m.marks = (UpkeepMarks) {.images_lsn = 7,
							 .gc_number = PG_UINT64_MAX,
							 .gc_time = PG_INT64_MAX,
							 .gc_clock = {{9, 8}},
							 .gc_readable = PG_UINT32_MAX};
	m.has_ancestor = m.has_replaced = true;
	m.ancestor.b[3] = 3;
	m.replaced.b[15] = 4;
	m.gc_cutoff = 5;
	write_whole(&m, NULL);
	assert_reads(&m, NULL);

	/* without layers and owner */
	m = sample();
	m.nlayers = 0;
	m.owner[0] = '\0';
	m.generation = 0;
	write_whole(&m, NULL);
	assert_reads(&m, NULL);
}

/* ---- changes ---- */

/* A layer whose file need not exist. */
static Layer *
fake_layer(uint64 number)
{
	static LayerSpace space;
	LayerInfo info = layers[0];

	info.number = number;
	info.lsn_start += number;
	info.lsn_end = info.lsn_start + 1;
	return layer_new(&space, &info);
}

/* Appends changes of each member alone, then random ones; after each, the file is read and compared. */
static void
test_changes(void **state)
{
	Manifest m = sample();
	Manifest was;
	ManifestLog log;
	ManifestLog found;
	LayerInfo mine[300];
	Layer *there[300];
	Outcome outcome;
	char text[FILE_MAX];
	int n = 0;
	uint64 rnd = 12345;

	m.layers = mine;
	m.nlayers = 0;
	write_whole(&m, &log);
	for (int i = 1; i < 200; i++)
	{
		uint32 what = i <= 9 ? 1 << (i - 1) : next_random(&rnd, 512);
		Layer *add[3];
		Layer *drop[3];
		int nadd = what & 1 ? 1 + next_random(&rnd, 3) : 0;
		int ndrop = what & 2 ? 1 + next_random(&rnd, 3) : 0;

		was = m;
		ndrop = Min(n, ndrop);
		for (int k = 0; k < ndrop; k++)
		{
			int at = next_random(&rnd, n);

			drop[k] = there[at];
			memmove(&there[at], &there[at + 1], (n - at - 1) * sizeof(Layer *));
			memmove(&mine[at], &mine[at + 1], (n - at - 1) * sizeof(LayerInfo));
			n--;
		}
		for (int k = 0; k < nadd; k++)
		{
			there[n] = add[k] = fake_layer(10 * i + k);
			mine[n++] = *layer_info(add[k]);
		}
		m.nlayers = n;
		if (what & 4)
			snprintf(m.name, sizeof(m.name), "name-%d", i);
		if (what & 8)
			m.disk_consistent_lsn += i;
		if (what & 16)
			m.gc_cutoff += i;
		if (what & 32)
			m.generation--;
		if (what & 64)
			snprintf(m.owner, sizeof(m.owner), "host:/\"\\\n\xc3\xa4/%0*d", 1 + (int) next_random(&rnd, 300), i);
		if (what & 128)
		{
			m.copies = copies;
			m.ncopies = next_random(&rnd, lengthof(copies) + 1);
		}
		if (what & 256)
		{
			m.marks.images_lsn += i;
			if (i % 2)
			{
				m.marks.gc_number = i;
				m.marks.gc_time = i;
				m.marks.gc_clock.b[0] = i;
				m.marks.gc_readable = i;
			}
			m.imaged = imaged;
			m.nimaged = next_random(&rnd, lengthof(imaged) + 1);
		}
		append(&log, &was, &m, add, nadd, drop, ndrop);
		for (int k = 0; k < ndrop; k++)
			layer_unref(drop[k]);
		assert_reads(&m, &found);
		assert_int_equal(found.size, log.size);
		assert_int_equal(found.state_size, log.state_size);
		assert_int_equal(found.last, log.last);
		assert_int_equal(found.before, log.before);
		assert_int_equal(found.crc, log.crc);
		assert_false(found.write_whole);
		if (log.size > FILE_MAX - 2000)
			write_whole(&m, &log);
	}

	/* the CRC is of all JSON so far */
	was = m;
	write_whole(&m, &log);
	m.generation = 1;
	append(&log, &was, &m, NULL, 0, NULL, 0);
	{
		size_t len = read_file(text);
		char *second = strchr(text, '\n') + 1;
		char *json = pg_strdup(text + 9);
		char expected[16];

		text[len - 1] = '\0';
		assert_string_equal(second + 9, "{\"generation\":\"1\"}");
		strcpy(strchr(json, '\n'), second + 9);
		snprintf(expected, sizeof(expected), "%08x ", crc_of(json, strlen(json)));
		assert_memory_equal(second, expected, 9);
		free(json);
	}

	/* changes that are not possible */
	OK(manifest_log_append(dir, &log, json_pack("{s:[s]}", "drop", "a"), &outcome));
	assert_refused(PS_SQLSTATE_CORRUPTED, "invalid member");
	write_whole(&m, &log);
	OK(manifest_log_append(dir, &log, json_pack("{s:s}", "nonsense", "a"), &outcome));
	assert_refused(PS_SQLSTATE_CORRUPTED, "invalid member");
	write_whole(&m, &log);
	{
		Layer *never = fake_layer(123456);

		append(&log, &m, &m, NULL, 0, &never, 1);
		layer_unref(never);
	}
	assert_refused(PS_SQLSTATE_CORRUPTED, "drops a layer file that it does not have");
	while (n > 0)
		layer_unref(there[--n]);
}

/*
 * A number must not be given again while a record names a file that had it.  A log in which that
 * happened is refused: it must not make a file vanish.
 */
static void
test_number_again(void **state)
{
	Manifest m = sample();
	Manifest back;
	ManifestLog log;
	Layer *first = fake_layer(2);
	Layer *second;
	LayerSpace space = {0};
	LayerInfo info = *layer_info(first);

	info.lsn_start += 100;
	info.lsn_end += 100;
	second = layer_new(&space, &info);
	m.nlayers = 1;
	write_whole(&m, &log);
	append(&log, &m, &m, &first, 1, NULL, 0);
	append(&log, &m, &m, NULL, 0, &first, 1);

	/* what is read says which numbers have been used */
	OK(manifest_read(dir, &back, NULL));
	assert_true(back.nlayers == 1 && back.max_number == 2);
	manifest_free(&back);
	append(&log, &m, &m, &second, 1, NULL, 0);
	assert_refused(PS_SQLSTATE_CORRUPTED, "layer file");
	layer_unref(first);
	layer_unref(second);
}

/* ---- torn ends ---- */

/*
 * Writes a state and two changes.  The last one begins at an offset with this remainder by 512, if
 * there can be one, and has an owner of this length.
 */
static void
write_two_changes(int remainder, int owner_len, Manifest *before, Manifest *after, ManifestLog *log)
{
	int pad = 1;

	for (int i = 0; i < 3; i++)
	{
		Manifest m = sample();

		write_whole(&m, log);
		*before = m;
		snprintf(before->owner, sizeof(before->owner), "%0*d", pad, 7);
		append(log, &m, before, NULL, 0, NULL, 0);
		pad += (512 + remainder - log->size % 512) % 512;
		if (pad >= 1000)
			pad -= 512;
	}
	assert_true(log->size % 512 == remainder || remainder == 1 || remainder == 511);
	*after = *before;
	memset(after->owner, 'x', owner_len);
	after->owner[owner_len] = '\0';
	append(log, before, after, NULL, 0, NULL, 0);
}

/* Checks that the last record is ignored, and that the next write would replace the log. */
static void
assert_is_torn(const Manifest *before)
{
	ManifestLog log;

	assert_reads(before, &log);
	assert_true(log.write_whole);
}

static void
test_torn_ends(void **state)
{
	static const int remainders[] = {0, 1, 2, 3, 9, 100, 256, 500, 509, 510, 511};
	static const int lens[] = {1, 20, 460, 478, 479, 480, 481, 482, 483, 484, 485, 486, 487, 488, 489, 490, 491, 520,
							   1200};

	for (int r = 0; r < lengthof(remainders); r++)
		for (int k = 0; k < lengthof(lens); k++)
		{
			Manifest before;
			Manifest after;
			ManifestLog log;
			char right[FILE_MAX];
			char torn[FILE_MAX];
			size_t len;
			size_t sectors;

			write_two_changes(remainders[r], lens[k], &before, &after, &log);
			assert_reads(&after, NULL);
			len = read_file(right);
			assert_int_equal(len, log.size);

			/* no sector has a single byte of a record */
			assert_true(log.last % 512 != 511 && len % 512 != 1);

			/* cut off at each byte */
			for (size_t cut = log.last + 1; cut < len; cut++)
			{
				write_file(right, cut);
				assert_is_torn(&before);
			}

			/* each subset of the sectors is zeros, and the file may be shorter, too */
			sectors = (len - 1) / 512 - log.last / 512 + 1;
			for (uint32 lost = 1; lost < 1 << sectors; lost++)
				for (int shorter = 0; shorter < 2; shorter++)
				{
					size_t end = shorter ? log.last + 1 + (len - log.last) / 2 : len;

					memcpy(torn, right, len);
					for (size_t i = log.last; i < len; i++)
						if (lost & 1 << (i / 512 - log.last / 512))
							torn[i] = '\0';
					write_file(torn, end);
					assert_is_torn(&before);
				}
		}
}

/* ---- damage ---- */

/* Checks that a file with these contents results in an error that names it, or in this state. */
static void
assert_damage_is_seen(const char *data, size_t len, const Manifest *m, size_t at)
{
	Manifest back;
	PsError *err;

	write_file(data, len);
	err = manifest_read(dir, &back, NULL);
	if (err != NULL)
	{
		if (strstr(err->message, file) == NULL)
			fail_msg("byte %zu: the error does not name the file: %s", at, err->message);
		ps_error_free(err);
		return;
	}
	if (!is_same(m, &back))
		fail_msg("byte %zu (\"%.20s\") can change", at, data + at);
	manifest_free(&back);
}

/* Flips every bit of a log, also of one with a torn end, which must not hide damage of acknowledged records. */
static void
test_every_bit(void **state)
{
	Manifest before;
	Manifest after;
	ManifestLog log;
	char right[FILE_MAX];
	char wrong[FILE_MAX];
	size_t len;

	write_two_changes(490, 30, &before, &after, &log);
	len = read_file(right);
	for (size_t i = 0; i < len; i++)
		for (int bit = 0; bit < 8; bit++)
		{
			memcpy(wrong, right, len);
			wrong[i] ^= (char) (1 << bit);
			assert_damage_is_seen(wrong, len, &after, i);
		}

	/* a log that lacks its last bytes, and one with zeros in its last sector */
	for (int zeros = 0; zeros < 2; zeros++)
		for (size_t i = 0; i < len; i++)
			for (int bit = 0; bit < 8; bit++)
			{
				size_t end = zeros ? len : len - 5;

				memcpy(wrong, right, len);
				if (zeros)
					memset(wrong + log.last + 22, '\0', len - log.last - 22);
				wrong[i] ^= (char) (1 << bit);
				if (i < end)
					assert_damage_is_seen(wrong, end, &before, i);
			}

	/* each other value of each byte of the last record and of the newline before it */
	for (size_t i = log.last - 1; i < len; i++)
		for (int value = 1; value < 256; value++)
		{
			memcpy(wrong, right, len);
			wrong[i] ^= (char) value;
			assert_damage_is_seen(wrong, len, &after, i);
		}

	/* a record that is repeated, and one that is missing */
	memcpy(wrong, right, len);
	memcpy(wrong + len, right + log.last, len - log.last);
	write_file(wrong, len + len - log.last);
	assert_refused(PS_SQLSTATE_CORRUPTED, "line 4");
	memmove(wrong + log.state_size, right + log.last, len - log.last);
	write_file(wrong, log.state_size + len - log.last);
	assert_refused(PS_SQLSTATE_CORRUPTED, "wrong checksum in line 2");

	/* the first record is written before the file gets its name, so it cannot be torn */
	for (size_t i = 0; i < log.state_size; i++)
	{
		write_file(right, i);
		assert_refused(PS_SQLSTATE_CORRUPTED, i == 0 ? "is empty" : "line 1, at offset 0");
	}
}

/* Makes this the only record of the file, with the right CRC. */
static void
write_state_text(const char *json)
{
	char text[FILE_MAX];

	snprintf(text, sizeof(text), "%08x %s\n", crc_of(json, strlen(json)), json);
	write_file(text, strlen(text));
}

static void
replace(const char *what, const char *with)
{
	char text[FILE_MAX];
	char out[FILE_MAX];
	char *at;

	text[read_file(text) - 1] = '\0';
	at = strstr(text, what);
	assert_non_null(at);
	*at = '\0';
	snprintf(out, sizeof(out), "%s%s%s", text + 9, with, at + strlen(what));
	write_state_text(out);
}

static void
test_foreign(void **state)
{
	Manifest m = sample();

	write_whole(&m, NULL);
	replace("pageserver timeline", "pageserver tenant");
	assert_refused(PS_SQLSTATE_CORRUPTED, "does not have the format");

	write_whole(&m, NULL);
	replace("\"version\":5", "\"version\":6");
	assert_refused(PS_SQLSTATE_STATE, "format version 6, this pageserver reads version 5");

	write_whole(&m, NULL);
	replace("\"generation\":", "\"gen\":");
	assert_refused(PS_SQLSTATE_CORRUPTED, "missing or invalid member");

	write_state_text("[]");
	assert_refused(PS_SQLSTATE_CORRUPTED, "does not have the format");
	write_state_text("nonsense");
	assert_refused(PS_SQLSTATE_CORRUPTED, "does not have the format");
	write_file("", 0);
	assert_refused(PS_SQLSTATE_CORRUPTED, "is empty");
	unlink(file);
	assert_refused(PS_SQLSTATE_CORRUPTED, "could not read manifest");
}

/* ---- errors while it is written ---- */

/* A failed write changes nothing, and leaves no other file behind. */
static void
test_full_disk(void **state)
{
	Manifest m = sample();
	Manifest was;
	Manifest other = sample();
	ManifestLog log;
	struct rlimit limit;
	struct rlimit unlimited;
	Outcome outcome;
	char tmp[80];
	PsError *err;

	write_whole(&m, &log);
	other.generation = 5;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	limit = unlimited;
	for (limit.rlim_cur = 0; limit.rlim_cur < 400; limit.rlim_cur += 37)
	{
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		err = manifest_write(dir, &other, &log, &outcome);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
		assert_non_null(err);
		assert_true(ps_error_is(err, PS_SQLSTATE_DISK_FULL));
		assert_int_equal(outcome, OUTCOME_NOT_DONE);
		ps_error_free(err);
		snprintf(tmp, sizeof(tmp), "%s.tmp", file);
		assert_int_equal(access(tmp, F_OK), -1);
		assert_reads(&m, NULL);
		assert_false(log.write_whole);
	}

	/* a record that is written in part is ignored, and nothing is appended after it */
	was = m;
	m.generation = 77;
	append(&log, &was, &m, NULL, 0, NULL, 0);
	for (size_t room = 0;; room++)
	{
		ManifestLog now = log;

		limit.rlim_cur = log.size + room;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
		err = manifest_log_append(dir, &now, manifest_change_json(&m, &other, NULL, 0, NULL, 0), &outcome);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
		if (err == NULL)
		{
			assert_true(room > 20);
			assert_reads(&other, NULL);
			break;
		}
		assert_int_equal(outcome, OUTCOME_NOT_DONE);
		assert_true(ps_error_is(err, PS_SQLSTATE_DISK_FULL) && strstr(err->message, file) != NULL);
		ps_error_free(err);
		assert_true(now.write_whole);
		assert_reads(&m, &now);
		assert_true(now.write_whole == (room > 0) && now.size == log.size);
		assert_int_equal(truncate(file, log.size), 0);
	}

	/* the error for a missing directory has the right reason */
	err = manifest_write("/tmp/t_manifest.none", &m, NULL, &outcome);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "No such file"));
	ps_error_free(err);
}

extern int __real_fsync(int fd);
extern int __wrap_fsync(int fd);
extern int __real_fdatasync(int fd);
extern int __wrap_fdatasync(int fd);

static int sync_to_fail; /* the n-th from now on; 0: none */
static int nsyncs;       /* of the contents of files */

static bool
sync_fails(void)
{
	if (sync_to_fail == 0 || --sync_to_fail > 0)
		return false;
	errno = EIO;
	return true;
}

int
__wrap_fsync(int fd)
{
	return sync_fails() ? -1 : __real_fsync(fd);
}

int
__wrap_fdatasync(int fd)
{
	nsyncs++;
	return sync_fails() ? -1 : __real_fdatasync(fd);
}

static void
assert_generation(const char *name, uint64 generation)
{
	char copy[] = "/tmp/t_manifest.copy.XXXXXX";
	char command[256];
	Manifest m;

	assert_non_null(mkdtemp(copy));
	snprintf(command, sizeof(command), "cp %s/%s %s/timeline.log", dir, name, copy);
	assert_int_equal(system(command), 0);
	OK(manifest_read(copy, &m, NULL));
	assert_true(m.generation == generation);
	manifest_free(&m);
	snprintf(command, sizeof(command), "rm -r %s", copy);
	assert_int_equal(system(command), 0);
}

/*
 * If a new log cannot be synced, nothing has changed.  If its name cannot be synced, the new log
 * is in place, and the outcome says that a power failure may undo that.  The previous log exists
 * in any case.
 */
static void
test_failed_sync(void **state)
{
	Manifest m = sample();
	Manifest was;
	ManifestLog log;
	ManifestLog found;
	Outcome outcome;
	PsError *err;

	m.generation = 1;
	write_whole(&m, NULL);
	m.generation = 2;
	write_whole(&m, &log);
	assert_generation("timeline.log", 2);
	assert_generation("timeline.log.old", 1);

	m.generation = 3;
	sync_to_fail = 1;
	err = manifest_write(dir, &m, &log, &outcome);
	assert_non_null(err);
	assert_int_equal(outcome, OUTCOME_NOT_DONE);
	assert_false(ps_error_is(err, PS_SQLSTATE_UNKNOWN));
	ps_error_free(err);
	assert_generation("timeline.log", 2);
	assert_generation("timeline.log.old", 1);
	assert_false(log.write_whole);

	sync_to_fail = 2;
	err = manifest_write(dir, &m, &log, &outcome);
	assert_non_null(err);
	assert_int_equal(outcome, OUTCOME_UNKNOWN);
	assert_true(ps_error_is(err, PS_SQLSTATE_UNKNOWN));
	ps_error_free(err);
	assert_int_equal(sync_to_fail, 0);
	assert_generation("timeline.log", 3);
	assert_generation("timeline.log.old", 2);
	assert_true(log.write_whole);

	/* an appended record whose sync fails is read, and nothing is appended after it */
	write_whole(&m, &log);
	was = m;
	m.generation = 4;
	sync_to_fail = 1;
	err = manifest_log_append(dir, &log, manifest_change_json(&was, &m, NULL, 0, NULL, 0), &outcome);
	assert_non_null(err);
	assert_int_equal(outcome, OUTCOME_UNKNOWN);
	assert_true(ps_error_is(err, PS_SQLSTATE_UNKNOWN) && strstr(err->message, file) != NULL);
	ps_error_free(err);
	assert_true(log.write_whole);
	assert_reads(&m, &found);

	/* the next start makes it durable, which is not necessary for a whole state */
	nsyncs = 0;
	OK(manifest_log_confirm(dir, &found));
	assert_int_equal(nsyncs, 1);
	sync_to_fail = 1;
	err = manifest_log_confirm(dir, &found);
	assert_non_null(err);
	assert_true(ps_error_is(err, PS_SQLSTATE_IO));
	ps_error_free(err);
	assert_reads(&m, NULL);

	/* it is not if it is not there any more, which happens to pages that could not be written */
	{
		char text[FILE_MAX];
		char after[FILE_MAX];
		size_t len = read_file(text);

		text[found.last + 20] = '\0';
		write_file(text, len);
		nsyncs = 0;
		for (int i = 0; i < 2; i++)
		{
			err = manifest_log_confirm(dir, &found);
			assert_non_null(err);
			assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED) && strstr(err->message, file) != NULL);
			ps_error_free(err);
			assert_int_equal(nsyncs, 0);
			assert_int_equal(read_file(after), len);
			assert_memory_equal(after, text, len);
			len--;
			write_file(text, len);
		}
	}

	write_whole(&m, &log);
	nsyncs = 0;
	OK(manifest_log_confirm(dir, &log));
	assert_int_equal(nsyncs, 0);
}

/* The records before the damage say where the branch begins, or else the previous log. */
static void
test_damaged(void **state)
{
	Manifest m = sample();
	Manifest was = m;
	Manifest back;
	ManifestLog log;
	char text[FILE_MAX];
	size_t second = 0;
	size_t len;
	PsError *err;

	m.generation = 1;
	write_whole(&m, NULL);
	m.generation = 2;
	write_whole(&m, &log);
	was = m;
	for (int i = 3; i <= 5; i++)
	{
		was = m;
		m.generation = i;
		append(&log, &was, &m, NULL, 0, NULL, 0);
		second = i == 4 ? log.last : second;
	}
	len = read_file(text);
	text[second + 20] ^= 1;
	write_file(text, len);
	assert_refused(PS_SQLSTATE_CORRUPTED, "line 3");
	OK(manifest_read_damaged(dir, &back));
	assert_int_equal(back.generation, 3);
	manifest_free(&back);
	text[log.state_size + 20] ^= 1;
	write_file(text, len);
	assert_refused(PS_SQLSTATE_CORRUPTED, "line 2");
	OK(manifest_read_damaged(dir, &back));
	assert_int_equal(back.generation, 2);
	manifest_free(&back);
	text[20] ^= 1;
	write_file(text, len);
	assert_refused(PS_SQLSTATE_CORRUPTED, "line 1");
	OK(manifest_read_damaged(dir, &back));
	assert_int_equal(back.generation, 1);
	manifest_free(&back);
	snprintf(text, sizeof(text), "%s.old", file);
	assert_int_equal(truncate(text, 100), 0);
	err = manifest_read_damaged(dir, &back);
	assert_non_null(err);
	assert_non_null(strstr(err->message, "timeline.log.old"));
	ps_error_free(err);
}

/* With a text that is not UTF-8, the manifest could not be read. */
static void
test_not_utf8(void **state)
{
	Manifest m = sample();
	Manifest bad = sample();
	ManifestLog log;
	Outcome outcome;
	PsError *err;

	write_whole(&m, &log);
	strcpy(bad.owner, "host:/\xc3");
	for (int i = 0; i < 2; i++)
	{
		if (i == 0)
			err = manifest_write(dir, &bad, &log, &outcome);
		else
			err = manifest_log_append(dir, &log, manifest_change_json(&m, &bad, NULL, 0, NULL, 0), &outcome);
		assert_non_null(err);
		assert_non_null(strstr(err->message, "UTF-8"));
		assert_int_equal(outcome, OUTCOME_NOT_DONE);
		ps_error_free(err);
		assert_reads(&m, NULL);
		assert_false(log.write_whole);
	}
}

static void
test_is_long(void **state)
{
	ManifestLog log = {.state_size = 1000, .size = 1000 + 64 * 1024};

	assert_false(manifest_log_is_long(&log));
	log.size++;
	assert_true(manifest_log_is_long(&log));
	log.state_size = 100000;
	log.size = 200000;
	assert_false(manifest_log_is_long(&log));
	log.size++;
	assert_true(manifest_log_is_long(&log));
}

/* ---- stores of format 1 ---- */

static bool
there_is(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

static void
test_upgrade(void **state)
{
	for (int version = 3; version <= 4; version++)
	{
		Manifest m = sample();
		Manifest older = sample();
		Manifest back;
		ManifestLog log;
		Outcome outcome;
		char json[80];
		PsError *err;

		older.generation = 1;
		if (version == 4)
		{
			m.copies = copies;
			m.ncopies = lengthof(copies);
		}
		unlink(file);
		snprintf(json, sizeof(json), "%s.old", file);
		unlink(json);
		snprintf(json, sizeof(json), "%s/timeline.json", dir);
		write_json_manifest(dir, "timeline.json", &m);
		write_json_manifest(dir, "timeline.json.old", &older);
		assert_reads(&m, &log);
		assert_true(log.write_whole);
		OK(manifest_log_confirm(dir, &log));
		OK(manifest_read_damaged(dir, &back));
		assert_true(is_same(&older, &back));
		manifest_free(&back);
		manifest_remove_stray(dir);
		assert_true(there_is("timeline.json"));

		/* the error for a damaged one names it */
		assert_int_equal(truncate(json, 300), 0);
		err = manifest_read(dir, &back, NULL);
		assert_non_null(err);
		assert_true(ps_error_is(err, PS_SQLSTATE_CORRUPTED) && strstr(err->message, json) != NULL);
		ps_error_free(err);
		write_json_manifest(dir, "timeline.json", &m);

		/* it stays until the log is durable; the first log is also the previous one */
		m.generation = 33;
		sync_to_fail = 1;
		err = manifest_write(dir, &m, &log, &outcome);
		assert_non_null(err);
		ps_error_free(err);
		assert_true(there_is("timeline.json") && there_is("timeline.json.old") && !there_is("timeline.log"));
		sync_to_fail = 3;
		err = manifest_write(dir, &m, &log, &outcome);
		assert_non_null(err);
		assert_int_equal(outcome, OUTCOME_UNKNOWN);
		ps_error_free(err);
		assert_true(there_is("timeline.json") && there_is("timeline.json.old") && there_is("timeline.log"));
		assert_int_equal(unlink(file), 0);
		write_whole(&m, &log);
		assert_false(log.write_whole);
		assert_true(!there_is("timeline.json") && !there_is("timeline.json.old") && there_is("timeline.log.old"));
		assert_reads(&m, NULL);
		assert_generation("timeline.log.old", 33);

		/* if there are both, the log counts, and the other is removed */
		write_json_manifest(dir, "timeline.json", &older);
		assert_reads(&m, NULL);
		manifest_remove_stray(dir);
		assert_false(there_is("timeline.json"));
	}
}

static int
begin(void **state)
{
	if (mkdtemp(dir) == NULL)
		return -1;
	ps_log_level = PS_FATAL;
	snprintf(file, sizeof(file), "%s/timeline.log", dir);
	return 0;
}

static int
remove_dir(void **state)
{
	remove_tree(dir);
	return 0;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_changes),
		cmocka_unit_test(test_number_again),
		cmocka_unit_test(test_torn_ends),
		cmocka_unit_test(test_every_bit),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_failed_sync),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_is_long),
		cmocka_unit_test(test_upgrade),
	};

	return cmocka_run_group_tests(tests, begin, remove_dir);
}
