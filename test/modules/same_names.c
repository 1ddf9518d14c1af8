/*
 * same_names.c
 *	  Another library in a compute, loaded before pageserver_smgr, some of whose
 *	  functions and variables happen to have the same names.
 */
#include "postgres.h"

#include "fmgr.h"

PG_MODULE_MAGIC;

#define NOT_FOR_YOU(name)   \
	extern void name(void); \
	void name(void)         \
	{                       \
		abort();            \
	}

NOT_FOR_YOU(hooks_install)
NOT_FOR_YOU(lsn_cache_get)
NOT_FOR_YOU(page_cache_read)
NOT_FOR_YOU(ps_read)
NOT_FOR_YOU(settings_init)
NOT_FOR_YOU(store_conn_open)

void *wal_progress;
