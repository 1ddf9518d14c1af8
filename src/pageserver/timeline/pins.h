/*
 * pins.h
 *	  What of a timeline's history must stay readable: everything from a cutoff on,
 *	  and single LSNs before it, the pins.
 *
 * Part of the branch, not of the open timeline, because the LSNs at which other branches
 * begin must be kept while the timeline is closed.  It has a lock of its own, a leaf; any
 * thread may call any function.
 */
#ifndef PS_PINS_H
#define PS_PINS_H

#include "access/xlogdefs.h"

typedef struct Pins Pins;

typedef enum PinKind
{
	PIN_BRANCH, /* a branch begins here */
	PIN_COPY,   /* a copy of a database needs it (DbCopy); like PIN_BRANCH, but gets no images */
	PIN_LEASE,  /* a reader uses it: WAL from here on is kept, too */
	PIN_HISTORY /* a lease on everything from here on: the cutoff is not raised beyond it */
} PinKind;

/* The cutoff is never before start_lsn, where the timeline begins. */
extern Pins *pins_create(XLogRecPtr start_lsn, XLogRecPtr cutoff);
extern void pins_free(Pins *pins);

/* The oldest LSN from which on everything can be read. */
extern XLogRecPtr pins_cutoff(const Pins *pins);

/*
 * Raises the cutoff to the horizon, unless it is there already or a PIN_HISTORY forbids it:
 * from now on, what is before it and not pinned is refused to readers and new leases, and
 * may be removed once a manifest has the new cutoff.
 */
extern void pins_raise_cutoff(Pins *pins, XLogRecPtr horizon);

/* Can the LSN be read?  wal: with the WAL that leads to it. */
extern bool pins_keep(Pins *pins, XLogRecPtr lsn, bool wal);

/* Adds a lease and returns true, if pins_keep() is true. */
extern bool pins_lease(Pins *pins, XLogRecPtr lsn, bool wal);

/* Adds a PIN_HISTORY at the cutoff, and returns that. */
extern XLogRecPtr pins_hold_history(Pins *pins);

/*
 * Adds a pin at an LSN that is currently kept for another reason, or was kept before the store
 * was started.  The same LSN may be added several times.
 */
extern void pins_add(Pins *pins, XLogRecPtr lsn, PinKind kind);
extern void pins_remove(Pins *pins, XLogRecPtr lsn, PinKind kind);

/*
 * Returns, as of one point in time, what can be read: everything from *horizon on, which is
 * at most "latest", and before it *points, ascending and unique; the caller frees them.
 * *wal_from: where the WAL that is kept begins.
 */
extern void pins_readable(Pins *pins, XLogRecPtr latest, XLogRecPtr *horizon, XLogRecPtr **points, int *npoints,
						  XLogRecPtr *wal_from);

/* Is there a lease?  When it ends, what it kept becomes garbage without a notification. */
extern bool pins_have_lease(Pins *pins);
extern int pins_count(Pins *pins);

/* A PIN_BRANCH before the cutoff that was not considered for images yet; InvalidXLogRecPtr: there is none. */
extern XLogRecPtr pins_without_images(Pins *pins);
extern void pins_set_imaged(Pins *pins, XLogRecPtr lsn);

/*
 * The LSNs of PIN_BRANCH that were considered, ascending and unique; the caller frees the list.
 * pins_load_imaged() is called when the branch is loaded: pins that are added later at one of
 * these LSNs have been considered.
 */
extern XLogRecPtr *pins_imaged(Pins *pins, int *n);
extern void pins_load_imaged(Pins *pins, const XLogRecPtr *lsns, int n);

/*
 * A checksum of what pins_readable() has returned, or would return now, with the LSN of the
 * cutoff as "latest"; never 0.  If it is as before, what can be read is as before.
 */
extern uint32 pins_digest_of(XLogRecPtr horizon, const XLogRecPtr *points, int npoints, XLogRecPtr wal_from);
extern uint32 pins_digest(Pins *pins);

#endif /* PS_PINS_H */
