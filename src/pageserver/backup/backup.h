/*
 * backup.h
 *	  Whole clusters in and out of the store: import of a data directory, a
 *	  fresh cluster by initdb, base backups that start a compute, full backups
 *	  that need no store.
 *
 * import.c      a data directory to a timeline, with
 *               import_wal.c (its last WAL) and import_layers.c (all else)
 * datadir.c     what is in a data directory: its relation files and the rest
 * import_stream.c  the same of what a client sends
 * bootstrap.c   initdb, then import
 * basebackup.c  what a compute needs to start, as a tar stream
 * fullbackup.c  a complete data directory at an LSN, as a tar stream
 * contents.c    what both kinds of backup hold: everything but relation files
 * tarsink.c     tar into a ByteSink
 * control.c     reading and making pg_control
 * checksum.c    data checksums of pages
 */
#ifndef PS_BACKUP_H
#define PS_BACKUP_H

#include <time.h>

#include "read/read.h"
#include "ingest/ingest.h"
#include "replication/origin.h"

#include "base/bytesink.h"
#include "store/store.h"

/* One fork of a relation and its length. */
typedef struct ForkSize
{
	PsRel rel;
	ForkNumber fork;
	BlockNumber nblocks;
} ForkSize;

/* ---- import.c ---- */

/*
 * A cluster that was shut down cleanly becomes a branch.  pgdata is only read.
 * The name must be new.  Nothing is left behind on error.  progress may be
 * NULL.
 */
extern PsError *import_cluster(Store *store, const char *name, const char *pgdata, const CancelCheck *cancel,
							   const ProgressSink *progress, Timeline **tl);

/*
 * Is the directory the one that a client means, which may be on another machine
 * or have another idea of the path?  identity: what it sees there
 * (control_identity.h).  PS_SQLSTATE_ELSEWHERE: it is not, or is none, or
 * cannot be read here.
 */
extern PsError *import_check_identity(const char *pgdata, const char *identity);

/* ---- import_stream.c ---- */

/* As import_cluster(), of a tar of the data directory that the client sends; see there. */
extern PsError *import_stream(Store *store, const char *name, ByteSource source, const CancelCheck *cancel,
							  const ProgressSink *progress, Timeline **tl);

/* ---- settings.c ---- */

/*
 * The settings files that a base backup of the branch has: the newest version
 * kept with it, or, with version 0, what its import brought, as of an LSN.
 * branch_settings_free() must follow a success.
 */
extern PsError *backup_read_settings(Timeline *tl, XLogRecPtr lsn, BranchSettings *settings);

/* ---- datadir.c ---- */
typedef struct DataDirDatabase
{
	Oid spc;
	Oid db; /* 0: the shared relations */
} DataDirDatabase;

typedef struct DataDirTablespace
{
	Oid oid;
	char *location; /* "" for a directory in pg_tblspc itself */
} DataDirTablespace;

typedef struct DataDirSlru
{
	PsSlru slru;
	uint32 segno;
	uint32 pages;
} DataDirSlru;

/*
 * What is in a data directory, each list in the order of its keys (key.h).
 * Contents are not read.
 */
typedef struct DataDir
{
	char *path;
	ForkSize *forks; /* of permanent relations all forks, of unlogged ones the init fork */
	size_t nforks;
	uint64 nblocks;             /* sum over forks */
	size_t nunlogged;           /* unlogged relations whose contents are left out */
	DataDirDatabase *databases; /* directories that hold a pg_filenode.map */
	size_t ndatabases;
	DataDirTablespace *tablespaces;
	size_t ntablespaces;
	DataDirSlru *slrus;
	size_t nslrus;
	TransactionId *twophase; /* names of the state files */
	size_t ntwophase;
} DataDir;

/* dir must be freed with datadir_free() after an error, too. */
extern PsError *datadir_read(const char *pgdata, DataDir *dir);
extern void datadir_free(DataDir *dir);

