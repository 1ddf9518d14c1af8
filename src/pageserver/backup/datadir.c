/*
 * datadir.c
 *	  What is in a data directory: its relation files, and the rest that the
 *	  import takes.
 *
 * What PostgreSQL would not use is left out, by the rules of its own code:
 * temporary files (looks_like_temp_rel_name() of fd.c), forks but the init
 * fork of unlogged relations (ResetUnloggedRelations() of reinit.c), a block
 * that was not written whole at a file's end and segments after one that is
 * not full (mdnblocks() of md.c).
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/catversion.h"
#include "catalog/pg_tablespace_d.h"
#include "common/relpath.h"

#include "backup/backup.h"
#include "sqlstate.h"

/* SLRU_PAGES_PER_SEGMENT of access/slru.h, which is not for frontends. */
#define SLRU_PAGES_PER_SEGMENT 32

/* More than any file has that becomes one value, as a value can have with its name. */
#define MAX_FILE_SIZE (1000 * 1024 * 1024)

/* One file of a fork, as found. */
typedef struct SegmentFile
{
	PsRel rel;
	ForkNumber fork;
	uint32 segno;
	BlockNumber nblocks;
} SegmentFile;

typedef struct SegmentFiles
{
	SegmentFile *files;
	size_t n;
} SegmentFiles;

/* Doubles an array when it is full. */
#define GROW(array, n)                                                                 \
	do                                                                                 \
	{                                                                                  \
		if (((n) & ((n) -1)) == 0)                                                     \
			(array) = pg_realloc((array), ((n) == 0 ? 1 : (n) *2) * sizeof(*(array))); \
	} while (0)

/* What list_directory() is told of one name. */
typedef PsError *(*EntryCallback)(void *arg, int dirfd, const char *name);

/* Calls cb for each entry of pgdata/path but "." and ".."; a directory that is missing is empty if optional. */
static PsError *
list_directory(const char *pgdata, const char *path, bool optional, EntryCallback cb, void *arg)
{
	char *full = psprintf("%s/%s", pgdata, path);
	DIR *dir = opendir(full);
	struct dirent *de;
	PsError *err = NULL;

	if (dir == NULL)
	{
		if (errno != ENOENT || !optional)
			err = ps_error(PS_SQLSTATE_IO, "could not open directory \"%s\": %m", full);
		free(full);
		return err;
	}
	while (err == NULL && (errno = 0, de = readdir(dir)) != NULL)
		if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0)
			err = cb(arg, dirfd(dir), de->d_name);
	if (err == NULL && errno != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not read directory \"%s\": %m", full);
	closedir(dir);
	free(full);
	return err;
}

/* All of the name as a number; false if it is anything else, or has leading zeros in base 10. */
static bool
parse_number(const char *name, size_t len, int base, uint32 *value)
{
	uint64 v = 0;

	if (len == 0 || len > 10 || (base == 10 && name[0] == '0'))
		return false;
	for (size_t i = 0; i < len; i++)
	{
		const char *digits = "0123456789ABCDEF";
		const char *digit = memchr(digits, name[i], base);

		if (digit == NULL)
			return false;
		v = v * base + (digit - digits);
	}
	*value = (uint32) v;
	return v <= PG_UINT32_MAX;
}

/* The name of a relation's file: number[_fork][.segment]. */
static bool
parse_relation_file(const char *name, Oid *rel, ForkNumber *fork, uint32 *segno)
{
	size_t len = strcspn(name, "_.");

	if (!parse_number(name, len, 10, rel))
		return false;
	name += len;
	*fork = MAIN_FORKNUM;
	if (*name == '_')
	{
		int fork_len = forkname_chars(name + 1, fork);

		if (fork_len == 0)
			return false;
		name += 1 + fork_len;
	}
	*segno = 0;
	if (*name == '.')
		return parse_number(name + 1, strlen(name + 1), 10, segno);
	return *name == '\0';
}

char *
datadir_database_path(Oid spc, Oid db)
{
	return GetDatabasePath(db, spc);
}

char *
datadir_fork_path(PsRel rel, ForkNumber fork, uint32 segno)
{
	char *path = GetRelationPath(rel.db, rel.spc, rel.rel, InvalidBackendId, fork);
	char *with_segno;

	if (segno == 0)
		return path;
	with_segno = psprintf("%s.%u", path, segno);
	pfree(path);
	return with_segno;
}

