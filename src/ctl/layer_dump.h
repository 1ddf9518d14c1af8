/*
 * layer_dump.h
 *	  What layer_dump.c and layer_value.c know of each other.
 */
#ifndef PS_LAYER_DUMP_H
#define PS_LAYER_DUMP_H

#include "layer/layer_file.h"

/* Prints what a value has in it, on an indented line; an error if that cannot be what the key says. */
extern PsError *describe_value(const PsKey *key, ValueKind kind, const char *data, uint32 len, XLogRecPtr record_start);
extern void hexdump_value(const char *data, uint32 len);

#endif /* PS_LAYER_DUMP_H */