/* Path of a database's directory relative to the data directory; psprintf'd. */
extern char *datadir_database_path(Oid spc, Oid db);

/* Path of a fork's segment relative to the data directory; psprintf'd. */
extern char *datadir_fork_path(PsRel rel, ForkNumber fork, uint32 segno);

/* A whole small file, added to out; *found false if there is none (NULL: that is an error). */
extern PsError *datadir_read_file(const char *pgdata, const char *name, StringInfo out, bool *found);

/* Key of a settings file: CRC-32C of its name. */
extern PsKey datadir_aux_key(const char *name);

/* ---- bootstrap.c ---- */

/* A fresh cluster by initdb becomes a branch. */
extern PsError *branch_create(Store *store, const char *name, bool data_checksums, const CancelCheck *cancel,
							  const ProgressSink *progress, Timeline **tl);

/* ---- basebackup.c ---- */

/* What timeline_take_over() gave. */
typedef struct BaseBackup
{
	uint64 generation;
	WalState state;
	XLogRecPtr checkpoint_lsn;
} BaseBackup;

/*
 * Sends the data directory that the compute of a new generation starts with:
 * everything but relation files.  Its pageserver_smgr.conf names tenant,
 * timeline, generation and checkpoint; where the store is must be added by the
 * receiver.
 */
extern PsError *basebackup(Timeline *tl, const BaseBackup *base, const CancelCheck *cancel, ByteSink sink);

/*
 * Sends what basebackup() would send now, with generation 0, while a compute
 * may go on: to find out whether a start would succeed.  Changes nothing.
 */
extern PsError *basebackup_rehearsal(Timeline *tl, const CancelCheck *cancel, ByteSink sink);

/* ---- fullbackup.c ---- */

/*
 * Sends a data directory as it was at the LSN (rounded down to the end of a
 * record; InvalidXLogRecPtr: all that is ingested), which stock PostgreSQL
 * starts on by itself.  Changes nothing in the timeline.  A page of a relation
 * that is damaged is an error if "damaged" is NULL; else zeros are sent in its
 * place, and it is told there.
 */
extern PsError *fullbackup(Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, const ProgressSink *damaged, ByteSink sink);

/* ---- tarsink.c ---- */
typedef struct TarSink TarSink;

extern TarSink *tar_create(ByteSink sink);
extern void tar_free(TarSink *tar);

/* An empty directory, mode 0700; path without a slash at its end. */
extern PsError *tar_directory(TarSink *tar, const char *path);

/*
 * A file, mode 0600: tar_file_begin(), then exactly size bytes by tar_write()
 * and tar_write_zeros() in any pieces, then tar_file_end().
 */
extern PsError *tar_file_begin(TarSink *tar, const char *path, uint64 size);
extern PsError *tar_write(TarSink *tar, const char *data, size_t len);
extern PsError *tar_write_zeros(TarSink *tar, uint64 len);
extern PsError *tar_file_end(TarSink *tar);
extern PsError *tar_file(TarSink *tar, const char *path, const char *data, size_t len);

/*
 * Begins a file of which only the first "used" bytes are sent; it is size
 * bytes long with a hole at its end (GNU's format for sparse files, which tar
 * and libarchive read).
 */
extern PsError *tar_sparse_file_begin(TarSink *tar, const char *path, uint64 used, uint64 size);

/* The end of the archive; everything has been handed to the ByteSink on return. */
extern PsError *tar_finish(TarSink *tar);

/* ---- control.c ---- */

/*
 * Checks length, CRC, version and layout constants of pg_control; "what" names
 * it in errors.
 */
extern PsError *control_decode(const char *data, size_t len, const char *what, ControlFileData *control);

/* Where the control file says that the cluster was shut down cleanly; else an error that says what to do. */
extern PsError *control_check_shutdown(const ControlFileData *control, const char *pgdata);

/*
 * pg_control of a cluster that was shut down with the checkpoint record at
 * checkpoint_lsn.  "base" gives what never changes (identifiers, layout).
 */
