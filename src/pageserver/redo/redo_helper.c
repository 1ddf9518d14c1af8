/*
 * redo_helper.c
 *	  One redo helper process: see redo_helper.h.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "storage/bufpage.h"

#include "key.h"
#include "pg/parse.h"
#include "sqlstate.h"
#include "redo/redo_dir.h"
#include "redo/redo_helper.h"
#include "redo_proto.h"

/* Lines that a helper may log in a minute; further ones are only counted. */
#define LOG_LINES       50
#define LOG_WINDOW_USEC (60 * INT64CONST(1000000))

/* Records of one writev(): each takes two entries. */
#define RECORDS_PER_WRITE 256

static void
close_pipe(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* posix_spawn() never runs our code in the child, so it is safe with threads. */
static PsError *
spawn(RedoHelper *helper, const char *program, char *const argv[], char *const envp[], int in, int out, int log)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t signals;
	int rc;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	rc = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(&actions, log, STDERR_FILENO);
	if (rc == 0)
		rc = posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
	sigemptyset(&signals);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(&attr, &signals);
	sigfillset(&signals);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(&attr, &signals);
	if (rc == 0)
		rc = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (rc == 0)
		rc = posix_spawn(&helper->pid, program, &actions, &attr, argv, envp);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	if (rc == 0)
		return NULL;
	helper->pid = 0;
	errno = rc;
	return ps_error(PS_SQLSTATE_IO, "could not start redo helper \"%s\": %m", program);
}

/*
 * Answers that fit into the pipe: each takes 2 or 3 of its slots, which are
 * pages.  A user with very many pipes gets short ones.
 */
static int
pipe_window(int fd)
{
	return Max(1, fcntl(fd, F_GETPIPE_SZ) / (3 * (int) sysconf(_SC_PAGESIZE)));
}

PsError *
redo_helper_start(RedoHelper *helper, const RedoOptions *options, const char *dir)
{
	int in[2] = {-1, -1};
	int out[2] = {-1, -1};
	int log[2] = {-1, -1};
	int wal_size = Max(1024, 2 * (int) (options->segment_size / (1024 * 1024)));
	char program[MAXPGPATH];
	char library[MAXPGPATH + 64];
	char min_wal_size[64];
	char max_wal_size[64];
	char version[64];
	PsError *err;
	char *argv[] = {
		program, "--single", "-D", unconstify(char *, dir), "-F",
		"-c", library,
		"-c", min_wal_size,
		"-c", max_wal_size,
		"-c", options->wal_log_hints ? "wal_log_hints=on" : "wal_log_hints=off",
		/* a record references at most 33 blocks, and redo reads a few more pages */
		"-c", "shared_buffers=64",
		"-c", "max_connections=1",
		"-c", "autovacuum_max_workers=1",
		"-c", "max_worker_processes=0",
		"-c", "max_wal_senders=0",
		"-c", "max_replication_slots=0",
		"-c", "max_locks_per_transaction=10",
		"-c", "max_pred_locks_per_transaction=10",
		"-c", "max_files_per_process=64",
		"-c", "huge_pages=off",
		"-c", "log_line_prefix=",
		"-c", "log_destination=stderr",
		"-c", "logging_collector=off",
		"template1", NULL};
	char *envp[] = {"LC_ALL=C", "TZ=UTC", version, NULL};

	memset(helper, 0, sizeof(RedoHelper));
	helper->requests = helper->answers = helper->log = -1;

	snprintf(program, sizeof(program), "%s/postgres", options->bindir);
	if (options->library != NULL)
		snprintf(library, sizeof(library), "shared_preload_libraries=\"%s\"", options->library);
	else
		strlcpy(library, "shared_preload_libraries=pageserver_walredo", sizeof(library));
	snprintf(min_wal_size, sizeof(min_wal_size), "min_wal_size=%dMB", wal_size);
	snprintf(max_wal_size, sizeof(max_wal_size), "max_wal_size=%dMB", wal_size);
	snprintf(version, sizeof(version), "%s=%d", REDO_ENV_VERSION, REDO_PROTO_VERSION);

	PS_TRY(redo_dir_make(dir, options->segment_size));
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(log, O_CLOEXEC) != 0 ||
		fcntl(log[0], F_SETFL, O_NONBLOCK) != 0)
		err = ps_error(ps_errno_state(), "could not make pipes for a redo helper: %m");
	else
		err = spawn(helper, program, argv, envp, in[0], out[1], log[1]);
	if (err == NULL)
	{
		helper->requests = in[1];
		helper->answers = out[0];
		helper->log = log[0];
		helper->window = pipe_window(helper->answers);
		in[1] = out[0] = log[0] = -1;
	}
	for (int i = 0; i < 2; i++)
	{
		close_pipe(&in[i]);
		close_pipe(&out[i]);
		close_pipe(&log[i]);
	}
	return err;
}

