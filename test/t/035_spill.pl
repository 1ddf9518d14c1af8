# Transactions that change far more pages than the page cache can hold. Pages that must be kept are
# spilled beyond cache_size, are returned by later reads, and are released afterwards. A transaction that
# exceeds cache_limit fails with an error, and others continue.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $conf = "shared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\nautovacuum = off\nbgwriter_delay = 10ms\n"
  . "max_prepared_transactions = 4\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);
$c->sql('CREATE EXTENSION pageserver_smgr; CREATE TABLE first (i int)');
my $spilled = 'SELECT spilled / 1048576 FROM pageserver_smgr_cache';
my $row = "i, i % 1000 AS n, repeat('x', 900) AS pad";

# Megabytes of disk that the cache's file occupies.
sub disk
{
	return int((stat($c->dir . '/pageserver_smgr.cache'))[12] * 512 / 1048576);
}

sub given_back
{
	my ($what) = @_;
	for (1 .. 60)
	{
		last if $c->sql($spilled) eq '0';
		sleep 1;
	}
	is($c->sql($spilled), '0', "$what: spilled pages are released");
	cmp_ok(disk(), '<', 8, "$what: disk space is released");
}

# Starts psql in the background.  Its input is a file, because nobody would feed a pipe.
my $scripts = 0;

sub background
{
	my ($sql) = @_;
	my $file = PageserverTest::test_dir() . '/script' . ++$scripts;
	PostgreSQL::Test::Utils::append_to_file($file, $sql);
	return IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $c->connstr, '-f', $file ],
		'<', \undef, '>', "$file.out", '2>', "$file.err");
}

# Commits transactions all the time, because pages that need not be kept are released when a transaction
# ends.
sub ticker
{
	return background("SELECT 1 FROM pg_sleep(0.1) \\g /dev/null\n" x 6000);
}

# ---- CREATE TABLE AS of 200 MB, after another command ----
my $ticker = ticker();
my $out = $c->sql("BEGIN; INSERT INTO first VALUES (1);\n"
	  . "CREATE TABLE ctas AS SELECT $row FROM generate_series(1, 200000) i;\n"
	  . "DECLARE c CURSOR FOR SELECT i, n FROM ctas;\n"
	  . "UPDATE ctas SET n = -1 WHERE i % 10 = 0;\n"
	  . "DELETE FROM ctas WHERE i % 10 = 1;\n"
	  . "INSERT INTO ctas SELECT -i, 0, 'later' FROM generate_series(1, 50000) i;\n"
	  . "CHECKPOINT;\n$spilled;\n"
	  . "SELECT pg_sleep(1.5) \\g /dev/null\n"
	  . "\\o /dev/null\nMOVE 100000 FROM c;\n\\o\n"
	  . "FETCH ALL FROM c;\n"
	  . "SELECT 'now', count(*), sum(n), min(i) FROM ctas;\nCOMMIT;\nSELECT 'after', count(*), sum(n), min(i) FROM ctas;");
