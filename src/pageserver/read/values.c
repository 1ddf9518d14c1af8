/*
 * values.c
 *	  Reads many values at once: see values.h.
 *
 * Each place in a file becomes a read, places close to each other become one read, and
 * all reads are made together (aio.h).  The length of a value in a layer file is in its
 * header, so the first round reads what most values take (2 kB for a record, a page for an
 * image); longer values are read in a second round.  What is absent of part files
 * (layer/layer_cache.h) is fetched together before each round.
 */
#include "ps_fe.h"

#include "sqlstate.h"
#include "io/aio.h"
#include "read/values.h"

/*
 * Places in a file whose distance is at most JOIN_GAP are read together, up to JOIN_MAX
 * bytes.  Reading the gap costs less than another system call; larger gaps might cost more
 * memory than the values.
 */
#define JOIN_GAP 512
#define JOIN_MAX (256 * 1024)

/* Up to this many places are on the stack. */
#define FEW 32

/* Smallest chunk of memory for values. */
#define CHUNK_BYTES (16 * 1024)

struct ValueChunk
{
	ValueChunk *next;
	size_t size;
	size_t used;
	char data[FLEXIBLE_ARRAY_MEMBER];
};

/* Where the bytes of a value are in a file and, after reading, in memory. */
typedef struct Place
{
	ValueRead *read;
	int fd;
	uint64 offset;
	size_t len; /* to read */
	const char *bytes;
	size_t have; /* bytes that were read */
	int error;   /* errno if that is less than len; 0 if the file ends there */
} Place;

void
value_batch_init(ValueBatch *batch, const ReadView *view)
{
	memset(batch, 0, sizeof(*batch));
	batch->view = view;
}

/* Estimated memory for reading a value; of one in a layer file, for the first round. */
static size_t
expected_memory(const ValueRef *ref)
{
	size_t unknown_len = ref->kind == VALUE_RECORD ? 2048 : BLCKSZ;
	size_t len = ref->len > 0 ? ref->len : unknown_len;

	return len + sizeof(ValueRead) + sizeof(Place) + sizeof(AioRead);
}

void
value_batch_add(ValueBatch *batch, const ValueRef *ref, char *into)
{
	if (batch->n == batch->cap)
	{
		batch->cap = batch->cap ? batch->cap * 2 : 16;
		batch->reads = pg_realloc(batch->reads, batch->cap * sizeof(ValueRead));
	}
	batch->reads[batch->n++] = (ValueRead) {.ref = *ref, .into = into};
	batch->expected += expected_memory(ref);
}

void
value_batch_reset(ValueBatch *batch)
{
	while (batch->chunks != NULL && (batch->chunks->next != NULL || batch->chunks->size > CHUNK_BYTES))
	{
		ValueChunk *chunk = batch->chunks;

		batch->chunks = chunk->next;
		free(chunk);
	}
	if (batch->chunks != NULL)
		batch->chunks->used = 0;
	batch->used = 0;
	batch->n = 0;
	batch->expected = 0;
}

void
value_batch_free(ValueBatch *batch)
{
	value_batch_reset(batch);
	free(batch->chunks);
	free(batch->reads);
	free(batch->holds);
}

/* Returns aligned memory that stays valid until the batch is reset. */
static char *
take_memory(ValueBatch *batch, size_t size)
{
	ValueChunk *chunk = batch->chunks;
	char *p;

	size = MAXALIGN(size);
	if (chunk == NULL || chunk->size - chunk->used < size)
	{
		size_t chunk_size = Max(size, chunk == NULL ? CHUNK_BYTES : Min(chunk->size * 2, VALUE_BATCH_BYTES));

		chunk = pg_malloc(offsetof(ValueChunk, data) + chunk_size);
		chunk->size = chunk_size;
		chunk->used = 0;
		chunk->next = batch->chunks;
		batch->chunks = chunk;
	}
	p = chunk->data + chunk->used;
	chunk->used += size;
	batch->used += size;
	return p;
}

/*
 * Defers a value with which the batch would use "bytes" of memory, if that is too much.
 * Never defers the first one, so that each call makes progress.
 */
