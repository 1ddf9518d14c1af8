/*
 * redo_dir.h
 *	  Data directories of redo helpers.
 */
#ifndef PS_REDO_DIR_H
#define PS_REDO_DIR_H

#include "base/error.h"

/* Every directory of a helper is named so, and a number after it. */
#define REDO_DIR_PREFIX "helper."

/* Makes the directory, or sets an old one right.  Nothing in it needs to survive, so nothing is fsynced. */
extern PsError *redo_dir_make(const char *dir, uint32 segment_size);

/* Makes workdir if it is not there, removes the helpers' directories from it if it is. */
extern PsError *redo_dir_clean(const char *workdir);

#endif /* PS_REDO_DIR_H */
