/*
 * datadir.c
 *	  The contents of a data directory, as far as an import reads them.
 *
 * Files that PostgreSQL would not use are left out, by the rules of its own code:
 * temporary files (looks_like_temp_rel_name() of fd.c), all forks of unlogged
 * relations except the init fork (ResetUnloggedRelations() of reinit.c), an
 * incomplete block at the end of a file, and segments after one that is not full
 * (mdnblocks() of md.c).
 */
#include "ps_fe.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_tablespace_d.h"
#include "port/pg_crc32c.h"

#include "backup/datadir.h"
#include "pg/layout.h"
#include "sqlstate.h"

/* Maximum size of a file that becomes one value: a value can be 1 GB, including the name of the file. */
#define MAX_FILE_SIZE (1000 * 1024 * 1024)

/* One file of a fork. */
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

/* Called by list_directory() for one name. */
typedef PsError *(*EntryCallback)(void *arg, int dirfd, const char *name);

/* Calls cb for each entry of pgdata/path except "." and "..".  An optional directory may be missing. */
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
	/* O_NONBLOCK: do not wait for a writer if it is a pipe */
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
		err = ps_error(PS_SQLSTATE_CORRUPTED, "\"%s\" is not a regular file of at most %d bytes", path, MAX_FILE_SIZE);
	while (err == NULL)
	{
		char buf[8192];
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0)
			err = ps_error(PS_SQLSTATE_IO, "could not read file \"%s\": %m", path);
		else if (out->len + n > MAX_FILE_SIZE)
			err = ps_error(PS_SQLSTATE_CORRUPTED, "file \"%s\" grew beyond %d bytes while being read", path,
						   MAX_FILE_SIZE);
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

	if (strcmp(name, PG_LAYOUT_RELMAP) == 0)
		scan->has_relmap = true;
	if (!pg_layout_parse_relation(name, &file.rel.rel, &file.fork, &file.segno))
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
	char *path = pg_layout_database_path(spc, db);
	PsError *err = list_directory(dir->path, path, false, relation_entry, &scan);

	if (err == NULL && scan.has_relmap)
	{
		GROW(dir->databases, dir->ndatabases);
		dir->databases[dir->ndatabases++] = (DataDirDatabase) {spc, db};
	}
	pfree(path);
	return err;
}

/* State of database_entry(): lists the databases of one tablespace. */
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

	if (!pg_layout_parse_oid(name, &db))
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

	if (!pg_layout_parse_oid(name, &scan->spc))
		return NULL;
	len = readlinkat(dirfd, name, location, sizeof(location));
	if (len < 0 && errno == EINVAL)
		len = 0; /* allow_in_place_tablespaces */
	if (len < 0 || len >= sizeof(location))
		return ps_error(PS_SQLSTATE_IO, "could not read symbolic link \"%s/pg_tblspc/%s\": %m", dir->path, name);
	GROW(dir->tablespaces, dir->ntablespaces);
	dir->tablespaces[dir->ntablespaces++] = (DataDirTablespace) {scan->spc, pnstrdup(location, len)};

	path = pg_layout_tablespace_path(scan->spc);
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

/* Counts the blocks of the fork whose files begin at segs[0].  *used is the number of its files. */
static PsError *
fork_length(const SegmentFile *segs, size_t n, size_t *used, uint64 *nblocks)
{
	bool complete = segs[0].segno != 0; /* without a first segment, mdexists() returns false */

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
										  "segment %u of relation %u/%u/%u has %u blocks, "
										  "but a segment before it is not full",
										  seg->segno, seg->rel.spc, seg->rel.db, seg->rel.rel, seg->nblocks),
								 "PostgreSQL does not read this segment.  "
								 "Find the relation it belongs to with pg_filenode_relation(); "
								 "if there is none, remove the file.");
		complete = complete || seg->nblocks < RELSEG_SIZE;
	}
	if (*nblocks > MaxBlockNumber)
		return ps_error(PS_SQLSTATE_CORRUPTED, "relation %u/%u/%u has too many segments",
						segs[0].rel.spc, segs[0].rel.db, segs[0].rel.rel);
	return NULL;
}

/* Combines segments into forks, and leaves out the contents of unlogged relations. */
static PsError *
fold_segments(DataDir *dir, SegmentFiles *segments)
{
	size_t first_of_rel = 0;

	if (segments->n == 0)
		return ps_error(PS_SQLSTATE_STATE, "directory \"%s\" contains no relation files", dir->path);
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

/* ---- other files ---- */

typedef struct SlruScan
{
	DataDir *dir;
	PsSlru slru;
} SlruScan;

static PsError *
slru_entry(void *arg, int dirfd, const char *name)
{
	SlruScan *scan = arg;
	DataDir *dir = scan->dir;
	uint32 segno;
	struct stat st;

	if (!pg_layout_parse_slru(name, &segno))
		return NULL;
	if (fstatat(dirfd, name, &st, 0) != 0)
		return ps_error(PS_SQLSTATE_IO, "could not stat file \"%s/%s\": %m", ps_slru_dir[scan->slru], name);
	if (st.st_size % BLCKSZ != 0 || st.st_size > PG_LAYOUT_SLRU_PAGES * BLCKSZ)
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"file \"%s/%s\" has " INT64_FORMAT " bytes, expected at most %d pages of %d bytes",
						ps_slru_dir[scan->slru], name, (int64) st.st_size, PG_LAYOUT_SLRU_PAGES, BLCKSZ);
	GROW(dir->slrus, dir->nslrus);
	dir->slrus[dir->nslrus++] = (DataDirSlru) {scan->slru, segno, st.st_size / BLCKSZ};
	return NULL;
}

static PsError *
twophase_entry(void *arg, int dirfd, const char *name)
{
	DataDir *dir = arg;
	TransactionId xid;

	if (!pg_layout_parse_twophase(name, &xid))
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
