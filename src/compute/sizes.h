/*
 * sizes.h
 *	  pg_relation_size() and similar functions.
 */
#ifndef PS_SIZES_H
#define PS_SIZES_H

/* From _PG_init: replaces PostgreSQL's size functions. */
extern void sizes_install(void);

/*
 * Measures a database and remembers its size (known_databases.h), unless its size
 * is known already or the store cannot be reached.
 */
extern void sizes_learn_database(Oid db);

#endif /* PS_SIZES_H */
