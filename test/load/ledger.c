/*
 * ledger.c
 *	  A load that records its outcomes: clients of several kinds that write down,
 *	  outside the database, the outcome of each of their transactions.
 *
 *	  ledger init CONNINFO
 *	  ledger run  @ADDRESS FILE ROUND SEED	until SIGTERM
 *
 * ADDRESS is a file that holds a connection string; a client reads it again
 * each time that it connects, so the database may move.  Transaction SEQ of
 * client CLIENT adds the row (CLIENT, SEQ, kind, n) to the table "ledger", and
 * makes another change; n determines the data that must exist afterwards
 * (test/torture/check.sql).  FILE gets a line "CLIENT SEQ STATE BEGIN END"
 * (milliseconds since 1970), and further ones if the state changes:
 *
 *	  A		COMMIT or COMMIT PREPARED was answered: the row must exist
 *	  F		an error was answered, the transaction was rolled back, or the
 *			connection ended before COMMIT was sent: it must not exist
 *	  U		the connection ended after COMMIT was sent: either is right
 *	  P		PREPARE TRANSACTION was answered: it must be prepared
 *	  Q		its outcome is unknown: it may be prepared, but not committed
 *	  C		that of COMMIT PREPARED is unknown: it is committed or still prepared
 *	  D		that of ROLLBACK PREPARED is unknown: it is aborted or still prepared
 *
 * and a line "E CLIENT SEQ SQLSTATE message" for an error that the clients'
 * own actions do not explain.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "libpq-fe.h"

#define ACCOUNTS       2000
#define TELLERS        40
#define BRANCHES       8
#define WIDE_ROWS      3000
#define HASTY_CLIENT   1 /* cancels a COMMIT that takes too long */
#define PATIENCE_USEC  300000
#define MAX_MADE       3 /* tables that a client has created and not dropped */
#define SEQS_PER_ROUND 100000

/* The outcome of a statement. */
typedef enum Result
{
	OK,
	FAILED, /* the server returned an error, the connection is usable */
	LOST    /* the connection is lost */
} Result;

typedef struct Client
{
	int id;
	const char *conninfo;
	int fd; /* of FILE */
	PGconn *conn;
	int seq;
	int64_t begun;
	char value[64]; /* first column of the last result's first row */
} Client;

static volatile sig_atomic_t stop;

static void
on_term(int signo)
{
	(void) signo;
	stop = 1;
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * (int64_t) 1000 + ts.tv_nsec / 1000000;
}

static int
random_to(int n)
{
	return random() % n;
}

static void
note(Client *c, const char *line, int len)
{
	if (len >= 0 && write(c->fd, line, len) == len)
		return;
	perror("ledger: could not write to its file");
	_exit(2);
}

static void
told_of(Client *c, int seq, char state)
{
	char line[100];

	note(c, line,
		 snprintf(line, sizeof(line), "%d %d %c %lld %lld\n", c->id, seq, state,
				  (long long) c->begun, (long long) now_ms()));
}

static void
told(Client *c, char state)
{
	told_of(c, c->seq, state);
}

static void
unexpected(Client *c, const char *sqlstate, const char *message)
{
	char line[600];
	int len = snprintf(line, sizeof(line) - 1, "E %d %d %s %s", c->id, c->seq, sqlstate, message);

	if (len > (int) sizeof(line) - 2)
		len = sizeof(line) - 2;
	for (int i = 0; i < len; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	line[len++] = '\n';
	note(c, line, len);
}

/* Errors that the clients cause for one another, or that a slow store causes. */
static bool
is_expected(const char *sqlstate)
{
	static const char *const expected[] = {
		"40P01", /* deadlock */
		"55P03", /* lock_timeout */
		"57014", /* statement_timeout */
	};

	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		if (strcmp(sqlstate, expected[i]) == 0)
			return true;
	return false;
}

/* ---- statements ---- */

static Result
take_result(Client *c, PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);
	const char *sqlstate = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	Result result = OK;

	if (status == PGRES_TUPLES_OK && PQntuples(res) > 0 && PQnfields(res) > 0)
		snprintf(c->value, sizeof(c->value), "%s", PQgetvalue(res, 0, 0));
	else
		c->value[0] = '\0';
	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
	{
		/* an ERROR is an answer; a FATAL, with which the server ends the connection, is not */
		result =
			PQstatus(c->conn) == CONNECTION_OK && severity != NULL && strcmp(severity, "ERROR") == 0
				? FAILED
				: LOST;
		if (result == FAILED && sqlstate != NULL && !is_expected(sqlstate))
			unexpected(c, sqlstate, PQresultErrorMessage(res));
	}
	PQclear(res);
	return result;
}

