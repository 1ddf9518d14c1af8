/*
 * walstate.c
 *	  What a shutdown checkpoint at the end of the WAL would hold.
 *
 * Followed record by record, as redo follows it in shared memory (varsup.c,
 * multixact.c, commit_ts.c) and then writes it in the checkpoint at the end of
 * recovery.  See docs/postgres-facts.md, section 6, for what stock recovery does and where more is known
 * than it uses.
 */
#include "ps_fe.h"

#include "access/clog.h"
#include "access/commit_ts.h"
#include "access/multixact.h"
#include "access/transam.h"
#include "port/pg_crc32c.h"
#include "storage/standbydefs.h"

#include "bytes.h"
#include "sqlstate.h"
#include "pg/decoder.h"
#include "pg/walstate.h"
#include "pg/xact.h"

/*
 * Format, big-endian: magic, version, prev, end, shutdown, the fields of
 * CheckPoint in their order, last_checkpoint, settings, last_commit, from
 * version 2 on commit_end, commit_time and step_back, CRC32C of all before.
 */
#define STATE_MAGIC   0x50535753 /* "PSWS" */
#define STATE_VERSION 2

/* transam.c, TransactionIdPrecedes(): special transactions precede all others. */
static bool
xid_precedes(TransactionId a, TransactionId b)
{
	if (!TransactionIdIsNormal(a) || !TransactionIdIsNormal(b))
		return a < b;
	return (int32) (a - b) < 0;
}

/* MultiXactIdPrecedes() and MultiXactOffsetPrecedes() */
static bool
multi_precedes(uint32 a, uint32 b)
{
	return (int32) (a - b) < 0;
}

/* varsup.c, AdvanceNextFullTransactionIdPastXid() */
static void
advance_next_xid(CheckPoint *cp, TransactionId xid)
{
	TransactionId next = XidFromFullTransactionId(cp->nextXid);
	uint32 epoch = EpochFromFullTransactionId(cp->nextXid);

	if (!TransactionIdIsNormal(xid) || xid_precedes(xid, next))
		return;
	TransactionIdAdvance(xid);
	if (xid < next)
		epoch++;
	cp->nextXid = FullTransactionIdFromEpochAndXid(epoch, xid);
}

static void
advance_next_multi(CheckPoint *cp, MultiXactId multi, MultiXactOffset offset)
{
	if (multi_precedes(cp->nextMulti, multi))
		cp->nextMulti = multi;
	if (multi_precedes(cp->nextMultiOffset, offset))
		cp->nextMultiOffset = offset;
}

static void
advance_oldest_multi(CheckPoint *cp, MultiXactId multi, Oid db)
{
	if (multi_precedes(cp->oldestMulti, multi))
	{
		cp->oldestMulti = multi;
		cp->oldestMultiDB = db;
	}
}

