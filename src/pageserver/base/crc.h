/*
 * crc.h
 *	  CRC32C of a piece of memory.
 */
#ifndef PS_CRC_H
#define PS_CRC_H

#include "port/pg_crc32c.h"

static inline pg_crc32c
crc_of(const void *data, size_t len)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, len);
	FIN_CRC32C(crc);
	return crc;
}

#endif /* PS_CRC_H */
