/*
 * redo_dir.h
 *	  Data directories of redo helpers.
 */
#ifndef PS_REDO_DIR_H
#define PS_REDO_DIR_H

#include "base/error.h"

/* Names of helpers' directories: this and a number. */
#define REDO_DIR_PREFIX "helper."

/* Creates the directory, or repairs an old one.  Nothing in it needs to survive, so that nothing is synced. */
extern PsError *redo_dir_make(const char *dir, uint32 segment_size);

/* Creates workdir if it does not exist; otherwise removes the helpers' directories in it. */
extern PsError *redo_dir_clean(const char *workdir);

#endif /* PS_REDO_DIR_H */