/* All of iov, which is changed; false: the helper does not read any more. */
static bool
write_all(int fd, struct iovec *iov, int count)
{
	while (count > 0)
	{
		ssize_t n = writev(fd, iov, count);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		while (count > 0 && (size_t) n >= iov->iov_len)
		{
			n -= iov->iov_len;
			iov++;
			count--;
		}
		if (count > 0)
		{
			iov->iov_base = (char *) iov->iov_base + n;
			iov->iov_len -= n;
		}
	}
	return true;
}

/* Reads at least "least" bytes into the header and what follows into data; returns how many, 0 at an early end. */
static size_t
read_answer(int fd, void *header, size_t header_len, void *data, size_t data_len, size_t least, size_t have)
{
	while (have < least)
	{
		struct iovec iov[2];
		ssize_t n;

		if (have < header_len)
		{
			iov[0] = (struct iovec) {(char *) header + have, header_len - have};
			iov[1] = (struct iovec) {data, data_len};
			n = readv(fd, iov, 2);
		}
		else
			n = read(fd, (char *) data + (have - header_len), header_len + data_len - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		have += n;
	}
	return have;
}

PsError *
redo_helper_hello(RedoHelper *helper)
{
	RedoHello hello;

	if (read_answer(helper->answers, &hello, sizeof(hello), NULL, 0, sizeof(hello), 0) == 0)
		return ps_error(PS_SQLSTATE_INTERNAL, "redo helper (PID %d) ended while it started", (int) helper->pid);
	if (hello.magic != REDO_MAGIC || hello.version != REDO_PROTO_VERSION ||
		hello.pg_version_num / 10000 != PG_VERSION_NUM / 10000 || hello.block_size != BLCKSZ)
		return ps_error_hint(ps_error(PS_SQLSTATE_INTERNAL,
									  "redo helper (PID %d) speaks protocol %u of PostgreSQL %u with %u-byte blocks, "
									  "expected protocol %d of PostgreSQL %d with %d-byte blocks",
									  (int) helper->pid, hello.version, hello.pg_version_num / 10000, hello.block_size,
									  REDO_PROTO_VERSION, PG_VERSION_NUM / 10000, BLCKSZ),
							 "Install pageserver and pageserver_walredo of the same build.");
	return NULL;
}

bool
redo_helper_send(RedoHelper *helper, const RedoPiece *piece)
{
	const WalRecord *records = piece->records;
	int nrecords = piece->nrecords;
	RedoRequest request = {.magic = REDO_MAGIC,
						   .rel = piece->rel,
						   .fork = piece->fork,
						   .blk = piece->blk,
						   .has_base = piece->base != NULL,
						   .nrecords = nrecords,
						   .number = helper->sent++};
	/* what stands before a record: zeros that round up the record before it, and its header */
	struct
	{
		char zeros[REDO_ALIGN];
		RedoRecordHeader header;
	} before[RECORDS_PER_WRITE];
	static const char zeros[REDO_ALIGN];
	struct iovec iov[2 * RECORDS_PER_WRITE + 3];
	int niov = 0;
	int padding = 0;

	request.length = piece->base != NULL ? BLCKSZ : 0;
	for (int i = 0; i < nrecords; i++)
		request.length += sizeof(RedoRecordHeader) + TYPEALIGN(REDO_ALIGN, records[i].len);
	iov[niov++] = (struct iovec) {&request, sizeof(RedoRequest)};
	if (piece->base != NULL)
		iov[niov++] = (struct iovec) {unconstify(char *, piece->base), BLCKSZ};
	for (int done = 0; done < nrecords;)
	{
		int n = Min(nrecords - done, RECORDS_PER_WRITE);

		for (int i = 0; i < n; i++)
		{
			const WalRecord *rec = &records[done + i];

			memset(before[i].zeros, 0, REDO_ALIGN);
			before[i].header = (RedoRecordHeader) {.start = rec->start, .end = rec->end, .len = rec->len};
			iov[niov++] = (struct iovec) {(char *) &before[i].header - padding, sizeof(RedoRecordHeader) + padding};
			iov[niov++] = (struct iovec) {unconstify(char *, rec->data), rec->len};
			padding = TYPEALIGN(REDO_ALIGN, rec->len) - rec->len;
		}
		done += n;
		if (done == nrecords && padding > 0)
			iov[niov++] = (struct iovec) {unconstify(char *, &zeros[0]), padding};
		if (!write_all(helper->requests, iov, niov))
			return false;
		niov = 0;
	}
	return true;
}

/*
 * Has the page the LSN that redo of the piece gives it?  Where redo does not
 * always set it, that of the base or of any of the records.
 */
static bool
lsn_is_right(const RedoPiece *piece, const char *page)
{
	const WalRecord *last = &piece->records[piece->nrecords - 1];
	XLogRecPtr base_lsn = piece->base != NULL ? PageXLogRecPtrGet(((const PageHeaderData *) piece->base)->pd_lsn) : 0;
	XLogRecPtr lsn = PageXLogRecPtrGet(((const PageHeaderData *) page)->pd_lsn);

	if (lsn == last->end)
		return true;
	/* a page that is restored and is all zeros has none */
	if (((const PageHeaderData *) page)->pd_upper == 0)
		return lsn == 0 && ((const XLogRecord *) last->data)->xl_rmid == RM_XLOG_ID;
	if (lsn == base_lsn)
		return base_lsn > last->end || !wal_redo_sets_lsn(last, piece->fork);
	for (int i = 0; i < piece->nrecords - 1; i++)
		if (lsn == piece->records[i].end)
			return !wal_redo_sets_lsn(last, piece->fork);
	return false;
}

PsError *
redo_helper_receive(RedoHelper *helper, const RedoPiece *piece, char *page, bool *broken)
{
	const WalRecord *records = piece->records;
	int nrecords = piece->nrecords;
	RedoAnswer answer;
	size_t have;
	XLogRecPtr lsn;
	PsKey key = ps_key_block(piece->rel, piece->fork, piece->blk);
	char text[PS_KEY_TEXT];

	*broken = true;
	have = read_answer(helper->answers, &answer, sizeof(answer), page, BLCKSZ, sizeof(answer), 0);
	if (have == 0)
		goto ended;
	if (answer.magic != REDO_MAGIC || answer.number != helper->received ||
		(answer.status == REDO_OK ? answer.length != BLCKSZ : answer.length >= REDO_MAX_TEXT))
		return ps_error(PS_SQLSTATE_INTERNAL, "redo helper (PID %d) gave an invalid answer for %s",
						(int) helper->pid, ps_key_format(&key, text));
	have = read_answer(helper->answers, &answer, sizeof(answer), page, BLCKSZ, sizeof(answer) + answer.length, have);
	if (have == 0)
		goto ended;
	helper->received++;
	if (answer.status == REDO_OK && !lsn_is_right(piece, page))
		return ps_error(PS_SQLSTATE_INTERNAL,
						"redo helper (PID %d) gave a page with LSN %X/%X for %s "
						"after %d WAL records from %X/%X to %X/%X",
						(int) helper->pid, LSN_FORMAT_ARGS(PageXLogRecPtrGet(((PageHeaderData *) page)->pd_lsn)),
						ps_key_format(&key, text), nrecords, LSN_FORMAT_ARGS(records[0].start),
						LSN_FORMAT_ARGS(records[nrecords - 1].end));
	*broken = false;
	if (answer.status == REDO_OK)
		return NULL;

	if (answer.failed_record >= (uint32) nrecords)
		return ps_error(PS_SQLSTATE_CORRUPTED, "redo of %d WAL records from %X/%X to %X/%X failed for %s: %.*s",
						nrecords, LSN_FORMAT_ARGS(records[0].start), LSN_FORMAT_ARGS(records[nrecords - 1].start),
						ps_key_format(&key, text), (int) answer.length, page);
	lsn = records[answer.failed_record].start;
	return ps_error(PS_SQLSTATE_CORRUPTED, "redo of the WAL record at %X/%X failed for %s: %.*s",
					LSN_FORMAT_ARGS(lsn), ps_key_format(&key, text), (int) answer.length, page);

ended:
	return ps_error(PS_SQLSTATE_INTERNAL,
					"redo helper (PID %d) ended while it applied %d WAL records from %X/%X to %X/%X to %s",
					(int) helper->pid, nrecords, LSN_FORMAT_ARGS(records[0].start),
					LSN_FORMAT_ARGS(records[nrecords - 1].start), ps_key_format(&key, text));
}

/* Does the line only explain the one before it? */
static bool
is_explanation(const char *line)
{
	static const char *const words[] = {"HINT:", "DETAIL:", "CONTEXT:", "LOCATION:", "STATEMENT:"};

	for (int i = 0; i < lengthof(words); i++)
	{
		if (strncmp(line, words[i], strlen(words[i])) == 0)
			return true;
	}
	return false;
}

/* Takes one whole line of the helper's log. */
static void
log_line(RedoHelper *helper)
{
	int64 now = clock_now_us();

	helper->line[helper->line_len] = '\0';
	helper->line_len = 0;
	if (helper->line[0] == '\0')
		return;
	if (!is_explanation(helper->line))
		strlcpy(helper->last_line, helper->line, sizeof(helper->last_line));

	if (now >= helper->log_window_end)
	{
		if (helper->lines_dropped > 0)
			ps_log(PS_WARNING, "redo helper (PID %d): %d more lines were not logged", (int) helper->pid,
				   helper->lines_dropped);
		helper->lines_dropped = 0;
		helper->lines_left = LOG_LINES;
		helper->log_window_end = now + LOG_WINDOW_USEC;
	}
	if (helper->lines_left > 0)
	{
		helper->lines_left--;
		ps_log(PS_LOG, "redo helper (PID %d): %s", (int) helper->pid, helper->line);
	}
	else
		helper->lines_dropped++;
}

void
redo_helper_log(RedoHelper *helper)
{
	char buf[4096];
	ssize_t n;

	while (helper->log >= 0)
	{
		n = read(helper->log, buf, sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0)
		{
			close_pipe(&helper->log);
			log_line(helper);
			return;
		}
		for (ssize_t i = 0; i < n; i++)
		{
			if (buf[i] == '\n')
				log_line(helper);
			else if (helper->line_len < REDO_LOG_LINE - 1)
				helper->line[helper->line_len++] = buf[i];
		}
	}
}

const char *
redo_helper_end(RedoHelper *helper, char *out, size_t size)
{
	int status = 0;
	pid_t rc = -1;

	out[0] = '\0';
	if (helper->pid > 0)
	{
		/* it may have ended by itself: then its own status is what waitpid() gives */
		kill(helper->pid, SIGKILL);
		while ((rc = waitpid(helper->pid, &status, 0)) < 0 && errno == EINTR)
			;
	}
	redo_helper_log(helper);
	if (rc > 0 && WIFSIGNALED(status))
		snprintf(out, size, "It was ended by signal %d (%s).%s%s", WTERMSIG(status), pg_strsignal(WTERMSIG(status)),
				 helper->last_line[0] ? " Last line of its log: " : "", helper->last_line);
	else if (rc > 0)
		snprintf(out, size, "It ended with exit status %d.%s%s", WEXITSTATUS(status),
				 helper->last_line[0] ? " Last line of its log: " : "", helper->last_line);
	close_pipe(&helper->requests);
	close_pipe(&helper->answers);
	close_pipe(&helper->log);
	helper->pid = 0;
	return out;
}
