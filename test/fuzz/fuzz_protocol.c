/*
 * fuzz_protocol.c
 *	  Fuzzes the store's port: a session over a socket pair, in this process, on
 *	  a store with a branch of some pages.
 *
 * An input is a conversation, of which the client's messages are made:
 *
 *	  u8	bit 0: the startup packet is the next u8 bytes, else a right one;
 *			bit 1: there is no room for a page stream
 *	  then for each step u8 kind, and by kind (STEP_* below) what it needs
 *
 * What changes the branch is undone before the next input.  All that the store
 * says must be messages of the protocol.
 */
#include "timeline_util.h"

#include <dirent.h>
#include <ftw.h>
#include <poll.h>
#include <sanitizer/lsan_interface.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "bytes.h"
#include "fuzz.h"
#include "redo/redo.h"
#include "serve/commands.h"
#include "wire.h"

/* Records of the branch, and those that a conversation can send. */
#define NRECORDS 4000
#define NMORE    400

#define MAX_STEPS 200

/* A client whose message is not whole is cut off when nothing has happened for so long. */
#define QUIET_MS 30

enum
{
	STEP_RAW,       /* u8 n, bytes */
	STEP_QUERY,     /* u8 n, text; byte 1 stands for tenant and timeline, byte 2 for the generation */
	STEP_COMMAND,   /* u8: one of commands[] */
	STEP_REQUEST,   /* a request of a page stream: see put_request() */
	STEP_COPY_DATA, /* u8 n, bytes */
	STEP_WAL,       /* u8 n: as many of the records that come next */
	STEP_RECORD,    /* u8 rmid, u8 info, u32 xid, u16 n, what follows the header */
	STEP_WAL_BYTES, /* u8 where, and how much of the message is cut off; u16 n, bytes */
	STEP_MESSAGE,   /* u8: type, one of message_types; u8 n, bytes */
	STEP_DONE,      /* CopyDone */
	NSTEPS
};

static const char *const commands[] = {
	"pagestream \1 0", "pagestream \1 \2", "wal_push \1 \2", "basebackup main fuzzer", "fullbackup main",
	"basebackup main fuzzer 0", "basebackup main fuzzer 99999999999999999999", "basebackup_rehearsal main",
	"basebackup_rehearsal nosuch", "fullbackup main 0/702000", "branch_list", "status", "branch_create main",
	"import again /nowhere", "wal_push \1 0", "pagestream \1 99", "fullbackup main FFFFFFFF/FFFFFFF8",
	"basebackup nosuch x", "import x relative", "fullbackup main 0/1", ";", "branch_create other data_checksums"};
static const char message_types[] = "XPBDECHSFdcfp?";

static TestStore store;
static History history;
static int next_record;    /* of history, the first that the branch does not have */
static XLogRecPtr flushed; /* end of the branch's WAL, and the start of the last record */
static XLogRecPtr flushed_prev;
static uint64 generation;
static TimelineInfo before;
static int undone;

/* ---- redo: a page is made of anything ---- */

extern void __wrap_redo_pages(RedoPool *pool, RedoJob *jobs, int n);

void
__wrap_redo_pages(RedoPool *pool, RedoJob *jobs, int n)
{
	for (int k = 0; k < n; k++)
	{
		RedoJob *job = &jobs[k];

		if (!job->has_base)
			memset(job->page, 0, BLCKSZ);
		for (int i = 0; i < job->nrecords; i++)
		{
			fuzz_touch(job->records[i].data, job->records[i].len);
			job->page[100 + i % 1000] ^= job->records[i].data[job->records[i].len - 1];
		}
		PageSetLSN(job->page, job->records[job->nrecords - 1].end);
		*job->err = NULL;
	}
}

/* ---- the store's files, kept in memory ---- */

typedef struct SavedFile
{
	char *path;
	char *data; /* NULL: a directory */
	off_t size;
	size_t used; /* zeros from here on */
} SavedFile;

static SavedFile saved[200];
static int nsaved;

static int
save_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	SavedFile *f = &saved[nsaved++];
	int fd;

	REQUIRE(nsaved < lengthof(saved));
	f->path = strdup(path);
	f->size = st->st_size;
	if (type != FTW_F)
		return 0;
	f->data = malloc(Max(f->size, 1));
	fd = open(path, O_RDONLY);
	REQUIRE(fd >= 0 && read(fd, f->data, f->size) == f->size);
	close(fd);
	for (f->used = f->size; f->used > 0 && f->data[f->used - 1] == 0; f->used--)
		;
	return 0;
}

