/*
 * layout.c
 *	  File names in a data directory, and initdb's options (layout.h).
 */
#include "ps_fe.h"

#include "catalog/catversion.h"
#include "storage/backendid.h"

#include "pg/layout.h"

/* pg_wal/summaries, which PostgreSQL 17 has too, is created by the server when it is missing. */
const char *const pg_layout_directories[] = {
	"base", "global", "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_logical/mappings", "pg_logical/snapshots",
	"pg_multixact", "pg_multixact/members", "pg_multixact/offsets", "pg_notify", "pg_replslot", "pg_serial",
	"pg_snapshots", "pg_stat", "pg_stat_tmp", "pg_subtrans", "pg_tblspc", "pg_twophase", "pg_wal",
	"pg_wal/archive_status", "pg_xact", NULL};

const char pg_layout_version[] = PG_MAJORVERSION "\n";

/* ---- paths ---- */

/* This path and the two below contain TABLESPACE_VERSION_DIRECTORY, which libpgcommon has compiled in. */
char *
pg_layout_tablespace_path(Oid spc)
{
	return psprintf("pg_tblspc/%u/%s", spc, TABLESPACE_VERSION_DIRECTORY);
}

char *
pg_layout_database_path(Oid spc, Oid db)
{
	return GetDatabasePath(db, spc);
}

char *
pg_layout_fork_path(PsRel rel, ForkNumber fork, uint32 segno)
{
	char *path = GetRelationPath(rel.db, rel.spc, rel.rel, InvalidBackendId, fork);
	char *with_segno;

	if (segno == 0)
		return path;
	with_segno = psprintf("%s.%u", path, segno);
	pfree(path);
	return with_segno;
}

/* As SlruFileName(): four digits, more only if needed. */
char *
pg_layout_slru_path(PsSlru slru, uint32 segno)
{
	return psprintf("%s/%04X", ps_slru_dir[slru], segno);
}

/* As twophase.c names the files. */
char *
pg_layout_twophase_path(TransactionId xid)
{
	return psprintf("pg_twophase/%08X", xid);
}

/* ---- names ---- */

/* Parses all of the name as a number.  In base 10, leading zeros are refused. */
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

bool
pg_layout_parse_oid(const char *name, Oid *oid)
{
	return parse_number(name, strlen(name), 10, oid);
}

/* number[_fork][.segment] */
bool
pg_layout_parse_relation(const char *name, Oid *rel, ForkNumber *fork, uint32 *segno)
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

bool
pg_layout_parse_slru(const char *name, uint32 *segno)
{
	size_t len = strlen(name);

	return len >= 4 && len <= 6 && parse_number(name, len, 16, segno);
}

bool
pg_layout_parse_twophase(const char *name, TransactionId *xid)
{
	return strlen(name) == 8 && parse_number(name, 8, 16, xid);
}

/* ---- initdb ---- */

/*
 * The options do not depend on the environment of the daemon.  As with initdb's
 * default, everybody who can use the Unix socket is trusted; TCP connections
 * need a password.
 */
void
pg_layout_initdb_args(const char *program, const char *pgdata, bool data_checksums, const char **argv)
{
	int n = 0;

	argv[n++] = program;
	argv[n++] = "-D";
	argv[n++] = pgdata;
	argv[n++] = "-U";
	argv[n++] = "postgres";
	argv[n++] = "-E";
	argv[n++] = "UTF8";
	argv[n++] = "--locale=C.UTF-8";
	argv[n++] = "--auth-local=trust";
	argv[n++] = "--auth-host=scram-sha-256";
	argv[n++] = "--no-sync"; /* the import makes durable what it creates from the cluster */
	argv[n++] = "--no-instructions";
	if (data_checksums)
		argv[n++] = "--data-checksums";
	argv[n] = NULL;
	Assert(n < PG_LAYOUT_INITDB_ARGS);
}
