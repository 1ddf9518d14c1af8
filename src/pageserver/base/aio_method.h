/*
 * aio_method.h
 *	  The methods of reading files (setting "io_method"): see io/aio.h.
 */
#ifndef PS_AIO_METHOD_H
#define PS_AIO_METHOD_H

typedef enum AioMethod
{
	AIO_SYNC,
	AIO_WORKER,
	AIO_URING
} AioMethod;

/* False: there is no method of that name. */
static inline bool
aio_method_by_name(const char *name, AioMethod *method)
{
	static const char *const names[] = {"sync", "worker", "io_uring"};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
		{
			*method = (AioMethod) i;
			return true;
		}
	}
	return false;
}

#endif /* PS_AIO_METHOD_H */
