/*
 * chain.c
 *	  The WAL of a timeline in the bucket: see chain.h.
 */
#include "ps_fe.h"

#include <pthread.h>

#include "bucket/bucket_impl.h"
#include "bucket/chain.h"
#include "bucket/envelope.h"
#include "bytes.h"
#include "sqlstate.h"

typedef enum LinkKind
{
	LINK_CHUNK = 1,
	LINK_FENCE = 2,
	LINK_CUT = 3
} LinkKind;

#define LINK_FIELDS 60

static const EnvelopeFormat link_format = {"an object of a WAL chain", 0x5053574c /* "PSWL" */, 1, LINK_FIELDS,
										   CHAIN_CHUNK_MAX};

#define AT_TIMELINE           0
#define AT_NUMBER             16
#define AT_GENERATION         24
#define AT_KIND               32
#define AT_COMPUTE_GENERATION 36
#define AT_START              44
#define AT_END                52

/* What is remembered of an object. */
typedef struct Link
{
	LinkKind kind;
	ChainChunk chunk; /* end is less if a later chunk replaces the rest */
} Link;

struct Chain
{
	/* fixed */
	TenantOwner owner;
	PsId timeline;

	/* of the thread that appends */
	char *pending; /* the object whose outcome is unknown; NULL: none */
	size_t pending_len;
	Link pending_link;

	pthread_mutex_t lock;

	/* under lock */
	XLogRecPtr end;
	uint64 next; /* number of the next object */
	Link *links; /* those that the log may still name, without gaps up to "next" */
	int nlinks;
	int room;
};

static BucketKey
link_key(const Chain *chain, uint64 number)
{
	return (BucketKey) {
		.kind = BUCKET_KEY_CHAIN, .tenant = chain->owner.tenant, .timeline = chain->timeline, .number = number};
}

/* ---- objects ---- */

static PsError *
make_object(const Chain *chain, const Link *link, const char *wal, char **data, size_t *len)
{
	char raw[LINK_FIELDS];

	memcpy(raw + AT_TIMELINE, &chain->timeline, sizeof(PsId));
	ps_put64(raw + AT_NUMBER, link->chunk.number);
	ps_put64(raw + AT_GENERATION, link->chunk.generation);
	ps_put32(raw + AT_KIND, link->kind);
	ps_put64(raw + AT_COMPUTE_GENERATION, link->chunk.compute_generation);
	ps_put64(raw + AT_START, link->chunk.start);
	ps_put64(raw + AT_END, link->chunk.end);
	return envelope_make(&link_format, raw, wal, link->chunk.end - link->chunk.start, data, len);
}

static void
get_fields(const char *raw, PsId *timeline, Link *link)
{
	memcpy(timeline, raw + AT_TIMELINE, sizeof(PsId));
	link->kind = ps_get32(raw + AT_KIND);
	link->chunk = (ChainChunk) {.number = ps_get64(raw + AT_NUMBER),
								.generation = ps_get64(raw + AT_GENERATION),
								.compute_generation = ps_get64(raw + AT_COMPUTE_GENERATION),
								.start = ps_get64(raw + AT_START),
								.end = ps_get64(raw + AT_END)};
}

/* Reads an object; *found false and no error: there is none. */
static PsError *
read_object(const Chain *chain, uint64 number, const ObjectWait *wait, Link *link, char **wal, bool *found)
{
	BucketKey key = link_key(chain, number);
	char name[BUCKET_KEY_TEXT];
	char raw[LINK_FIELDS];
	PsId timeline;
	char *data;
	size_t data_len;
	size_t len;
	PsError *err;

	*wal = NULL;
	PS_TRY(bucket_get(chain->owner.store, &key, envelope_max(&link_format), wait, &data, &data_len, found));
	if (!*found)
		return NULL;
	bucket_key_format(&key, name);
	err = envelope_open(&link_format, name, data, data_len, raw, wal, &len);
	free(data);
	PS_TRY(err);
	get_fields(raw, &timeline, link);
	if (!ps_id_equal(&timeline, &chain->timeline) || link->chunk.number != number ||
		link->kind < LINK_CHUNK || link->kind > LINK_CUT || link->chunk.end - link->chunk.start != len ||
		(len > 0) != (link->kind == LINK_CHUNK))
	{
		free(*wal);
		*wal = NULL;
		return ps_error(PS_SQLSTATE_CORRUPTED, "object \"%s\" has the contents of another one", name);
	}
	return NULL;
}

/* Remembers an object that is in the chain, as its last one. */
static void
add_link(Chain *chain, const Link *link)
{
	pthread_mutex_lock(&chain->lock);
	if (chain->nlinks == chain->room)
	{
		chain->room = Max(chain->room * 2, 16);
		chain->links = pg_realloc(chain->links, chain->room * sizeof(Link));
	}
	if (link->kind != LINK_FENCE)
	{
		for (int i = chain->nlinks - 1; i >= 0 && chain->links[i].chunk.end > link->chunk.start; i--)
			chain->links[i].chunk.end = link->chunk.start;
		chain->end = link->chunk.end;
	}
	chain->links[chain->nlinks++] = *link;
	chain->next = link->chunk.number + 1;
	pthread_mutex_unlock(&chain->lock);
}

