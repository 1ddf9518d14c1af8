/*
 * layer_util.c
 *	  Helpers of the tests of layers: see layer_util.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <cmocka.h>
#include <unistd.h>

#include "layer_util.h"

const PsId layer_tenant = {{0x11, 0x22, 0x33}};
const PsId layer_timeline = {{0x44, 0x55, 0x66}};
char test_dir[sizeof(TEST_DIR)] = TEST_DIR;
LayerSpace test_space = {
	.dir = test_dir,
	.tenant = {{0x11, 0x22, 0x33}},
	.timeline = {{0x44, 0x55, 0x66}},
	.next_number = 1};

int
make_test_dir(void **state)
{
	return mkdtemp(test_dir) == NULL ? -1 : 0;
}

/* Returns the number of files in the directory; removes them if "remove" is set. */
int
count_files(const char *dir, bool remove)
{
	DIR *d = opendir(dir);
	struct dirent *de;
	int n = 0;

	while ((de = readdir(d)) != NULL)
	{
		char path[1024];

		if (de->d_name[0] == '.')
			continue;
		n++;
		snprintf(path, sizeof(path), "%s/%s", dir, de->d_name);
		if (remove)
			unlink(path);
	}
	closedir(d);
	return n;
}

int
remove_test_dir(void **state)
{
	count_files(test_dir, true);
	return rmdir(test_dir);
}

void
check_ok(PsError *err, const char *file, int line)
{
	if (err != NULL)
	{
		fprintf(stderr, "%s:%d: %s\n", file, line, err->message);
		ps_error_free(err);
		_fail(file, line);
	}
}

/* Fails unless there is an error with this SQLSTATE and this text in its message. */
void
check_error(PsError *err, const char *sqlstate, const char *text)
{
	assert_non_null(err);
	if (strcmp(err->sqlstate, sqlstate) != 0 || strstr(err->message, text) == NULL)
		fail_msg("expected %s \"%s\", got %s \"%s\"", sqlstate, text, err->sqlstate, err->message);
	ps_error_free(err);
}

uint64
layer_random(uint64 *state)
{
	uint64 z = *state += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* Generates the bytes of a value from its seed; those of every third seed are hard to compress. */
void
fill_value(uint64 seed, char *buf, uint32 len)
{
	uint64 state = seed;

	for (uint32 i = 0; i < len; i++)
		buf[i] = (char) (seed % 3 == 0 ? layer_random(&state) : seed % 3 == 1 ? (seed >> (i / 100 % 8))
																			  : 0);
}

/* A ReadRecord: a record's bytes are generated from its start LSN. */
PsError *
read_test_record(void *arg, XLogRecPtr start, uint32 len, char *buf)
{
	fill_value(start, buf, len);
	return NULL;
}