static bool
too_much(ValueBatch *batch, ValueRead *read, size_t bytes)
{
	read->deferred = read != batch->reads && bytes > VALUE_BATCH_BYTES;
	return read->deferred;
}

/* Returns where to put the value; NULL if it is deferred or has a wrong length, which sets read->err. */
static char *
take_room(ValueBatch *batch, ValueRead *read, uint32 len)
{
	if (read->into != NULL)
	{
		if (len == BLCKSZ)
			return read->into;
		read->err = ps_error(PS_SQLSTATE_CORRUPTED, "image at %X/%X has %u bytes, expected %d",
							 LSN_FORMAT_ARGS(read->ref.lsn), len, BLCKSZ);
		return NULL;
	}
	if (too_much(batch, read, batch->used + len))
		return NULL;
	return take_memory(batch, len);
}

static void
answer(ValueRead *read, const char *data, uint32 len, XLogRecPtr record_start)
{
	read->data = data;
	read->len = len;
	read->record_start = record_start;
}

static WalSegments *
wal_of(const ValueBatch *batch, const ValueRead *read)
{
	return batch->view->levels[read->ref.source].tl->wal;
}

/*
 * Sets *fd to a descriptor of the segment with the record, or to -1 if the segment is
 * compressed.  Most records are in the segment of the one before, so the search starts at
 * the end.
 */
static PsError *
hold_segment(ValueBatch *batch, WalSegments *segs, XLogRecPtr lsn, int *fd)
{
	const WalHold *hold;

	XLogSegNo segno;

	XLByteToSeg(lsn, segno, wal_segments_segment_size(segs));
	for (int i = batch->nholds - 1; i >= 0; i--)
	{
		if (batch->holds[i].segs == segs && batch->holds[i].segno == segno)
		{
			*fd = batch->holds[i].packed != NULL ? -1 : batch->holds[i].fd;
			return NULL;
		}
	}
	if (batch->nholds == batch->holds_cap)
	{
		batch->holds_cap = batch->holds_cap ? batch->holds_cap * 2 : 4;
		batch->holds = pg_realloc(batch->holds, batch->holds_cap * sizeof(WalHold));
	}
	PS_TRY(wal_segments_hold(segs, lsn, &batch->holds[batch->nholds]));
	hold = &batch->holds[batch->nholds++];
	*fd = hold->packed != NULL ? -1 : hold->fd;
	return NULL;
}

/*
 * Finds a record in WAL: sets *place and *placed.  A record that is in two segments, or in
 * a compressed one, is read at once instead, and *placed is false.
 */
static PsError *
place_record(ValueBatch *batch, ValueRead *read, Place *place, bool *placed)
{
	WalSegments *segs = wal_of(batch, read);
	XLogRecPtr start = read->ref.at.record_start;
	char *room;

	if (read->ref.len < SizeOfXLogRecord)
		return ps_error(PS_SQLSTATE_CORRUPTED, "record at %X/%X has only %u bytes", LSN_FORMAT_ARGS(start),
						read->ref.len);
	place->len = wal_segments_record_extent(segs, start, read->ref.len);
	if (place->len > 0)
	{
		place->offset = XLogSegmentOffset(start, wal_segments_segment_size(segs));
		PS_TRY(hold_segment(batch, segs, start, &place->fd));
		*placed = place->fd >= 0;
	}
	if (*placed)
		return NULL;
	room = take_room(batch, read, read->ref.len);
	if (room == NULL)
		return NULL;
	PS_TRY(wal_segments_read_record(segs, start, read->ref.len, room));
	answer(read, room, read->ref.len, start);
	return NULL;
}

/* Returns true if the value must be read from *place; otherwise the answer is already there. */
static bool
find_place(ValueBatch *batch, ValueRead *read, Place *place)
{
	const ValueRef *ref = &read->ref;
	bool placed = false;

	place->read = read;
	switch ((ValuePlace) ref->place)
	{
		case VALUE_IN_MEMORY:
			if (read->into == NULL)
				answer(read, ref->at.memory, ref->len, InvalidXLogRecPtr);
			else if (take_room(batch, read, ref->len) != NULL)
			{
				memcpy(read->into, ref->at.memory, BLCKSZ);
				answer(read, read->into, BLCKSZ, InvalidXLogRecPtr);
			}
			return false;
		case VALUE_IN_WAL:
			read->err = place_record(batch, read, place, &placed);
			return placed && read->err == NULL;
		case VALUE_IN_LAYER:
			place->offset = ref->at.offset;
			read->err = layer_value_place(ref, &place->fd, &place->len);
			read->held = read->err == NULL;
			return read->held;
	}
	read->err = ps_error(PS_SQLSTATE_INTERNAL, "value has unknown place %d", ref->place);
	return false;
}

