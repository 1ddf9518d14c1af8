/*
 * presence.c
 *	  Which units of a partly fetched file are on this disk: see presence.h.
 */
#include "ps_fe.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/fs.h"
#include "bytes.h"
#include "layer/presence.h"
#include "sqlstate.h"

/* Slots begin at multiples of this: a write to one never changes a sector of the other, or of the layer. */
#define SLOT_ALIGN 4096

struct Presence
{
	uint64 file_size;
	uint32 units;
	atomic_uchar *bits;
	atomic_uchar *durable; /* units that were synced since they were written, see presence_is_durable() */

	pthread_mutex_t save_lock; /* held by presence_save(); protects the fields below */
	uint64 sequence;           /* of the newest map in the file; 0: none */
	uint8 *synced;             /* the bits of that map */
	bool sync_failed;
};

static uint32
count_units(uint64 file_size)
{
	return (uint32) ((file_size + PRESENCE_UNIT - 1) / PRESENCE_UNIT);
}

static size_t
bits_size(uint32 units)
{
	return (units + 7) / 8;
}

/* Size of a map without its CRC. */
static size_t
map_size(uint32 units)
{
	return PRESENCE_BITS_AT + bits_size(units);
}

static size_t
slot_size(uint32 units)
{
	return TYPEALIGN(SLOT_ALIGN, map_size(units) + sizeof(pg_crc32c));
}

static off_t
slot_offset(const Presence *presence, int slot)
{
	return (off_t) (TYPEALIGN64(SLOT_ALIGN, presence->file_size) + slot * slot_size(presence->units));
}

uint64
presence_part_size(uint64 file_size)
{
	return TYPEALIGN64(SLOT_ALIGN, file_size) + 2 * slot_size(count_units(file_size));
}

Presence *
presence_create(uint64 file_size)
{
	Presence *presence = pg_malloc0(sizeof(Presence));

	presence->file_size = file_size;
	presence->units = count_units(file_size);
	presence->bits = pg_malloc0(bits_size(presence->units) * sizeof(atomic_uchar));
	presence->durable = pg_malloc0(bits_size(presence->units) * sizeof(atomic_uchar));
	presence->synced = pg_malloc0(bits_size(presence->units));
	pthread_mutex_init(&presence->save_lock, NULL);
	return presence;
}

void
presence_free(Presence *presence)
{
	if (presence == NULL)
		return;
	pthread_mutex_destroy(&presence->save_lock);
	free(presence->synced);
	free((void *) presence->bits);
	free((void *) presence->durable);
	free(presence);
}

/* ---- the map in the file ---- */

/* Returns the sequence of a map, or 0 if it is not a valid map of this file. */
static uint64
check_map(const Presence *presence, const uint8 *map)
{
	size_t size = map_size(presence->units);

	if (memcmp(map + PRESENCE_MAGIC_AT, PRESENCE_MAGIC, strlen(PRESENCE_MAGIC)) != 0 ||
		ps_get32(map + PRESENCE_VERSION_AT) != PRESENCE_VERSION ||
		ps_get32(map + PRESENCE_UNIT_AT) != PRESENCE_UNIT ||
		ps_get64(map + PRESENCE_SIZE_AT) != presence->file_size ||
		ps_get32(map + size) != crc_of(map, size))
		return 0;
	return ps_get64(map + PRESENCE_SEQ_AT);
}

PsError *
presence_load(Presence *presence, int fd, const char *path)
{
	size_t size = map_size(presence->units) + sizeof(pg_crc32c);
	uint8 *map = pg_malloc(size);
	PsError *err = NULL;

	for (int slot = 0; slot < 2 && err == NULL; slot++)
	{
		ssize_t n;
		uint64 sequence;

		do
			n = pread(fd, map, size, slot_offset(presence, slot));
		while (n < 0 && errno == EINTR);
		/* a bad sector here costs only what was fetched, but the file is of no use if the disk fails */
		if (n < 0)
			err = ps_error(ps_errno_state(), "could not read the map of file \"%s\": %m", path);
		if (n != (ssize_t) size)
			continue;
		sequence = check_map(presence, map);
		if (sequence <= presence->sequence)
			continue;
		presence->sequence = sequence;
		memcpy(presence->synced, map + PRESENCE_BITS_AT, bits_size(presence->units));
	}
	for (size_t i = 0; i < bits_size(presence->units); i++)
	{
		atomic_store_explicit(&presence->bits[i], presence->synced[i], memory_order_relaxed);
		atomic_store_explicit(&presence->durable[i], presence->synced[i], memory_order_relaxed);
	}
	free(map);
	return err;
}

/*
 * Forgets the units that were set after the last sync that succeeded.  Another
 * thread may just have written a unit whose bit it sets later: this sync has
 * failed for it as well, and the next one would succeed without having written
 * it.  Therefore there is no next one.  Caller holds save_lock.
 */
static void
forget_unsynced(Presence *presence)
{
	for (size_t i = 0; i < bits_size(presence->units); i++)
		atomic_fetch_and_explicit(&presence->bits[i], presence->synced[i], memory_order_relaxed);
	presence->sync_failed = true;
}

