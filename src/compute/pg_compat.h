/*
 * pg_compat.h
 *	  What the compute uses of PostgreSQL that differs between major versions:
 *	  names, signatures, and copies of structures that no header declares.
 *
 * It supports PostgreSQL 15 only.  A port to another version adds its variants
 * here and in these files, which are written for 15 as a whole:
 *
 *	common/compat_rel.h		the identity of relations
 *	common/smgr_table.[ch]	the table of storage managers
 *	smgr_hook.c, smgr.[ch]	our table, and the functions in it
 *	persistence.c			how a relation's persistence is found out
 *	replication.c			signature of do_pg_backup_start()
 *	rehearsal.c				what the postmaster does at startup
 *	database_commands.c		what createdb() and movedb() lock and check
 *
 * Include after postgres.h.
 */
#ifndef PS_PG_COMPAT_H
#define PS_PG_COMPAT_H

#include "access/nbtree.h"
#include "access/transam.h"
#include "access/xloginsert.h"
#include "miscadmin.h"
#include "postmaster/bgworker_internals.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "storage/buf_internals.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/reinit.h"
#include "storage/smgr.h"
#include "utils/acl.h"
#include "utils/guc_tables.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relmapper.h"

#include "compat_rel.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "pg_compat.h supports PostgreSQL 15 only"
#endif

/* ---- relations ---- */

/* For relations that are not temporary.  InvalidBackendId is INVALID_PROC_NUMBER since 17. */
static inline SMgrRelation
compat_smgropen(PsRel rel)
{
	return smgropen(compat_node(rel), InvalidBackendId);
}

/* palloc'd.  GetRelationPath() returns a struct since 18. */
static inline char *
compat_relation_path(PsRel rel, ForkNumber fork)
{
	return GetRelationPath(rel.db, rel.spc, rel.rel, InvalidBackendId, fork);
}

static inline Buffer
compat_read_buffer(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	return ReadBufferWithoutRelcache(compat_node(rel), fork, blk, RBM_NORMAL, NULL, true);
}

static inline XLogRecPtr
compat_log_newpage(PsRel rel, ForkNumber fork, BlockNumber blk, Page page, bool page_std)
{
	RelFileNode node = compat_node(rel);

	return log_newpage(&node, fork, blk, page, page_std);
}

static inline void
compat_init_buffer_tag(BufferTag *tag, PsRel rel, ForkNumber fork, BlockNumber blk)
{
	INIT_BUFFERTAG(*tag, compat_node(rel), fork, blk);
}

static inline Oid
compat_mapped_file_number(Oid relid)
{
	return RelationMapOidToFilenode(relid, false);
}

/* Is it the name of a file of a relation that is not temporary? */
static inline bool
compat_parse_file_name(const char *name, Oid *rel, ForkNumber *fork)
{
	int digits;

	if (!parse_filename_for_nontemp_relation(name, &digits, fork))
		return false;
	*rel = (Oid) strtoul(name, NULL, 10);
	return true;
}

/* The relcache entry that an SMgrRelation belongs to, or NULL.  17 has no smgr_owner: another way must be found. */
static inline Relation
compat_relation_of_smgr(SMgrRelation reln)
{
	if (reln->smgr_owner == NULL)
		return NULL;
	return (Relation) ((char *) reln->smgr_owner - offsetof(RelationData, rd_smgr));
}

/* ---- processes ---- */

/* Has this process a backend ID, which is an index into the arrays of multixact.c and others? */
static inline bool
compat_has_backend_id(void)
{
	return MyBackendId != InvalidBackendId;
}

static inline int
compat_proc_number(const PGPROC *proc)
{
	return proc->pgprocno;
}

static inline LocalTransactionId
compat_local_xid(const PGPROC *proc)
{
	return proc->lxid;
}

static inline Oid
compat_next_oid(void)
{
	return ShmemVariableCache->nextOid;
}

