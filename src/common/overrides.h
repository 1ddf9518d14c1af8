/*
 * overrides.h
 *	  PostgreSQL settings that a compute requires, whatever its owner sets.
 *
 * The library forces them.  Programs that import an owner's settings use the table to
 * say which of them will be overridden.
 */
#ifndef PS_OVERRIDES_H
#define PS_OVERRIDES_H

/*
 * The only name in synchronous_standby_names.  No walsender can have this
 * application_name, because these are truncated to NAMEDATALEN - 1 bytes, so no
 * standby or subscriber can acknowledge a commit instead of the store.  The WAL
 * worker sets its priority itself (wal_worker_standby.c).
 */
#define PS_SYNC_STANDBY_NAME "pageserver_smgr: commits are acknowledged by the store alone, through the WAL worker"

typedef struct PsOverride
{
	const char *name;
	const char *value;
	const char *by_default; /* PostgreSQL's default, which does not count as a decision of the owner */
	bool at_start;          /* PGC_POSTMASTER, otherwise PGC_SIGHUP */
	const char *why;        /* shown to an owner who has set another value */
} PsOverride;

static const PsOverride ps_overrides[] = {
	{"fsync", "off", "on", false,
	 "Commits are durable in the page store, and the data directory is disposable."},
	{"full_page_writes", "off", "on", false,
	 "Commits are durable in the page store, and the data directory is disposable."},
	{"synchronous_standby_names", "\"" PS_SYNC_STANDBY_NAME "\"", "", false,
	 "Commits wait only for the page store."},
	{"restart_after_crash", "off", "on", false,
	 "A data directory of a compute can be started only once."},
	{"wal_log_hints", "on", "off", true,
	 "Setting the all-visible bit must advance the LSN of the heap page, which the page store relies on."},
	{"max_slot_wal_keep_size", "-1", "-1", false,
	 "WAL that the page store has not received yet must be retained."},
	{"archive_mode", "off", "off", true,
	 "An archive would get WAL that the page store never acknowledged, and later different WAL under the same "
	 "file name."},
};

#endif /* PS_OVERRIDES_H */
