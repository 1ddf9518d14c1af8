/*
 * overrides.h
 *	  PostgreSQL's settings that a compute must have, whatever its owner sets.
 *	  The library sets them; who brings settings of an owner names those that
 *	  will be undone.
 */
#ifndef PS_OVERRIDES_H
#define PS_OVERRIDES_H

/*
 * The only member of synchronous_standby_names.  No walsender can have this
 * application_name, for those are cut off at NAMEDATALEN - 1 bytes, so that no
 * standby or subscriber can acknowledge a commit in place of the store.  The
 * WAL worker gives itself the priority (wal_worker_standby.c).
 */
#define PS_SYNC_STANDBY_NAME "pageserver_smgr: commits are acknowledged by the store alone, through the WAL worker"

typedef struct PsOverride
{
	const char *name;
	const char *value;
	const char *by_default; /* PostgreSQL's own: it is nobody's decision */
	bool at_start;          /* PGC_POSTMASTER, else PGC_SIGHUP */
	const char *why;        /* for whoever has set something else */
} PsOverride;

static const PsOverride ps_overrides[] = {
	{"fsync", "off", "on", false,
	 "Commits are durable in the page store, and the data directory is disposable."},
	{"full_page_writes", "off", "on", false,
	 "Commits are durable in the page store, and the data directory is disposable."},
	{"synchronous_standby_names", "\"" PS_SYNC_STANDBY_NAME "\"", "", false,
	 "Commits wait for the page store, and for nothing else."},
	{"restart_after_crash", "off", "on", false,
	 "The data directory of a compute can be started once."},
	{"wal_log_hints", "on", "off", true,
	 "Setting all-visible must move the heap page's LSN, by which the page store finds the page."},
	{"max_slot_wal_keep_size", "-1", "-1", false,
	 "WAL that the page store does not have yet must stay."},
	{"archive_mode", "off", "off", true,
	 "An archive would get WAL that the page store never acknowledged, and later other WAL of the same name."},
};

#endif /* PS_OVERRIDES_H */
