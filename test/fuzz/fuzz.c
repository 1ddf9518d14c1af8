/*
 * fuzz.c
 *	  What the fuzzers share: see fuzz.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "port/pg_crc32c.h"

#include "fuzz.h"

static char dir[256];

/* The running value stays what it is at the beginning, whose complement is 0. */
static pg_crc32c
no_crc(pg_crc32c crc, const void *data, size_t len)
{
	fuzz_touch(data, len);
	return crc;
}

void
fuzz_begin(void)
{
	pg_comp_crc32c = no_crc;
	ps_log_level = PS_FATAL;
	signal(SIGPIPE, SIG_IGN);
}

static void
remove_dir(void)
{
	char command[512];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	if (system(command) != 0)
		fprintf(stderr, "could not remove %s\n", dir);
}

const char *
fuzz_dir(void)
{
	const char *parent = getenv("FUZZ_DIR");

	snprintf(dir, sizeof(dir), "%s/pageserver_fuzz.XXXXXX", parent != NULL ? parent : "/dev/shm");
	if (mkdtemp(dir) == NULL)
	{
		perror(dir);
		abort();
	}
	atexit(remove_dir);
	return dir;
}

void
fuzz_write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	REQUIRE(fd >= 0);
	REQUIRE(write(fd, data, len) == len);
	close(fd);
}

bool
fuzz_result(PsError *err)
{
	if (err == NULL)
		return true;
	REQUIRE(strlen(err->sqlstate) == 5);
	REQUIRE(err->message[0] != '\0');
	ps_error_free(err);
	return false;
}

void
fuzz_touch(const void *data, size_t len)
{
	uint8 sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += ((const uint8 *) data)[i];
	/* nobody needs it, but the compiler must not know */
	__asm__ volatile(""
					 :
					 : "r"(sum));
}

char *
fuzz_bytes(FuzzInput *in, size_t n, size_t *len)
{
	char *copy;

	*len = Min(n, in->size);
	copy = malloc(Max(*len, 1));
	fuzz_take(in, copy, *len);
	return copy;
}