static int
remove_file(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	REQUIRE(remove(path) == 0);
	return 0;
}

static void
restore_files(void)
{
	nftw(store.dir, remove_file, 20, FTW_DEPTH | FTW_PHYS);
	for (int i = 0; i < nsaved; i++)
	{
		if (saved[i].data == NULL)
			REQUIRE(mkdir(saved[i].path, 0700) == 0);
		else
		{
			fuzz_write_file(saved[i].path, saved[i].data, saved[i].used);
			REQUIRE(truncate(saved[i].path, saved[i].size) == 0);
		}
	}
}

/* Opens the store, which is as it was saved. */
static void
open_store(void)
{
	OK(store_try_open(&store));
	OK(timeline_wait_ingested(store.tl, flushed, 60000, NULL));
	timeline_info(store.tl, &before);
}

static void
undo(void)
{
	TimelineInfo now;
	bool same;

	timeline_info(store.tl, &now);
	same = now.generation == before.generation && now.received_lsn == before.received_lsn && now.error[0] == '\0';
	if (same)
		return;
	store_close(store.store);

	/*
	 * libFuzzer's own search for leaks takes what the store's threads have for
	 * lost at times.  Now there are none.
	 */
	if (++undone % 50 == 0)
		REQUIRE(__lsan_do_recoverable_leak_check() == 0);
	restore_files();
	open_store();
}

/* A branch with layers, several WAL segments and a compute. */
static void
make_branch(void)
{
	WalReceiver *receiver;
	uint64 random = 1;
	WalState state;
	XLogRecPtr checkpoint;

	history_begin(&history, 1);
	store_make(&store, &history);
	store.config.wait_timeout = 20;
	for (int i = 0; i < NRECORDS + NMORE; i++)
		add_random_record(&history);
	next_record = history.first + 1 + NRECORDS;
	flushed = history.gen.records[next_record - 1].end;
	flushed_prev = history.gen.records[next_record - 1].start;
	OK(timeline_new_generation(store.tl, "fuzzer", NULL, &generation, &state, &checkpoint));
	OK(wal_receiver_open(store.tl, generation, &receiver, &checkpoint));
	OK(push(receiver, &history, checkpoint, flushed, &random, &checkpoint));
	CHECK(checkpoint == flushed);
	wal_receiver_close(receiver);
	OK(timeline_wait_ingested(store.tl, flushed, 60000, NULL));
	store_close(store.store);
}

/* ---- the client ---- */

typedef struct Client
{
	int fd;
	int server_fd;
	StringInfoData out; /* what it says */
	StringInfoData in;  /* what it hears */
} Client;

static void
put_message(Client *c, char type, const void *body, size_t len)
{
	char head[5];

	head[0] = type;
	ps_put32(head + 1, (uint32) len + 4);
	appendBinaryStringInfo(&c->out, head, 5);
	appendBinaryStringInfo(&c->out, body, (int) len);
}

static void
put_command(Client *c, const char *text, size_t len)
{
	StringInfoData query;
	char a[PS_ID_TEXT],
		b[PS_ID_TEXT];

	initStringInfo(&query);
	for (size_t i = 0; i < len; i++)
	{
		if (text[i] == 1)
			appendStringInfo(&query, "%s %s", ps_id_format(&test_tenant, a), ps_id_format(&test_timeline, b));
		else if (text[i] == 2)
			appendStringInfo(&query, "%llu", (unsigned long long) generation);
		else
			appendStringInfoChar(&query, text[i]);
	}
	put_message(c, 'Q', query.data, query.len + 1);
	pfree(query.data);
}

static XLogRecPtr
take_lsn(FuzzInput *in, const Gen *gen)
{
	uint8 kind = fuzz_u8(in);

	switch (kind % 8)
	{
		case 0:
			return PS_LSN_LATEST;
		case 1:
			return 0;
		case 2:
			return flushed;
		case 3:
			return gen->pos;
		case 4:
			return history.gen.records[history.first + kind / 8 * 50].end;
		case 5:
			return flushed + 8 * (kind / 8);
		case 6:
			return history.gen.start + kind / 8 * 1000;
		default:
			return fuzz_u64(in);
	}
}

