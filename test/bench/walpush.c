/*
 * walpush.c
 *	  Sends the WAL of a stock server to a branch, as fast as the store accepts
 *	  it.
 *
 *	  walpush CONNINFO TENANT TIMELINE WALDIR SEGMENT_SIZE END
 *
 * The server started from an export of the branch, which has had generation 1
 * and no WAL since then.  END is an LSN where a record ends.  Prints the
 * milliseconds until all WAL was acknowledged as durable, and until it could be
 * read.
 */
#include "ps_fe.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xlog_internal.h"
#include "figures.h"
#include "libpq-fe.h"
#include "bytes.h"
#include "wire.h"

/* The size that a compute sends at once (walsender.c: MAX_SEND_SIZE). */
#define CHUNK (16 * XLOG_BLCKSZ)

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "walpush: %s: %s\n", what, why);
	exit(1);
}

/* Reads the statuses that have arrived; with "wait", waits for at least one. */
static void
take_status(PGconn *conn, bool wait, PsWalStatus *status)
{
	char *msg;
	int len;

	while ((len = PQgetCopyData(conn, &msg, !wait)) > 0)
	{
		const char *wrong = ps_wire_get_status(msg, len, status);

		if (wrong != NULL)
			die("status", wrong);
		PQfreemem(msg);
		if (wait)
			return;
	}
	if (len < 0)
		die("the stream ended", PQerrorMessage(conn));
	if (!PQconsumeInput(conn))
		die("receive", PQerrorMessage(conn));
}

static void
read_wal(const char *dir, uint32 segment_size, XLogRecPtr at, char *buf, size_t len)
{
	static XLogSegNo open_segno = PG_UINT64_MAX;
	static int fd = -1;
	XLogSegNo segno = at / segment_size;

	if (segno != open_segno)
	{
		char name[MAXFNAMELEN];
		char *path;

		XLogFileName(name, 1, segno, segment_size);
		path = psprintf("%s/%s", dir, name);
		if (fd >= 0)
			close(fd);
		fd = open(path, O_RDONLY);
		if (fd < 0)
			die(path, strerror(errno));
		open_segno = segno;
		pfree(path);
	}
	if (pread(fd, buf, len, at % segment_size) != (ssize_t) len)
		die("read of WAL", strerror(errno));
}

int
main(int argc, char **argv)
{
	PsWalStatus status = {0};
	PGconn *conn;
	PGresult *res;
	uint32 segment_size;
	uint32 hi,
		lo;
	XLogRecPtr at;
	XLogRecPtr end;
	double start;
	double durable;
	char command[256];
	char message[25 + CHUNK];

	if (argc != 7 || sscanf(argv[6], "%X/%X", &hi, &lo) != 2)
		die("usage", "walpush CONNINFO TENANT TIMELINE WALDIR SEGMENT_SIZE END");
	segment_size = (uint32) strtoul(argv[5], NULL, 10);
	end = (uint64) hi << 32 | lo;
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
		die("connect", PQerrorMessage(conn));
	snprintf(command, sizeof(command), "wal_push %s %s 1", argv[2], argv[3]);
	res = PQexec(conn, command);
	if (PQresultStatus(res) != PGRES_COPY_BOTH)
		die(command, PQerrorMessage(conn));
	PQclear(res);
	take_status(conn, true, &status);

	start = now_usec();
	for (at = status.flushed; at < end;)
	{
		size_t len = Min(CHUNK - at % CHUNK, end - at);

		message[0] = 'w';
		ps_put64(message + 1, at);
		ps_put64(message + 9, end);
		ps_put64(message + 17, 0);
		read_wal(argv[4], segment_size, at, message + 25, len);
		if (PQputCopyData(conn, message, 25 + len) != 1)
			die("send", PQerrorMessage(conn));
		take_status(conn, false, &status);
		at += len;
	}
	if (PQflush(conn) != 0)
		die("send", PQerrorMessage(conn));
	while (status.flushed < end)
		take_status(conn, true, &status);
	durable = now_usec();
	while (status.applied < end)
		take_status(conn, true, &status);
	printf("%.0f %.0f\n", (durable - start) / 1e3, (now_usec() - start) / 1e3);
	PQfinish(conn);
	return 0;
}
