/*
 * id.c
 *	  Identifiers of tenants and timelines.
 */
#include "ps_fe.h"

#include "base/error.h"
#include "base/id.h"

bool
ps_id_parse(const char *text, PsId *id)
{
	if (strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32)
		return false;
	for (int i = 0; i < 16; i++)
	{
		unsigned int byte;

		sscanf(text + 2 * i, "%2x", &byte);
		id->b[i] = (uint8) byte;
	}
	return true;
}

const char *
ps_id_format(const PsId *id, char out[PS_ID_TEXT])
{
	for (int i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", id->b[i]);
	return out;
}

PsId
ps_id_random(void)
{
	PsId id;

	if (!pg_strong_random(id.b, sizeof(id.b)))
	{
		ps_log(PS_FATAL, "could not get random bytes from the system");
		exit(1);
	}
	return id;
}