/* u8 type and, from bit 2 on, how many of them; two LSNs, u8 database, u8 relation, u8 fork, u8 count, u8 each block */
static void
put_request(Client *c, FuzzInput *in, const Gen *gen)
{
	static const PsRequestType types[] = {PS_REQ_PAGES, PS_REQ_RELSIZE, PS_REQ_FORKS};
	uint8 type = fuzz_u8(in);
	PsRequest req = {.type = types[(type & 3) % 3], .reqid = c->out.len};
	StringInfoData body;
	uint8 fork;

	req.request_lsn = take_lsn(in, gen);
	req.not_modified_since = take_lsn(in, gen);
	req.rel = (PsRel) {SPC, FIRST_DB + fuzz_u8(in) % (NDB + 1), FIRST_REL + fuzz_u8(in) % (NREL + 1)};
	fork = fuzz_u8(in);
	req.fork = fork % 5;
	if (req.type == PS_REQ_FORKS && (fork & 0x40) != 0)
		req.rel.spc = 0;
	if (req.type == PS_REQ_FORKS && (fork & 0x20) != 0)
		req.rel.db = 0;
	if (req.type == PS_REQ_PAGES)
	{
		req.count = 1 + fuzz_u8(in) % PS_MAX_BATCH;
		for (int i = 0; i < req.count; i++)
		{
			uint8 blk = fuzz_u8(in);

			req.blocks[i] = blk < 200 ? blk % (NBLOCK + 2) : InvalidBlockNumber - (blk - 200);
		}
	}
	initStringInfo(&body);
	ps_wire_put_request(&body, &req);
	for (int i = 0; i <= type >> 2; i++)
		put_message(c, 'd', body.data, body.len);
	pfree(body.data);
}

/* A message with WAL, without its last bytes. */
static void
put_wal(Client *c, XLogRecPtr lsn, const void *data, size_t len, size_t cut)
{
	StringInfoData body;
	char head[25] = {'w'};

	initStringInfo(&body);
	ps_put64(head + 1, lsn);
	ps_put64(head + 9, lsn + len);
	appendBinaryStringInfo(&body, head, sizeof(head));
	appendBinaryStringInfo(&body, data, (int) len);
	put_message(c, 'd', body.data, body.len - Min(cut, body.len));
	pfree(body.data);
}

/* What the client says, out of the input. */
static void
make_conversation(Client *c, FuzzInput *in, Gen *gen)
{
	int record = next_record;
	int switches = 0;
	size_t n;
	char *bytes;

	for (int step = 0; step < MAX_STEPS && in->size > 0; step++)
	{
		int sent = gen->bytes.len;
		XLogRecPtr at = gen->pos;
		uint8 kind = fuzz_u8(in) % NSTEPS;
		uint8 what;

		switch (kind)
		{
			case STEP_RAW:
				bytes = fuzz_bytes(in, fuzz_u8(in), &n);
				appendBinaryStringInfo(&c->out, bytes, (int) n);
				free(bytes);
				break;
			case STEP_QUERY:
				bytes = fuzz_bytes(in, fuzz_u8(in), &n);
				put_command(c, bytes, n);
				free(bytes);
				break;
			case STEP_COMMAND:
				bytes = unconstify(char *, commands[fuzz_u8(in) % lengthof(commands)]);
				put_command(c, bytes, strlen(bytes));
				break;
			case STEP_REQUEST:
				put_request(c, in, gen);
				break;
			case STEP_COPY_DATA:
				bytes = fuzz_bytes(in, fuzz_u8(in), &n);
				put_message(c, 'd', bytes, n);
				free(bytes);
				break;
			case STEP_WAL:
				for (what = fuzz_u8(in); what > 0 && record < history.gen.n; what--, record++)
				{
					const XLogRecord *hdr = (const XLogRecord *) history.gen.records[record].data;

					if (hdr->xl_rmid == RM_XLOG_ID && hdr->xl_info == XLOG_SWITCH && switches++ > 0)
						continue;
					gen_record(gen, hdr->xl_rmid, hdr->xl_info, hdr->xl_xid, (const char *) hdr + SizeOfXLogRecord,
							   hdr->xl_tot_len - SizeOfXLogRecord);
				}
				put_wal(c, at, gen->bytes.data + sent, gen->bytes.len - sent, 0);
				break;
			case STEP_RECORD:
			{
				uint8 rmid = fuzz_u8(in);
				uint8 info = fuzz_u8(in);
				TransactionId xid = fuzz_u32(in);

				bytes = fuzz_bytes(in, fuzz_u16(in), &n);
				if (rmid != RM_XLOG_ID || info != XLOG_SWITCH || switches++ == 0)
					gen_record(gen, rmid, info, xid, bytes, (uint32) n);
				free(bytes);
				put_wal(c, at, gen->bytes.data + sent, gen->bytes.len - sent, 0);
				break;
			}
			case STEP_WAL_BYTES:
				at = (what = fuzz_u8(in)) < 128 ? at : at + what - 200;
				bytes = fuzz_bytes(in, fuzz_u16(in), &n);
				put_wal(c, at, bytes, n, what % 128 < 64 ? 0 : what % 32);
				free(bytes);
				break;
			case STEP_MESSAGE:
				what = fuzz_u8(in);
				bytes = fuzz_bytes(in, fuzz_u8(in), &n);
				put_message(c, message_types[what % strlen(message_types)], bytes, n);
				free(bytes);
				break;
			case STEP_DONE:
				put_message(c, 'c', "", 0);
				break;
		}
	}
	put_message(c, 'X', "", 0);
}

