/*
 * value.c
 *	  Lists of references to values.
 */
#include "ps_fe.h"

#include "layer/value.h"

void
value_list_add(ValueList *list, const ValueRef *ref)
{
	if (list->n == list->cap)
	{
		list->cap = Max(16, list->cap * 2);
		list->refs = pg_realloc(list->refs, list->cap * sizeof(ValueRef));
	}
	list->refs[list->n++] = *ref;
}
