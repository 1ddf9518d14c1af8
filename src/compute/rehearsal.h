/*
 * rehearsal.h
 *	  A startup that ends before it has any effect.
 */
#ifndef PS_REHEARSAL_H
#define PS_REHEARSAL_H

/* The last step of shmem_startup_hook if pageserver_smgr.rehearsal is set: exits with 0, or FATAL. */
extern void rehearsal_end(void) pg_attribute_noreturn();

#endif /* PS_REHEARSAL_H */
