/*
 * database_commands.h
 *	  Commands that copy, move or remove databases and tablespaces.
 */
#ifndef PS_DATABASE_COMMANDS_H
#define PS_DATABASE_COMMANDS_H

/* From _PG_init: installs hooks and callbacks. */
extern void database_commands_init(void);

#endif /* PS_DATABASE_COMMANDS_H */