static Result run(Client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static Result
run(Client *c, const char *format, ...)
{
	char sql[2048];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	if (len >= (int) sizeof(sql))
		abort();
	return take_result(c, PQexec(c->conn, sql));
}

#define TRY(statement)                \
	do                                \
	{                                 \
		Result result_ = (statement); \
		if (result_ != OK)            \
			return result_;           \
	} while (0)

/*
 * COMMIT, canceled after a while: statement_timeout does not cut its wait for
 * the acknowledgement short, but a cancel does.
 */
static PGcancel *cancel;

static void
on_alarm(int signo)
{
	char error[256];

	(void) signo;
	PQcancel(cancel, error, sizeof(error)); /* libpq: may be called in a signal handler */
}

static PGresult *
hasty_commit(Client *c)
{
	struct itimerval patience = {.it_value = {.tv_usec = PATIENCE_USEC}};
	struct itimerval none = {.it_value = {0}};
	PGresult *res;

	cancel = PQgetCancel(c->conn);
	if (cancel == NULL)
		return PQexec(c->conn, "COMMIT");
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &patience, NULL);
	res = PQexec(c->conn, "COMMIT");
	setitimer(ITIMER_REAL, &none, NULL);
	PQfreeCancel(cancel);
	return res;
}

/* Ends a transaction after its statements, and records its outcome. */
static Result
finish(Client *c, Result result, bool commit)
{
	if (result == OK && commit)
	{
		PGresult *res = c->id == HASTY_CLIENT ? hasty_commit(c) : PQexec(c->conn, "COMMIT");
		bool done = PQresultStatus(res) == PGRES_COMMAND_OK;
		bool rolled_back = done && strcmp(PQcmdStatus(res), "COMMIT") != 0;

		result = take_result(c, res);
		told(c, rolled_back ? 'F' : result == OK   ? 'A'
								: result == FAILED ? 'F'
												   : 'U');
		return result;
	}
	if (result != LOST)
		result = run(c, "ROLLBACK");
	told(c, 'F');
	return result;
}

static void
begin(Client *c)
{
	c->seq++;
	c->begun = now_ms();
}

static Result
add_row(Client *c, const char *kind, long n)
{
	return run(c, "INSERT INTO ledger VALUES (%d, %d, '%s', %ld)", c->id, c->seq, kind, n);
}

/* ---- short transactions like those of TPC-B ---- */

/*
 * Those that may stay prepared have a teller and a branch of their own, so
 * that the others need not wait for them.
 */
static Result
move_money(Client *c, bool own, const char *kind)
{
	int delta = random_to(1000) - 500;

	return run(c,
			   "BEGIN;"
			   "UPDATE accounts SET balance = balance + %d WHERE id = %d;"
			   "UPDATE tellers SET balance = balance + %d WHERE id = %d;"
			   "UPDATE branches SET balance = balance + %d WHERE id = %d;"
			   "INSERT INTO ledger VALUES (%d, %d, '%s', %d)",
			   delta, own ? c->id : 20 + random_to(ACCOUNTS - 20) + 1, delta,
			   own ? c->id : 20 + random_to(TELLERS - 20) + 1, delta,
			   own ? 1 : 2 + random_to(BRANCHES - 1), c->id, c->seq, kind, delta);
}

static Result
client_short(Client *c)
{
	Result result;

	begin(c);
	result = move_money(c, false, "money");
	if (result == OK && random_to(10) == 0)
		result = run(
			c,
			"SAVEPOINT a; UPDATE accounts SET balance = 0 WHERE id BETWEEN 21 AND 120; ROLLBACK TO a; RELEASE a");
	return finish(c, result, random_to(20) != 0);
}

/* ---- long transactions ---- */

/*
 * Changes more than the caches hold, partly in subtransactions that are rolled
 * back, while a cursor must see the rows as of its opening.
 */
