/*
 * backup_impl.h
 *	  What the files of backup/ share: a backup being sent, the parts of an
 *	  import, tar, and checksums of pages.
 */
#ifndef PS_BACKUP_IMPL_H
#define PS_BACKUP_IMPL_H

#include <time.h>

#include "backup/basebackup.h"
#include "backup/datadir.h"
#include "backup/import.h"
#include "pg/layout.h"
#include "pg/control.h"

/* ---- tarsink.c: a tar written to a ByteSink ---- */
typedef struct TarSink TarSink;

extern TarSink *tar_create(ByteSink sink);
extern void tar_free(TarSink *tar);

/* Adds an empty directory with mode 0700.  path has no slash at its end. */
extern PsError *tar_directory(TarSink *tar, const char *path);

/*
 * Adds a file with mode 0600: tar_file_begin(), then exactly size bytes by any
 * number of tar_write() and tar_write_zeros(), then tar_file_end().
 */
extern PsError *tar_file_begin(TarSink *tar, const char *path, uint64 size);
extern PsError *tar_write(TarSink *tar, const char *data, size_t len);
extern PsError *tar_write_zeros(TarSink *tar, uint64 len);
extern PsError *tar_file_end(TarSink *tar);

/* Adds a whole file. */
extern PsError *tar_file(TarSink *tar, const char *path, const char *data, size_t len);

/*
 * Like tar_file_begin(), for a file of size bytes that ends in a hole: only the
 * first "used" bytes are written.  Uses GNU's format for sparse files, which tar
 * and libarchive read.
 */
extern PsError *tar_sparse_file_begin(TarSink *tar, const char *path, uint64 used, uint64 size);

/* Ends the archive.  On return everything has been written to the ByteSink. */
extern PsError *tar_finish(TarSink *tar);

/* ---- page_checksum.c: data checksums of pages ---- */

/* Like PageSetChecksumInplace().  A new page is left alone. */
extern void page_checksum_set(char *page, BlockNumber blk);

/* Like PageIsVerifiedExtended(): a new page must be all zeros.  *expected is the right checksum. */
extern bool page_checksum_matches(const char *page, BlockNumber blk, uint16 *expected);

/* Is a page of BLCKSZ bytes all zeros? */
extern bool page_is_zero(const char *page);

/* ---- import.c ---- */

/*
 * Creates in dir, an empty directory, what store_add_timeline() expects: wal/ and
 * layers/, durable.  The caller has set the seed's name and ids; the rest is
 * filled in.  import_free_layers() must follow, also after an error.
 */
extern PsError *import_data_directory(const char *pgdata, const char *dir, const CancelCheck *cancel,
									  const ProgressSink *progress, TimelineSeed *seed);
extern void import_free_layers(TimelineSeed *seed);

/* ---- import_wal.c ---- */

/*
 * Copies the WAL that holds the shutdown checkpoint to wal_dir, as WAL of timeline
 * 1, and nothing after it.  *end is the end of the checkpoint record.
 */
extern PsError *import_wal(const char *pgdata, const char *wal_dir, const ControlFileData *control, XLogRecPtr *end);

/* ---- import_layers.c ---- */

/*
 * Writes the contents of dir as image layers at seed->lsn to seed->space.
 * control is the whole control file, PG_CONTROL_FILE_SIZE bytes.
 */
extern PsError *import_layers(const DataDir *dir, const char *control, const WalState *state,
							  const CancelCheck *cancel, const ProgressSink *progress, TimelineSeed *seed);

/* ---- backup.c: a backup being sent ---- */

