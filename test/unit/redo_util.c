/*
 * redo_util.c
 *	  Helpers of the tests of redo: see redo_util.h.
 */
#include "ps_fe.h"

#include "redo_util.h"

PsError *
redo_page(RedoPool *pool, PsRel rel, ForkNumber fork, BlockNumber blk, const char *base, const WalRecord *records,
		  int nrecords, char *page)
{
	PsError *err;
	RedoJob job = {
		.rel = rel,
		.fork = fork,
		.blk = blk,
		.has_base = base != NULL,
		.page = page,
		.records = records,
		.nrecords = nrecords,
		.err = &err};

	if (base != NULL && base != page)
		memcpy(page, base, BLCKSZ);
	redo_pages(pool, &job, 1);
	return err;
}

char *
redo_test_bindir(void)
{
	const char *pg_config = getenv("PG_CONFIG");
	char *command = psprintf("\"%s\" --bindir", pg_config != NULL ? pg_config : "/usr/lib/postgresql/15/bin/pg_config");
	char bindir[MAXPGPATH];
	FILE *f = popen(command, "r");

	if (f == NULL || fgets(bindir, sizeof(bindir), f) == NULL || pclose(f) != 0)
	{
		fprintf(stderr, "%s failed\n", command);
		exit(1);
	}
	pfree(command);
	bindir[strcspn(bindir, "\n")] = '\0';
	return pg_strdup(bindir);
}
