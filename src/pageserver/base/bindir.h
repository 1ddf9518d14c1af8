/*
 * bindir.h
 *	  The directory of PostgreSQL's programs (setting "bindir").
 */
#ifndef PS_BINDIR_H
#define PS_BINDIR_H

#include "base/error.h"

/*
 * Are "postgres" and "initdb" there, and is that PostgreSQL of our major
 * version?  Runs "postgres --version".  For a start and for --check-config:
 * else the first branch or the first page that needs redo would tell.
 */
extern PsError *bindir_check(const char *bindir);

#endif /* PS_BINDIR_H */