static inline bool
compat_bgworker_is_registered(const char *name)
{
	slist_iter iter;

	slist_foreach (iter, &BackgroundWorkerList)
		if (strcmp(slist_container(RegisteredBgWorker, rw_lnode, iter.cur)->rw_worker.bgw_name, name) == 0)
			return true;
	return false;
}

static inline WaitEventSet *
compat_create_wait_event_set(int nevents)
{
	return CreateWaitEventSet(TopMemoryContext, nevents);
}

/* Cleanup after an error in a process without transactions.  Since 17 the resource owner does it. */
static inline void
compat_abort_buffer_io(void)
{
	AbortBufferIO();
}

/* ---- walsenders and slots ---- */

/* Is one of max_wal_senders unused? */
static inline bool
compat_walsender_is_free(void)
{
	return ProcGlobal->walsenderFreeProcs != NULL;
}

/* Does this PGPROC belong to those reserved for walsenders? */
static inline bool
compat_proc_is_walsender(const PGPROC *proc)
{
	return proc->procgloballist == &ProcGlobal->walsenderFreeProcs;
}

/*
 * Wakes the WAL worker, which has a walsender's slot.  In 15 XLogFlush() wakes
 * walsenders by their latch; since 16 by a condition variable, for which the
 * worker then has to prepare before it looks for new WAL.
 */
static inline void
compat_wake_walsenders(void)
{
	WalSndWakeup();
}

static inline void
compat_create_slot(const char *name)
{
	ReplicationSlotCreate(name, false, RS_PERSISTENT, false);
}

static inline void
compat_acquire_slot(const char *name)
{
	ReplicationSlotAcquire(name, true);
}

/* ---- settings ---- */

/* NULL if there is no such setting. */
static inline struct config_generic *
compat_find_setting(const char *name)
{
	struct config_generic **settings = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
		if (strcmp(settings[i]->name, name) == 0)
			return settings[i];
	return NULL;
}

/* Memory for the "extra" of a check hook; NULL if there is none.  Must be from guc_malloc() since 16. */
static inline void *
compat_guc_malloc(size_t size)
{
	return malloc(size);
}

/* ---- permissions: object_ownercheck(), object_aclcheck() since 16 ---- */

static inline bool
compat_is_database_owner(Oid db)
{
	return pg_database_ownercheck(db, GetUserId());
}

static inline AclResult
compat_database_aclcheck(Oid db, AclMode mode)
{
	return pg_database_aclcheck(db, GetUserId(), mode);
}

static inline AclResult
compat_tablespace_aclcheck(Oid spc, AclMode mode)
{
	return pg_tablespace_aclcheck(spc, GetUserId(), mode);
}

/* ---- copies of what PostgreSQL declares in .c files ---- */

/* SEQ_MAGIC of commands/sequence.c: the first word of a sequence page's special space. */
#define COMPAT_SEQUENCE_MAGIC 0x1717

/* BTVacInfo of access/nbtree/nbtutils.c: the VACUUMs that scan B-trees now.  Protected by BtreeVacuumLock. */
typedef struct CompatBtreeVacuums
{
	BTCycleId cycle_ctr;
	int num_vacuums;
	int max_vacuums;
	struct
	{
		LockRelId relid;
		BTCycleId cycleid;
	} vacuums[FLEXIBLE_ARRAY_MEMBER];
} CompatBtreeVacuums;

/* MAXLISTEN of postmaster/postmaster.c */
#define COMPAT_MAX_LISTEN 64

/* Does the page, which is block 0 of a main fork and not new, belong to a sequence? */
static inline bool
compat_is_sequence_page(const char *page)
{
	PageHeader header = (PageHeader) page;

	return BLCKSZ - header->pd_special == MAXALIGN(sizeof(uint32)) &&
		   *(const uint32 *) (page + header->pd_special) == COMPAT_SEQUENCE_MAGIC;
}

#endif /* PS_PG_COMPAT_H */