$ticker->kill_kill;
my @rows = split /\n/, $out;
cmp_ok(shift @rows, '>', 150, 'a load after another command spills beyond the cache');
my ($now, $after) = splice @rows, -2;
is(scalar(@rows), 100000, 'a cursor sees all rows as of its opening, including those that were spilled');
is(scalar(grep { my ($i, $n) = split /\|/; $n ne $i % 1000 } @rows), 0, 'the rows that the cursor sees are unchanged');
is($now, 'now|230000|' . (200000 / 1000 * 499500 - 200 * (49500 + 49600) - 20000) . '|-50000', 'the transaction sees its own changes');
is($after =~ s/after/now/r, $now, 'everybody sees the changes after the commit');
given_back('CREATE TABLE AS');
is($c->sql('SELECT count(*), sum(n), min(i) FROM ctas'), $now =~ s/now\|//r, 'the store has all changes');

# ---- COPY with subtransactions, while other sessions work ----
$c->sql("CREATE TABLE other (id int PRIMARY KEY, n int, pad text); INSERT INTO other SELECT i, 0, repeat('o', 400) FROM generate_series(1, 20000) i");
$c->sql("CREATE TABLE copied (i int, n int, pad text)");
my $program = q{seq 1 100000 | awk '{ printf "%d\t%d\t%0900d\n", $1, $1 % 1000, $1 }'};
my @others = map {
	background("SELECT setseed(0.$_);\n" . "UPDATE other SET n = n + 1 WHERE id % 8 = $_;\nSELECT sum(n) FROM other \\g /dev/null\n" x 6)
} 1 .. 3;
$out = $c->sql("BEGIN; INSERT INTO first VALUES (2);\nCOPY copied FROM PROGRAM \$\$$program\$\$;\n"
	  . "SAVEPOINT a;\nCOPY copied FROM PROGRAM \$\$$program\$\$;\n"
	  . "SAVEPOINT b;\nDELETE FROM copied WHERE n < 500;\nCHECKPOINT;\nSELECT count(*), sum(n) FROM copied;\n"
	  . "ROLLBACK TO b;\nSELECT count(*), sum(n), sum(pad::numeric) FROM copied;\n"
	  . "ROLLBACK TO a;\nSELECT count(*), sum(n) FROM copied;\nCOMMIT;\nSELECT count(*), sum(n), sum(pad::numeric) FROM copied;");
$_->finish for @others;
is(scalar(grep { $_->result(0) != 0 } @others), 0, 'other sessions continue meanwhile');
is($out, "100000|74950000\n200000|99900000|10000100000\n100000|49950000\n100000|49950000|5000050000", 'COPY with subtransactions');
$c->sql_is('SELECT sum(n) FROM other', 3 * 6 * 2500, 'the changes of the other sessions are right');
given_back('COPY');

# ---- rollback ----
$c->psql("BEGIN; INSERT INTO first VALUES (3); UPDATE copied SET n = n + 1; CREATE TABLE gone AS SELECT $row FROM generate_series(1, 50000) i; CHECKPOINT; ROLLBACK");
$c->sql_is('SELECT count(*), sum(n) FROM copied', '100000|49950000', 'a rollback');
given_back('ROLLBACK');

# ---- relations with spilled pages that are truncated or dropped ----
$out = $c->sql("BEGIN; INSERT INTO first VALUES (4);\n"
	  . "CREATE TABLE cut AS SELECT $row FROM generate_series(1, 60000) i;\n"
	  . "TRUNCATE cut;\nINSERT INTO cut SELECT i, 0, 'new' FROM generate_series(1, 100) i;\nCHECKPOINT;\nSELECT count(*), sum(i) FROM cut;\n"
	  . "INSERT INTO cut SELECT $row FROM generate_series(1, 60000) i;\nCHECKPOINT;\nSELECT count(*), sum(i) FROM cut;\n"
	  . "CREATE TABLE away AS SELECT $row FROM generate_series(1, 60000) i;\nDROP TABLE away;\n"
	  . "CREATE INDEX ON cut (i);\nCOMMIT;\nSET enable_seqscan = off;\nSELECT count(*), sum(i) FROM cut WHERE i > 0;");
is($out, "100|5050\n60100|1800035050\n60100|1800035050", 'TRUNCATE in place, DROP');
given_back('TRUNCATE, DROP');

# VACUUM truncates pages that must be kept, then the table grows again.  The transaction for which they
# are kept has rolled back its changes, and so has no lock on the table any more; but it has more
# subtransactions than are visible to other backends, so that the one that was rolled back may still be
# running.
$c->sql("CREATE TABLE short AS SELECT $row FROM generate_series(1, 40000) i");
$c->sql('DELETE FROM short WHERE i > 20000');
my $left = $c->sql('SELECT count(*), sum(i) FROM short');
my $old = background("BEGIN; INSERT INTO first VALUES (7);\n" . join('', map { "SAVEPOINT s$_; INSERT INTO first VALUES (7);\n" } 1 .. 70)
	  . "SAVEPOINT last; UPDATE short SET n = 8; UPDATE copied SET n = 8; ROLLBACK TO last; CHECKPOINT; SELECT pg_sleep(600);\n");
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") ne '0' }, 'the sleeping session');
cmp_ok($c->sql($spilled), '>', 20, 'pages of a subtransaction of which only the parent is visible are kept');
$c->sql('VACUUM short');
$c->sql("CREATE TABLE reuse AS SELECT $row FROM generate_series(1, 5000) i; INSERT INTO short SELECT -i, 9, repeat('y', 900) FROM generate_series(1, 40000) i; CHECKPOINT");
$c->sql_is('SELECT count(*), sum(i) FROM short WHERE i > 0', $left, 'the old rows after VACUUM and growth');
$c->sql_is('SELECT count(*), sum(i) FROM short WHERE i < 0', '40000|-800020000', 'the new rows after VACUUM and growth');
$c->sql('DROP TABLE short; TRUNCATE copied');
cmp_ok($c->sql($spilled), '<', 20, 'DROP and TRUNCATE release spilled pages at once');
$c->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
$old->finish;
given_back('VACUUM');

# ---- an index built without WAL, whose pages are written again when it is logged ----
$c->sql("CREATE TABLE tree AS SELECT i AS id, md5(i::text) AS t, point(i % 251, i % 241) AS p, ARRAY[i % 1000, i % 77 + 3000] AS a FROM generate_series(1, 150000) i");
$ticker = ticker();
$c->sql('BEGIN; INSERT INTO first VALUES (8); CREATE INDEX ON tree USING spgist (t); CREATE INDEX ON tree USING gist (p); CREATE INDEX ON tree USING gin (a); CHECKPOINT; COMMIT');
$ticker->kill_kill;
my @where = ("t >= 'ff' AND t < 'ff8'", "p <@ box '((10,10),(30,30))'", 'a @> ARRAY[500]');
for my $where (@where)
{
	my $heap = $c->sql("SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off; SELECT count(*), sum(id) FROM tree WHERE $where");
	$c->sql_is("SET enable_seqscan = off; SELECT count(*), sum(id) FROM tree WHERE $where", $heap, "index for $where");
}
given_back('indexes');

# ---- several loads at once, one prepared, a database dropped ----
$c->sql('CREATE DATABASE side');
$c->sql("CREATE TABLE held (i int); BEGIN; INSERT INTO held VALUES (1); CREATE TABLE t AS SELECT $row FROM generate_series(1, 30000) i; CHECKPOINT; PREPARE TRANSACTION 'p'", db => 'side');
my @loads = map { background("BEGIN; INSERT INTO first VALUES (9); CREATE TABLE load$_ AS SELECT $row FROM generate_series(1, 30000) i;\nUPDATE load$_ SET n = $_;\nCOMMIT;\n") } 1 .. 4;
$_->finish for @loads;
$c->sql_is("SELECT sum(c) FROM (SELECT count(*) c FROM load$_ WHERE n = $_) x", '30000', "one of four loads at once ($_)") for 1 .. 4;
$c->sql("COMMIT PREPARED 'p'", db => 'side');
$c->sql_is('SELECT count(*), sum(i) FROM t', '30000|450015000', 'a prepared transaction with spilled pages', db => 'side');
$c->sql('DROP DATABASE side');
given_back('loads');

# ---- the limit ----
my $sums = 'SELECT (SELECT count(*) + sum(n) FROM ctas), (SELECT count(*) FROM tree), (SELECT sum(n) FROM other), (SELECT count(*) FROM load1)';
my $expected = $c->sql($sums);
$c->stop;
$c = $store->start_compute('main', name => 'limited', conf => $conf . "pageserver_smgr.cache_limit = 20MB\n");
$c->sql_is($sums, $expected, 'the next compute has all data');
my ($rc, $o, $err) = $c->psql("BEGIN; INSERT INTO first VALUES (10); CREATE TABLE toomuch AS SELECT $row FROM generate_series(1, 50000) i");
isnt($rc, 0, 'more than cache_limit fails');
like($err, qr/page cache is full of pages that must stay in it.*"pageserver_smgr.cache_limit" is 20 MB/s, 'the error says why');
cmp_ok(disk(), '<=', 21, 'the failed load occupies no more disk than cache_limit');
$c->sql("BEGIN; INSERT INTO first VALUES (11); CREATE TABLE fits AS SELECT $row FROM generate_series(1, 10000) i; CHECKPOINT; COMMIT");
$c->sql_is('SELECT count(*) FROM fits', '10000', 'a load that fits succeeds afterwards');
given_back('limit');
$c->program_ok('pg_amcheck', 'pg_amcheck', '--install-missing', '--all', '--heapallindexed');
$c->stop;
$store->stop;
done_testing();