static Result
long_statements(Client *c)
{
	long sum;
	long seen = 0;
	int changes = 0;

	TRY(run(c, "BEGIN"));
	TRY(run(c, "LOCK TABLE wide IN SHARE ROW EXCLUSIVE MODE"));
	TRY(run(c, "CREATE TEMP TABLE IF NOT EXISTS scratch_temp (i int PRIMARY KEY, t text)"));
	TRY(run(c, "SELECT sum(v) FROM wide"));
	sum = atol(c->value);
	TRY(run(c, "DECLARE old_rows CURSOR FOR SELECT v FROM wide"));
	for (int i = 0; i < 4 && !stop; i++)
	{
		int from = random_to(WIDE_ROWS - 600) + 1;
		bool keep = random_to(3) != 0;

		TRY(run(c, "SAVEPOINT a"));
		TRY(run(c, "UPDATE wide SET v = v + 1 WHERE id BETWEEN %d AND %d", from, from + 299));
		TRY(run(
			c,
			"INSERT INTO scratch_temp SELECT i, repeat('t', 300) FROM generate_series(%d, %d) i"
			" ON CONFLICT (i) DO UPDATE SET t = 'again'",
			from, from + 99));
		TRY(run(c, "UPDATE wide SET v = v + 1 WHERE id BETWEEN %d AND %d", from + 100, from + 199));
		TRY(run(c, keep ? "RELEASE a" : "ROLLBACK TO a; RELEASE a"));
		if (keep)
			changes += 400;
		usleep(20000);
	}
	TRY(run(c, "SELECT sum(v) FROM wide"));
	if (atol(c->value) != sum + changes)
		unexpected(c, "WRONG", "a transaction does not see its own changes");
	for (;;)
	{
		PGresult *res = PQexec(c->conn, "FETCH 500 FROM old_rows");
		int rows = PQresultStatus(res) == PGRES_TUPLES_OK ? PQntuples(res) : 0;

		for (int i = 0; i < rows; i++)
			seen += atol(PQgetvalue(res, i, 0));
		TRY(take_result(c, res));
		if (rows == 0)
			break;
	}
	if (seen != sum)
		unexpected(c, "WRONG", "a cursor does not see what was there when it was opened");
	return add_row(c, "long", changes);
}

static Result
client_long(Client *c)
{
	begin(c);
	return finish(c, long_statements(c), random_to(4) != 0);
}

/* ---- DDL ---- */

static const char *const index_methods[] = {
	"USING btree (substr(txt, 1, 20))",
	"USING hash (txt)",
	"USING gin (arr)",
	"USING gist (p)",
	"USING spgist (p)",
	"USING brin (id)",
};

#define N_METHODS (int) (sizeof(index_methods) / sizeof(index_methods[0]))

static Result
fill_made(Client *c, int table, int rows)
{
	return run(
		c,
		"INSERT INTO made_%d_%d SELECT i, CASE WHEN i %% 50 = 0 THEN"
		" (SELECT string_agg(md5(x::text), '') FROM generate_series(1, 150) x)"
		" ELSE 'text ' || i %% 17 END, point(i %% 20, i / 20), ARRAY[i %% 7, i %% 11] FROM generate_series(1, %d) i",
		c->id, table, rows);
}

static Result
change_made(Client *c, int table, int rows)
{
	switch (random_to(6))
	{
		case 0:
			TRY(run(c, "DROP TABLE made_%d_%d", c->id, table));
			return run(c, "UPDATE ledger SET n = -1 WHERE (client, seq) = (%d, %d)", c->id, table);
		case 1:
			TRY(run(c, "TRUNCATE made_%d_%d", c->id, table));
			TRY(fill_made(c, table, rows));
			return run(c, "UPDATE ledger SET n = %d WHERE (client, seq) = (%d, %d)", rows, c->id,
					   table);
		case 2:
			return run(c, "ALTER TABLE made_%d_%d ALTER COLUMN txt TYPE %s", c->id, table,
					   random_to(2) ? "varchar(20000)" : "text");
		case 3:
			return run(c, "CLUSTER made_%d_%d USING made_%d_%d_pkey", c->id, table, c->id, table);
		case 4:
			TRY(run(c, "ALTER TABLE made_%d_%d SET UNLOGGED", c->id, table));
			return run(c, "ALTER TABLE made_%d_%d SET LOGGED", c->id, table);
		default:
			TRY(run(c, "SAVEPOINT a"));
			TRY(run(c, "TRUNCATE made_%d_%d", c->id, table));
			TRY(fill_made(c, table, 10));
			TRY(run(c, "DROP TABLE made_%d_%d", c->id, table));
			TRY(run(c, "ROLLBACK TO a"));
			return run(c, "CREATE INDEX ON made_%d_%d %s", c->id, table,
					   index_methods[random_to(N_METHODS)]);
	}
}