PsKey
datadir_aux_key(const char *name)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, name, strlen(name));
	FIN_CRC32C(crc);
	return ps_key_simple(PS_KEY_AUX, crc, 0, 0);
}

PsError *
datadir_read_file(const char *pgdata, const char *name, StringInfo out, bool *found)
{
	char *path = psprintf("%s/%s", pgdata, name);
	/* without waiting for somebody to write into it, if it is a pipe */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	struct stat st;
	PsError *err = NULL;

	if (found != NULL)
		*found = fd >= 0;
	if (fd < 0)
	{
		if (errno != ENOENT || found == NULL)
			err = ps_error(PS_SQLSTATE_IO, "could not open file \"%s\": %m", path);
		free(path);
		return err;
	}
	if (fstat(fd, &st) != 0)
		err = ps_error(PS_SQLSTATE_IO, "could not stat file \"%s\": %m", path);
	else if (!S_ISREG(st.st_mode) || st.st_size > MAX_FILE_SIZE)
		err = ps_error(PS_SQLSTATE_CORRUPTED, "\"%s\" is not a file of at most %d bytes", path, MAX_FILE_SIZE);
	while (err == NULL)
	{
		char buf[8192];
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0)
			err = ps_error(PS_SQLSTATE_IO, "could not read file \"%s\": %m", path);
		else if (out->len + n > MAX_FILE_SIZE)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" grows while it is read, beyond %d bytes", path, MAX_FILE_SIZE);
		else if (n > 0)
			appendBinaryStringInfo(out, buf, n);
		if (n <= 0)
			break;
	}
	close(fd);
	free(path);
	return err;
}

/* ---- relations ---- */

typedef struct RelationScan
{
	DataDir *dir;
	SegmentFiles *segments;
	Oid spc;
	Oid db;
	bool has_relmap;
} RelationScan;

static PsError *
relation_entry(void *arg, int dirfd, const char *name)
{
	RelationScan *scan = arg;
	SegmentFiles *segments = scan->segments;
	SegmentFile file = {.rel = {.spc = scan->spc, .db = scan->db}};
	struct stat st;

	if (strcmp(name, "pg_filenode.map") == 0)
		scan->has_relmap = true;
	if (!parse_relation_file(name, &file.rel.rel, &file.fork, &file.segno))
		return NULL;
	if (fstatat(dirfd, name, &st, 0) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not stat file \"%s\" of database %u: %m", name, scan->db);
	if (!S_ISREG(st.st_mode))
		return NULL;
	file.nblocks = st.st_size / BLCKSZ;
	if (file.nblocks > RELSEG_SIZE)
		return ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" of database %u has %u blocks, expected at most %u",
						name, scan->db, file.nblocks, RELSEG_SIZE);
	GROW(segments->files, segments->n);
	segments->files[segments->n++] = file;
	return NULL;
}

static PsError *
scan_relations(DataDir *dir, SegmentFiles *segments, Oid spc, Oid db)
{
	RelationScan scan = {.dir = dir, .segments = segments, .spc = spc, .db = db};
	char *path = datadir_database_path(spc, db);
	PsError *err = list_directory(dir->path, path, false, relation_entry, &scan);

	if (err == NULL && scan.has_relmap)
	{
		GROW(dir->databases, dir->ndatabases);
		dir->databases[dir->ndatabases++] = (DataDirDatabase) {spc, db};
	}
	pfree(path);
	return err;
}

/* The databases' directories of one tablespace. */
typedef struct TablespaceScan
{
	DataDir *dir;
	SegmentFiles *segments;
	Oid spc;
} TablespaceScan;

static PsError *
database_entry(void *arg, int dirfd, const char *name)
{
	TablespaceScan *scan = arg;
	Oid db;

	if (!parse_number(name, strlen(name), 10, &db))
		return NULL; /* pgsql_tmp */
	return scan_relations(scan->dir, scan->segments, scan->spc, db);
}

