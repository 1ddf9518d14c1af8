/*
 * direct_calls.c
 *	  Calls SQL functions of PostgreSQL from C as extensions do: by name, not
 *	  through the function manager.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(start_in_c);
PG_FUNCTION_INFO_V1(relation_size_in_c);
PG_FUNCTION_INFO_V1(table_size_in_c);
PG_FUNCTION_INFO_V1(indexes_size_in_c);
PG_FUNCTION_INFO_V1(total_relation_size_in_c);
PG_FUNCTION_INFO_V1(database_size_in_c);
PG_FUNCTION_INFO_V1(database_size_name_in_c);
PG_FUNCTION_INFO_V1(tablespace_size_in_c);
PG_FUNCTION_INFO_V1(tablespace_size_name_in_c);

#define SAME_IN_C1(name, function)                                \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                     \
	Datum                                                         \
	name(PG_FUNCTION_ARGS)                                        \
	{                                                             \
		return DirectFunctionCall1(function, PG_GETARG_DATUM(0)); \
	}

#define SAME_IN_C2(name, function)                                                    \
	PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                                         \
	Datum                                                                             \
	name(PG_FUNCTION_ARGS)                                                            \
	{                                                                                 \
		return DirectFunctionCall2(function, PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)); \
	}

SAME_IN_C2(start_in_c, pg_backup_start)
SAME_IN_C2(relation_size_in_c, pg_relation_size)
SAME_IN_C1(table_size_in_c, pg_table_size)
SAME_IN_C1(indexes_size_in_c, pg_indexes_size)
SAME_IN_C1(total_relation_size_in_c, pg_total_relation_size)
SAME_IN_C1(database_size_in_c, pg_database_size_oid)
SAME_IN_C1(database_size_name_in_c, pg_database_size_name)
SAME_IN_C1(tablespace_size_in_c, pg_tablespace_size_oid)
SAME_IN_C1(tablespace_size_name_in_c, pg_tablespace_size_name)
