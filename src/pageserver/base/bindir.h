/*
 * bindir.h
 *	  The directory of PostgreSQL's programs (setting "bindir", option --bindir).
 */
#ifndef PS_BINDIR_H
#define PS_BINDIR_H

#include "base/error.h"

/*
 * The directory if nobody names one: that of the running program, if it has a
 * "postgres", as in every installation and in every copy of one; otherwise that
 * of the PostgreSQL that this program was built for.  The caller frees it.
 */
extern char *bindir_default(void);

/*
 * Are "postgres" and "initdb" there, and is that PostgreSQL of our major
 * version?  Runs "postgres --version".  For a start and for --check-config:
 * otherwise the first branch or the first page that needs redo would fail.
 */
extern PsError *bindir_check(const char *bindir);

#endif /* PS_BINDIR_H */
