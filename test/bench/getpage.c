/*
 * getpage.c
 *	  Measures the latency of single pages from the store, over one connection,
 *	  one request at a time.
 *
 *	  getpage CONNINFO TENANT TIMELINE SPC DB REL NBLOCKS COUNT
 *
 * Blocks are drawn at random from the first NBLOCKS of the relation's main
 * fork.  Prints p50, p99 and the mean in microseconds.
 */
#include "ps_fe.h"

#include "figures.h"
#include "libpq-fe.h"
#include "wire.h"

static void
die(const char *what, PGconn *conn)
{
	fprintf(stderr, "getpage: %s: %s\n", what, conn ? PQerrorMessage(conn) : "");
	exit(1);
}

int
main(int argc, char **argv)
{
	PGconn *conn;
	PGresult *res;
	char command[256];
	StringInfoData buf;
	int count;
	uint32 nblocks;
	double *usec;
	double sum = 0;

	if (argc != 9)
		die("usage: getpage CONNINFO TENANT TIMELINE SPC DB REL NBLOCKS COUNT", NULL);
	nblocks = (uint32) strtoul(argv[7], NULL, 10);
	count = atoi(argv[8]);
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
		die("connect", conn);
	snprintf(command, sizeof(command), "pagestream %s %s 0", argv[2], argv[3]);
	res = PQexec(conn, command);
	if (PQresultStatus(res) != PGRES_COPY_BOTH)
		die(command, conn);
	PQclear(res);

	usec = pg_malloc(count * sizeof(double));
	initStringInfo(&buf);
	srandom(1);
	for (int i = 0; i < count; i++)
	{
		PsRequest req = {.type = PS_REQ_PAGES,
						 .reqid = i,
						 .request_lsn = PS_LSN_LATEST,
						 .rel = {(Oid) atoi(argv[4]), (Oid) atoi(argv[5]), (Oid) atoi(argv[6])},
						 .count = 1};
		PsResponse resp;
		char *answer;
		const char *wrong;
		double t0 = now_usec();
		int len;

		req.blocks[0] = (uint32) random() % nblocks;
		resetStringInfo(&buf);
		ps_wire_put_request(&buf, &req);
		if (PQputCopyData(conn, buf.data, buf.len) != 1 || PQflush(conn) != 0)
			die("send", conn);
		len = PQgetCopyData(conn, &answer, 0);
		if (len < 0)
			die("receive", conn);
		wrong = ps_wire_get_response(answer, len, &resp);
		if (wrong != NULL)
			die(wrong, NULL);
		if (resp.type != PS_RESP_PAGES)
			die(resp.message, NULL);
		usec[i] = now_usec() - t0;
		sum += usec[i];
		PQfreemem(answer);
	}
	sort_figures(usec, count);
	printf("p50 %.0f us, p99 %.0f us, mean %.0f us\n", percentile(usec, count, 50),
		   percentile(usec, count, 99), sum / count);
	PQfinish(conn);
	return 0;
}
