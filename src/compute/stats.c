/*
 * stats.c
 *	  The functions behind the views pageserver_smgr_cache and
 *	  pageserver_smgr_store.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

#include "page_cache.h"
#include "page_client.h"
#include "settings.h"
#include "store_conn.h"
#include "wal_progress.h"

PG_FUNCTION_INFO_V1(pageserver_smgr_get_cache);
PG_FUNCTION_INFO_V1(pageserver_smgr_get_store);
PG_FUNCTION_INFO_V1(pageserver_smgr_clear_cache);

#define CACHE_COLUMNS     11
#define STORE_COLUMNS     23
#define STORE_COLUMNS_1_0 21

/*
 * Returns a row.  The function may have been created by an older version of the
 * extension, with old_columns instead of columns.
 */
static Datum
make_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls, int columns, int old_columns)
{
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		(desc->natts != columns && desc->natts != old_columns))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("function result type does not match the library"),
				 errhint("Run ALTER EXTENSION pageserver_smgr UPDATE.")));
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

static Datum
pages_as_bytes(uint64 pages)
{
	return Int64GetDatum((int64) (pages * BLCKSZ));
}

Datum
pageserver_smgr_get_cache(PG_FUNCTION_ARGS)
{
	PageCacheStats stats;
	Datum values[CACHE_COLUMNS];
	bool nulls[CACHE_COLUMNS] = {0};
	int i = 0;

	settings_require_compute();
	page_cache_stats(&stats);
	values[i++] = pages_as_bytes(stats.size_pages);
	nulls[i] = stats.limit_pages == PG_UINT64_MAX;
	values[i++] = pages_as_bytes(stats.limit_pages);
	values[i++] = pages_as_bytes(stats.used_pages);
	values[i++] = pages_as_bytes(stats.spilled_pages);
	values[i++] = pages_as_bytes(stats.kept_pages);
	values[i++] = Int64GetDatum((int64) stats.hits);
	values[i++] = Int64GetDatum((int64) stats.misses);
	values[i++] = Int64GetDatum((int64) stats.writes);
	values[i++] = Int64GetDatum((int64) stats.fills);
	values[i++] = Int64GetDatum((int64) stats.evictions);
	values[i++] = Int64GetDatum((int64) stats.io_errors);
	Assert(i == CACHE_COLUMNS);
	return make_row(fcinfo, values, nulls, CACHE_COLUMNS, CACHE_COLUMNS);
}

static Datum
lsn_or_null(XLogRecPtr lsn, bool *null)
{
	*null = lsn == InvalidXLogRecPtr;
	return LSNGetDatum(lsn);
}

Datum
pageserver_smgr_get_store(PG_FUNCTION_ARGS)
{
	WalWorkerState worker;
	PageClientStats client;
	XLogRecPtr end;
	Datum values[STORE_COLUMNS];
	bool nulls[STORE_COLUMNS] = {0};
	int i = 0;

	settings_require_compute();
	wal_progress_state(&worker);
	page_client_stats(&client);
	/* after the worker's state, so that a lag is not reported as smaller than it is */
	end = RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetXLogInsertRecPtr();

	values[i++] = CStringGetTextDatum(store_conn_display_address());
	values[i++] = CStringGetTextDatum(ps_tenant);
	values[i++] = CStringGetTextDatum(ps_timeline);
	values[i++] = DirectFunctionCall3(numeric_in, CStringGetDatum(psprintf(UINT64_FORMAT, ps_generation)),
									  ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	nulls[i] = worker.pid == 0;
	values[i++] = Int32GetDatum(worker.pid);
	values[i++] = BoolGetDatum(worker.connected);
	nulls[i] = !worker.connected;
	values[i++] = TimestampTzGetDatum(worker.connected_since);
	values[i] = lsn_or_null(worker.sent, &nulls[i]);
	i++;
	values[i] = lsn_or_null(worker.flushed, &nulls[i]);
	i++;
	values[i] = lsn_or_null(worker.ingested, &nulls[i]);
	i++;
	nulls[i] = worker.flushed == InvalidXLogRecPtr;
	values[i++] = Int64GetDatum((int64) (end > worker.flushed ? end - worker.flushed : 0));
	nulls[i] = worker.ingested == InvalidXLogRecPtr;
	values[i++] = Int64GetDatum((int64) (end > worker.ingested ? end - worker.ingested : 0));
	nulls[i] = worker.last_error[0] == '\0';
	values[i++] = CStringGetTextDatum(worker.last_error);
	values[i++] = Int64GetDatum((int64) client.requests);
	values[i++] = Int64GetDatum((int64) client.pages);
	values[i++] = Int64GetDatum((int64) client.prefetched);
	values[i++] = Int64GetDatum((int64) client.prefetch_hits);
	values[i++] = Int64GetDatum((int64) client.prefetch_dropped);
	values[i++] = Int64GetDatum((int64) client.reconnects);
	values[i++] = Float8GetDatum(client.wait_usec / 1000.0);
	values[i++] = Int64GetDatum((int64) ps_max_wal_lag * 1024 * 1024);
	nulls[i] = worker.waits_for[0] == '\0';
	values[i++] = CStringGetTextDatum(worker.waits_for);
	nulls[i] = worker.waits_for[0] == '\0';
	values[i++] = TimestampTzGetDatum(worker.waits_since);
	Assert(i == STORE_COLUMNS);
	return make_row(fcinfo, values, nulls, STORE_COLUMNS, STORE_COLUMNS_1_0);
}

/* For tests and measurements: makes the next reads go to the store. */
Datum
pageserver_smgr_clear_cache(PG_FUNCTION_ARGS)
{
	settings_require_compute();
	page_cache_clear();
	PG_RETURN_VOID();
}
