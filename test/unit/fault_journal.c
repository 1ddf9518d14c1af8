/*
 * fault_journal.c
 *	  Changes that are not durable yet, and what a power failure does to them:
 *	  see fault_fs.h.
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fault_fs_impl.h"

/* ---- the journal ---- */

FaultFile *
fault_file(int fd)
{
	struct stat st;
	FaultFile *file;
	char link[64];

	FAULT_CHECK(fstat(fd, &st) == 0);
	for (file = fault.files; file != NULL; file = file->next)
		if (file->ino == st.st_ino)
			return file;
	file = pg_malloc0(sizeof(FaultFile));
	file->ino = st.st_ino;
	file->size = st.st_size;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	file->fd = __real_open(link, O_RDWR | O_CLOEXEC);
	FAULT_CHECK(file->fd >= 0);
	file->next = fault.files;
	fault.files = file;
	return file;
}

static void
fault_forget_file(ino_t ino)
{
	for (FaultFile **p = &fault.files; *p != NULL; p = &(*p)->next)
		if ((*p)->ino == ino)
		{
			FaultFile *file = *p;

			*p = file->next;
			__real_close(file->fd);
			free(file->pages);
			free(file);
			return;
		}
}

/* Before a range of a file changes. */
void
fault_save(int fd, off_t offset, off_t len)
{
	FaultFile *file = fault_file(fd);

	for (off_t number = offset / FAULT_PAGE; len > 0 && number <= (offset + len - 1) / FAULT_PAGE; number++)
	{
		FaultPage *page;
		bool known = false;

		for (int i = file->npages - 1; i >= 0 && !known; i--)
		{
			known = file->pages[i].number == number;
			if (known)
				file->pages[i].clean = false;
		}
		if (known)
			continue;
		if (file->npages == file->cap)
		{
			file->cap = Max(1, file->cap * 2);
			file->pages = pg_realloc(file->pages, file->cap * sizeof(FaultPage));
		}
		page = &file->pages[file->npages++];
		page->number = number;
		page->clean = false;
		memset(page->was, 0, FAULT_PAGE);
		if (number * FAULT_PAGE < file->size)
			FAULT_CHECK(pread(file->fd, page->was, FAULT_PAGE, number * FAULT_PAGE) >= 0);
	}
}

static void
fault_drop_change(int i)
{
	FaultChange *change = &fault.changes[i];

	if (change->kept != NULL)
	{
		struct stat st;

		/* the last name of a file: its contents are lost */
		if (lstat(change->kept, &st) == 0 && st.st_nlink == 1)
			fault_forget_file(st.st_ino);
		(void) __real_unlink(change->kept);
	}
	free(change->path);
	free(change->from);
	free(change->kept);
	memmove(change, change + 1, (--fault.nchanges - i) * sizeof(FaultChange));
}

void
fault_add_change(FaultChange change, const char *path, const char *from, char *kept)
{
	change.path = pg_strdup(path);
	change.from = from ? pg_strdup(from) : NULL;
	change.kept = kept;
	change.dir = fault_parent_ino(path);
	change.from_dir = from ? fault_parent_ino(from) : 0;
	fault.changes = pg_realloc(fault.changes, (fault.nchanges + 1) * sizeof(FaultChange));
	fault.changes[fault.nchanges++] = change;
}

/* A second name for what is about to lose its own. */
char *
fault_keep(const char *path)
{
	char *kept = psprintf("%s/%llu", fault.graveyard, (unsigned long long) ++fault.nkept);

	FAULT_CHECK(__real_link(path, kept) == 0);
	return kept;
}

/* Names of what is below a directory that was renamed. */
void
fault_moved(const char *from, const char *to)
{
	size_t len = strlen(from);

	for (int i = 0; i < fault.nchanges; i++)
		for (int k = 0; k < 2; k++)
		{
			char **path = k == 0 ? &fault.changes[i].path : &fault.changes[i].from;

			if (*path != NULL && strncmp(*path, from, len) == 0 && (*path)[len] == '/')
			{
				char *moved = psprintf("%s%s", to, *path + len);

				free(*path);
				*path = moved;
			}
		}
}

/* All pages are durable that were not counted as clean. */
static void
fault_synced_file(const struct stat *st)
{
	int n = 0;

	for (FaultFile *file = fault.files; file != NULL; file = file->next)
	{
		if (file->ino != st->st_ino)
			continue;
		for (int i = 0; i < file->npages; i++)
			if (file->pages[i].clean)
				file->pages[n++] = file->pages[i];
		file->npages = n;
		file->size = st->st_size;
		if (n == 0)
			fault_forget_file(st->st_ino);
		return;
	}
}

