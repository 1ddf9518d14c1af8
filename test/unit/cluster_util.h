/*
 * cluster_util.h
 *	  For tests: a small handmade data directory that can be imported, and the
 *	  keys that the import must create.
 *
 * Include it after ps_fe.h and the header of cmocka.
 */
#ifndef CLUSTER_UTIL_H
#define CLUSTER_UTIL_H

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/transam.h"
#include "catalog/catversion.h"
#include "storage/bufpage.h"

#include "backup/backup_impl.h"
#include "pg/relsize.h"

#ifndef SEGMENT_SIZE
#define SEGMENT_SIZE (1024 * 1024)
#endif
#define SYSTEM_IDENTIFIER UINT64CONST(7123456789012345678)
#define VERSION_DIR       "PG_" PG_MAJORVERSION "_" CppAsString2(CATALOG_VERSION_NO)

/* ---- a data directory and what must come of it ---- */

typedef struct Expected
{
	PsKey key;
	char *value;
	uint32 len;
	bool found;
} Expected;

typedef struct Cluster
{
	char top[32]; /* "pgdata" and "out" are below */
	char *pgdata;
	char *out;
	Expected *expected;
	size_t nexpected;
	ControlFileData control;
	WalState state;
	XLogRecPtr checkpoint_end;
	TimelineSeed seed;
} Cluster;

extern void cluster_dir(const Cluster *c, const char *name);
extern void cluster_write_at(const Cluster *c, const char *name, const char *data, size_t len, off_t offset);
extern void cluster_write(const Cluster *c, const char *name, const char *data, size_t len);
extern void cluster_expect(Cluster *c, PsKey key, const char *value, size_t len);
extern void cluster_expect_size(Cluster *c, PsRel rel, ForkNumber fork, BlockNumber nblocks);
extern void cluster_page(char *page, int seed, BlockNumber blk);
extern void cluster_put_page(Cluster *c, PsRel rel, ForkNumber fork, const char *file, BlockNumber blk, int seed);

/* ---- WAL ---- */
extern void cluster_wal_write(const Cluster *c, XLogRecPtr at, const char *data, size_t len);
extern void cluster_control(Cluster *c);
extern Cluster *make_cluster(XLogRecPtr x, TimeLineID tli);
extern void free_cluster(Cluster *c);

#endif /* CLUSTER_UTIL_H */
