/*
 * layer_util.h
 *	  What the tests of layers share: ids, a directory, made-up values.
 *
 * Include after ps_fe.h and cmocka.h.
 */
#ifndef LAYER_UTIL_H
#define LAYER_UTIL_H

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layer/layer_map.h"
#include "layer/layer_merge.h"
#include "layer/layer_writer.h"
#include "layer/open_layer.h"

static const PsId test_tenant = {{0x11, 0x22, 0x33}};
static const PsId test_timeline = {{0x44, 0x55, 0x66}};

static char test_dir[] = "/tmp/t_layer.XXXXXX";
static LayerSpace test_space = {.dir = test_dir, .tenant = {{0x11, 0x22, 0x33}}, .timeline = {{0x44, 0x55, 0x66}}, .next_number = 1};

static inline int
make_test_dir(void **state)
{
	return mkdtemp(test_dir) == NULL ? -1 : 0;
}

/* Number of files in the directory; with "remove" they go. */
static inline int
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

static inline int
remove_test_dir(void **state)
{
	count_files(test_dir, true);
	return rmdir(test_dir);
}

#define assert_ok(expr) check_ok(expr, __FILE__, __LINE__)

static inline void
check_ok(PsError *err, const char *file, int line)
{
	if (err != NULL)
	{
		fprintf(stderr, "%s:%d: %s\n", file, line, err->message);
		ps_error_free(err);
		_fail(file, line);
	}
}

/* The error must be there, have the state, and its message hold the text. */
static inline void
check_error(PsError *err, const char *sqlstate, const char *text)
{
	assert_non_null(err);
	if (strcmp(err->sqlstate, sqlstate) != 0 || strstr(err->message, text) == NULL)
		fail_msg("expected %s \"%s\", got %s \"%s\"", sqlstate, text, err->sqlstate, err->message);
	ps_error_free(err);
}

static inline uint64
next_random(uint64 *state)
{
	uint64 z = *state += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

/* The bytes of a value are made of its seed; every third kind of them is hard to compress. */
static inline void
fill_value(uint64 seed, char *buf, uint32 len)
{
	uint64 state = seed;

	for (uint32 i = 0; i < len; i++)
		buf[i] = (char) (seed % 3 == 0 ? next_random(&state) : seed % 3 == 1 ? (seed >> (i / 100 % 8))
																			 : 0);
}

/* A record's bytes depend on where it starts. */
static inline PsError *
read_test_record(void *arg, XLogRecPtr start, uint32 len, char *buf)
{
	fill_value(start, buf, len);
	return NULL;
}

#endif /* LAYER_UTIL_H */
