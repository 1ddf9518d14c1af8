/*
 * replication.c
 *	  Refuses base backups and physical replication.
 *
 * A base backup of a compute would be empty, because its relations are in the
 * store; and its WAL must not be sent to a physical standby before the store has
 * it.  Connections that can do nothing else are refused.  Connections to a database
 * (replication=database) are needed for logical replication, but accept physical
 * commands as well; these commands are refused when they are executed.
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

#define BACKUP_HINT                                                    \
	"Use \"pageserver_ctl export\" to get a plain data directory, or " \
	"\"pageserver_ctl branch create\" to preserve the current state."

static ClientAuthentication_hook_type prev_ClientAuthentication;
static const PQcommMethods *socket_methods;
static PQcommMethods walsender_methods;

/*
 * Replaces do_pg_backup_start(), the first step of both pg_backup_start() and
 * BASE_BACKUP, so that backup programs fail before they have copied anything.
 */
static XLogRecPtr
refuse_backup(const char *backupidstr, bool fast, TimeLineID *starttli_p,
			  StringInfo labelfile, List **tablespaces, StringInfo tblspcmapfile)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot take a base backup of a compute"),
			 errdetail("Its relations are in the page store, not in the data directory."),
			 errhint(BACKUP_HINT)));
	return InvalidXLogRecPtr;
}

/*
 * Replaces the function that sends a message to the client.  CopyBothResponse is
 * the first message that START_REPLICATION sends.
 */
static int
walsender_putmessage(char msgtype, const char *s, size_t len)
{
	if (msgtype == 'W' && (MyReplicationSlot == NULL || SlotIsPhysical(MyReplicationSlot)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a compute does not accept physical replication connections"),
				 errdetail("Its relations are in the page store, and its WAL must not be sent elsewhere before the "
						   "page store has it."),
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
				 errdetail("Its relations are in the page store, and its WAL must not be sent elsewhere before the "
						   "page store has it."),
				 errhint(BACKUP_HINT)));

	/*
	 * InitProcess() has found a PGPROC among the max_wal_senders for this
	 * connection.  But the WAL worker uses one of the WalSnd slots, so if that
	 * was the last PGPROC, there is no slot for it (InitWalSenderSlot() would
	 * dereference a null pointer).
	 */
	if (!compat_walsender_is_free())
		ereport(FATAL,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("number of requested standby connections exceeds max_wal_senders (currently %d)",
						max_wal_senders),
				 errdetail("The WAL worker of pageserver_smgr uses one of them.")));

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