static void
put_startup(Client *c, FuzzInput *in, uint8 flags)
{
	static const char right[] = "\0\3\0\0user\0postgres\0database\0store\0application_name\0fuzzer\0";
	char len[4];
	size_t n;
	char *bytes;

	if ((flags & 1) != 0)
	{
		bytes = fuzz_bytes(in, fuzz_u8(in), &n);
		appendBinaryStringInfo(&c->out, bytes, (int) n);
		free(bytes);
		return;
	}
	ps_put32(len, 4 + sizeof(right));
	appendBinaryStringInfo(&c->out, len, 4);
	appendBinaryStringInfo(&c->out, right, sizeof(right));
}

/*
 * Sends all and hears all, until the session ends the connection.  One whose
 * client has no more to say but should is ended from here.
 */
static void
client_main(Client *c)
{
	int sent = 0;
	bool shut = false;
	static char buf[256 * 1024];

	for (;;)
	{
		struct pollfd pfd = {c->fd, POLLIN | (sent < c->out.len ? POLLOUT : 0), 0};
		int rc = poll(&pfd, 1, shut ? 20000 : QUIET_MS);

		if (rc < 0 && errno == EINTR)
			continue; /* libFuzzer's timer */
		REQUIRE(rc >= 0);
		if (rc == 0)
		{
			int unread = 0;

			REQUIRE(!shut); /* a session that nobody talks to ends */
			ioctl(c->server_fd, FIONREAD, &unread);
			if (sent < c->out.len || unread > 0)
				continue;
			shut = true;
			shutdown(c->fd, SHUT_WR);
			continue;
		}
		if ((pfd.revents & POLLOUT) != 0)
		{
			ssize_t n = send(c->fd, c->out.data + sent, c->out.len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

			if (n > 0)
				sent += n;
			else if (errno != EAGAIN && errno != EINTR)
				sent = c->out.len;
		}
		if ((pfd.revents & (POLLIN | POLLHUP | POLLERR)) != 0)
		{
			ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);

			if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
				return;
			if (n > 0 && c->in.len < 8 * 1024 * 1024)
				appendBinaryStringInfo(&c->in, buf, (int) n);
		}
	}
}

/* All that was heard are whole messages (but for the end of a long one) of types that a server sends. */
static void
check_answers(const Client *c)
{
	const char *p = c->in.data;
	const char *end = p + c->in.len;

	/* the answers to requests for encryption are single bytes; notices come later */
	for (int i = 0; i < 2 && p < end && *p == 'N'; i++)
		p++;
	while (p < end)
	{
		uint32 len;

		REQUIRE(strchr("RSKZETDCNIHWdcv", *p) != NULL && *p != '\0');
		if (end - p < 5)
			break;
		len = ps_get32(p + 1);
		REQUIRE(len >= 4 && len < 4 * 1024 * 1024);
		if (end - p < (ssize_t) len + 1)
		{
			REQUIRE(c->in.len >= 8 * 1024 * 1024);
			break;
		}
		if (*p == 'E')
			REQUIRE(p[5] == 'S' && p[len] == '\0');
		p += len + 1;
	}
}

/* ---- the server ---- */

static Server server;

