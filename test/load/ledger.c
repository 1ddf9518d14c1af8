/*
 * ledger.c
 *	  A load that knows what it was told: N clients commit transactions and
 *	  note outside the database what became of each.
 *
 *	  ledger init  CONNINFO SCALE		makes the tables
 *	  ledger run   CONNINFO FILE CLIENTS SECONDS
 *	  ledger check CONNINFO FILE
 *
 * Each transaction of client c with number s adds a row (c, s, delta) to
 * ledger_history and delta to one account, one teller and one branch, as
 * TPC-B does.  FILE gets a line "c s R", R being
 *
 *	  A		COMMIT was answered: the row must be there
 *	  F		an error was answered: the row must not be there
 *	  U		the connection ended before an answer: either is right
 *
 * A client whose connection is gone connects again, until its time is over;
 * the target's address may be read anew from a file: CONNINFO "@PATH".
 * "check" exits with 1 if a line is contradicted or the sums disagree.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libpq-fe.h"

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static PGconn *
try_connect(const char *conninfo)
{
	char		buf[1024];
	PGconn	   *conn;

	if (conninfo[0] == '@')
	{
		FILE	   *f = fopen(conninfo + 1, "r");
		bool		ok = f != NULL && fgets(buf, sizeof(buf), f) != NULL;

		if (f != NULL)
			fclose(f);
		if (!ok)
			return NULL;
		buf[strcspn(buf, "\n")] = '\0';
		conninfo = buf;
	}
	conn = PQconnectdb(conninfo);
	if (PQstatus(conn) == CONNECTION_OK)
		return conn;
	PQfinish(conn);
	return NULL;
}

static PGconn *
must_connect(const char *conninfo)
{
	PGconn	   *conn = try_connect(conninfo);

	if (conn == NULL)
	{
		fprintf(stderr, "ledger: could not connect to %s\n", conninfo);
		exit(2);
	}
	return conn;
}

static void
must_exec(PGconn *conn, const char *sql)
{
	PGresult   *res = PQexec(conn, sql);

	if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "ledger: %s: %s", sql, PQerrorMessage(conn));
		exit(2);
	}
	PQclear(res);
}

static void
init(const char *conninfo, int scale)
{
	PGconn	   *conn = must_connect(conninfo);
	char		sql[512];

	must_exec(conn, "DROP TABLE IF EXISTS ledger_history, ledger_accounts, ledger_tellers, ledger_branches");
	must_exec(conn, "CREATE TABLE ledger_history (client int, seq int, delta int, filler text, PRIMARY KEY (client, seq))");
	must_exec(conn, "CREATE TABLE ledger_accounts (id int PRIMARY KEY, balance bigint NOT NULL, filler char(84))");
	must_exec(conn, "CREATE TABLE ledger_tellers (id int PRIMARY KEY, balance bigint NOT NULL, filler char(84))");
	must_exec(conn, "CREATE TABLE ledger_branches (id int PRIMARY KEY, balance bigint NOT NULL, filler char(88))");
	snprintf(sql, sizeof(sql), "INSERT INTO ledger_accounts SELECT i, 0, '' FROM generate_series(1, %d) i", scale * 10000);
	must_exec(conn, sql);
	snprintf(sql, sizeof(sql), "INSERT INTO ledger_tellers SELECT i, 0, '' FROM generate_series(1, %d) i", scale * 10);
	must_exec(conn, sql);
	snprintf(sql, sizeof(sql), "INSERT INTO ledger_branches SELECT i, 0, '' FROM generate_series(1, %d) i", scale);
	must_exec(conn, sql);
	PQfinish(conn);
}

/* One transaction: 'A', 'F' or 'U'; 'N': it did not get as far as COMMIT, and is not in the database for sure. */
static char
transaction(PGconn *conn, int client, int seq, int scale)
{
	char		sql[1024];
	PGresult   *res;
	char		outcome;
	int			delta = rand() % 1000 - 500;

	snprintf(sql, sizeof(sql),
			 "BEGIN;"
			 "UPDATE ledger_accounts SET balance = balance + %d WHERE id = %d;"
			 "UPDATE ledger_tellers SET balance = balance + %d WHERE id = %d;"
			 "UPDATE ledger_branches SET balance = balance + %d WHERE id = %d;"
			 "INSERT INTO ledger_history VALUES (%d, %d, %d, repeat('x', %d))",
			 delta, rand() % (scale * 10000) + 1, delta, rand() % (scale * 10) + 1, delta, rand() % scale + 1, client, seq, delta,
			 rand() % 200);
	res = PQexec(conn, sql);
	if (PQresultStatus(res) != PGRES_COMMAND_OK)
	{
		PQclear(res);
		if (PQstatus(conn) == CONNECTION_OK)
			PQclear(PQexec(conn, "ROLLBACK"));
		return 'N';
	}
	PQclear(res);
	res = PQexec(conn, "COMMIT");
	if (PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(res), "COMMIT") == 0)
		outcome = 'A';
	else
	{
		const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

		/* an ERROR is an answer; a FATAL (the server ends the connection) is none */
		outcome = severity != NULL && strcmp(severity, "ERROR") == 0 && PQstatus(conn) == CONNECTION_OK ? 'F' : 'U';
	}
	PQclear(res);
	return outcome;
}