static PsError *
tablespace_entry(void *arg, int dirfd, const char *name)
{
	TablespaceScan *scan = arg;
	DataDir *dir = scan->dir;
	char location[MAXPGPATH];
	ssize_t len;
	char *path;
	PsError *err;

	if (!parse_number(name, strlen(name), 10, &scan->spc))
		return NULL;
	len = readlinkat(dirfd, name, location, sizeof(location));
	if (len < 0 && errno == EINVAL)
		len = 0; /* allow_in_place_tablespaces */
	if (len < 0 || len >= sizeof(location))
		return ps_error(PS_SQLSTATE_IO, "could not read symbolic link \"%s/pg_tblspc/%s\": %m", dir->path, name);
	GROW(dir->tablespaces, dir->ntablespaces);
	dir->tablespaces[dir->ntablespaces++] = (DataDirTablespace) {scan->spc, pnstrdup(location, len)};

	path = psprintf("pg_tblspc/%s/%s", name, TABLESPACE_VERSION_DIRECTORY);
	err = list_directory(dir->path, path, false, database_entry, scan);
	pfree(path);
	return err;
}

static int
compare_segments(const void *a, const void *b)
{
	const SegmentFile *x = a;
	const SegmentFile *y = b;
	PsKey kx = ps_key_block(x->rel, x->fork, 0);
	PsKey ky = ps_key_block(y->rel, y->fork, 0);
	int cmp = ps_key_cmp(&kx, &ky);

	return cmp != 0 ? cmp : x->segno < y->segno ? -1
												: x->segno > y->segno;
}

/* Blocks of the fork whose files begin at segs[0]; *used: how many files they are. */
static PsError *
fork_length(const SegmentFile *segs, size_t n, size_t *used, uint64 *nblocks)
{
	bool complete = segs[0].segno != 0; /* no first segment: mdexists() says no */

	*nblocks = 0;
	for (*used = 0; *used < n; (*used)++)
	{
		const SegmentFile *seg = &segs[*used];

		if (!ps_rel_equal(seg->rel, segs[0].rel) || seg->fork != segs[0].fork)
			break;
		complete = complete || seg->segno != *used;
		if (!complete)
			*nblocks += seg->nblocks;
		else if (seg->nblocks > 0)
			return ps_error_hint(ps_error(PS_SQLSTATE_CORRUPTED,
										  "segment %u of relation %u/%u/%u has %u blocks, but a segment before it is not full",
										  seg->segno, seg->rel.spc, seg->rel.db, seg->rel.rel, seg->nblocks),
								 "PostgreSQL would not read this segment. Find out whose it is (pg_filenode_relation()) and, if nobody's, remove it.");
		complete = complete || seg->nblocks < RELSEG_SIZE;
	}
	if (*nblocks > MaxBlockNumber)
		return ps_error(PS_SQLSTATE_CORRUPTED, "relation %u/%u/%u has too many segments",
						segs[0].rel.spc, segs[0].rel.db, segs[0].rel.rel);
	return NULL;
}

/* Folds segments to forks, and leaves out what is unlogged. */
static PsError *
fold_segments(DataDir *dir, SegmentFiles *segments)
{
	size_t first_of_rel = 0;

	if (segments->n == 0)
		return ps_error(PS_SQLSTATE_STATE, "directory \"%s\" holds no relation files", dir->path);
	qsort(segments->files, segments->n, sizeof(SegmentFile), compare_segments);
	for (size_t i = 0, used; i < segments->n; i += used)
	{
		const SegmentFile *seg = &segments->files[i];
		uint64 nblocks;

		PS_TRY(fork_length(seg, segments->n - i, &used, &nblocks));
		if (seg->segno != 0)
			continue;
		if (dir->nforks == first_of_rel || !ps_rel_equal(dir->forks[first_of_rel].rel, seg->rel))
			first_of_rel = dir->nforks;
		if (seg->fork == INIT_FORKNUM)
		{
			dir->nunlogged++;
			while (dir->nforks > first_of_rel)
				dir->nblocks -= dir->forks[--dir->nforks].nblocks;
		}
		GROW(dir->forks, dir->nforks);
		dir->forks[dir->nforks++] = (ForkSize) {seg->rel, seg->fork, (BlockNumber) nblocks};
		dir->nblocks += nblocks;
	}
	return NULL;
}

/* ---- the rest ---- */

typedef struct SlruScan
{
	DataDir *dir;
	PsSlru slru;
} SlruScan;