typedef struct Backup
{
	Timeline *tl;
	TarSink *tar;
	const CancelCheck *cancel;
	TimelineInfo info;
	WalState state;        /* everything is read at state.end */
	CheckPoint checkpoint; /* of the shutdown checkpoint that the directory starts from */
	XLogRecPtr checkpoint_lsn;
	StringInfoData wal_tail; /* WAL that follows state.end in the backup but not in the timeline */
	ControlFileData control; /* as imported */
	BranchSettings settings;
	const char *conf;            /* postgresql.conf in settings, "" if there is none */
	const char *auto_conf;       /* postgresql.auto.conf in settings, "" if there is none */
	bool has_tablespaces;        /* set by backup_send_skeleton() */
	const ProgressSink *damaged; /* see fullbackup() */
	XLogRecPtr pinned;           /* until backup_end(); InvalidXLogRecPtr: none */
	DataDirDatabase *dirs;       /* database directories that are in the tar */
	size_t ndirs;
} Backup;

/*
 * Begins a backup of a state.  The state must end with a shutdown checkpoint;
 * otherwise the caller sets checkpoint, checkpoint_lsn and wal_tail before it
 * sends anything.  backup_end() must follow, also after an error.
 */
extern PsError *backup_begin(Backup *backup, Timeline *tl, const WalState *state, const CancelCheck *cancel,
							 ByteSink sink);

/*
 * Begins a backup as of an LSN, rounded down to the end of a record
 * (InvalidXLogRecPtr: all that was acknowledged), while a compute may be writing.
 * If there is no shutdown checkpoint at the LSN, one is made that is only in
 * wal_tail.  backup_end() must follow, also after an error.
 */
extern PsError *backup_begin_at(Backup *backup, Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, ByteSink sink);
extern void backup_end(Backup *backup);

/* Returns an error if the backup was canceled. */
extern PsError *backup_check_canceled(const Backup *backup);

/* A key with a small value. */
typedef struct BackupEntry
{
	PsKey key;
	char *value; /* followed by a zero byte */
	uint32 len;
} BackupEntry;

/*
 * Calls send for each value of a kind, in the order of keys.  All of them are
 * read before the first call.
 */
typedef PsError *(*BackupSend)(Backup *backup, const BackupEntry *entry);
extern PsError *backup_for_each(Backup *backup, PsKeyKind kind, BackupSend send);

/* All values of a kind.  backup_free_entries() must follow, also after an error. */
typedef struct BackupEntries
{
	BackupEntry *entries;
	size_t n;
} BackupEntries;

extern PsError *backup_read_entries(Backup *backup, PsKeyKind kind, BackupEntries *list);
extern void backup_free_entries(BackupEntries *list);

/* The first and the last key of a kind. */
extern void backup_kind_range(PsKeyKind kind, PsKey *lo, PsKey *hi);

/* Adds the directory of a database to the tar, unless it is there already. */
extern PsError *backup_send_database_directory(Backup *backup, Oid spc, Oid db);

/* ---- backup_contents.c: everything except relations ---- */

/*
 * Sends directories, PG_VERSION files, relation maps, pg_hba.conf, pg_ident.conf
 * and postgresql.auto.conf.  Sets has_tablespaces.
 */
extern PsError *backup_send_skeleton(Backup *backup);

/* Appends the stored postgresql.conf, with what a server needs to start on the state. */
extern void backup_put_conf(const Backup *backup, StringInfo out);

/* Sends SLRUs, two-phase state files and replication origins. */
extern PsError *backup_send_transaction_state(Backup *backup);

/*
 * Sends the WAL segments that hold the shutdown checkpoint, then pg_control,
 * which makes the directory complete and so must come last.
 */
extern PsError *backup_send_wal_and_control(Backup *backup);

/* ---- backup_relations.c ---- */

/* Lists every init fork, or every other fork, in the order of keys.  The caller frees the array. */
extern PsError *backup_list_forks(Backup *backup, bool init, ForkSize **forks, size_t *n);

/* Sends one fork of a relation under the name of the fork "as". */
extern PsError *backup_send_fork(Backup *backup, const ForkSize *fork, ForkNumber as);

/*
 * Sends the init forks of unlogged relations, and copies of them as main forks, as
 * ResetUnloggedRelations() creates them.
 */
extern PsError *backup_send_unlogged(Backup *backup, const ForkSize *init_forks, size_t n);

#endif /* PS_BACKUP_IMPL_H */
