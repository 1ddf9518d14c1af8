/*
 * subscriptions.h
 *	  Workers of logical replication subscriptions.
 */
#ifndef PS_SUBSCRIPTIONS_H
#define PS_SUBSCRIPTIONS_H

/* From _PG_init: registers a callback. */
extern void subscriptions_init(void);

#endif /* PS_SUBSCRIPTIONS_H */