static Result
ddl_statements(Client *c)
{
	int rows = 20 + random_to(400);
	int made;
	int table;

	TRY(run(c, "BEGIN"));
	TRY(run(c, "SELECT count(*) FROM ledger WHERE client = %d AND kind = 'made' AND n >= 0",
			c->id));
	made = atoi(c->value);
	if (made == 0 || (made < MAX_MADE && random_to(2)))
	{
		TRY(run(c, "CREATE TABLE made_%d_%d (id int PRIMARY KEY, txt text, p point, arr int[])",
				c->id, c->seq));
		TRY(fill_made(c, c->seq, rows));
		TRY(run(c, "CREATE INDEX ON made_%d_%d %s", c->id, c->seq,
				index_methods[random_to(N_METHODS)]));
		return add_row(c, "made", rows);
	}
	TRY(run(
		c,
		"SELECT seq FROM ledger WHERE client = %d AND kind = 'made' AND n >= 0 ORDER BY seq OFFSET %d LIMIT 1",
		c->id, random_to(made)));
	table = atoi(c->value);
	TRY(change_made(c, table, rows));
	return add_row(c, "ddl", 0);
}

static Result
client_ddl(Client *c)
{
	begin(c);
	return finish(c, ddl_statements(c), random_to(5) != 0);
}

/* ---- COPY ---- */

static Result
copy_statements(Client *c)
{
	int rows = 20 + random_to(300);
	char line[600];

	TRY(run(c, "BEGIN"));
	/* delete the older rows */
	TRY(run(
		c,
		"DELETE FROM bulk WHERE client = %d AND seq IN"
		" (SELECT seq FROM ledger WHERE client = %d AND kind = 'copy' AND n > 0 ORDER BY seq DESC OFFSET 5)",
		c->id, c->id));
	TRY(run(
		c,
		"UPDATE ledger SET n = 0 WHERE client = %d AND kind = 'copy' AND n > 0 AND seq NOT IN"
		" (SELECT seq FROM bulk WHERE client = %d)",
		c->id, c->id));
	TRY(run(c, "COPY bulk FROM STDIN"));
	for (int i = 0; i < rows; i++)
	{
		int len = snprintf(line, sizeof(line), "%d\t%d\t%d\t%0*d\n", c->id, c->seq, i,
						   random_to(400) + 1, i);

		if (PQputCopyData(c->conn, line, len) != 1)
			break;
	}
	PQputCopyEnd(c->conn, NULL);
	TRY(take_result(c, PQgetResult(c->conn)));
	while (PQgetResult(c->conn) != NULL)
		;
	return add_row(c, "copy", rows);
}

static Result
client_copy(Client *c)
{
	Result result;

	begin(c);
	result = copy_statements(c);
	/* remaining results must be read before another statement can be run */
	for (PGresult *res; result != LOST && (res = PQgetResult(c->conn)) != NULL;)
		PQclear(res);
	return finish(c, result, random_to(10) != 0);
}

/* ---- two-phase commit ---- */

/* Runs COMMIT PREPARED or ROLLBACK PREPARED for a prepared transaction of this client. */
static Result
resolve(Client *c, int seq)
{
	bool commit = random_to(3) != 0;
	Result result =
		run(c, "%s PREPARED 'torture_%d_%d'", commit ? "COMMIT" : "ROLLBACK", c->id, seq);

	if (result == OK)
		told_of(c, seq, commit ? 'A' : 'F');
	else if (result == LOST)
		told_of(c, seq, commit ? 'C' : 'D');
	return result; /* after an error, its state is unchanged */
}

