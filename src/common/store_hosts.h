/*
 * store_hosts.h
 *	  A connection string with several hosts, each of which may be the store that
 *	  has our tenant now.
 *
 * libpq tries the hosts until one accepts a connection.  That is not enough here: a
 * store that runs, but does not have the tenant, accepts connections, too.  So each
 * host is a connection string of its own.
 */
#ifndef PS_STORE_HOSTS_H
#define PS_STORE_HOSTS_H

typedef struct StoreHosts
{
	int n;
	char *hosts; /* the lists as in the connection string; NULL: not given */
	char *hostaddrs;
	char *ports;
} StoreHosts;

/* One of the hosts.  If PQconnectStartParams() gets these behind "dbname", they replace the lists. */
typedef struct StoreHost
{
	char host[MAXPGPATH]; /* "", like the others: not given */
	char hostaddr[64];
	char port[16];
} StoreHost;

/*
 * Finds the hosts of a valid connection string.  The lists are palloc'd, and freed with
 * store_hosts_free().  One host without lists if libpq can deal with the string itself:
 * there is only one host, or the lists do not match, which is an error of libpq's.
 */
extern void store_hosts_parse(StoreHosts *hosts, const char *address);
extern void store_hosts_free(StoreHosts *hosts);

/* The host at place i, 0 <= i < n. */
extern void store_hosts_get(const StoreHosts *hosts, int i, StoreHost *host);

#endif /* PS_STORE_HOSTS_H */
