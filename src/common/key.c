/*
 * key.c
 *	  Keys on disk and as text.
 */
#include "ps_fe.h"
#include "key.h"
#include "bytes.h"

const char *const ps_slru_dir[PS_NSLRU] = {
	"pg_xact", "pg_multixact/offsets", "pg_multixact/members", "pg_commit_ts"};

void
ps_key_encode(const PsKey *key, uint8 out[PS_KEY_SIZE])
{
	out[0] = key->kind;
	ps_put32(out + 1, key->spc);
	ps_put32(out + 5, key->db);
	ps_put32(out + 9, key->rel);
	out[13] = key->fork;
	ps_put32(out + 14, key->blk);
}

void
ps_key_decode(const uint8 in[PS_KEY_SIZE], PsKey *key)
{
	key->kind = in[0];
	key->spc = ps_get32(in + 1);
	key->db = ps_get32(in + 5);
	key->rel = ps_get32(in + 9);
	key->fork = in[13];
	key->blk = ps_get32(in + 14);
}

/* The key as a message shows it; returns out. */
const char *
ps_key_format(const PsKey *key, char out[PS_KEY_TEXT])
{
	static const char *const name[] = {"?", "size of relation", "size of relation", "relation", "database",
									   "relation map of", "SLRU segment", "SLRU page", "two-phase state",
									   "replication origin", "tablespace", "control file", "state", "file"};

	switch (key->kind)
	{
		case PS_KEY_RELSIZE:
		case PS_KEY_INITSIZE:
			snprintf(out, PS_KEY_TEXT, "%s %u/%u/%u fork %u", name[key->kind], key->spc, key->db, key->rel, key->fork);
			break;
		case PS_KEY_RELBLOCK:
			snprintf(out, PS_KEY_TEXT, "%s %u/%u/%u fork %u block %u", name[key->kind], key->spc, key->db, key->rel,
					 key->fork, key->blk);
			break;
		case PS_KEY_SLRU_SEGMENT:
		case PS_KEY_SLRU_BLOCK:
			snprintf(out, PS_KEY_TEXT, "%s %s/%04X page %u", name[key->kind],
					 key->spc < PS_NSLRU ? ps_slru_dir[key->spc] : "?", key->rel, key->blk);
			break;
		default:
			snprintf(out, PS_KEY_TEXT, "%s %u/%u/%u", key->kind < lengthof(name) ? name[key->kind] : name[0], key->spc,
					 key->db, key->rel);
			break;
	}
	return out;
}
