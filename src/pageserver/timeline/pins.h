/*
 * pins.h
 *	  What of a timeline's past must stay readable: everything from a cutoff on,
 *	  and before it single LSNs, the pins.
 *
 * Belongs to the branch and lives as long as it does, for where branches begin
 * is known, and must be kept, also while the timeline is closed.  The open
 * timeline shares it.  It has a lock of its own, a leaf; any thread may call any
 * function.
 */
#ifndef PS_PINS_H
#define PS_PINS_H

#include "access/xlogdefs.h"

typedef struct Pins Pins;

typedef enum PinKind
{
	PIN_BRANCH, /* a branch begins here */
	PIN_COPY,   /* a copy of a database needs it (DbCopy); as PIN_BRANCH, but no images are made for it */
	PIN_LEASE,  /* somebody reads here: WAL from here on stays, too */
	PIN_HISTORY /* a lease on everything from here on: the cutoff does not pass it */
} PinKind;

/* The cutoff is never before start_lsn, where the timeline begins. */
extern Pins *pins_create(XLogRecPtr start_lsn, XLogRecPtr cutoff);
extern void pins_free(Pins *pins);

/* The oldest LSN from which on everything can be read. */
extern XLogRecPtr pins_cutoff(const Pins *pins);

/*
 * Whatever is before the horizon and is not pinned may be removed from now on:
 * it is refused to readers and to new leases.  Nothing is removed before a
 * manifest that has the new cutoff, which only rises.
 */
extern void pins_raise_cutoff(Pins *pins, XLogRecPtr horizon);

/* Can be read: with the WAL that leads to it, if "wal". */
extern bool pins_keep(Pins *pins, XLogRecPtr lsn, bool wal);

/* Adds a lease if pins_keep() is true, which it returns. */
extern bool pins_lease(Pins *pins, XLogRecPtr lsn, bool wal);

/* Adds a PIN_HISTORY at the cutoff, which it returns. */
extern XLogRecPtr pins_hold_history(Pins *pins);

/*
 * Adds a pin at an LSN that is currently kept for another reason, or was kept before the store
 * was started.  The same LSN may be added several times.
 */
extern void pins_add(Pins *pins, XLogRecPtr lsn, PinKind kind);
extern void pins_remove(Pins *pins, XLogRecPtr lsn, PinKind kind);

/*
 * What can be read, all at one point in time: everything from *horizon on, which
 * is not after "latest", and before it *points, ascending, each once; the caller
 * frees them.  *wal_from: where the WAL that stays begins.
 */
extern void pins_readable(Pins *pins, XLogRecPtr latest, XLogRecPtr *horizon, XLogRecPtr **points, int *npoints, XLogRecPtr *wal_from);

/* Is there a lease?  What is read there becomes garbage without notice when it ends. */
extern bool pins_have_lease(Pins *pins);
extern int pins_count(Pins *pins);

/* A branch's beginning before the cutoff that was not considered for images yet; InvalidXLogRecPtr: there is none. */
extern XLogRecPtr pins_without_images(Pins *pins);
extern void pins_set_imaged(Pins *pins, XLogRecPtr lsn);

#endif /* PS_PINS_H */
