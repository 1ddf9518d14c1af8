/*
 * dict_sample.h
 *	  Samples of records, from which dictionaries are trained.
 */
#ifndef PS_LAYER_DICT_SAMPLE_H
#define PS_LAYER_DICT_SAMPLE_H

#include "layer/layer_writer.h"

/* Initialize it with zeros. */
typedef struct DictSample
{
	char *bytes; /* the values, one after the other */
	size_t used;
	size_t *lens; /* length of each value, as ZDICT_trainFromBuffer() wants it */
	int n;
	int cap;
} DictSample;

/* Size of a full sample. */
#define DICT_SAMPLE_BYTES (400 * 1024)

/* Adds a value, unless it is too long for a dictionary or the sample is full. */
extern void dict_sample_add(DictSample *sample, const char *data, uint32 len);
extern bool dict_sample_is_full(const DictSample *sample);

/*
 * Adds a sample of the records that these delta files have from the key on.
 * bytes: roughly how much of the files is of interest.
 */
extern PsError *dict_sample_layers(DictSample *sample, Layer *const *layers, int n, const PsKey *from, uint64 bytes);

extern void dict_sample_free(DictSample *sample);

/* delta.c: like delta_writer_learn(), with a sample of the caller's. */
extern PsError *delta_writer_learn_sample(DeltaWriter *writer, DictSample *sample);

#endif /* PS_LAYER_DICT_SAMPLE_H */