static int
client_main(const char *conninfo, const char *file, int client, double end)
{
	int			fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
	PGconn	   *conn = NULL;
	int			seq = (int) (time(NULL) % 1000000) * 1000;
	int			scale = 0;

	if (fd < 0)
	{
		perror(file);
		return 2;
	}
	srand(client * 7919 + (int) time(NULL));
	while (now() < end)
	{
		char		line[64];
		char		outcome;
		int			len;

		if (conn == NULL)
		{
			PGresult   *res;

			conn = try_connect(conninfo);
			if (conn == NULL)
			{
				usleep(20000);
				continue;
			}
			res = PQexec(conn, "SELECT count(*) FROM ledger_branches");
			if (PQresultStatus(res) == PGRES_TUPLES_OK)
				scale = atoi(PQgetvalue(res, 0, 0));
			PQclear(res);
			if (scale == 0)
			{
				PQfinish(conn);
				conn = NULL;
				continue;
			}
		}
		outcome = transaction(conn, client, ++seq, scale);
		if (outcome != 'N')
		{
			len = snprintf(line, sizeof(line), "%d %d %c\n", client, seq, outcome);
			if (write(fd, line, len) != len)
			{
				perror(file);
				return 2;
			}
		}
		if (PQstatus(conn) != CONNECTION_OK || outcome == 'U')
		{
			PQfinish(conn);
			conn = NULL;
		}
	}
	if (conn != NULL)
		PQfinish(conn);
	close(fd);
	return 0;
}

static int
run(const char *conninfo, const char *file, int clients, double seconds)
{
	double		end = now() + seconds;
	int			result = 0;

	for (int i = 1; i <= clients; i++)
		if (fork() == 0)
			_exit(client_main(conninfo, file, i, end));
	for (int i = 0; i < clients; i++)
	{
		int			status;

		if (wait(&status) < 0 || status != 0)
			result = 2;
	}
	return result;
}

static int
check(const char *conninfo, const char *file)
{
	PGconn	   *conn = must_connect(conninfo);
	FILE	   *f = fopen(file, "r");
	PGresult   *res;
	int			client,
				seq,
				bad = 0;
	char		outcome;
	long		count[256] = {0};

	if (f == NULL)
	{
		perror(file);
		return 2;
	}
	must_exec(conn, "CREATE TEMP TABLE told (client int, seq int, outcome \"char\")");
	res = PQexec(conn, "COPY told FROM STDIN");
	PQclear(res);
	while (fscanf(f, "%d %d %c", &client, &seq, &outcome) == 3)
	{
		char		line[64];
		int			len = snprintf(line, sizeof(line), "%d\t%d\t%c\n", client, seq, outcome);

		PQputCopyData(conn, line, len);
		count[(unsigned char) outcome]++;
	}
	fclose(f);
	PQputCopyEnd(conn, NULL);
	while ((res = PQgetResult(conn)) != NULL)
		PQclear(res);
	res = PQexec(conn,
				 "SELECT t.client, t.seq, t.outcome FROM told t LEFT JOIN ledger_history h USING (client, seq) "
				 "WHERE (t.outcome = 'A' AND h.seq IS NULL) OR (t.outcome = 'F' AND h.seq IS NOT NULL)");
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "ledger: %s", PQerrorMessage(conn));
		return 2;
	}
	bad = PQntuples(res);
	for (int i = 0; i < bad && i < 20; i++)
		printf("client %s transaction %s was told %s, and %s\n", PQgetvalue(res, i, 0), PQgetvalue(res, i, 1),
			   PQgetvalue(res, i, 2), PQgetvalue(res, i, 2)[0] == 'A' ? "is not there" : "is there");
	PQclear(res);
	res = PQexec(conn, "SELECT (SELECT coalesce(sum(delta), 0) FROM ledger_history), (SELECT sum(balance) FROM ledger_accounts),"
				 " (SELECT sum(balance) FROM ledger_tellers), (SELECT sum(balance) FROM ledger_branches)");
	if (PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		fprintf(stderr, "ledger: %s", PQerrorMessage(conn));
		return 2;
	}
	for (int i = 1; i < 4; i++)
		if (strcmp(PQgetvalue(res, 0, i), PQgetvalue(res, 0, 0)) != 0)
		{
			printf("sums disagree: history %s, accounts %s, tellers %s, branches %s\n", PQgetvalue(res, 0, 0),
				   PQgetvalue(res, 0, 1), PQgetvalue(res, 0, 2), PQgetvalue(res, 0, 3));
			bad++;
			break;
		}
	PQclear(res);
	printf("%ld acknowledged, %ld failed, %ld unknown, %d wrong\n", count['A'], count['F'], count['U'], bad);
	PQfinish(conn);
	return bad == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "init") == 0)
	{
		init(argv[2], atoi(argv[3]));
		return 0;
	}
	if (argc == 6 && strcmp(argv[1], "run") == 0)
		return run(argv[2], argv[3], atoi(argv[4]), atof(argv[5]));
	if (argc == 4 && strcmp(argv[1], "check") == 0)
		return check(argv[2], argv[3]);
	fprintf(stderr, "usage: ledger init CONNINFO SCALE | run CONNINFO FILE CLIENTS SECONDS | check CONNINFO FILE\n");
	return 2;
}
