/*
 * layer_util.h
 *	  For tests of layers: ids, a directory, generated values.
 *
 * Include it after ps_fe.h and the header of cmocka.
 */
#ifndef LAYER_UTIL_H
#define LAYER_UTIL_H

#include "layer/layer_map.h"
#include "layer/layer_merge.h"
#include "layer/layer_writer.h"
#include "layer/open_layer.h"

#define TEST_DIR "/tmp/t_layer.XXXXXX"

extern const PsId layer_tenant;
extern const PsId layer_timeline;
extern char test_dir[sizeof(TEST_DIR)];
extern LayerSpace test_space; /* in test_dir */
extern int make_test_dir(void **state);
extern int count_files(const char *dir, bool remove);
extern int remove_test_dir(void **state);

#define assert_ok(expr) check_ok(expr, __FILE__, __LINE__)

extern void check_ok(PsError *err, const char *file, int line);
extern void check_error(PsError *err, const char *sqlstate, const char *text);
extern uint64 layer_random(uint64 *state);
extern void fill_value(uint64 seed, char *buf, uint32 len);
extern PsError *read_test_record(void *arg, XLogRecPtr start, uint32 len, char *buf);

#endif /* LAYER_UTIL_H */
