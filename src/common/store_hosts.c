/*
 * store_hosts.c
 *	  A connection string with several hosts.  Built twice: into pageserver_ctl
 *	  (with FRONTEND defined) and into the extension.
 */
#ifdef FRONTEND
#include "ps_fe.h"
#else
#include "postgres.h"
#endif
#include "libpq-fe.h"

#include "store_hosts.h"

/* The number of elements of a list; 0 if there is no list, -1 if an element is empty or too long. */
static int
count_elements(const char *list, size_t max)
{
	int n = 1;
	size_t len = 0;

	if (list == NULL)
		return 0;
	for (const char *p = list;; p++)
	{
		if (*p != ',' && *p != '\0')
		{
			len++;
			continue;
		}
		if (len == 0 || len >= max)
			return -1;
		if (*p == '\0')
			return n;
		len = 0;
		n++;
	}
}

/* Copies element i of a list, or its only one. */
static void
get_element(const char *list, int i, char *to, size_t size)
{
	size_t len;

	to[0] = '\0';
	if (list == NULL)
		return;
	if (strchr(list, ',') != NULL)
		for (; i > 0; i--)
			list = strchr(list, ',') + 1;
	len = strcspn(list, ",");
	memcpy(to, list, Min(len, size - 1));
	to[Min(len, size - 1)] = '\0';
}

void
store_hosts_parse(StoreHosts *hosts, const char *address)
{
	PQconninfoOption *options = PQconninfoParse(address, NULL);
	int nhosts;
	int naddrs;
	int nports;

	*hosts = (StoreHosts) {.n = 1};
	for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
	{
		char **list = strcmp(option->keyword, "host") == 0       ? &hosts->hosts
					  : strcmp(option->keyword, "hostaddr") == 0 ? &hosts->hostaddrs
					  : strcmp(option->keyword, "port") == 0     ? &hosts->ports
																 : NULL;

		if (list != NULL && option->val != NULL && option->val[0] != '\0')
			*list = pstrdup(option->val);
	}
	PQconninfoFree(options);

	nhosts = count_elements(hosts->hosts, sizeof(((StoreHost *) 0)->host));
	naddrs = count_elements(hosts->hostaddrs, sizeof(((StoreHost *) 0)->hostaddr));
	nports = count_elements(hosts->ports, sizeof(((StoreHost *) 0)->port));
	hosts->n = Max(nhosts, naddrs);
	if (hosts->n > 1 && (nhosts == hosts->n || nhosts == 0) && (naddrs == hosts->n || naddrs == 0) &&
		(nports == hosts->n || nports == 1 || nports == 0))
		return;
	store_hosts_free(hosts);
	hosts->n = 1;
}

void
store_hosts_free(StoreHosts *hosts)
{
	char **lists[] = {&hosts->hosts, &hosts->hostaddrs, &hosts->ports};

	for (int i = 0; i < lengthof(lists); i++)
		if (*lists[i] != NULL)
			pfree(*lists[i]);
	*hosts = (StoreHosts) {0};
}

void
store_hosts_get(const StoreHosts *hosts, int i, StoreHost *host)
{
	get_element(hosts->hosts, i, host->host, sizeof(host->host));
	get_element(hosts->hostaddrs, i, host->hostaddr, sizeof(host->hostaddr));
	get_element(hosts->ports, i, host->port, sizeof(host->port));
}
