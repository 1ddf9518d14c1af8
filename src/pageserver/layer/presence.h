/*
 * presence.h
 *	  Which units of a partly fetched file are on this disk.
 *
 * A layer file that was written here is named NAME and is complete.  A file that
 * holds what was fetched of a layer's object is named NAME.part.  Neither ever
 * becomes the other, so that the name alone says whether everything is there.
 *
 * A part file is sparse.  It has the bytes of the layer at their own offsets and,
 * from the next multiple of 4 kB after the layer's end on, two slots, each with a
 * map: a bit for each unit of 256 kB.  The bytes of a unit whose bit is not set
 * may be a hole, which reads as zeros, and must not be read, neither by pread()
 * nor through a mapping.
 *
 * The map is in the file itself, not beside it, because there is no order in
 * which two names could be created and removed such that a power failure never
 * leaves the map of one file with the contents of another.  Why a set bit is
 * always right:
 *
 *	  - A new part file has zeros in both slots, which is not a map: nothing is
 *		present.  A map that is torn or damaged fails its CRC and counts as none.
 *	  - In memory, a bit is set after pwrite() of the whole unit.  All threads
 *		read what was written, because they share the kernel's page cache.
 *	  - presence_save() copies the bits, syncs the file, and only then writes the
 *		copy into a slot.  So a map on disk, also one that reaches the disk early,
 *		names only units that were synced before it was written.
 *	  - It alternates between the slots.  The sync with which it begins also makes
 *		the map before durable, so one slot is valid at any time.  Of two valid
 *		maps the one with the greater sequence counts; the other one would be right
 *		as well, because a unit that was present once never becomes a hole again.
 *	  - If a sync fails, the pages count as clean and may be dropped: units that no
 *		earlier sync covered are absent again, and the map is never written again.
 *
 * A unit that is cleared because its bytes failed a check may still be set in a
 * map on disk.  This does no harm: its bytes fail the same check again.
 *
 * A crash loses what was fetched since the last presence_save(), nothing else.
 */
#ifndef PS_PRESENCE_H
#define PS_PRESENCE_H

#include "base/error.h"

#define PRESENCE_UNIT   (256 * 1024)
#define PRESENCE_SUFFIX ".part"

/*
 * A map, in a slot: integers are big-endian.
 *
 *	  0	 magic "PSPRSNCE"
 *	  8	 format version
 *	 12	 bytes in a unit
 *	 16	 size of the layer file
 *	 24	 sequence, from 1 on; the slot is sequence % 2
 *	 32	 bits, unit 0 first, the lowest bit of a byte first
 *	     CRC32C of all bytes before it
 */
#define PRESENCE_MAGIC      "PSPRSNCE"
#define PRESENCE_VERSION    1
#define PRESENCE_MAGIC_AT   0
#define PRESENCE_VERSION_AT 8
#define PRESENCE_UNIT_AT    12
#define PRESENCE_SIZE_AT    16
#define PRESENCE_SEQ_AT     24
#define PRESENCE_BITS_AT    32

/*
 * The map of one part file in memory.  Bits are atomic and read without a lock;
 * presence_save() serializes itself.  It must not be used for another file.
 */
typedef struct Presence Presence;

/* Nothing is present.  file_size: of the whole layer file, in bytes. */
extern Presence *presence_create(uint64 file_size);
extern void presence_free(Presence *presence); /* does nothing for NULL */

/* Size of a part file, with its slots. */
extern uint64 presence_part_size(uint64 file_size);

/*
 * Takes over the newer valid map of the part file; without one nothing is
 * present, which is not an error.  Before other threads use the map.
 */
extern PsError *presence_load(Presence *presence, int fd, const char *path);

/*
 * Makes the map durable up to now, in the sense of the comment above: the map
 * itself reaches the disk some time later, or with the next save.  Does nothing if
 * nothing has changed.  fd must be open for writing.  Waits for the disk.  Any
 * thread.
 */
extern PsError *presence_save(Presence *presence, int fd, const char *path);

/* Whether presence_save() has something to do. */
extern bool presence_is_unsaved(Presence *presence);

/* Number of units of the file, and the bytes in one: fewer in the last. */
extern uint32 presence_units(const Presence *presence);
extern size_t presence_unit_len(const Presence *presence, uint32 unit);

/* Whether all units that the range touches are present.  Beyond the file's end there is nothing to be absent. */
extern bool presence_has(const Presence *presence, uint64 offset, size_t len);
extern bool presence_has_unit(const Presence *presence, uint32 unit);

/*
 * Whether all units that the range touches were synced since they were written.
 * Others may become a hole again while they are set, if the kernel fails to write
 * them, and then drops them from the page cache.
 */
extern bool presence_is_durable(const Presence *presence, uint64 offset, size_t len);

/* After pwrite() of the whole unit has succeeded. */
extern void presence_set(Presence *presence, uint32 unit);

/* The unit is to be fetched again; its bytes stay in the file until then. */
extern void presence_clear(Presence *presence, uint32 unit);

/* Bytes of the layer file that are present. */
extern uint64 presence_bytes(const Presence *presence);

#endif /* PS_PRESENCE_H */
