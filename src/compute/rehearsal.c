/*
 * rehearsal.c
 *	  Implements pageserver_smgr.rehearsal: a startup that ends before it has any
 *	  effect.
 *
 * Before a branch is taken over from a running compute, its successor shows that
 * it could start: the server reads its settings, loads its libraries and creates
 * its shared memory, then does here what the postmaster would do next and what can
 * fail, and exits.  It does not connect to anything and does not replay anything.
 */
#include "postgres.h"

#include "libpq/hba.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "pg_compat.h"
#include "rehearsal.h"

static pgsocket sockets[COMPAT_MAX_LISTEN];

/*
 * Listens on all addresses in a list.  As in PostmasterMain(), one that works is
 * enough; StreamServerPort() logs what is wrong with the others.
 */
static void
listen_on(const char *setting, const char *value, bool directories)
{
	char *list = pstrdup(value);
	List *names;
	ListCell *lc;
	bool ok = false;

	if (directories ? !SplitDirectoriesString(list, ',', &names) : !SplitGUCList(list, ',', &names))
		ereport(FATAL,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid list syntax in parameter \"%s\"", setting)));
	foreach (lc, names)
	{
		char *name = lfirst(lc);
		const char *host = directories || strcmp(name, "*") == 0 ? NULL : name;

		if (StreamServerPort(directories ? AF_UNIX : AF_UNSPEC, host, (unsigned short) PostPortNumber,
							 directories ? name : NULL, sockets, COMPAT_MAX_LISTEN) == STATUS_OK)
			ok = true;
	}
	if (!ok && names != NIL)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("could not listen on port %d at any address in \"%s\" (parameter \"%s\")",
						PostPortNumber, value, setting)));
}

void
rehearsal_end(void)
{
	for (int i = 0; i < COMPAT_MAX_LISTEN; i++)
		sockets[i] = PGINVALID_SOCKET;
	if (ListenAddresses != NULL)
		listen_on("listen_addresses", ListenAddresses, false);
	if (Unix_socket_directories != NULL)
		listen_on("unix_socket_directories", Unix_socket_directories, true);
	if (!load_hba())
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("could not load pg_hba.conf")));
	ereport(LOG,
			(errmsg("rehearsal succeeded: the server could start")));
	RemoveSocketFiles();
	proc_exit(0);
}