static void
converse(FuzzInput *in)
{
	Session *session = pg_malloc0(sizeof(Session));
	uint8 flags = fuzz_u8(in);
	Client client = {0};
	pthread_t thread;
	Gen gen;
	int fds[2];

	initStringInfo(&client.out);
	initStringInfo(&client.in);
	gen_init(&gen, flushed, SEGMENT_SIZE);
	gen.prev = flushed_prev;
	put_startup(&client, in, flags);
	make_conversation(&client, in, &gen);
	gen_free(&gen);

	REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	client.fd = fds[0];
	client.server_fd = fds[1];
	session->server = &server;
	session->id = 1;
	session->secret = 0x01020304;
	store.config.max_connections = (flags & 2) != 0 ? 0 : 10;
	session->cancel = (CancelCheck) {session_check_cancel, session};
	conn_init(&session->conn, fds[1]);
	dlist_push_tail(&server.sessions, &session->link);
	server.nsessions++;
	server.count[session->kind]++;
	server.store = store.store;
	/* as in the store, a thread of its own: that of libFuzzer is not looked at for leaks */
	REQUIRE(pthread_create(&thread, NULL, session_main, session) == 0);
	client_main(&client);
	pthread_join(thread, NULL);
	close(fds[0]);
	REQUIRE(server.nsessions == 0);
	for (int kind = 0; kind < SESSION_KINDS; kind++)
		REQUIRE(server.count[kind] == 0);
	check_answers(&client);
	pfree(client.out.data);
	pfree(client.in.data);
}

static PsError *
see_key(void *arg, const PsKey *key, const char *value, uint32 len)
{
	Timeline *tl = store.tl;
	XLogRecPtr lsn = *(XLogRecPtr *) arg;
	char *page;

	fuzz_touch(value, len);
	if (key->kind == PS_KEY_RELSIZE && relsize_value_nblocks(value, len) > 0)
	{
		BlockNumber last = relsize_value_nblocks(value, len) - 1;

		page = malloc(BLCKSZ);
		fuzz_result(timeline_read_pages(tl, (PsRel) {key->spc, key->db, key->rel}, key->fork, &last, 1, lsn, page));
		free(page);
	}
	if (key->kind == PS_KEY_SLRU_SEGMENT && key->spc < PS_NSLRU && len == 4 && ps_get32(value) > 0)
	{
		PsKey block = ps_key_slru_block((PsSlru) key->spc, key->rel * 32 + ps_get32(value) - 1);
		StringInfoData buf;
		bool found;

		initStringInfo(&buf);
		fuzz_result(timeline_read_value(tl, &block, lsn, &buf, &found));
		pfree(buf.data);
	}
	return NULL;
}

/* What came in is read: nothing may be worse than an error. */
static void
look_at_branch(void)
{
	TimelineInfo info;
	PsKey lo = {0};
	PsKey hi = {.kind = PS_KEY_INITSIZE,
				.fork = 255,
				.spc = PG_UINT32_MAX,
				.db = PG_UINT32_MAX,
				.rel = PG_UINT32_MAX,
				.blk = PG_UINT32_MAX};

	timeline_info(store.tl, &info);
	REQUIRE(info.flushed_lsn >= flushed && info.ingested_lsn <= info.flushed_lsn);
	if (info.flushed_lsn == flushed)
		return;
	fuzz_result(timeline_wait_ingested(store.tl, info.flushed_lsn, 10000, NULL));
	for (int kind = PS_KEY_RELSIZE; kind <= PS_KEY_AUX; kind++)
	{
		if (kind == PS_KEY_RELBLOCK || kind == PS_KEY_SLRU_BLOCK)
			continue;
		lo.kind = hi.kind = kind;
		fuzz_result(timeline_scan(store.tl, &lo, &hi, info.flushed_lsn, see_key, &info.flushed_lsn));
	}
}

/* The threads go before leaks are looked for. */
static void
close_at_exit(void)
{
	store_close(store.store);
	nftw(store.config.bindir, remove_file, 20, FTW_DEPTH | FTW_PHYS);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *dir;

	fuzz_begin();
	make_branch();
	dir = fuzz_dir();

	/* from the disk to memory */
	{
		char command[512];
		static char moved[sizeof(store.dir)];

		snprintf(moved, sizeof(moved), "%s/store", dir);
		snprintf(command, sizeof(command), "mv '%s' '%s'", store.dir, moved);
		REQUIRE(system(command) == 0);
		strlcpy(store.dir, moved, sizeof(store.dir));
	}
	nftw(store.dir, save_file, 20, FTW_PHYS);
	open_store();
	atexit(close_at_exit);

	pthread_mutex_init(&server.lock, NULL);
	pthread_cond_init(&server.session_ended, NULL);
	dlist_init(&server.sessions);
	streams_init(&server);
	server.stream_wait_ms = 0;
	server.config = &store.config;
	store.config.unix_socket_directory = store.dir;
	store.config.listen_addresses = (char *) "";
	store.config.restart_needed = (char *) "";
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	FuzzInput in = {data, size};

	converse(&in);
	look_at_branch();
	undo();
	return 0;
}
