/*
 * object_dir.h
 *	  A store in a directory: for object_dir.c and object_dir_list.c only.
 */
#ifndef PS_OBJECT_DIR_H
#define PS_OBJECT_DIR_H

#include "remote/object_impl.h"

typedef struct DirStore
{
	ObjectStore base;
	char *dir;
} DirStore;

/* The file of an object, malloc'd. */
extern char *object_dir_path(const DirStore *store, const char *key);

/*
 * To be called before something is said not to exist: an error if the store itself is not
 * there.  Without its file system there is an empty directory in its place.
 */
extern PsError *object_dir_check_mounted(const DirStore *store);

/* ObjectBackend.list */
extern PsError *object_dir_list(ObjectStore *base, const char *prefix, const char *after, bool folders,
								const ObjectListSink *sink, const ObjectWait *wait);

#endif /* PS_OBJECT_DIR_H */