/* Syncs the data, then writes the map.  Caller holds save_lock. */
static PsError *
save_map(Presence *presence, int fd, const char *path, uint8 *map)
{
	size_t size = map_size(presence->units);
	uint64 sequence = presence->sequence + 1;

	if (fdatasync(fd) != 0)
	{
		PsError *err = ps_error(ps_errno_state(), "could not sync file \"%s\": %m", path);

		forget_unsynced(presence);
		return err;
	}
	for (size_t i = 0; i < bits_size(presence->units); i++)
		atomic_fetch_or_explicit(&presence->durable[i], map[PRESENCE_BITS_AT + i], memory_order_relaxed);
	memcpy(map + PRESENCE_MAGIC_AT, PRESENCE_MAGIC, strlen(PRESENCE_MAGIC));
	ps_put32(map + PRESENCE_VERSION_AT, PRESENCE_VERSION);
	ps_put32(map + PRESENCE_UNIT_AT, PRESENCE_UNIT);
	ps_put64(map + PRESENCE_SIZE_AT, presence->file_size);
	ps_put64(map + PRESENCE_SEQ_AT, sequence);
	ps_put32(map + size, crc_of(map, size));
	/* even after a failure the data is synced, and the slot may be torn: the next save uses the same slot */
	PS_TRY(fs_write_at(fd, path, map, size + sizeof(pg_crc32c), slot_offset(presence, sequence % 2)));
	presence->sequence = sequence;
	memcpy(presence->synced, map + PRESENCE_BITS_AT, bits_size(presence->units));
	return NULL;
}

/* Copies the bits; returns whether they have to be saved.  Caller holds save_lock. */
static bool
copy_unsaved(const Presence *presence, uint8 *bits)
{
	for (size_t i = 0; i < bits_size(presence->units); i++)
		bits[i] = atomic_load_explicit(&presence->bits[i], memory_order_acquire);
	return !presence->sync_failed && memcmp(bits, presence->synced, bits_size(presence->units)) != 0;
}

PsError *
presence_save(Presence *presence, int fd, const char *path)
{
	uint8 *map = pg_malloc0(map_size(presence->units) + sizeof(pg_crc32c));
	PsError *err = NULL;

	pthread_mutex_lock(&presence->save_lock);
	/* before the sync: the data of a bit that is set later may not be included in it */
	if (copy_unsaved(presence, map + PRESENCE_BITS_AT))
		err = save_map(presence, fd, path, map);
	pthread_mutex_unlock(&presence->save_lock);
	free(map);
	return err;
}

bool
presence_is_unsaved(Presence *presence)
{
	uint8 *bits = pg_malloc(bits_size(presence->units));
	bool unsaved;

	pthread_mutex_lock(&presence->save_lock);
	unsaved = copy_unsaved(presence, bits);
	pthread_mutex_unlock(&presence->save_lock);
	free(bits);
	return unsaved;
}

/* ---- the bits ---- */

uint32
presence_units(const Presence *presence)
{
	return presence->units;
}

size_t
presence_unit_len(const Presence *presence, uint32 unit)
{
	uint64 start = (uint64) unit * PRESENCE_UNIT;

	return start < presence->file_size ? (size_t) Min(presence->file_size - start, PRESENCE_UNIT) : 0;
}

static bool
is_set(const atomic_uchar *bits, uint32 unit)
{
	return (atomic_load_explicit(&bits[unit / 8], memory_order_acquire) >> (unit % 8) & 1) != 0;
}

/* Are the bits of all units of the file that the range touches set? */
static bool
are_set(const Presence *presence, const atomic_uchar *bits, uint64 offset, size_t len)
{
	uint64 last = len > 0 ? (offset + len - 1) / PRESENCE_UNIT : 0;

	if (len == 0)
		return true;
	for (uint64 unit = offset / PRESENCE_UNIT; unit <= last && unit < presence->units; unit++)
		if (!is_set(bits, (uint32) unit))
			return false;
	return true;
}

bool
presence_has_unit(const Presence *presence, uint32 unit)
{
	return unit >= presence->units || is_set(presence->bits, unit);
}

bool
presence_has(const Presence *presence, uint64 offset, size_t len)
{
	return are_set(presence, presence->bits, offset, len);
}

bool
presence_is_durable(const Presence *presence, uint64 offset, size_t len)
{
	return are_set(presence, presence->durable, offset, len);
}

void
presence_set(Presence *presence, uint32 unit)
{
	Assert(unit < presence->units);
	atomic_fetch_or_explicit(&presence->bits[unit / 8], 1 << (unit % 8), memory_order_release);
}

void
presence_clear(Presence *presence, uint32 unit)
{
	unsigned char others = (unsigned char) ~(1 << (unit % 8));

	if (unit >= presence->units)
		return;
	atomic_fetch_and_explicit(&presence->bits[unit / 8], others, memory_order_relaxed);
	atomic_fetch_and_explicit(&presence->durable[unit / 8], others, memory_order_relaxed);
}

uint64
presence_bytes(const Presence *presence)
{
	uint64 bytes = 0;

	for (uint32 unit = 0; unit < presence->units; unit++)
		if (presence_has_unit(presence, unit))
			bytes += presence_unit_len(presence, unit);
	return bytes;
}
