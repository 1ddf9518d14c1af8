/*
 * sizes.h
 *	  pg_relation_size() and similar functions.
 */
#ifndef PS_SIZES_H
#define PS_SIZES_H

/* From _PG_init: replaces PostgreSQL's size functions. */
extern void sizes_install(void);

#endif /* PS_SIZES_H */
