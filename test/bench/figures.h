/*
 * figures.h
 *	  A clock and percentiles, for the benchmark programs.
 */
#ifndef PS_BENCH_FIGURES_H
#define PS_BENCH_FIGURES_H

#include <time.h>

static inline double
now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static inline int
compare_figures(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return x < y ? -1 : x > y;
}

/* Sorts the values for percentile(). */
static inline void
sort_figures(double *values, int n)
{
	qsort(values, n, sizeof(double), compare_figures);
}

/* Returns a percentile of sorted values; percent must be less than 100. */
static inline double
percentile(const double *values, int n, int percent)
{
	return values[(int64) n * percent / 100];
}

#endif /* PS_BENCH_FIGURES_H */
