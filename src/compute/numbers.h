/*
 * numbers.h
 *	  File numbers that are taken by relations without a local file.
 */
#ifndef PS_NUMBERS_H
#define PS_NUMBERS_H

/* From _PG_init: installs a hook. */
extern void numbers_init(void);

#endif /* PS_NUMBERS_H */
