/*
 * packed.h
 *	  A compressed WAL segment, whose contents are all in layer files.
 *
 * Its name is the segment's name and ".zst".  It has zstd's seekable format: "zstd -d"
 * restores the segment, and a part can be read without the rest.  All integers are
 * little-endian, as in zstd.
 *
 *	  frames		one zstd frame for each PACKED_FRAME_SIZE bytes of the segment,
 *					each with its content's size and checksum
 *	  seek table	a frame that zstd skips:
 *		 4			magic: PACKED_TABLE_MAGIC
 *		 4			length of what follows
 *		 8 * n		for each frame: 4 bytes its length, 4 bytes that of its content
 *		 4			n, the number of frames
 *		 1			zero: the table has no checksums
 *		 4			magic: PACKED_FOOTER_MAGIC
 *
 * The table is checked when the file is opened: its lengths add up to those of
 * the file and of the segment.
 */
#ifndef PS_WAL_PACKED_H
#define PS_WAL_PACKED_H

#include <sys/uio.h>

#include "base/error.h"

#define PACKED_SUFFIX ".zst"

/* As much as a WalReader reads at once; every segment size is a multiple of it. */
#define PACKED_FRAME_SIZE (256 * 1024)

#define PACKED_TABLE_MAGIC  0x184D2A5E
#define PACKED_FOOTER_MAGIC 0x8F92EAB1

/* Immutable; any thread may use it. */
typedef struct PackedSegment PackedSegment;

/*
 * Compresses a segment's open file into the file "path", which is durable, except for
 * its name.  After an error there is no such file.
 */
extern PsError *packed_segment_write(int segment_fd, const char *segment_path, uint32 segment_size, const char *path);

extern PsError *packed_segment_open(const char *path, uint32 segment_size, PackedSegment **result);
extern void packed_segment_close(PackedSegment *packed);

/* Reads what is at an offset of the segment into pieces that have room for len bytes. */
extern PsError *packed_segment_read(const PackedSegment *packed, uint32 offset, const struct iovec *iov, size_t len);

#endif /* PS_WAL_PACKED_H */
