/*
 * remote_layers.h
 *	  Layer files that are read from object storage: the LayerSource of a store.
 */
#ifndef PS_REMOTE_LAYERS_H
#define PS_REMOTE_LAYERS_H

#include "layer/layer_source.h"
#include "remote/object.h"

typedef struct RemoteLayers RemoteLayers;

/*
 * connections: the most requests of one fetch that run at a time.  patience: for how long
 * object storage that cannot be reached is waited for, ms.
 */
extern RemoteLayers *remote_layers_create(ObjectStore *store, int connections, int64 patience);

/* When all layers of its spaces are freed.  NULL is allowed. */
extern void remote_layers_free(RemoteLayers *layers);

/* A changed setting.  Any thread. */
extern void remote_layers_set_patience(RemoteLayers *layers, int64 patience);

extern LayerSource *remote_layers_source(RemoteLayers *layers);

#endif /* PS_REMOTE_LAYERS_H */
