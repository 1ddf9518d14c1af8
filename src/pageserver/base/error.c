/*
 * error.c
 *	  Error objects: see error.h.
 */
#include "ps_fe.h"

#include "base/error.h"
#include "sqlstate.h"

static char *vformat(const char *fmt, va_list args) pg_attribute_printf(1, 0);

static char *
vformat(const char *fmt, va_list args)
{
	int save_errno = errno;
	size_t len = 256;

	for (;;)
	{
		char *buf = pg_malloc(len);
		va_list copy;
		size_t need;

		va_copy(copy, args);
		errno = save_errno;
		need = vsnprintf(buf, len, fmt, copy);
		va_end(copy);
		if (need < len)
			return buf;
		free(buf);
		len = need + 1;
	}
}

PsError *
ps_error(const char *sqlstate, const char *fmt, ...)
{
	PsError *err;
	va_list args;
	int save_errno = errno;

	err = pg_malloc0(sizeof(PsError));
	strlcpy(err->sqlstate, sqlstate, sizeof(err->sqlstate));
	errno = save_errno;
	va_start(args, fmt);
	err->message = vformat(fmt, args);
	va_end(args);
	return err;
}

PsError *
ps_error_detail(PsError *err, const char *fmt, ...)
{
	va_list args;

	free(err->detail);
	va_start(args, fmt);
	err->detail = vformat(fmt, args);
	va_end(args);
	return err;
}

PsError *
ps_error_hint(PsError *err, const char *fmt, ...)
{
	va_list args;

	free(err->hint);
	va_start(args, fmt);
	err->hint = vformat(fmt, args);
	va_end(args);
	return err;
}

PsError *
ps_error_context(PsError *err, const char *fmt, ...)
{
	va_list args;
	char *context;
	char *message;

	va_start(args, fmt);
	context = vformat(fmt, args);
	va_end(args);
	message = psprintf("%s: %s", context, err->message);
	free(context);
	free(err->message);
	err->message = message;
	return err;
}

PsError *
ps_error_unknown(PsError *err, const char *detail, ...)
{
	va_list args;

	ps_error_set_state(err, PS_SQLSTATE_UNKNOWN);
	free(err->detail);
	va_start(args, detail);
	err->detail = vformat(detail, args);
	va_end(args);
	return ps_error_hint(err,
						 "Check the disk, then restart the store, which determines the outcome.  "
						 "\"pageserver_ctl branch list\" and \"pageserver_ctl tenant list\" show it, "
						 "with --deleted what is in the trash.");
}

PsError *
ps_error_first(PsError *first, PsError *second)
{
	if (first == NULL)
		return second;
	ps_error_free(second);
	return first;
}

void
ps_error_set_state(PsError *err, const char *sqlstate)
{
	err->is_cancel = false;
	strlcpy(err->sqlstate, sqlstate, sizeof(err->sqlstate));
}

bool
ps_error_is(const PsError *err, const char *sqlstate)
{
	return strcmp(err->sqlstate, sqlstate) == 0;
}

const char *
ps_errno_state(void)
{
	switch (errno)
	{
		case ENOSPC:
		case EDQUOT:
		case EFBIG:
			return PS_SQLSTATE_DISK_FULL;
		case ENOMEM:
			return PS_SQLSTATE_OUT_OF_MEMORY;
		case EMFILE:
		case ENFILE:
			return PS_SQLSTATE_NO_RESOURCES;
		default:
			return PS_SQLSTATE_IO;
	}
}

bool
ps_error_is_transient(const PsError *err)
{
	return err->is_cancel || ps_sqlstate_store_retries(err->sqlstate);
}

bool
ps_error_is_damage(const PsError *err)
{
	return ps_error_is(err, PS_SQLSTATE_CORRUPTED) || ps_error_is(err, PS_SQLSTATE_IO);
}

PsError *
ps_error_copy(const PsError *err)
{
	PsError *copy = pg_malloc0(sizeof(PsError));

	strlcpy(copy->sqlstate, err->sqlstate, sizeof(copy->sqlstate));
	copy->is_cancel = err->is_cancel;
	copy->message = pg_strdup(err->message);
	copy->detail = err->detail != NULL ? pg_strdup(err->detail) : NULL;
	copy->hint = err->hint != NULL ? pg_strdup(err->hint) : NULL;
	return copy;
}

void
ps_error_free(PsError *err)
{
	if (err == NULL)
		return;
	free(err->message);
	free(err->detail);
	free(err->hint);
	free(err);
}