static Result
client_two_phase(Client *c)
{
	Result result;

	/* transactions that an interrupted round has left */
	c->begun = now_ms();
	TRY(run(
		c,
		"SELECT split_part(gid, '_', 3) FROM pg_prepared_xacts WHERE gid LIKE 'torture\\_%d\\_%%' LIMIT 1",
		c->id));
	if (c->value[0] != '\0')
		return resolve(c, atoi(c->value));

	begin(c);
	result = move_money(c, true, "2pc");
	if (result != OK || random_to(10) == 0)
		return finish(c, result, false);
	result = run(c, "PREPARE TRANSACTION 'torture_%d_%d'", c->id, c->seq);
	told(c, result == OK ? 'P' : result == FAILED ? 'F'
												  : 'Q');
	if (result != OK)
		return result == LOST ? LOST : run(c, "ROLLBACK");
	if (random_to(4) == 0)
		usleep(random_to(300000));
	return stop && random_to(2) ? OK : resolve(c, c->seq);
}

/* ---- sequences; unlogged tables ---- */

static Result
number_statements(Client *c)
{
	long number;

	TRY(run(c, "BEGIN"));
	if (random_to(3) == 0)
		TRY(run(c, "SELECT nextval('numbers_v_seq')"));
	TRY(run(c, "INSERT INTO numbers (client, seq) VALUES (%d, %d) RETURNING v", c->id, c->seq));
	number = atol(c->value);
	TRY(run(
		c,
		"INSERT INTO scratch SELECT i, repeat('u', 100) FROM generate_series(1, 20) i"
		" ON CONFLICT (i) DO UPDATE SET t = scratch.t || 'x'"));
	if (random_to(20) == 0)
		TRY(run(c, "TRUNCATE scratch"));
	return add_row(c, "number", number);
}

static Result
client_numbers(Client *c)
{
	begin(c);
	return finish(c, number_statements(c), random_to(5) != 0);
}

/* ---- maintenance: no rows in the ledger, but it must not disturb other clients ---- */

static Result
client_maintenance(Client *c)
{
	static const char *const tables[] = {"accounts", "ledger", "bulk", "wide", "numbers"};
	const char *table = tables[random_to(5)];
	static const char *const columns[] = {"id", "seq", "line", "v", "v"};
	const char *column = columns[random_to(5)];

	for (int i = 0; i < 5; i++)
		if (tables[i] == table)
			column = columns[i];
	usleep(random_to(100000));
	c->begun = now_ms();
	switch (random_to(10))
	{
		case 0:
			return run(c, "VACUUM %s", table);
		case 1:
			return run(c, "VACUUM (FULL, ANALYZE) %s", table);
		case 2:
			return run(c, "VACUUM (FREEZE, INDEX_CLEANUP on) %s", table);
		case 3:
			return run(c, "REINDEX TABLE %s", table);
		case 4:
			return run(c, "REINDEX TABLE CONCURRENTLY %s", table);
		case 5:
			return run(c, "CHECKPOINT");
		case 6:
			return run(c, "VACUUM FULL %s", random_to(2) ? "pg_class" : "pg_attribute");
		case 7:
			return run(c, "DROP INDEX CONCURRENTLY IF EXISTS extra_%s", table);
		case 8:
			TRY(run(c, "DROP INDEX IF EXISTS extra_%s", table));
			return run(c, "CREATE INDEX CONCURRENTLY extra_%s ON %s (%s)", table, table, column);
		default:
			return run(c, "CREATE INDEX IF NOT EXISTS extra_%s ON %s USING %s (%s)", table, table,
					   random_to(2) ? "hash" : "brin", column);
	}
}

/* ---- all of them ---- */

static Result (*const roles[])(Client *) = {
	client_short,
	client_short,
	client_long,
	client_ddl,
	client_copy,
	client_two_phase,
	client_numbers,
	client_maintenance,
};

#define N_CLIENTS (int) (sizeof(roles) / sizeof(roles[0]))

