/*
 * key.h
 *	  Keys of the store: under which each version of something is stored.
 *
 * A key is 18 bytes on disk, every field big-endian, so that memcmp() gives
 * the order in which layers are sorted.  In memory it is the struct PsKey.
 *
 *	  offset  size  field
 *	       0     1  kind
 *	       1     4  spc
 *	       5     4  db
 *	       9     4  rel
 *	      13     1  fork
 *	      14     4  blk
 *
 * What the fields mean, and what the value is, for each kind:
 *
 *	kind            spc         db        rel       fork  blk    value
 *	RELSIZE         tablespace  database  relation  fork  0      RelSize (pg/relsize.h), forks but init
 *	INITSIZE        tablespace  database  relation  3     0      RelSize, init forks only, so
 *	                                                             that a base backup finds them fast
 *	RELBLOCK        tablespace  database  relation  fork  block  page
 *	DATABASE        tablespace  database  0         0     0      contents of PG_VERSION
 *	RELMAP          tablespace  database  0         0     0      contents of pg_filenode.map
 *	SLRU_SEGMENT    PsSlru      0         segment   0     0      u32 big-endian: pages that exist
 *	SLRU_BLOCK      PsSlru      0         segment   0     page   page (page counted in its segment)
 *	TWOPHASE        0           0         xid       0     0      contents of the state file
 *	ORIGIN          0           0         origin    0     0      u64 big-endian: remote LSN
 *	TABLESPACE      oid         0         0         0     0      location as the record had it
 *	CONTROL         0           0         0         0     0      pg_control as imported
 *	STATE           0           0         0         0     0      WalState (pg/walstate.h)
 *	AUX             crc of name 0         0         0     0      name, a zero byte, contents
 *
 * A missing key, or a tombstone, means that the thing does not exist.
 */
#ifndef PS_KEY_H
#define PS_KEY_H

#include "rel.h"

#define PS_KEY_SIZE 18

typedef enum PsKeyKind
{
	PS_KEY_RELSIZE = 1,
	PS_KEY_INITSIZE = 2,
	PS_KEY_RELBLOCK = 3,
	PS_KEY_DATABASE = 4,
	PS_KEY_RELMAP = 5,
	PS_KEY_SLRU_SEGMENT = 6,
	PS_KEY_SLRU_BLOCK = 7,
	PS_KEY_TWOPHASE = 8,
	PS_KEY_ORIGIN = 9,
	PS_KEY_TABLESPACE = 10,
	PS_KEY_CONTROL = 11,
	PS_KEY_STATE = 12,
	PS_KEY_AUX = 13
} PsKeyKind;

/* The SLRUs that the store keeps; their directories are in ps_slru_dir[]. */
typedef enum PsSlru
{
	PS_SLRU_CLOG = 0,
	PS_SLRU_MULTIXACT_OFFSETS = 1,
	PS_SLRU_MULTIXACT_MEMBERS = 2,
	PS_SLRU_COMMIT_TS = 3
} PsSlru;

#define PS_NSLRU 4

typedef struct PsKey
{
	uint8 kind;
	uint8 fork;
	Oid spc;
	Oid db;
	uint32 rel;
	uint32 blk;
} PsKey;

static inline int
ps_key_cmp(const PsKey *a, const PsKey *b)
{
#define PS_KEY_CMP_FIELD(f) \
	if (a->f != b->f)       \
	return a->f < b->f ? -1 : 1
	PS_KEY_CMP_FIELD(kind);
	PS_KEY_CMP_FIELD(spc);
	PS_KEY_CMP_FIELD(db);
	PS_KEY_CMP_FIELD(rel);
	PS_KEY_CMP_FIELD(fork);
	PS_KEY_CMP_FIELD(blk);
#undef PS_KEY_CMP_FIELD
	return 0;
}

/* key.c */
extern const char *const ps_slru_dir[PS_NSLRU]; /* "pg_xact", ... */
extern void ps_key_encode(const PsKey *key, uint8 out[PS_KEY_SIZE]);
extern void ps_key_decode(const uint8 in[PS_KEY_SIZE], PsKey *key);

/* Longest text of ps_key_format(), including its zero byte. */
#define PS_KEY_TEXT 96
extern const char *ps_key_format(const PsKey *key, char out[PS_KEY_TEXT]);

/* No key is greater. */
static inline PsKey
ps_key_last(void)
{
	return (PsKey) {.kind = UINT8_MAX,
					.fork = UINT8_MAX,
					.spc = PG_UINT32_MAX,
					.db = PG_UINT32_MAX,
					.rel = PG_UINT32_MAX,
					.blk = PG_UINT32_MAX};
}

static inline PsKey
ps_key_block(PsRel rel, ForkNumber fork, BlockNumber blk)
{
	return (PsKey) {.kind = PS_KEY_RELBLOCK,
					.fork = (uint8) fork,
					.spc = rel.spc,
					.db = rel.db,
					.rel = rel.rel,
					.blk = blk};
}

static inline PsKey
ps_key_relsize(PsRel rel, ForkNumber fork)
{
	return (PsKey) {.kind = fork == INIT_FORKNUM ? PS_KEY_INITSIZE : PS_KEY_RELSIZE,
					.fork = (uint8) fork,
					.spc = rel.spc,
					.db = rel.db,
					.rel = rel.rel};
}

static inline PsKey
ps_key_slru_segment(PsSlru slru, uint32 segno)
{
	return (PsKey) {.kind = PS_KEY_SLRU_SEGMENT, .spc = slru, .rel = segno};
}

/* pageno counts from the beginning of the SLRU, as in PostgreSQL's slru.c. */
static inline PsKey
ps_key_slru_block(PsSlru slru, uint32 pageno)
{
	return (PsKey) {.kind = PS_KEY_SLRU_BLOCK, .spc = slru, .rel = pageno / 32, .blk = pageno % 32};
}

static inline PsKey
ps_key_simple(PsKeyKind kind, Oid spc, Oid db, uint32 rel)
{
	return (PsKey) {.kind = (uint8) kind, .spc = spc, .db = db, .rel = rel};
}

#endif /* PS_KEY_H */