/* Reads a value that failed its check alone, if it may be right elsewhere (layer_value_was_fetched()). */
static void
read_again(ValueBatch *batch, ValueRead *read)
{
	StringInfoData buf;
	XLogRecPtr record_start;
	char *room;

	if (!layer_value_was_fetched(&read->ref))
		return;
	ps_error_free(read->err);
	initStringInfo(&buf);
	read->err = layer_read_value(&read->ref, &buf, &record_start);
	if (read->err == NULL && (room = take_room(batch, read, buf.len)) != NULL)
	{
		memcpy(room, buf.data, buf.len);
		answer(read, room, buf.len, record_start);
	}
	pfree(buf.data);
}

/*
 * Turns the bytes read into the answer.  Returns true if the value is longer: then
 * place->len bytes must be read, which are added to *longer.
 */
static bool
take_bytes(ValueBatch *batch, Place *place, size_t *longer)
{
	ValueRead *read = place->read;
	const ValueRef *ref = &read->ref;
	StoredValue stored = {0};
	char *room;

	if (ref->place == VALUE_IN_WAL)
	{
		WalSegments *segs = wal_of(batch, read);

		if (place->have < place->len)
			read->err = wal_segments_unread(segs, ref->at.record_start, place->len, place->error);
		else if ((room = take_room(batch, read, ref->len)) != NULL)
		{
			read->err = wal_segments_unpack_record(segs, ref->at.record_start, ref->len, place->bytes, room);
			answer(read, room, ref->len, ref->at.record_start);
		}
		return false;
	}

	/* even a short read may contain the whole value */
	read->err = layer_value_check(ref, place->bytes, place->have, &stored);
	if (read->err != NULL)
	{
		read_again(batch, read);
		return false;
	}
	if (stored.size > place->have && place->have == place->len)
	{
		place->len = stored.size;
		*longer += stored.size;
		return !too_much(batch, read, batch->used + *longer);
	}
	if (stored.size > place->have)
		read->err = layer_value_short_read_error(ref, place->have, stored.size, place->error);
	else if ((room = take_room(batch, read, stored.raw_len)) != NULL)
	{
		read->err = layer_value_unpack(ref, place->bytes, &stored, room);
		answer(read, room, stored.raw_len, stored.record_start);
	}
	return false;
}

