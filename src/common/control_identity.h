/*
 * control_identity.h
 *	  Which cluster, in which state, a data directory holds: so a client and the
 *	  store find out whether a path means the same to both.
 */
#ifndef PS_CONTROL_IDENTITY_H
#define PS_CONTROL_IDENTITY_H

#include "catalog/pg_control.h"

#define CONTROL_IDENTITY_SIZE 64

/* The CRC covers the rest of pg_control, a random number made by initdb among it. */
static inline void
control_identity(const ControlFileData *control, char identity[CONTROL_IDENTITY_SIZE])
{
	snprintf(identity, CONTROL_IDENTITY_SIZE, UINT64_FORMAT "-%llX-%08X", control->system_identifier,
			 (unsigned long long) control->checkPoint, control->crc);
}

#endif /* PS_CONTROL_IDENTITY_H */
