/*
 * bytes.h
 *	  Big-endian integers in memory, for messages and file formats alike.
 */
#ifndef PS_BYTES_H
#define PS_BYTES_H

#include "port/pg_bswap.h"

static inline void
ps_put16(void *p, uint16 v)
{
	v = pg_hton16(v);
	memcpy(p, &v, 2);
}

static inline void
ps_put32(void *p, uint32 v)
{
	v = pg_hton32(v);
	memcpy(p, &v, 4);
}

static inline void
ps_put64(void *p, uint64 v)
{
	v = pg_hton64(v);
	memcpy(p, &v, 8);
}

static inline uint16
ps_get16(const void *p)
{
	uint16 v;

	memcpy(&v, p, 2);
	return pg_ntoh16(v);
}

static inline uint32
ps_get32(const void *p)
{
	uint32 v;

	memcpy(&v, p, 4);
	return pg_ntoh32(v);
}

static inline uint64
ps_get64(const void *p)
{
	uint64 v;

	memcpy(&v, p, 8);
	return pg_ntoh64(v);
}

#endif /* PS_BYTES_H */
