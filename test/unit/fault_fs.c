/*
 * fault_fs.c
 *	  What tests call, and the state: see fault_fs.h.
 */
#include "ps_fe.h"

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault_fs_impl.h"

FaultFs fault = {.lock = PTHREAD_MUTEX_INITIALIZER, .held = PTHREAD_COND_INITIALIZER};

uint32
fault_random(uint32 n)
{
	uint64 z = fault.random += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return (uint32) ((z ^ (z >> 31)) >> 32) % n;
}

/* ---- what is watched ---- */

bool
fault_is_watched(const char *path)
{
	return fault.dir != NULL && strncmp(path, fault.dir, strlen(fault.dir)) == 0 && path[strlen(fault.dir)] == '/';
}

bool
fault_is_watched_fd(int fd)
{
	return fault.dir != NULL && fd >= 0 && fd < FAULT_MAX_FD && fault.is_open[fd];
}

ino_t
fault_ino(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 ? st.st_ino : 0;
}

ino_t
fault_parent_ino(const char *path)
{
	char parent[MAXPGPATH];

	strlcpy(parent, path, sizeof(parent));
	*strrchr(parent, '/') = '\0';
	return fault_ino(parent);
}

/* Is it an operation that succeeds even though the disk stays full? */
static bool
fault_is_beyond(const char *name)
{
	return fault.error == ENOSPC && fault.upto > fault.at &&
		   (strcmp(name, "rename") == 0 || strcmp(name, "unlink") == 0 || strcmp(name, "rmdir") == 0 ||
			strstr(name, "sync") != NULL);
}

/*
 * Counts an operation.  Returns whether it must fail, with errno set; *torn: a
 * write must still be done in part.
 */
bool
fault_strikes(const char *name, const char *path, bool *torn)
{
	bool strikes = false;
	bool counts = fault.only == NULL || fault.only(name, path);

	fault.count += counts;
	if (fault.happened && fault.error != 0 && fault.kills > 0 && --fault.kills == 0)
		atomic_store(&fault.crashed, *torn = true);
	if (atomic_load(&fault.crashed))
		strikes = true;
	else if (!counts)
		;
	else if (fault.at != 0 && fault.count >= fault.at && fault.count <= fault.upto && !fault_is_beyond(name))
	{
		strikes = true;
		if (!fault.happened)
			snprintf(fault.what, sizeof(fault.what), "%s %s", name, path);
		fault.happened = true;
		if (fault.error == 0)
		{
			*torn = true;
			atomic_store(&fault.crashed, true);
		}
	}
	if (strikes)
		errno = fault.error != 0 ? fault.error : EIO;
	return strikes;
}

void
fault_fd_path(int fd, char *path, size_t size)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, size - 1);
	path[Max(n, 0)] = '\0';
}

/* ---- what a test calls ---- */

void
fault_begin(const char *dir, uint64 random)
{
	fault.dir = pg_strdup(dir);
	fault.graveyard = psprintf("%s.graveyard", dir);
	fault.random = random;
	FAULT_CHECK(__real_mkdir(fault.graveyard, 0700) == 0);
}

void
fault_arm_crash(long n)
{
	pthread_mutex_lock(&fault.lock);
	fault.count = 0;
	fault.at = n;
	fault.upto = LONG_MAX;
	fault.error = 0;
	fault.only = NULL;
	fault.happened = false;
	pthread_mutex_unlock(&fault.lock);
}

void
fault_arm_error(long n, long times, int error)
{
	pthread_mutex_lock(&fault.lock);
	fault.count = 0;
	fault.at = n;
	fault.upto = n + times - 1;
	fault.error = error;
	fault.only = NULL;
	fault.kills = 0;
	fault.happened = false;
	pthread_mutex_unlock(&fault.lock);
}

void
fault_count_only(bool (*only)(const char *name, const char *path))
{
	fault.only = only;
}

void
fault_then_crash(long n)
{
	fault.kills = n;
}

void
fault_crash_now(void)
{
	pthread_mutex_lock(&fault.lock);
	fault.at = 0;
	atomic_store(&fault.crashed, true);
	pthread_mutex_unlock(&fault.lock);
}

void
fault_hold(const char *path, int skip)
{
	pthread_mutex_lock(&fault.lock);
	fault.hold_path = path;
	fault.hold_skip = skip;
	fault.holds = false;
	pthread_mutex_unlock(&fault.lock);
}

void
fault_wait_held(void)
{
	pthread_mutex_lock(&fault.lock);
	while (!fault.holds)
		pthread_cond_wait(&fault.held, &fault.lock);
	pthread_mutex_unlock(&fault.lock);
}

void
fault_go_on(void)
{
	pthread_mutex_lock(&fault.lock);
	fault.hold_path = NULL;
	pthread_cond_broadcast(&fault.held);
	pthread_mutex_unlock(&fault.lock);
}

long
fault_disarm(void)
{
	long count;

	pthread_mutex_lock(&fault.lock);
	count = fault.count;
	fault.at = 0;
	fault.kills = 0;
	pthread_mutex_unlock(&fault.lock);
	return count;
}

bool
fault_is_armed(void)
{
	bool armed;

	pthread_mutex_lock(&fault.lock);
	armed = fault.at != 0;
	pthread_mutex_unlock(&fault.lock);
	return armed;
}

bool
fault_has_crashed(void)
{
	return atomic_load(&fault.crashed);
}

bool
fault_has_happened(void)
{
	bool happened;

	pthread_mutex_lock(&fault.lock);
	happened = fault.happened;
	pthread_mutex_unlock(&fault.lock);
	return happened;
}

void
fault_restart(FaultLoss loss)
{
	pthread_mutex_lock(&fault.lock);
	if (loss != LOSE_NOTHING)
	{
		fault_lose_data(loss);
		fault_lose_names(loss);
	}
	fault.at = 0;
	fault.kills = 0;
	atomic_store(&fault.crashed, false);
	pthread_mutex_unlock(&fault.lock);
}

void
fault_end(void)
{
	fault_lose_data(LOSE_NOTHING);
	fault_lose_names(LOSE_NOTHING);
	fault_remove_tree(fault.graveyard);
	free(fault.dir);
	free(fault.graveyard);
	fault.dir = NULL;
}