/* Names as SlruFileName() makes them: four to six hexadecimal digits. */
static PsError *
slru_entry(void *arg, int dirfd, const char *name)
{
	SlruScan *scan = arg;
	DataDir *dir = scan->dir;
	uint32 segno;
	struct stat st;

	if (strlen(name) < 4 || strlen(name) > 6 || !parse_number(name, strlen(name), 16, &segno))
		return NULL;
	if (fstatat(dirfd, name, &st, 0) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not stat file \"%s/%s\": %m", ps_slru_dir[scan->slru], name);
	if (st.st_size % BLCKSZ != 0 || st.st_size > SLRU_PAGES_PER_SEGMENT * BLCKSZ)
		return ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s/%s\" has " INT64_FORMAT " bytes, expected at most %d pages of %d bytes",
						ps_slru_dir[scan->slru], name, (int64) st.st_size, SLRU_PAGES_PER_SEGMENT, BLCKSZ);
	GROW(dir->slrus, dir->nslrus);
	dir->slrus[dir->nslrus++] = (DataDirSlru) {scan->slru, segno, st.st_size / BLCKSZ};
	return NULL;
}

static PsError *
twophase_entry(void *arg, int dirfd, const char *name)
{
	DataDir *dir = arg;
	uint32 xid;

	if (strlen(name) != 8 || !parse_number(name, 8, 16, &xid))
		return NULL;
	GROW(dir->twophase, dir->ntwophase);
	dir->twophase[dir->ntwophase++] = xid;
	return NULL;
}

static int
compare_oid(Oid a, Oid b)
{
	return a < b ? -1 : a > b;
}

static int
compare_databases(const void *a, const void *b)
{
	const DataDirDatabase *x = a;
	const DataDirDatabase *y = b;

	return x->spc != y->spc ? compare_oid(x->spc, y->spc) : compare_oid(x->db, y->db);
}

static int
compare_tablespaces(const void *a, const void *b)
{
	return compare_oid(((const DataDirTablespace *) a)->oid, ((const DataDirTablespace *) b)->oid);
}

static int
compare_slrus(const void *a, const void *b)
{
	const DataDirSlru *x = a;
	const DataDirSlru *y = b;

	return x->slru != y->slru ? compare_oid(x->slru, y->slru) : compare_oid(x->segno, y->segno);
}

static int
compare_xids(const void *a, const void *b)
{
	return compare_oid(*(const TransactionId *) a, *(const TransactionId *) b);
}

static void
sort_array(void *array, size_t n, size_t size, int (*compare)(const void *, const void *))
{
	if (n > 0)
		qsort(array, n, size, compare);
}

PsError *
datadir_read(const char *pgdata, DataDir *dir)
{
	SegmentFiles segments = {NULL, 0};
	TablespaceScan scan = {.dir = dir, .segments = &segments, .spc = DEFAULTTABLESPACE_OID};
	PsError *err;

	memset(dir, 0, sizeof(*dir));
	dir->path = pg_strdup(pgdata);

	PS_GOTO(scan_relations(dir, &segments, GLOBALTABLESPACE_OID, InvalidOid), done);
	PS_GOTO(list_directory(pgdata, "base", false, database_entry, &scan), done);
	PS_GOTO(list_directory(pgdata, "pg_tblspc", true, tablespace_entry, &scan), done);
	PS_GOTO(fold_segments(dir, &segments), done);
	for (int slru = 0; slru < PS_NSLRU; slru++)
	{
		SlruScan slru_scan = {dir, slru};

		PS_GOTO(list_directory(pgdata, ps_slru_dir[slru], false, slru_entry, &slru_scan), done);
	}
	PS_GOTO(list_directory(pgdata, "pg_twophase", false, twophase_entry, dir), done);

	sort_array(dir->databases, dir->ndatabases, sizeof(DataDirDatabase), compare_databases);
	sort_array(dir->tablespaces, dir->ntablespaces, sizeof(DataDirTablespace), compare_tablespaces);
	sort_array(dir->slrus, dir->nslrus, sizeof(DataDirSlru), compare_slrus);
	sort_array(dir->twophase, dir->ntwophase, sizeof(TransactionId), compare_xids);

done:
	free(segments.files);
	return err;
}

void
datadir_free(DataDir *dir)
{
	for (size_t i = 0; i < dir->ntablespaces; i++)
		free(dir->tablespaces[i].location);
	free(dir->path);
	free(dir->forks);
	free(dir->databases);
	free(dir->tablespaces);
	free(dir->slrus);
	free(dir->twophase);
	memset(dir, 0, sizeof(*dir));
}
