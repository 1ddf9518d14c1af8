/*
 * functions.h
 *	  Replacement of functions of the main program.
 */
#ifndef PS_FUNCTIONS_H
#define PS_FUNCTIONS_H

/*
 * From _PG_init: from now on each call of "function", which the main program
 * exports by the given name, calls the replacement, which must have the same
 * signature.  FATAL if that cannot be done.
 */
extern void function_replace(const char *name, void *function, void *replacement);

#endif /* PS_FUNCTIONS_H */
