/*
 * pins.c
 *	  What of a timeline's history must stay readable: see pins.h.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <stdatomic.h>

#include "port/pg_crc32c.h"
#include "timeline/pins.h"

typedef struct Pin
{
	XLogRecPtr lsn;
	PinKind kind;
	bool imaged; /* image files for it were considered (maintain/images.c) */
} Pin;

struct Pins
{
	XLogRecPtr start_lsn; /* fixed */

	/*
	 * Changed under lock; readers need no lock: a reader that sees an old cutoff has a
	 * set of layers from before the removal (timeline_layers_at()).
	 */
	atomic_uint_fast64_t cutoff;
	pthread_mutex_t lock;
	Pin *items; /* in no order */
	int n;
	XLogRecPtr *loaded; /* ascending: pins_load_imaged() */
	int nloaded;
};

Pins *
pins_create(XLogRecPtr start_lsn, XLogRecPtr cutoff)
{
	Pins *pins = pg_malloc0(sizeof(Pins));

	pins->start_lsn = start_lsn;
	atomic_init(&pins->cutoff, Max(cutoff, start_lsn));
	pthread_mutex_init(&pins->lock, NULL);
	return pins;
}

void
pins_free(Pins *pins)
{
	if (pins == NULL)
		return;
	pthread_mutex_destroy(&pins->lock);
	free(pins->items);
	free(pins->loaded);
	free(pins);
}

XLogRecPtr
pins_cutoff(const Pins *pins)
{
	return atomic_load(&pins->cutoff);
}

static bool
is_lease(const Pin *pin)
{
	return pin->kind == PIN_LEASE || pin->kind == PIN_HISTORY;
}

void
pins_raise_cutoff(Pins *pins, XLogRecPtr horizon)
{
	pthread_mutex_lock(&pins->lock);
	for (int i = 0; i < pins->n; i++)
		if (pins->items[i].kind == PIN_HISTORY)
			horizon = Min(horizon, pins->items[i].lsn);
	if (horizon > atomic_load(&pins->cutoff))
		atomic_store(&pins->cutoff, horizon);
	pthread_mutex_unlock(&pins->lock);
}

/* Caller holds the lock. */
static bool
is_kept(const Pins *pins, XLogRecPtr lsn, bool wal)
{
	if (lsn >= atomic_load(&pins->cutoff))
		return true;
	for (int i = 0; i < pins->n; i++)
		if (pins->items[i].lsn == lsn && (!wal || is_lease(&pins->items[i])))
			return true;
	return false;
}

bool
pins_keep(Pins *pins, XLogRecPtr lsn, bool wal)
{
	bool kept = lsn >= atomic_load(&pins->cutoff);

	/* most reads need no lock */
	if (kept)
		return true;
	pthread_mutex_lock(&pins->lock);
	kept = is_kept(pins, lsn, wal);
	pthread_mutex_unlock(&pins->lock);
	return kept;
}

static int
compare_lsns(const void *a, const void *b)
{
	XLogRecPtr x = *(const XLogRecPtr *) a;
	XLogRecPtr y = *(const XLogRecPtr *) b;

	return x < y ? -1 : x > y;
}

/* Sorts a list of LSNs and removes duplicates.  Returns how many are left. */
static int
sort_unique(XLogRecPtr *lsns, int n)
{
	int unique = 0;

	qsort(lsns, n, sizeof(XLogRecPtr), compare_lsns);
	for (int i = 0; i < n; i++)
		if (i == 0 || lsns[i] != lsns[i - 1])
			lsns[unique++] = lsns[i];
	return unique;
}

/* Caller holds the lock. */
static void
add_pin(Pins *pins, XLogRecPtr lsn, PinKind kind)
{
	bool imaged = kind == PIN_BRANCH && pins->nloaded > 0 &&
				  bsearch(&lsn, pins->loaded, pins->nloaded, sizeof(XLogRecPtr), compare_lsns) != NULL;

	pins->items = pg_realloc(pins->items, (pins->n + 1) * sizeof(Pin));
	pins->items[pins->n++] = (Pin) {.lsn = lsn, .kind = kind, .imaged = imaged};
}

bool
pins_lease(Pins *pins, XLogRecPtr lsn, bool wal)
{
	bool kept;

	pthread_mutex_lock(&pins->lock);
	kept = is_kept(pins, lsn, wal);
	if (kept)
		add_pin(pins, lsn, PIN_LEASE);
	pthread_mutex_unlock(&pins->lock);
	return kept;
}

XLogRecPtr
pins_hold_history(Pins *pins)
{
	XLogRecPtr from;

	pthread_mutex_lock(&pins->lock);
	from = atomic_load(&pins->cutoff);
	add_pin(pins, from, PIN_HISTORY);
	pthread_mutex_unlock(&pins->lock);
	return from;
}

