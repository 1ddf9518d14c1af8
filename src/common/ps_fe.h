/*
 * ps_fe.h
 *	  First include of every C file of the daemon, the command line tool and
 *	  the unit tests: PostgreSQL's "c.h" world in frontend mode, but with the
 *	  backend's type declarations, as pg_waldump builds it (its pg_waldump.c
 *	  does the same), so that the headers of WAL records can be read.
 *
 * Nothing of the backend itself may be called: elog, memory contexts and
 * locks are declared here but not there to link.
 */
#ifndef PS_FE_H
#define PS_FE_H

#ifndef FRONTEND
#define FRONTEND 1
#endif
#include "postgres.h"
#include "common/fe_memutils.h"

#endif /* PS_FE_H */
