/*
 * relsize.c
 *	  Sizes of relation forks and the floors of their blocks: see relsize.h.
 */
#include "ps_fe.h"

#include "base/error.h"
#include "bytes.h"
#include "sqlstate.h"
#include "pg/relsize.h"

#define FLOOR_SIZE  12
#define ORIGIN_SIZE 20

void
relsize_free(RelSize *size)
{
	free(size->floors);
	memset(size, 0, sizeof(*size));
}

void
relsize_add_floor(RelSize *size, BlockNumber blk, XLogRecPtr lsn)
{
	size->origin.nblocks = Min(size->origin.nblocks, blk);
	while (size->nfloors > 0 && size->floors[size->nfloors - 1].blk >= blk)
		size->nfloors--;
	size->floors = pg_realloc(size->floors, (size->nfloors + 1) * sizeof(RelSizeFloor));
	size->floors[size->nfloors++] = (RelSizeFloor) {blk, lsn};
}

void
relsize_extend(RelSize *size, BlockNumber nblocks, bool is_made, BlockNumber *ended, BlockNumber *ended_end)
{
	RelSizeFloor *last = size->nfloors > 0 ? &size->floors[size->nfloors - 1] : NULL;
	BlockNumber first = size->nblocks;
	BlockNumber end = is_made ? nblocks - 1 : nblocks;

	Assert(nblocks > first);
	*ended = *ended_end = first;
	size->nblocks = nblocks;
	if (last == NULL || last->blk == 0 || last->blk != first || end - first > RELSIZE_MAX_ENDED)
		return;
	*ended_end = end;
	last->blk = nblocks;
}

XLogRecPtr
relsize_floor(const RelSize *size, BlockNumber blk)
{
	for (uint32 i = size->nfloors; i > 0; i--)
		if (size->floors[i - 1].blk <= blk)
			return size->floors[i - 1].lsn;
	return InvalidXLogRecPtr;
}

void
relsize_encode(const RelSize *size, StringInfo out)
{
	char buf[ORIGIN_SIZE];

	ps_put32(buf, size->nblocks);
	ps_put32(buf + 4, size->nfloors);
	appendBinaryStringInfo(out, buf, 8);
	for (uint32 i = 0; i < size->nfloors; i++)
	{
		ps_put32(buf, size->floors[i].blk);
		ps_put64(buf + 4, size->floors[i].lsn);
		appendBinaryStringInfo(out, buf, FLOOR_SIZE);
	}
	if (size->origin.nblocks > 0)
	{
		ps_put32(buf, size->origin.spc);
		ps_put32(buf + 4, size->origin.db);
		ps_put64(buf + 8, size->origin.lsn);
		ps_put32(buf + 16, size->origin.nblocks);
		appendBinaryStringInfo(out, buf, ORIGIN_SIZE);
	}
}

PsError *
relsize_decode(const char *value, uint32 len, RelSize *size)
{
	uint64 floors_end = len >= 8 ? 8 + (uint64) ps_get32(value + 4) * FLOOR_SIZE : PG_UINT64_MAX;
	const char *origin;

	memset(size, 0, sizeof(*size));
	if (len != floors_end && (len != floors_end + ORIGIN_SIZE || ps_get32(value + floors_end + 16) == 0))
		return ps_error(PS_SQLSTATE_CORRUPTED, "size of a relation has %u bytes, which do not fit its number of floors",
						len);
	size->nblocks = ps_get32(value);
	size->nfloors = ps_get32(value + 4);
	if (size->nfloors > 0)
		size->floors = pg_malloc(size->nfloors * sizeof(RelSizeFloor));
	for (uint32 i = 0; i < size->nfloors; i++)
	{
		size->floors[i].blk = ps_get32(value + 8 + i * FLOOR_SIZE);
		size->floors[i].lsn = ps_get64(value + 8 + i * FLOOR_SIZE + 4);
	}
	origin = value + floors_end;
	if (len > floors_end)
		size->origin = (RelSizeOrigin) {ps_get32(origin), ps_get32(origin + 4), ps_get64(origin + 8),
										ps_get32(origin + 16)};
	return NULL;
}

BlockNumber
relsize_value_nblocks(const char *value, uint32 len)
{
	return len >= 4 ? ps_get32(value) : 0;
}
