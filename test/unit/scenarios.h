/*
 * scenarios.h
 *	  For tests of failing file operations: a small store with branches and its
 *	  model, operations on it that together use all kinds of file operations, and
 *	  checks after a restart.
 */
#ifndef SCENARIOS_H
#define SCENARIOS_H

#include "model.h"

#include "cluster_util.h"

/* Comparing all keys takes 40 times longer with ThreadSanitizer, which is used to find races. */
#ifdef __SANITIZE_THREAD__
#define ALL_KEYS false
#else
#define ALL_KEYS true
#endif

extern uint64 seed;
extern Cluster *cluster; /* to be imported */

/* ---- scenarios: operations on a store that build() created ---- */
extern ModelBranch *named(World *w, const char *name);
extern PsError *wait_flushed(World *w, ModelBranch *b);
extern PsError *do_create(World *w);
extern PsError *do_reset_and_detach(World *w);
extern PsError *do_restart(World *w);

typedef struct Scenario
{
	const char *name;
	PsError *(*run)(World *w);
	int distance; /* checkpoint_distance: 0: all that is written is flushed */
} Scenario;

#define NSCENARIOS 17

extern const Scenario scenarios[NSCENARIOS];

/* ---- the store ---- */
extern void set_name(World *w, ModelBranch *b, const char *name);
extern void build(World *w, const Scenario *scenario, uint64 random);
extern void check_all(World *w);
extern void restart(World *w, FaultLoss loss);
extern void lose_power_at_start(World *w);
extern void go_on(World *w, const Scenario *scenario);
extern bool is_sync_of_wal(const char *name, const char *path);

#endif /* SCENARIOS_H */