void
wal_state_from_control(WalState *state, const ControlFileData *control, XLogRecPtr checkpoint_end)
{
	memset(state, 0, sizeof(*state));
	state->prev = control->checkPoint;
	state->end = checkpoint_end;
	state->shutdown = true;
	state->checkpoint = control->checkPointCopy;
	state->last_checkpoint = control->checkPoint;
	state->max_connections = control->MaxConnections;
	state->max_worker_processes = control->max_worker_processes;
	state->max_wal_senders = control->max_wal_senders;
	state->max_prepared_xacts = control->max_prepared_xacts;
	state->max_locks_per_xact = control->max_locks_per_xact;
	state->wal_level = control->wal_level;
	state->wal_log_hints = control->wal_log_hints;
	state->track_commit_timestamp = control->track_commit_timestamp;

	/* nothing was committed after that */
	state->last_commit = ((TimestampTz) control->checkPointCopy.time -
						  (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY) *
						 USECS_PER_SEC;
}

/* xlog.c, xlog_redo() on a checkpoint */
static void
apply_checkpoint(WalState *state, const WalRecord *rec, const CheckPoint *new, bool shutdown)
{
	CheckPoint old = state->checkpoint;
	CheckPoint *cp = &state->checkpoint;

	state->last_checkpoint = rec->start;
	*cp = *new;
	cp->fullPageWrites = wal_bool(&new->fullPageWrites);
	if (shutdown)
	{
		/* nothing can have moved on meanwhile: believe it exactly */
		state->shutdown = true;
		return;
	}

	/*
	 * The counters are those of the checkpoint's beginning, before records
	 * that came in between.  nextOid is even ahead of what is in use (it
	 * includes what was reserved by NEXTOID), so that record is kept to.
	 */
	if (FullTransactionIdPrecedes(cp->nextXid, old.nextXid))
		cp->nextXid = old.nextXid;
	cp->nextOid = old.nextOid;
	cp->nextMulti = old.nextMulti;
	cp->nextMultiOffset = old.nextMultiOffset;
	advance_next_multi(cp, new->nextMulti, new->nextMultiOffset);
	cp->oldestMulti = old.oldestMulti;
	cp->oldestMultiDB = old.oldestMultiDB;
	advance_oldest_multi(cp, new->oldestMulti, new->oldestMultiDB);
	if (!xid_precedes(old.oldestXid, new->oldestXid))
	{
		cp->oldestXid = old.oldestXid;
		cp->oldestXidDB = old.oldestXidDB;
	}
	cp->oldestCommitTsXid = old.oldestCommitTsXid;
	cp->newestCommitTsXid = old.newestCommitTsXid;
}

/* xlog.c, xlog_redo() */
static PsError *
apply_xlog(WalState *state, const WalRecord *rec, const WalParsed *parsed)
{
	uint8 info = parsed->header->xl_info & ~XLR_INFO_MASK;
	CheckPoint *cp = &state->checkpoint;

	switch (info)
	{
		case XLOG_CHECKPOINT_SHUTDOWN:
		case XLOG_CHECKPOINT_ONLINE:
		{
			CheckPoint new;

			PS_TRY(wal_get_struct(rec, parsed, &new, sizeof(new)));
			apply_checkpoint(state, rec, &new, info == XLOG_CHECKPOINT_SHUTDOWN);
			return NULL;
		}

		case XLOG_NEXTOID:
			return wal_get_struct(rec, parsed, &cp->nextOid, sizeof(Oid));

		case XLOG_FPW_CHANGE:
		{
			bool full_page_writes;

			PS_TRY(wal_get_struct(rec, parsed, &full_page_writes, sizeof(bool)));
			cp->fullPageWrites = wal_bool(&full_page_writes);
			return NULL;
		}

		case XLOG_PARAMETER_CHANGE:
		{
			xl_parameter_change change;

			PS_TRY(wal_get_struct(rec, parsed, &change, sizeof(change)));
			state->max_connections = change.MaxConnections;
			state->max_worker_processes = change.max_worker_processes;
			state->max_wal_senders = change.max_wal_senders;
			state->max_prepared_xacts = change.max_prepared_xacts;
			state->max_locks_per_xact = change.max_locks_per_xact;
			state->wal_level = change.wal_level;
			state->wal_log_hints = wal_bool(&change.wal_log_hints);
			state->track_commit_timestamp = wal_bool(&change.track_commit_timestamp);

			/* commit_ts.c, ActivateCommitTs() and DeactivateCommitTs() */
			if (!state->track_commit_timestamp)
				cp->oldestCommitTsXid = cp->newestCommitTsXid = InvalidTransactionId;
			else if (cp->oldestCommitTsXid == InvalidTransactionId)
				cp->oldestCommitTsXid = cp->newestCommitTsXid = XidFromFullTransactionId(cp->nextXid);
			return NULL;
		}
	}
	return NULL;
}

static void
advance_past_xact(CheckPoint *cp, const XactRecord *xact)
{
	advance_next_xid(cp, xact->xid);
	for (uint32 i = 0; i < xact->nsubxacts; i++)
		advance_next_xid(cp, xact_subxid(xact, i));
}

static PsError *
apply_xact(WalState *state, const WalRecord *rec, const WalParsed *parsed)
{
	CheckPoint *cp = &state->checkpoint;
	XactRecord xact;
	xl_xact_assignment assignment;

	switch (parsed->header->xl_info & XLOG_XACT_OPMASK)
	{
		case XLOG_XACT_COMMIT:
		case XLOG_XACT_COMMIT_PREPARED:
		case XLOG_XACT_ABORT:
		case XLOG_XACT_ABORT_PREPARED:
			PS_TRY(xact_parse(rec, parsed, &xact));
			advance_past_xact(cp, &xact);
			if (xact.time < state->last_commit - WAL_STATE_STEP_BACK)
				state->step_back = rec->end;
			state->last_commit = Max(state->last_commit, xact.time);
			state->commit_end = rec->end;
			state->commit_time = xact.time;
			/* commit_ts.c, TransactionTreeSetCommitTsData() */
			if (xact.commit && state->track_commit_timestamp)
			{
				TransactionId newest = xact.nsubxacts > 0 ? xact_subxid(&xact, xact.nsubxacts - 1) : xact.xid;

				if (xid_precedes(cp->newestCommitTsXid, newest))
					cp->newestCommitTsXid = newest;
			}
			return NULL;

		case XLOG_XACT_PREPARE:
			PS_TRY(xact_parse_prepare(rec, parsed, &xact));
			advance_past_xact(cp, &xact);
			return NULL;

		case XLOG_XACT_ASSIGNMENT:
			PS_TRY(wal_get_struct(rec, parsed, &assignment, MinSizeOfXactAssignment));
			if (assignment.nsubxacts < 0 ||
				parsed->main_data_len < MinSizeOfXactAssignment + (uint64) assignment.nsubxacts * sizeof(TransactionId))
				return wal_bad_contents(rec, "%d subtransactions in %u bytes", assignment.nsubxacts,
										parsed->main_data_len);
			xact = (XactRecord) {.xid = assignment.xtop,
								 .nsubxacts = assignment.nsubxacts,
								 .subxacts = parsed->main_data + MinSizeOfXactAssignment};
			advance_past_xact(cp, &xact);
			return NULL;
	}
	return NULL;
}

/* multixact.c, multixact_redo() */
static PsError *
apply_multixact(WalState *state, const WalRecord *rec, const WalParsed *parsed)
{
	CheckPoint *cp = &state->checkpoint;
	xl_multixact_create create;
	xl_multixact_truncate trunc;

	switch (parsed->header->xl_info & ~XLR_INFO_MASK)
	{
		case XLOG_MULTIXACT_CREATE_ID:
			PS_TRY(wal_get_struct(rec, parsed, &create, SizeOfMultiXactCreate));
			if (create.nmembers < 0 ||
				parsed->main_data_len < SizeOfMultiXactCreate + (uint64) create.nmembers * sizeof(MultiXactMember))
				return wal_bad_contents(rec, "multixact of %d members in %u bytes", create.nmembers,
										parsed->main_data_len);
			advance_next_multi(cp, create.mid + 1, create.moff + create.nmembers);
			for (int32 i = 0; i < create.nmembers; i++)
			{
				MultiXactMember member;

				memcpy(&member, parsed->main_data + SizeOfMultiXactCreate + i * sizeof(member), sizeof(member));
				advance_next_xid(cp, member.xid);
			}
			return NULL;

		case XLOG_MULTIXACT_TRUNCATE_ID:
			PS_TRY(wal_get_struct(rec, parsed, &trunc, SizeOfMultiXactTruncate));
			cp->oldestMulti = trunc.endTruncOff;
			cp->oldestMultiDB = trunc.oldestMultiDB;
			return NULL;
	}
	return NULL;
}

PsError *
wal_state_apply(WalState *state, const WalRecord *rec, const WalParsed *parsed)
{
	WalState new = *state;
	CheckPoint *cp = &new.checkpoint;
	uint8 info = parsed->header->xl_info & ~XLR_INFO_MASK;

	new.shutdown = false;
	advance_next_xid(cp, parsed->header->xl_xid);
	switch (parsed->header->xl_rmid)
	{
		case RM_XLOG_ID:
			PS_TRY(apply_xlog(&new, rec, parsed));
			break;
		case RM_XACT_ID:
			PS_TRY(apply_xact(&new, rec, parsed));
			break;
		case RM_MULTIXACT_ID:
			PS_TRY(apply_multixact(&new, rec, parsed));
			break;

		case RM_CLOG_ID:
			if (info == CLOG_TRUNCATE)
			{
				xl_clog_truncate trunc;

				/* older ones are truncated: the limit that vac_truncate_clog() sets right after this record */
				PS_TRY(wal_get_struct(rec, parsed, &trunc, sizeof(trunc)));
				if (xid_precedes(cp->oldestXid, trunc.oldestXact))
				{
					cp->oldestXid = trunc.oldestXact;
					cp->oldestXidDB = trunc.oldestXactDb;
				}
			}
			break;

		case RM_COMMIT_TS_ID:
			if (info == COMMIT_TS_TRUNCATE)
			{
				xl_commit_ts_truncate trunc;

				/* AdvanceOldestCommitTsXid() */
				PS_TRY(wal_get_struct(rec, parsed, &trunc, SizeOfCommitTsTruncate));
				if (cp->oldestCommitTsXid != InvalidTransactionId &&
					xid_precedes(cp->oldestCommitTsXid, trunc.oldestXid))
					cp->oldestCommitTsXid = trunc.oldestXid;
			}
			break;

		case RM_STANDBY_ID:
			if (info == XLOG_RUNNING_XACTS)
			{
				xl_running_xacts running;

				/* transactions that have an xid but wrote nothing yet */
				PS_TRY(wal_get_struct(rec, parsed, &running, offsetof(xl_running_xacts, xids)));
				TransactionIdRetreat(running.nextXid);
				advance_next_xid(cp, running.nextXid);
			}
			break;
	}
	new.prev = rec->start;
	new.end = rec->end;
	*state = new;
	return NULL;
}

static void
put8(StringInfo out, uint8 v)
{
	appendStringInfoChar(out, v);
}

static void
put32(StringInfo out, uint32 v)
{
	char buf[4];

	ps_put32(buf, v);
	appendBinaryStringInfo(out, buf, sizeof(buf));
}

static void
put64(StringInfo out, uint64 v)
{
	char buf[8];

	ps_put64(buf, v);
	appendBinaryStringInfo(out, buf, sizeof(buf));
}

static uint8
get8(const char **p)
{
	return *(*p)++;
}

static uint32
get32(const char **p)
{
	*p += 4;
	return ps_get32(*p - 4);
}

static uint64
get64(const char **p)
{
	*p += 8;
	return ps_get64(*p - 8);
}

static pg_crc32c
crc_of(const char *data, size_t len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

void
wal_state_encode(const WalState *state, StringInfo out)
{
	const CheckPoint *cp = &state->checkpoint;
	int start = out->len;

	put32(out, STATE_MAGIC);
	put32(out, STATE_VERSION);
	put64(out, state->prev);
	put64(out, state->end);
	put8(out, state->shutdown);
	put64(out, cp->redo);
	put32(out, cp->ThisTimeLineID);
	put32(out, cp->PrevTimeLineID);
	put8(out, cp->fullPageWrites);
	put64(out, U64FromFullTransactionId(cp->nextXid));
	put32(out, cp->nextOid);
	put32(out, cp->nextMulti);
	put32(out, cp->nextMultiOffset);
	put32(out, cp->oldestXid);
	put32(out, cp->oldestXidDB);
	put32(out, cp->oldestMulti);
	put32(out, cp->oldestMultiDB);
	put64(out, cp->time);
	put32(out, cp->oldestCommitTsXid);
	put32(out, cp->newestCommitTsXid);
	put32(out, cp->oldestActiveXid);
	put64(out, state->last_checkpoint);
	put32(out, state->max_connections);
	put32(out, state->max_worker_processes);
	put32(out, state->max_wal_senders);
	put32(out, state->max_prepared_xacts);
	put32(out, state->max_locks_per_xact);
	put32(out, state->wal_level);
	put8(out, state->wal_log_hints);
	put8(out, state->track_commit_timestamp);
	put64(out, state->last_commit);
	put64(out, state->commit_end);
	put64(out, state->commit_time);
	put64(out, state->step_back);
	put32(out, crc_of(out->data + start, out->len - start));
}

/* Length of what wal_state_encode() makes, and made in version 1. */
#define STATE_SIZE_1 (4 + 4 + 8 + 8 + 1 + (8 + 4 + 4 + 1 + 8 + 7 * 4 + 8 + 3 * 4) + 8 + 6 * 4 + 1 + 1 + 8 + 4)
#define STATE_SIZE   (STATE_SIZE_1 + 3 * 8)

PsError *
wal_state_decode(const char *data, size_t len, WalState *state)
{
	const char *p = data;
	WalState new = {0};
	CheckPoint *cp = &new.checkpoint;
	uint32 version;
	int size;

	if (len < 8 || get32(&p) != STATE_MAGIC)
		return ps_error(PS_SQLSTATE_CORRUPTED, "saved WAL state of %zu bytes has no magic number", len);
	version = get32(&p);
	if (version != 1 && version != STATE_VERSION)
		return ps_error(PS_SQLSTATE_CORRUPTED, "saved WAL state has format version %u, expected %u or 1", version,
						STATE_VERSION);
	size = version == 1 ? STATE_SIZE_1 : STATE_SIZE;
	if (len != size)
		return ps_error(PS_SQLSTATE_CORRUPTED, "saved WAL state has %zu bytes, expected %d", len, size);
	if (ps_get32(data + size - 4) != crc_of(data, size - 4))
		return ps_error(PS_SQLSTATE_CORRUPTED, "saved WAL state has a wrong checksum");

	new.prev = get64(&p);
	new.end = get64(&p);
	new.shutdown = get8(&p) != 0;
	cp->redo = get64(&p);
	cp->ThisTimeLineID = get32(&p);
	cp->PrevTimeLineID = get32(&p);
	cp->fullPageWrites = get8(&p) != 0;
	cp->nextXid = FullTransactionIdFromU64(get64(&p));
	cp->nextOid = get32(&p);
	cp->nextMulti = get32(&p);
	cp->nextMultiOffset = get32(&p);
	cp->oldestXid = get32(&p);
	cp->oldestXidDB = get32(&p);
	cp->oldestMulti = get32(&p);
	cp->oldestMultiDB = get32(&p);
	cp->time = get64(&p);
	cp->oldestCommitTsXid = get32(&p);
	cp->newestCommitTsXid = get32(&p);
	cp->oldestActiveXid = get32(&p);
	new.last_checkpoint = get64(&p);
	new.max_connections = get32(&p);
	new.max_worker_processes = get32(&p);
	new.max_wal_senders = get32(&p);
	new.max_prepared_xacts = get32(&p);
	new.max_locks_per_xact = get32(&p);
	new.wal_level = get32(&p);
	new.wal_log_hints = get8(&p) != 0;
	new.track_commit_timestamp = get8(&p) != 0;
	new.last_commit = get64(&p);
	if (version > 1)
	{
		new.commit_end = get64(&p);
		new.commit_time = get64(&p);
		new.step_back = get64(&p);
	}
	*state = new;
	return NULL;
}

/* Like AdvanceXLInsertBuffer() in xlog.c. */
void
wal_append_page_header(StringInfo out, XLogRecPtr page, uint32 rem_len, uint64 system_identifier, uint32 segment_size)
{
	bool is_long = XLogSegmentOffset(page, segment_size) == 0;
	XLogLongPageHeaderData hdr = {0};

	hdr.std.xlp_magic = XLOG_PAGE_MAGIC;
	hdr.std.xlp_info = XLP_BKP_REMOVABLE;
	if (is_long)
		hdr.std.xlp_info |= XLP_LONG_HEADER;
	if (rem_len > 0)
		hdr.std.xlp_info |= XLP_FIRST_IS_CONTRECORD;
	hdr.std.xlp_tli = 1;
	hdr.std.xlp_pageaddr = page;
	hdr.std.xlp_rem_len = rem_len;
	hdr.xlp_sysid = system_identifier;
	hdr.xlp_seg_size = segment_size;
	hdr.xlp_xlog_blcksz = XLOG_BLCKSZ;
	appendBinaryStringInfo(out, (char *) &hdr, is_long ? SizeOfXLogLongPHD : SizeOfXLogShortPHD);
}

void
wal_make_shutdown_checkpoint(const WalState *state, uint64 system_identifier, uint32 segment_size, pg_time_t now,
							 StringInfo bytes, CheckPoint *checkpoint, XLogRecPtr *start, XLogRecPtr *end)
{
	char record[SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort + sizeof(CheckPoint)] = {0};
	XLogRecord hdr = {0};
	pg_crc32c crc;
	XLogRecPtr pos = state->end;
	uint32 done = 0;

	*start = wal_record_start_after(state->end, segment_size);
	/* copied as a whole, so that its padding is zero too */
	memset(checkpoint, 0, sizeof(*checkpoint));
	checkpoint->redo = *start;
	checkpoint->ThisTimeLineID = 1;
	checkpoint->PrevTimeLineID = 1;
	checkpoint->fullPageWrites = state->checkpoint.fullPageWrites;
	checkpoint->nextXid = state->checkpoint.nextXid;
	checkpoint->nextOid = state->checkpoint.nextOid;
	checkpoint->nextMulti = state->checkpoint.nextMulti;
	checkpoint->nextMultiOffset = state->checkpoint.nextMultiOffset;
	checkpoint->oldestXid = state->checkpoint.oldestXid;
	checkpoint->oldestXidDB = state->checkpoint.oldestXidDB;
	checkpoint->oldestMulti = state->checkpoint.oldestMulti;
	checkpoint->oldestMultiDB = state->checkpoint.oldestMultiDB;
	checkpoint->time = now;
	checkpoint->oldestCommitTsXid = state->checkpoint.oldestCommitTsXid;
	checkpoint->newestCommitTsXid = state->checkpoint.newestCommitTsXid;
	checkpoint->oldestActiveXid = InvalidTransactionId;

	/* xloginsert.c, XLogRecordAssemble() */
	record[SizeOfXLogRecord] = (char) XLR_BLOCK_ID_DATA_SHORT;
	record[SizeOfXLogRecord + 1] = sizeof(CheckPoint);
	memcpy(record + SizeOfXLogRecord + SizeOfXLogRecordDataHeaderShort, checkpoint, sizeof(CheckPoint));
	hdr.xl_tot_len = sizeof(record);
	hdr.xl_prev = state->prev;
	hdr.xl_info = XLOG_CHECKPOINT_SHUTDOWN;
	hdr.xl_rmid = RM_XLOG_ID;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, record + SizeOfXLogRecord, sizeof(record) - SizeOfXLogRecord);
	COMP_CRC32C(crc, &hdr, offsetof(XLogRecord, xl_crc));
	FIN_CRC32C(crc);
	hdr.xl_crc = crc;
	memcpy(record, &hdr, SizeOfXLogRecord);

	while (done < sizeof(record))
	{
		uint32 n;

		if (pos % XLOG_BLCKSZ == 0)
		{
			wal_append_page_header(bytes, pos, done == 0 ? 0 : sizeof(record) - done, system_identifier, segment_size);
			pos = wal_record_start_after(pos, segment_size);
		}
		n = Min(sizeof(record) - done, XLOG_BLCKSZ - pos % XLOG_BLCKSZ);
		appendBinaryStringInfo(bytes, record + done, n);
		done += n;
		pos += n;
	}
	*end = MAXALIGN64(pos);
	appendStringInfoSpaces(bytes, *end - pos);
	memset(bytes->data + bytes->len - (*end - pos), 0, *end - pos);
}
