/*
 * wal_waits.c
 *	  What the WAL streams of branches wait for: noted with their sessions,
 *	  shown by "branch_list" and "status".
 */
#include "ps_fe.h"

#include <time.h>

#include "serve/serve_impl.h"

void
wal_waits_set(Session *session, const char *branch, const char *waits_for)
{
	char before[WAIT_TEXT];
	time_t since;

	pthread_mutex_lock(&session->server->lock);
	strlcpy(before, session->waits_for, sizeof(before));
	since = session->waits_since;
	strlcpy(session->waits_for, waits_for, sizeof(session->waits_for));
	if (before[0] == '\0')
		session->waits_since = time(NULL);
	pthread_mutex_unlock(&session->server->lock);
	if (before[0] == '\0' && waits_for[0] != '\0')
		ps_log(PS_WARNING, "branch \"%s\": WAL of its compute is waiting: %s", branch, waits_for);
	else if (before[0] != '\0' && waits_for[0] == '\0')
		ps_log(PS_LOG, "branch \"%s\": WAL of its compute is no longer waiting, after %ld s", branch,
			   (long) (time(NULL) - since));
}

char *
wal_waits_get(Server *server, const Branch *branch)
{
	char *text = NULL;
	dlist_iter iter;

	pthread_mutex_lock(&server->lock);
	dlist_foreach (iter, &server->sessions)
	{
		Session *session = dlist_container(Session, link, iter.cur);
		struct tm tm;
		char when[64];

		if (session->kind != SESSION_WAL || session->waits_for[0] == '\0' || session->nheld == 0 ||
			branch_of(session->held[0]) != branch)
			continue;
		gmtime_r(&session->waits_since, &tm);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S+00", &tm);
		free(text);
		text = psprintf("%s, since %s", session->waits_for, when);
	}
	pthread_mutex_unlock(&server->lock);
	return text;
}
