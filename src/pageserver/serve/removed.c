/*
 * removed.c
 *	  How timelines were removed since the store was started.  Computes that ask
 *	  for such a timeline get this as the detail of their error.
 */
#include "ps_fe.h"

#include <time.h>

#include "serve/serve_impl.h"
#include "sqlstate.h"

void
removed_note(Server *server, const PsId *timeline, const char *fmt, ...)
{
	RemovedTimeline *note;
	time_t now = time(NULL);
	struct tm tm;
	char when[64];
	char how[sizeof(note->how)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(how, sizeof(how), fmt, args);
	va_end(args);
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
	pthread_mutex_lock(&server->lock);
	note = &server->removed[server->nremoved++ % REMOVED_NOTES];
	note->id = *timeline;
	snprintf(note->how, sizeof(note->how), "%.*s at %s.", (int) (sizeof(how) - sizeof(when)), how, when);
	pthread_mutex_unlock(&server->lock);
}

PsError *
removed_explain(Server *server, const PsId *timeline, PsError *err)
{
	uint64 n;

	if (err == NULL || !ps_error_is(err, PS_SQLSTATE_NOT_FOUND))
		return err;
	pthread_mutex_lock(&server->lock);
	n = Min(server->nremoved, REMOVED_NOTES);
	/* newest first: the timeline may have been removed, undeleted and removed again */
	for (uint64 i = 1; i <= n; i++)
	{
		const RemovedTimeline *note = &server->removed[(server->nremoved - i) % REMOVED_NOTES];

		if (!ps_id_equal(&note->id, timeline))
			continue;
		ps_error_detail(err, "%s", note->how);
		break;
	}
	pthread_mutex_unlock(&server->lock);
	return err;
}