void
pins_add(Pins *pins, XLogRecPtr lsn, PinKind kind)
{
	pthread_mutex_lock(&pins->lock);
	add_pin(pins, lsn, kind);
	pthread_mutex_unlock(&pins->lock);
}

void
pins_remove(Pins *pins, XLogRecPtr lsn, PinKind kind)
{
	pthread_mutex_lock(&pins->lock);
	for (int i = 0; i < pins->n; i++)
		if (pins->items[i].lsn == lsn && pins->items[i].kind == kind)
		{
			pins->items[i] = pins->items[--pins->n];
			break;
		}
	pthread_mutex_unlock(&pins->lock);
}

void
pins_readable(Pins *pins, XLogRecPtr latest, XLogRecPtr *horizon, XLogRecPtr **points, int *npoints,
			  XLogRecPtr *wal_from)
{
	int n = 0;

	pthread_mutex_lock(&pins->lock);
	*horizon = *wal_from = Min(atomic_load(&pins->cutoff), latest);
	*points = pg_malloc(Max(pins->n, 1) * sizeof(XLogRecPtr));
	for (int i = 0; i < pins->n; i++)
		if (pins->items[i].lsn < *horizon)
		{
			(*points)[n++] = pins->items[i].lsn;
			if (is_lease(&pins->items[i]))
				*wal_from = Min(*wal_from, pins->items[i].lsn);
		}
	pthread_mutex_unlock(&pins->lock);
	*npoints = sort_unique(*points, n);
}

uint32
pins_digest_of(XLogRecPtr horizon, const XLogRecPtr *points, int npoints, XLogRecPtr wal_from)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, &horizon, sizeof(horizon));
	COMP_CRC32C(crc, &wal_from, sizeof(wal_from));
	if (npoints > 0)
		COMP_CRC32C(crc, points, npoints * sizeof(XLogRecPtr));
	FIN_CRC32C(crc);
	return crc != 0 ? crc : 1;
}

uint32
pins_digest(Pins *pins)
{
	XLogRecPtr horizon;
	XLogRecPtr *points;
	int npoints;
	XLogRecPtr wal_from;
	uint32 digest;

	pins_readable(pins, PG_UINT64_MAX, &horizon, &points, &npoints, &wal_from);
	digest = pins_digest_of(horizon, points, npoints, wal_from);
	free(points);
	return digest;
}

bool
pins_have_lease(Pins *pins)
{
	bool found = false;

	pthread_mutex_lock(&pins->lock);
	for (int i = 0; i < pins->n && !found; i++)
		found = is_lease(&pins->items[i]);
	pthread_mutex_unlock(&pins->lock);
	return found;
}

int
pins_count(Pins *pins)
{
	int n;

	pthread_mutex_lock(&pins->lock);
	n = pins->n;
	pthread_mutex_unlock(&pins->lock);
	return n;
}

XLogRecPtr
pins_without_images(Pins *pins)
{
	XLogRecPtr lsn = InvalidXLogRecPtr;

	pthread_mutex_lock(&pins->lock);
	for (int i = 0; i < pins->n && lsn == InvalidXLogRecPtr; i++)
		if (pins->items[i].kind == PIN_BRANCH && !pins->items[i].imaged &&
			pins->items[i].lsn < atomic_load(&pins->cutoff))
			lsn = pins->items[i].lsn;
	pthread_mutex_unlock(&pins->lock);
	return lsn;
}

void
pins_set_imaged(Pins *pins, XLogRecPtr lsn)
{
	pthread_mutex_lock(&pins->lock);
	for (int i = 0; i < pins->n; i++)
		if (pins->items[i].lsn == lsn)
			pins->items[i].imaged = true;
	pthread_mutex_unlock(&pins->lock);
}

XLogRecPtr *
pins_imaged(Pins *pins, int *n)
{
	XLogRecPtr *lsns;

	*n = 0;
	pthread_mutex_lock(&pins->lock);
	lsns = pg_malloc(Max(pins->n, 1) * sizeof(XLogRecPtr));
	for (int i = 0; i < pins->n; i++)
		if (pins->items[i].kind == PIN_BRANCH && pins->items[i].imaged)
			lsns[(*n)++] = pins->items[i].lsn;
	pthread_mutex_unlock(&pins->lock);
	*n = sort_unique(lsns, *n);
	return lsns;
}

void
pins_load_imaged(Pins *pins, const XLogRecPtr *lsns, int n)
{
	pthread_mutex_lock(&pins->lock);
	pins->loaded = pg_realloc(pins->loaded, Max(n, 1) * sizeof(XLogRecPtr));
	if (n > 0)
		memcpy(pins->loaded, lsns, n * sizeof(XLogRecPtr));
	pins->nloaded = n;
	pthread_mutex_unlock(&pins->lock);
}