/* ---- opening ---- */

/* An object of the chain has been read: is it as it must be, and by whom? */
static PsError *
accept_link(Chain *chain, const Link *link, const char *wal, const ChainSink *sink, const ObjectWait *wait)
{
	char name[BUCKET_KEY_TEXT];
	BucketKey key = link_key(chain, link->chunk.number);

	if (link->chunk.generation > chain->owner.generation && BUCKET_RULE(RULE_STOP_AT_NEWER))
		return claim_fenced(&chain->owner, wait);
	if (link->kind != LINK_FENCE && link->chunk.start > chain->end)
		return ps_error(PS_SQLSTATE_CORRUPTED,
						"object \"%s\" has WAL from %X/%X on, but the one before it ends at %X/%X",
						bucket_key_format(&key, name), LSN_FORMAT_ARGS(link->chunk.start), LSN_FORMAT_ARGS(chain->end));
	if (link->kind != LINK_FENCE)
		PS_TRY(sink->chunk(sink->arg, &link->chunk, wal));
	add_link(chain, link);
	return NULL;
}

/* Puts a fence at the end; *done false: somebody else has put something there. */
static PsError *
put_fence(Chain *chain, const ObjectWait *wait, bool *done)
{
	Link fence = {.kind = LINK_FENCE,
				  .chunk = {.number = chain->next,
							.generation = chain->owner.generation,
							.start = chain->end,
							.end = chain->end}};
	BucketKey key = link_key(chain, chain->next);
	char name[BUCKET_KEY_TEXT];
	char *data;
	size_t len;
	ObjectOutcome outcome;
	PsError *err;

	PS_TRY(make_object(chain, &fence, NULL, &data, &len));
	err = object_put_once(chain->owner.store, bucket_key_format(&key, name), data, len, wait, &outcome);
	free(data);
	PS_TRY(err);
	*done = outcome == OBJECT_DONE;
	if (*done)
		add_link(chain, &fence);
	return NULL;
}

/*
 * Reads all that is in the chain, and ends it with a fence.  Then there must be no
 * newer claim: a newer owner may have deleted chunks that this one has not
 * read, so that the fence is not at the end.
 */
static PsError *
read_and_fence(Chain *chain, const ChainSink *sink, const ObjectWait *wait)
{
	bool fenced = false;

	while (!fenced)
	{
		Link link;
		char *wal;
		bool found;
		PsError *err;

		PS_TRY(read_object(chain, chain->next, wait, &link, &wal, &found));
		if (found)
		{
			err = accept_link(chain, &link, wal, sink, wait);
			free(wal);
			PS_TRY(err);
		}
		else if (BUCKET_RULE(RULE_FENCE))
			PS_TRY(put_fence(chain, wait, &fenced));
		else
			fenced = true;
	}
	return BUCKET_RULE(RULE_CHECK_AFTER_FENCE) ? claim_check(&chain->owner, wait) : NULL;
}

PsError *
chain_open(const TenantOwner *owner, const PsId *timeline, uint64 number, XLogRecPtr lsn, const ChainSink *sink,
		   const ObjectWait *wait, Chain **result)
{
	Chain *chain = pg_malloc0(sizeof(*chain));
	PsError *err;

	chain->owner = *owner;
	chain->timeline = *timeline;
	chain->end = lsn;
	chain->next = number;
	pthread_mutex_init(&chain->lock, NULL);
	err = claim_explain(owner, read_and_fence(chain, sink, wait), wait);
	if (err != NULL)
	{
		chain_close(chain);
		chain = NULL;
	}
	*result = chain;
	return err;
}

void
chain_close(Chain *chain)
{
	if (chain == NULL)
		return;
	pthread_mutex_destroy(&chain->lock);
	free(chain->links);
	free(chain->pending);
	free(chain);
}

/* ---- appending ---- */

PsError *
chain_append(Chain *chain, XLogRecPtr start, const char *wal, size_t len, uint64 compute_generation,
			 const ObjectWait *wait)
{
	if (chain->pending != NULL || len == 0 || len > CHAIN_CHUNK_MAX || start > chain->end)
		return ps_error(PS_SQLSTATE_INTERNAL,
						"%zu bytes of WAL from %X/%X on cannot be appended to a chain that ends at %X/%X%s",
						len, LSN_FORMAT_ARGS(start), LSN_FORMAT_ARGS(chain->end),
						chain->pending != NULL ? ", with a chunk whose outcome is unknown" : "");
	chain->pending_link = (Link) {.kind = LINK_CHUNK,
								  .chunk = {.number = chain->next,
											.generation = chain->owner.generation,
											.compute_generation = compute_generation,
											.start = start,
											.end = start + len}};
	PS_TRY(make_object(chain, &chain->pending_link, wal, &chain->pending, &chain->pending_len));
	return chain_settle(chain, wait);
}