extern void control_make(const ControlFileData *base, const WalState *state, const CheckPoint *checkpoint,
						 XLogRecPtr checkpoint_lsn, pg_time_t now, char out[PG_CONTROL_FILE_SIZE]);

/* ---- checksum.c ---- */

/* As PageSetChecksumInplace(): nothing happens to a new page. */
extern void page_set_checksum(char *page, BlockNumber blk);
extern bool page_checksum_is_right(const char *page, BlockNumber blk, uint16 *expected);
extern bool page_is_zero(const char *page);

/* ---- contents.c ---- */

/* replication/logical/origin.c has these for itself. */
#define REPLICATION_STATE_MAGIC ((uint32) 0x1257DADE)
typedef struct ReplicationStateOnDisk
{
	RepOriginId roident;
	XLogRecPtr remote_lsn;
} ReplicationStateOnDisk;

/* A backup being made: the tar, and the state of the timeline that it is of. */
typedef struct Backup
{
	Timeline *tl;
	TarSink *tar;
	const CancelCheck *cancel;
	TimelineInfo info;
	WalState state;        /* everything is read at state.end */
	CheckPoint checkpoint; /* contents of the shutdown checkpoint that the directory starts from */
	XLogRecPtr checkpoint_lsn;
	StringInfoData wal_tail; /* WAL that follows state.end in the backup but not in the timeline */
	ControlFileData control; /* as it was imported */
	BranchSettings settings;
	const char *conf;      /* postgresql.conf of these, "" if there is none */
	const char *auto_conf; /* postgresql.auto.conf, likewise */
	bool has_tablespaces;
	const ProgressSink *damaged; /* as fullbackup() has it */
	XLogRecPtr pinned;           /* until backup_end(); InvalidXLogRecPtr: none */
	DataDirDatabase *dirs;       /* of databases, that the tar has */
	size_t ndirs;
} Backup;

/*
 * Begins the backup of the state, which must be of the end of a shutdown
 * checkpoint, or checkpoint, checkpoint_lsn and wal_tail be set by the caller
 * before anything that sends.  backup_end() must follow, after an error, too.
 */
extern PsError *backup_begin(Backup *backup, Timeline *tl, const WalState *state, const CancelCheck *cancel, ByteSink sink);

/*
 * Begins a backup as of an LSN (rounded down to the end of a record;
 * InvalidXLogRecPtr: all that is acknowledged) while WAL may go on coming.  The
 * shutdown checkpoint is made for it, and is in wal_tail only.
 */
extern PsError *backup_begin_at(Backup *backup, Timeline *tl, XLogRecPtr lsn, const CancelCheck *cancel, ByteSink sink);
extern void backup_end(Backup *backup);

/*
 * Directories, PG_VERSIONs, relation maps, pg_hba.conf, pg_ident.conf and
 * postgresql.auto.conf; tells has_tablespaces.
 */
extern PsError *backup_send_skeleton(Backup *backup);

/* postgresql.conf as stored, with what a server needs to start on the state. */
extern void backup_put_conf(const Backup *backup, StringInfo out);

/* Every fork that exists (of init forks only, or of all others), ascending; free() the array. */
extern PsError *backup_list_forks(Backup *backup, bool init, ForkSize **forks, size_t *n);

/* Sends one fork of a relation under the name of the fork "as". */
extern PsError *backup_send_fork(Backup *backup, const ForkSize *fork, ForkNumber as);

/* Init forks of unlogged relations, and copies of them as main forks (ResetUnloggedRelations() made them so). */
extern PsError *backup_send_unlogged(Backup *backup, const ForkSize *init_forks, size_t n);

/* SLRUs, two-phase states, origins. */
extern PsError *backup_send_transaction_state(Backup *backup);

/* The segments that hold the shutdown checkpoint, then pg_control, which makes the directory complete: last. */
extern PsError *backup_send_wal_and_control(Backup *backup);

#endif /* PS_BACKUP_H */
