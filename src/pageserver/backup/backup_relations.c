/*
 * backup_relations.c
 *	  The files of relations in a backup.
 */
#include "ps_fe.h"

#include "backup/backup_impl.h"
#include "pg/relsize.h"

#define BATCH_BLOCKS 128

typedef struct ForkList
{
	ForkSize *forks;
	size_t n;
} ForkList;

static PsError *
collect_fork(void *arg, const PsKey *key, const char *value, uint32 len)
{
	ForkList *list = arg;

	if ((list->n & (list->n - 1)) == 0)
		list->forks = pg_realloc(list->forks, Max(list->n * 2, 1) * sizeof(ForkSize));
	list->forks[list->n++] = (ForkSize) {{key->spc, key->db, key->rel}, key->fork, relsize_value_nblocks(value, len)};
	return NULL;
}

PsError *
backup_list_forks(Backup *backup, bool init, ForkSize **forks, size_t *n)
{
	PsKey lo;
	PsKey hi;
	ForkList list = {NULL, 0};
	PsError *err;

	backup_kind_range(init ? PS_KEY_INITSIZE : PS_KEY_RELSIZE, &lo, &hi);
	err = timeline_scan(backup->tl, &lo, &hi, backup->state.end, collect_fork, &list);
	*forks = list.forks;
	*n = list.n;
	return err;
}

/*
 * Handles a page that could not be read.  If it is damaged, and the backup
 * replaces damaged pages, reports it, fills the page with zeros and frees err.
 * Otherwise returns err.
 */
static PsError *
replace_damaged(Backup *backup, const ForkSize *fork, BlockNumber blk, char *page, PsError *err)
{
	char *path;
	char *message;

	if (!ps_error_is_damage(err) || backup->damaged == NULL)
		return err;
	path = pg_layout_fork_path(fork->rel, fork->fork, 0);
	message = psprintf("block %u of relation \"%s\" is replaced by zeros: %s", blk, path, err->message);
	backup->damaged->report(backup->damaged->arg, message);
	memset(page, 0, BLCKSZ);
	pfree(message);
	pfree(path);
	ps_error_free(err);
	return NULL;
}

static PsError *
read_blocks(Backup *backup, const ForkSize *fork, const BlockNumber *blks, int n, char *pages)
{
	PsError *errors[BATCH_BLOCKS];
	PsError *err = NULL;

	PS_TRY(timeline_read_each_page(backup->tl, fork->rel, fork->fork, blks, n, backup->state.end, pages, errors));
	for (int i = 0; i < n; i++)
		if (errors[i] != NULL)
			err = ps_error_first(err, replace_damaged(backup, fork, blks[i], pages + (size_t) i * BLCKSZ, errors[i]));
	return err;
}

static PsError *
send_segment(Backup *backup, const ForkSize *fork, BlockNumber first, BlockNumber nblocks, char *pages)
{
	BlockNumber blks[BATCH_BLOCKS];

	for (BlockNumber at = 0, n; at < nblocks; at += n)
	{
		n = Min(nblocks - at, BATCH_BLOCKS);
		for (BlockNumber i = 0; i < n; i++)
			blks[i] = first + at + i;
		PS_TRY(backup_check_canceled(backup));
		PS_TRY(read_blocks(backup, fork, blks, n, pages));
		if (backup->info.data_checksum_version != 0)
			for (BlockNumber i = 0; i < n; i++)
				page_checksum_set(pages + (size_t) i * BLCKSZ, blks[i]);
		PS_TRY(tar_write(backup->tar, pages, (size_t) n * BLCKSZ));
	}
	return NULL;
}

PsError *
backup_send_fork(Backup *backup, const ForkSize *fork, ForkNumber as)
{
	char *pages = pg_malloc((size_t) BATCH_BLOCKS * BLCKSZ);
	uint64 first = 0;
	PsError *err;

	err = backup_send_database_directory(backup, fork->rel.spc, fork->rel.db);
	/* an empty fork is an empty file */
	for (; err == NULL && (first == 0 || first < fork->nblocks); first += RELSEG_SIZE)
	{
		BlockNumber nblocks = Min(fork->nblocks - first, RELSEG_SIZE);
		char *path = pg_layout_fork_path(fork->rel, as, first / RELSEG_SIZE);

		err = tar_file_begin(backup->tar, path, (uint64) nblocks * BLCKSZ);
		pfree(path);
		if (err == NULL)
			err = send_segment(backup, fork, first, nblocks, pages);
		if (err == NULL)
			err = tar_file_end(backup->tar);
	}
	free(pages);
	return err;
}

PsError *
backup_send_unlogged(Backup *backup, const ForkSize *init_forks, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		PS_TRY(backup_send_fork(backup, &init_forks[i], INIT_FORKNUM));
		PS_TRY(backup_send_fork(backup, &init_forks[i], MAIN_FORKNUM));
	}
	return NULL;
}
