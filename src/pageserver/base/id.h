/*
 * id.h
 *	  Identifiers of tenants and timelines: 16 random bytes, 32 hex digits as text.
 */
#ifndef PS_ID_H
#define PS_ID_H

typedef struct PsId
{
	uint8 b[16];
} PsId;

#define PS_ID_TEXT 33

/* id.c */
extern bool ps_id_parse(const char *text, PsId *id); /* false unless text is exactly 32 lower-case hex digits */
extern const char *ps_id_format(const PsId *id, char out[PS_ID_TEXT]);
extern PsId ps_id_random(void); /* ends the daemon if the system has no random numbers */

static inline bool
ps_id_equal(const PsId *a, const PsId *b)
{
	return memcmp(a, b, sizeof(PsId)) == 0;
}

#endif /* PS_ID_H */