PsError *
chain_cut(Chain *chain, XLogRecPtr lsn, const ObjectWait *wait)
{
	if (chain->pending != NULL || lsn > chain->end)
		return ps_error(PS_SQLSTATE_INTERNAL, "a chain that ends at %X/%X cannot be cut off at %X/%X%s",
						LSN_FORMAT_ARGS(chain->end), LSN_FORMAT_ARGS(lsn),
						chain->pending != NULL ? ", with a chunk whose outcome is unknown" : "");
	chain->pending_link = (Link) {.kind = LINK_CUT,
								  .chunk = {.number = chain->next,
											.generation = chain->owner.generation,
											.start = lsn,
											.end = lsn}};
	PS_TRY(make_object(chain, &chain->pending_link, NULL, &chain->pending, &chain->pending_len));
	return chain_settle(chain, wait);
}

bool
chain_is_unsettled(const Chain *chain)
{
	return chain->pending != NULL;
}

PsError *
chain_settle(Chain *chain, const ObjectWait *wait)
{
	BucketKey key = link_key(chain, chain->next);
	char name[BUCKET_KEY_TEXT];
	ObjectOutcome outcome;

	if (chain->pending == NULL)
		return NULL;
	PS_TRY(object_put_once(chain->owner.store, bucket_key_format(&key, name), chain->pending, chain->pending_len, wait,
						   &outcome));
	if (outcome == OBJECT_EXISTS)
		return claim_fenced(&chain->owner, wait);
	free(chain->pending);
	chain->pending = NULL;
	add_link(chain, &chain->pending_link);
	return NULL;
}

/* ---- what is needed ---- */

XLogRecPtr
chain_end(Chain *chain)
{
	XLogRecPtr end;

	pthread_mutex_lock(&chain->lock);
	end = chain->end;
	pthread_mutex_unlock(&chain->lock);
	return end;
}

XLogRecPtr
chain_start(Chain *chain)
{
	XLogRecPtr start = InvalidXLogRecPtr;

	pthread_mutex_lock(&chain->lock);
	for (int i = 0; i < chain->nlinks && start == InvalidXLogRecPtr; i++)
		if (chain->links[i].kind == LINK_CHUNK)
			start = chain->links[i].chunk.start;
	pthread_mutex_unlock(&chain->lock);
	return start;
}

uint64
chain_first_needed(Chain *chain, XLogRecPtr lsn)
{
	uint64 number;

	pthread_mutex_lock(&chain->lock);
	number = chain->next;
	for (int i = chain->nlinks - 1; i >= 0 && chain->links[i].chunk.end > lsn; i--)
		number = chain->links[i].chunk.number;
	pthread_mutex_unlock(&chain->lock);
	return number;
}

void
chain_remove_before(Chain *chain, uint64 number, Deleter *deleter)
{
	int n;

	pthread_mutex_lock(&chain->lock);
	for (n = 0; n < chain->nlinks && chain->links[n].chunk.number < number; n++)
	{
		BucketKey key = link_key(chain, chain->links[n].chunk.number);

		if (chain->links[n].kind != LINK_FENCE || !BUCKET_RULE(RULE_KEEP_FENCES))
			deleter_add(deleter, &key, 1);
	}
	chain->nlinks -= n;
	if (n > 0)
		memmove(chain->links, chain->links + n, chain->nlinks * sizeof(Link));
	pthread_mutex_unlock(&chain->lock);
}

/* ---- reading, by anybody ---- */

PsError *
chain_peek(ObjectStore *store, const BucketKey *key, const ObjectWait *wait, ChainChunk *chunk, bool *fence,
		   bool *found)
{
	char data[128];
	char raw[LINK_FIELDS];
	char name[BUCKET_KEY_TEXT];
	PsId timeline;
	Link link;
	size_t len;
	PsError *err;

	Assert(envelope_head(&link_format) <= sizeof(data));
	bucket_key_format(key, name);
	err = object_get_range(store, name, 0, envelope_head(&link_format), data, &len, wait);
	*found = err == NULL;
	if (object_is_missing(err))
	{
		ps_error_free(err);
		return NULL;
	}
	PS_TRY(err);
	PS_TRY(envelope_peek(&link_format, name, data, len, raw));
	get_fields(raw, &timeline, &link);
	*chunk = link.chunk;
	*fence = link.kind == LINK_FENCE;
	return NULL;
}

PsError *
chain_read(ObjectStore *store, const PsId *tenant, const PsId *timeline, uint64 number, XLogRecPtr lsn,
		   const ChainSink *sink, const ObjectWait *wait, XLogRecPtr *end)
{
	Chain chain = {.owner = {store, *tenant, PG_UINT64_MAX}, .timeline = *timeline, .end = lsn, .next = number};
	bool found = true;
	PsError *err = NULL;

	pthread_mutex_init(&chain.lock, NULL);
	while (err == NULL && found)
	{
		Link link;
		char *wal;

		err = read_object(&chain, chain.next, wait, &link, &wal, &found);
		if (err == NULL && found)
			err = accept_link(&chain, &link, wal, sink, wait);
		free(wal);
	}
	*end = chain.end;
	pthread_mutex_destroy(&chain.lock);
	free(chain.links);
	return err;
}
