/*
 * manifest_util.h
 *	  Manifests in the format of stores of format 1.
 */
#ifndef MANIFEST_UTIL_H
#define MANIFEST_UTIL_H

#include "ps_fe.h"

#include "timeline/manifest_log.h"

/* Writes DIR/NAME as a timeline.json of version 3, or 4 if there are copies. */
extern void write_json_manifest(const char *dir, const char *name, const Manifest *m);

/* Replaces the log of a timeline that is not open by timeline.json and timeline.json.old. */
extern void downgrade_manifest(const char *dir);

#endif /* MANIFEST_UTIL_H */