static int
by_place(const void *a, const void *b)
{
	const Place *x = *(Place *const *) a;
	const Place *y = *(Place *const *) b;

	if (x->fd != y->fd)
		return x->fd < y->fd ? -1 : 1;
	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/*
 * Makes the reads for n sorted places, and for each the index of its first place.  Returns
 * their number, and in *bytes the memory that they need.
 */
static int
join_places(Place *const *places, int n, AioRead *reads, int *first_place, size_t *bytes)
{
	int nreads = 0;

	*bytes = 0;
	for (int i = 0; i < n; i++)
	{
		const Place *place = places[i];
		uint64 end = place->offset + place->len;

		if (nreads > 0)
		{
			AioRead *last = &reads[nreads - 1];
			uint64 last_end = last->offset + last->len;

			if (last->fd == place->fd && place->offset <= last_end + JOIN_GAP && end <= last->offset + JOIN_MAX)
			{
				if (end > last_end)
				{
					*bytes += end - last_end;
					last->len = end - last->offset;
				}
				continue;
			}
		}
		first_place[nreads] = i;
		reads[nreads++] = (AioRead) {.fd = place->fd, .offset = place->offset, .len = place->len};
		*bytes += place->len;
	}
	return nreads;
}

/* Sets the result of a place from a read that includes it. */
static void
set_place_result(const AioRead *read, Place *place)
{
	uint64 skip = place->offset - read->offset;

	place->bytes = read->buf + skip;
	place->have = read->done > skip ? Min(read->done - skip, place->len) : 0;
	place->error = read->error;
}

/* Reads all places.  Returns the memory that their bytes are in, which the caller frees. */
static char *
read_places(Aio *aio, Place *places, int n)
{
	Place *few_sorted[FEW];
	AioRead few_reads[FEW];
	int few_firsts[FEW];
	Place **sorted = few_sorted;
	AioRead *reads = few_reads;
	int *first_place = few_firsts;
	int nreads;
	size_t bytes;
	char *buf;
	char *p;

	if (n > FEW)
	{
		sorted = pg_malloc(n * sizeof(Place *));
		reads = pg_malloc(n * sizeof(AioRead));
		first_place = pg_malloc(n * sizeof(int));
	}
	for (int i = 0; i < n; i++)
		sorted[i] = &places[i];
	if (n > 1)
		qsort(sorted, n, sizeof(Place *), by_place);
	nreads = join_places(sorted, n, reads, first_place, &bytes);
	p = buf = pg_malloc(bytes);
	for (int i = 0; i < nreads; i++)
	{
		reads[i].buf = p;
		p += reads[i].len;
	}
	aio_read(aio, reads, nreads);
	for (int i = 0; i < nreads; i++)
	{
		int end = i + 1 < nreads ? first_place[i + 1] : n;

		for (int k = first_place[i]; k < end; k++)
		{
			Place *place = sorted[k];

			set_place_result(&reads[i], place);
			if (place->have < place->len && end > first_place[i] + 1)
			{
				/* the bad sector may belong to another place of this read */
				char *bytes = unconstify(char *, place->bytes);
				AioRead alone = {.fd = place->fd, .offset = place->offset, .len = place->len, .buf = bytes};

				aio_read(aio, &alone, 1);
				set_place_result(&alone, place);
			}
		}
	}
	if (n > FEW)
	{
		free(sorted);
		free(reads);
		free(first_place);
	}
	return buf;
}

/*
 * Fetches, together, what is absent of the places.  Returns the number of places that are
 * left; the values of the others have an error.
 */
static int
fetch_absent(Place *places, int n)
{
	const ValueRef **refs = NULL;
	size_t *lens;
	PsError **errs;
	int nabsent = 0;
	int left = 0;

	for (int i = 0; i < n; i++)
	{
		if (!places[i].read->held || layer_value_is_present(&places[i].read->ref, places[i].len))
			continue;
		if (refs == NULL)
		{
			refs = pg_malloc(n * sizeof(ValueRef *));
			lens = pg_malloc(n * sizeof(size_t));
			errs = pg_malloc(n * sizeof(PsError *));
		}
		refs[nabsent] = &places[i].read->ref;
		lens[nabsent++] = places[i].len;
	}
	if (nabsent == 0)
		return n;
	layer_values_fetch(refs, lens, errs, nabsent);
	for (int i = 0, k = 0; i < n; i++)
	{
		if (k < nabsent && refs[k] == &places[i].read->ref)
			places[i].read->err = errs[k++];
		if (places[i].read->err == NULL)
			places[left++] = places[i];
	}
	free(refs);
	free(lens);
	free(errs);
	return left;
}

void
value_batch_read(ValueBatch *batch)
{
	Place few[FEW];
	Place *places = batch->n <= FEW ? few : pg_malloc(batch->n * sizeof(Place));
	int n = 0;

	for (int i = 0; i < batch->n; i++)
		n += find_place(batch, &batch->reads[i], &places[n]);
	while ((n = fetch_absent(places, n)) > 0)
	{
		char *buf = read_places(batch->view->tl->env->aio, places, n);
		size_t longer = 0;
		int nlonger = 0;

		for (int i = 0; i < n; i++)
		{
			if (take_bytes(batch, &places[i], &longer))
				places[nlonger++] = places[i];
		}
		free(buf);
		n = nlonger;
	}
	for (int i = 0; i < batch->n; i++)
	{
		if (batch->reads[i].held)
			layer_value_release(&batch->reads[i].ref);
	}
	for (int i = 0; i < batch->nholds; i++)
		wal_segments_release(&batch->holds[i]);
	batch->nholds = 0;
	if (places != few)
		free(places);
}
