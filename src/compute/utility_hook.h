/*
 * utility_hook.h
 *	  For files that install a ProcessUtility_hook.
 */
#ifndef PS_UTILITY_HOOK_H
#define PS_UTILITY_HOOK_H

#include "tcop/utility.h"

/* Calls the hook that was installed before, or executes the command. */
static inline void
utility_hook_next(ProcessUtility_hook_type next, PlannedStmt *pstmt, const char *queryString, bool readOnlyTree,
				  ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *queryEnv,
				  DestReceiver *dest, QueryCompletion *qc)
{
	if (next)
		next(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
	else
		standard_ProcessUtility(pstmt, queryString, readOnlyTree, context, params, queryEnv, dest, qc);
}

#endif /* PS_UTILITY_HOOK_H */