static PGconn *
try_connect(const char *conninfo)
{
	char buf[1024];
	PGconn *conn;

	if (conninfo[0] == '@')
	{
		FILE *f = fopen(conninfo + 1, "r");
		bool ok = f != NULL && fgets(buf, sizeof(buf), f) != NULL;

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

/* Drops indexes that CREATE INDEX CONCURRENTLY has not finished, as its user must. */
static Result
drop_unfinished(Client *c)
{
	return run(
		c,
		"DO $$ DECLARE i regclass; BEGIN"
		" FOR i IN SELECT indexrelid FROM pg_index WHERE NOT indisvalid AND indrelid >= 16384 LOOP"
		" EXECUTE 'DROP INDEX ' || i; END LOOP;"
		" END $$");
}

static int
client_main(Client *c)
{
	while (!stop)
	{
		if (c->conn == NULL)
		{
			c->conn = try_connect(c->conninfo);
			if (c->conn == NULL)
			{
				usleep(10000);
				continue;
			}
			if (roles[c->id - 1] == client_maintenance && drop_unfinished(c) == LOST)
			{
				PQfinish(c->conn);
				c->conn = NULL;
				continue;
			}
		}
		if (roles[c->id - 1](c) == LOST || PQstatus(c->conn) != CONNECTION_OK)
		{
			PQfinish(c->conn);
			c->conn = NULL;
		}
	}
	if (c->conn != NULL)
		PQfinish(c->conn);
	return 0;
}

static int
run_clients(const char *conninfo, const char *file, int round, unsigned seed)
{
	struct sigaction action = {.sa_handler = on_term};
	pid_t pids[N_CLIENTS];
	int result = 0;
	pid_t parent = getpid();

	/* an interrupted sleep ends; libpq continues after EINTR */
	sigaction(SIGTERM, &action, NULL);
	for (int i = 0; i < N_CLIENTS; i++)
	{
		Client c = {.id = i + 1, .conninfo = conninfo, .seq = round * SEQS_PER_ROUND};

		pids[i] = fork();
		if (pids[i] < 0)
		{
			perror("fork");
			return 2;
		}
		if (pids[i] > 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(0);
		c.fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (c.fd < 0)
		{
			perror(file);
			_exit(2);
		}
		srandom(seed * 1000003u + round * 1009 + c.id);
		_exit(client_main(&c));
	}
	while (!stop)
		pause();
	for (int i = 0; i < N_CLIENTS; i++)
		kill(pids[i], SIGTERM);
	for (int i = 0; i < N_CLIENTS; i++)
	{
		int status;

		while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR)
			;
		if (status != 0)
			result = 2;
	}
	return result;
}

static int
init(const char *conninfo)
{
	static const char *const statements[] = {
		"CREATE TABLE ledger (client int, seq int, kind text, n bigint, PRIMARY KEY (client, seq))",
		"CREATE TABLE accounts (id int PRIMARY KEY, balance bigint NOT NULL, filler char(84)) WITH (fillfactor = 80)",
		"CREATE TABLE tellers (id int PRIMARY KEY, balance bigint NOT NULL, filler char(84))",
		"CREATE TABLE branches (id int PRIMARY KEY, balance bigint NOT NULL, filler char(88))",
		"CREATE TABLE wide (id int PRIMARY KEY, v bigint NOT NULL, filler text)",
		"CREATE TABLE bulk (client int, seq int, line int, filler text, PRIMARY KEY (client, seq, line))",
		"CREATE TABLE numbers (v bigserial PRIMARY KEY, client int, seq int)",
		"CREATE UNLOGGED TABLE scratch (i int PRIMARY KEY, t text)",
	};
	Client c = {.conn = try_connect(conninfo), .fd = STDERR_FILENO};

	if (c.conn == NULL)
	{
		fprintf(stderr, "ledger: could not connect to %s\n", conninfo);
		return 2;
	}
	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (run(&c, "%s", statements[i]) != OK)
			return 2;
	if (run(&c, "INSERT INTO accounts SELECT i, 0, '' FROM generate_series(1, %d) i", ACCOUNTS) !=
			OK ||
		run(&c, "INSERT INTO tellers SELECT i, 0, '' FROM generate_series(1, %d) i", TELLERS) !=
			OK ||
		run(&c, "INSERT INTO branches SELECT i, 0, '' FROM generate_series(1, %d) i", BRANCHES) !=
			OK ||
		run(&c, "INSERT INTO wide SELECT i, 0, repeat('w', 300) FROM generate_series(1, %d) i",
			WIDE_ROWS) != OK)
		return 2;
	PQfinish(c.conn);
	return 0;
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "init") == 0)
		return init(argv[2]);
	if (argc == 6 && strcmp(argv[1], "run") == 0)
		return run_clients(argv[2], argv[3], atoi(argv[4]), strtoul(argv[5], NULL, 10));
	fprintf(stderr, "usage: ledger init CONNINFO | run @ADDRESS FILE ROUND SEED\n");
	return 2;
}
