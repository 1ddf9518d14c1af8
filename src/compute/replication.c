/*
 * replication.c
 *	  What a compute does not give away: base backups, which would be empty, for
 *	  its relations are in the store, and its WAL to physical standbys, which may
 *	  not go anywhere before the store has it.
 *
 * Connections that can do nothing else are refused.  Those of a database
 * (replication=database) are for logical replication, but physical commands
 * work on them as well: these are refused when they come so far.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "libpq/auth.h"
#include "libpq/libpq.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "replication/walsender.h"
#include "storage/proc.h"

#include "functions.h"
#include "pg_compat.h"
#include "replication.h"

#define BACKUP_HINT "To get a plain data directory, use \"pageserver_ctl export\"; to keep a state that can be gone back to, \"pageserver_ctl branch create\"."

static ClientAuthentication_hook_type prev_ClientAuthentication;
static const PQcommMethods *socket_methods;
static PQcommMethods walsender_methods;

/*
 * In place of do_pg_backup_start(), with which pg_backup_start() and BASE_BACKUP
 * begin, so that tools for backups fail before they have copied anything.
 */
static XLogRecPtr
refuse_backup(const char *backupidstr, bool fast, TimeLineID *starttli_p,
			  StringInfo labelfile, List **tablespaces, StringInfo tblspcmapfile)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot take a base backup of a compute"),
			 errdetail("Its relations are in the page store, and their files in the data directory are empty."),
			 errhint(BACKUP_HINT)));
	return InvalidXLogRecPtr;
}

/*
 * In place of the function that sends a message to the client.  Before
 * START_REPLICATION sends anything else it says that streaming begins
 * (CopyBothResponse).
 */
static int
walsender_putmessage(char msgtype, const char *s, size_t len)
{
	if (msgtype == 'W' && (MyReplicationSlot == NULL || SlotIsPhysical(MyReplicationSlot)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a compute does not accept physical replication connections"),
				 errdetail("Its relations are in the page store, and its WAL may not go anywhere before the store has it."),
				 errhint(BACKUP_HINT)));
	return socket_methods->putmessage(msgtype, s, len);
}

static void
client_authentication(Port *port, int status)
{
	if (prev_ClientAuthentication)
		prev_ClientAuthentication(port, status);
	if (!am_walsender || status != STATUS_OK)
		return;

	if (!am_db_walsender)
		ereport(FATAL,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a compute does not accept physical replication connections"),
				 errdetail("Its relations are in the page store, and its WAL may not go anywhere before the store has it."),
				 errhint(BACKUP_HINT)));

	/*
	 * The server has a free walsender for this connection: InitProcess() has
	 * given it one of max_wal_senders PGPROCs.  But the WAL worker sits in one
	 * of the WalSnd slots, so if it was the last, there is none left
	 * (InitWalSenderSlot() would run into a null pointer).
	 */
	if (!compat_walsender_is_free())
		ereport(FATAL,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("number of requested standby connections exceeds max_wal_senders (currently %d)",
						max_wal_senders),
				 errdetail("One of them is used by the WAL worker of pageserver_smgr.")));

	socket_methods = PqCommMethods;
	walsender_methods = *socket_methods;
	walsender_methods.putmessage = walsender_putmessage;
	PqCommMethods = &walsender_methods;
}

void
replication_install(void)
{
	function_replace("do_pg_backup_start", do_pg_backup_start, refuse_backup);
	prev_ClientAuthentication = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authentication;
}
