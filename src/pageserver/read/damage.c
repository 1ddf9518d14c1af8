/*
 * damage.c
 *	  Pages that could not be read: logged once, and remembered for "branch list".
 *
 * A page is forgotten when it can be read again in the newest state: because it was
 * written again as a whole, its relation was dropped, or the cause was fixed.
 */
#include "ps_fe.h"

#include "read/read_impl.h"

/* Timeline.lock protects this and the pointer to it. */
struct Damage
{
	int n;
	struct
	{
		PsKey key;
		char *message;
	} pages[DAMAGE_MAX];
	bool more;
};

/* Returns false if the page is known already, or there are too many.  Caller holds Timeline.lock. */
static bool
remember(Timeline *tl, const PsKey *key, const PsError *err)
{
	struct Damage *damage = tl->damage;

	if (damage == NULL)
		tl->damage = damage = pg_malloc0(sizeof(struct Damage));
	for (int i = 0; i < damage->n; i++)
		if (ps_key_cmp(&damage->pages[i].key, key) == 0)
			return false;
	if (damage->n == DAMAGE_MAX)
	{
		damage->more = true;
		return false;
	}
	damage->pages[damage->n].key = *key;
	damage->pages[damage->n++].message = pg_strdup(err->message);
	return true;
}

void
damage_note(Timeline *tl, const PsKey *key, const PsError *err)
{
	bool is_new;

	if (!ps_error_is_damage(err))
		return;
	pthread_mutex_lock(&tl->lock);
	is_new = remember(tl, key, err);
	pthread_mutex_unlock(&tl->lock);
	if (is_new)
		ps_log_error(PS_WARNING, ps_error_copy(err), "could not read a page");
}

int
damage_list(Timeline *tl, PsKey keys[DAMAGE_MAX])
{
	int n = 0;

	pthread_mutex_lock(&tl->lock);
	for (; tl->damage != NULL && n < tl->damage->n; n++)
		keys[n] = tl->damage->pages[n].key;
	pthread_mutex_unlock(&tl->lock);
	return n;
}

void
damage_forget(Timeline *tl, const PsKey *key)
{
	struct Damage *damage;

	pthread_mutex_lock(&tl->lock);
	damage = tl->damage;
	for (int i = 0; i < damage->n; i++)
	{
		if (ps_key_cmp(&damage->pages[i].key, key) != 0)
			continue;
		free(damage->pages[i].message);
		damage->n--;
		memmove(&damage->pages[i], &damage->pages[i + 1], (damage->n - i) * sizeof(damage->pages[0]));
		damage->more = false; /* the others are noted when they are read again */
	}
	pthread_mutex_unlock(&tl->lock);
}

void
damage_text(const Timeline *tl, char *out, size_t size)
{
	const struct Damage *damage = tl->damage;

	out[0] = '\0';
	if (damage == NULL || damage->n == 0)
		return;
	if (damage->n == 1)
		strlcpy(out, damage->pages[0].message, size);
	else
		snprintf(out, size, "%d%s pages cannot be read, one of them: %s", damage->n, damage->more ? " or more" : "",
				 damage->pages[0].message);
}

void
damage_free(Timeline *tl)
{
	for (int i = 0; tl->damage != NULL && i < tl->damage->n; i++)
		free(tl->damage->pages[i].message);
	free(tl->damage);
	tl->damage = NULL;
}