void
fault_sync_failed(int fd)
{
	struct stat st;

	FAULT_CHECK(fstat(fd, &st) == 0);
	for (FaultFile *file = fault.files; file != NULL; file = file->next)
		for (int i = 0; i < file->npages && file->ino == st.st_ino; i++)
			file->pages[i].clean = true;
}

void
fault_synced(int fd)
{
	struct stat st;

	FAULT_CHECK(fstat(fd, &st) == 0);
	if (!S_ISDIR(st.st_mode))
	{
		fault_synced_file(&st);
		return;
	}
	for (int i = 0; i < fault.nchanges;)
	{
		if (fault.changes[i].dir == st.st_ino || fault.changes[i].from_dir == st.st_ino)
			fault_drop_change(i);
		else
			i++;
	}
}

/* ---- power failure ---- */

void
fault_lose_data(FaultLoss loss)
{
	while (fault.files != NULL)
	{
		FaultFile *file = fault.files;
		struct stat st;

		FAULT_CHECK(fstat(file->fd, &st) == 0);
		for (int i = 0; i < file->npages && loss != LOSE_NOTHING; i++)
			if (loss == LOSE_ALL || fault_random(2) == 0)
				FAULT_CHECK(__real_pwrite(file->fd, file->pages[i].was, FAULT_PAGE,
										  file->pages[i].number * FAULT_PAGE) == FAULT_PAGE);
		if (loss == LOSE_ALL || (loss == LOSE_SOME && fault_random(2) == 0))
			FAULT_CHECK(__real_ftruncate(file->fd, file->size) == 0);
		else
			FAULT_CHECK(__real_ftruncate(file->fd, st.st_size) == 0);
		fault_forget_file(file->ino);
	}
}

void
fault_remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *de;

	while (dir != NULL && (de = readdir(dir)) != NULL)
	{
		char entry[MAXPGPATH];

		snprintf(entry, sizeof(entry), "%s/%s", path, de->d_name);
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 && __real_unlink(entry) != 0)
			fault_remove_tree(entry);
	}
	if (dir != NULL)
	{
		closedir(dir);
		(void) __real_rmdir(path);
	}
}

/* A directory that was removed is there again. */
static void
fault_is_now(ino_t old, ino_t new)
{
	for (int i = 0; i < fault.nchanges; i++)
	{
		FaultChange *change = &fault.changes[i];

		change->ino = change->ino == old ? new : change->ino;
		change->dir = change->dir == old ? new : change->dir;
		change->from_dir = change->from_dir == old ? new : change->from_dir;
	}
}

/* Takes a change back, unless what it made is not there any more. */
static void
fault_undo(FaultChange *change)
{
	switch (change->kind)
	{
		case CHANGE_CREATE:
			if (fault_ino(change->path) == change->ino && __real_unlink(change->path) != 0)
				fault_remove_tree(change->path);
			break;
		case CHANGE_RENAME:
			if (fault_ino(change->path) != change->ino || fault_ino(change->from) != 0)
				break;
			FAULT_CHECK(__real_rename(change->path, change->from) == 0);
			fault_moved(change->path, change->from);
			if (change->kept != NULL)
				FAULT_CHECK(__real_rename(change->kept, change->path) == 0);
			break;
		case CHANGE_UNLINK:
			if (fault_ino(change->path) == 0)
				(void) __real_rename(change->kept, change->path); /* its directory may not be there */
			break;
		case CHANGE_RMDIR:
			if (__real_mkdir(change->path, 0700) == 0)
				fault_is_now(change->ino, fault_ino(change->path));
			break;
	}
}

void
fault_lose_names(FaultLoss loss)
{
	bool *lost = pg_malloc0(fault.nchanges + 1);

	/* of each directory, the last of its changes */
	for (int i = 0; i < fault.nchanges; i++)
	{
		lost[i] = loss == LOSE_ALL || (loss == LOSE_SOME && fault_random(3) == 0);
		for (int k = 0; k < i && !lost[i]; k++)
			lost[i] = lost[k] && fault.changes[k].dir == fault.changes[i].dir;
	}
	for (int i = fault.nchanges - 1; i >= 0; i--)
	{
		if (lost[i])
			fault_undo(&fault.changes[i]);
		fault_drop_change(i);
	}
	free(lost);
}
