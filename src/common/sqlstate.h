/*
 * sqlstate.h
 *	  The SQLSTATEs of the store's errors: one list.
 *
 * What a client does about an error follows from the list: whether the store
 * itself tries again (ps_error_is_transient()), whether a compute that opens a
 * page stream or a WAL stream tries again (page_client_outage.c), and the exit code
 * of pageserver_ctl (EXIT_* in ctl.h).  test/unit/t_sqlstates.c and
 * test/t/181_sqlstates.pl provoke each of them.
 */
#ifndef PS_SQLSTATE_H
#define PS_SQLSTATE_H

/*
 * X(name, code, the store tries again, a compute tries again, exit code of pageserver_ctl)
 *
 * A code that is not in the list comes from a program between client and store,
 * such as a connection pooler, or from a newer store.  It is treated as the first
 * one of its class (its first two characters) in the list.
 */
#define PS_SQLSTATES(X)                                                                                            \
	/* A newer compute owns the branch.  Made by the timeline and by takeover; the compute that gets it stops. */  \
	X(SUPERSEDED, "PS001", false, false, REFUSED)                                                                  \
	/* There is no such tenant, branch or timeline, or it was deleted.  A compute that was served before stops. */ \
	X(NOT_FOUND, "PS002", false, true, NOT_FOUND)                                                                  \
	/* The store is starting or stopping, a tenant is detached, WAL has not arrived yet. */                        \
	X(TRY_AGAIN, "PS003", true, true, UNREACHABLE)                                                                 \
	/* A path that the client named means something else on the store's machine (import). */                       \
	X(ELSEWHERE, "PS004", false, false, FAILURE)                                                                   \
	/* Another store has taken over the tenant, in object storage.  A compute may find it there. */                \
	X(FENCED, "PS005", false, true, REFUSED)                                                                       \
	/* The connection failed or was closed.  Made by both ends; the peer never receives it. */                     \
	X(CONNECTION, "08006", false, true, UNREACHABLE)                                                               \
	/* A message that breaks the protocol, or is not allowed now. */                                               \
	X(PROTOCOL, "08P01", false, true, UNREACHABLE)                                                                 \
	/* The client asked for a part of PostgreSQL's protocol that the store does not have. */                       \
	X(UNSUPPORTED, "0A000", false, false, FAILURE)                                                                 \
	/* An argument of a command, a setting or a path is not valid. */                                              \
	X(INVALID, "22023", false, false, FAILURE)                                                                     \
	/* Done or not: only the next start of the store will show.  A sync failed after a rename. */                  \
	X(UNKNOWN, "40003", false, false, FAILURE)                                                                     \
	/* A command's syntax. */                                                                                      \
	X(SYNTAX, "42601", false, false, FAILURE)                                                                      \
	/* There is a branch or tenant of that name or id already. */                                                  \
	X(EXISTS, "42710", false, false, EXISTS)                                                                       \
	/* No file descriptors. */                                                                                     \
	X(NO_RESOURCES, "53000", true, true, FAILURE)                                                                  \
	/* The disk or a quota is full, or less is free than min_free_space. */                                        \
	X(DISK_FULL, "53100", true, true, FAILURE)                                                                     \
	/* No memory for a large buffer, or no thread.  Running out of memory otherwise ends the program. */           \
	X(OUT_OF_MEMORY, "53200", true, true, FAILURE)                                                                 \
	/* No page stream or no connection is left. */                                                                 \
	X(TOO_MANY_CONNECTIONS, "53300", false, true, UNREACHABLE)                                                     \
	/* The state of the branch, tenant, store or file does not allow it. */                                        \
	X(STATE, "55000", false, false, REFUSED)                                                                       \
	/* The client canceled the command, or the store stopped in it. */                                             \
	X(CANCELED, "57014", true, true, FAILURE)                                                                      \
	/* An idle page stream whose place is needed: connect again when there is something to ask. */                 \
	X(RECALLED, "57P05", false, true, UNREACHABLE)                                                                 \
	/* A file operation failed, except for want of memory, descriptors or space. */                                \
	X(IO, "58030", false, true, FAILURE)                                                                           \
	/* A redo helper failed, or a condition that should not occur. */                                              \
	X(INTERNAL, "XX000", false, false, FAILURE)                                                                    \
	/* A file, a WAL record or a page is damaged. */                                                               \
	X(CORRUPTED, "XX001", false, false, DAMAGED)

/* PS_SQLSTATE_SUPERSEDED and so on, the code as a string. */
#define PS_SQLSTATE_DEFINE(name, code, store, compute, exit_code) \
	static const char PS_SQLSTATE_##name[6] pg_attribute_unused() = code;
PS_SQLSTATES(PS_SQLSTATE_DEFINE)
#undef PS_SQLSTATE_DEFINE

/* Of messages that are not errors. */
#define PS_SQLSTATE_NOTICE  "00000"
#define PS_SQLSTATE_WARNING "01000"

/* Place of a code in the list, or of the first one of its class; -1: there is neither. */
static inline int
ps_sqlstate_find(const char *code)
{
#define PS_SQLSTATE_CODE(name, code, store, compute, exit_code) code,
	static const char codes[][6] = {PS_SQLSTATES(PS_SQLSTATE_CODE)};
#undef PS_SQLSTATE_CODE
	int found = -1;

	for (int i = 0; i < lengthof(codes); i++)
	{
		if (strcmp(codes[i], code) == 0)
			return i;
		if (found < 0 && strncmp(codes[i], code, 2) == 0)
			found = i;
	}
	return found;
}

/* Is it worth another attempt by the store, with nothing repaired? */
static inline bool
ps_sqlstate_store_retries(const char *code)
{
#define PS_SQLSTATE_STORE(name, code, store, compute, exit_code) store,
	static const bool retries[] = {PS_SQLSTATES(PS_SQLSTATE_STORE)};
#undef PS_SQLSTATE_STORE
	int i = ps_sqlstate_find(code);

	return i >= 0 && retries[i];
}

/* Does a compute whose page stream or WAL stream ended with this connect again? */
static inline bool
ps_sqlstate_compute_retries(const char *code)
{
#define PS_SQLSTATE_COMPUTE(name, code, store, compute, exit_code) compute,
	static const bool retries[] = {PS_SQLSTATES(PS_SQLSTATE_COMPUTE)};
#undef PS_SQLSTATE_COMPUTE
	int i = ps_sqlstate_find(code);

	return i >= 0 && retries[i];
}

#endif /* PS_SQLSTATE_H */
