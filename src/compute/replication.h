/*
 * replication.h
 *	  Base backups and physical replication, which a compute refuses.
 */
#ifndef PS_REPLICATION_H
#define PS_REPLICATION_H

/* From _PG_init: installs a hook and replaces a function. */
extern void replication_install(void);

#endif /* PS_REPLICATION_H */
