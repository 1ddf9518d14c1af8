# Page contents that WAL does not restore. Shared buffers are small and the page cache has its minimum
# size, so that pages are evicted and read back all the time. This is the broad test; 031 to 034 test one
# rule at a time, at the point where it matters.
use strict;
use warnings;
use PageserverTest;
use Test::More;

my $conf = "shared_buffers = 1MB\npageserver_smgr.cache_size = 1MB\npageserver_smgr.cache_limit = 512MB\nautovacuum = off\nmax_prepared_transactions = 4\nbgwriter_delay = 10ms\n";
my $store = PageserverTest->new_store('main');
$store->ctl_ok('branch create', 'branch', 'create', 'main');
my $c = $store->start_compute('main', conf => $conf);

$c->sql('CREATE EXTENSION amcheck; CREATE EXTENSION pg_prewarm; CREATE EXTENSION pageserver_smgr');
# a table that is read to push everything else out of the caches
$c->sql("CREATE TABLE big AS SELECT i, repeat('x', 500) pad FROM generate_series(1, 6000) i");
# (a sequential scan of it would use only a ring of shared buffers)
my $churn = "SELECT pg_prewarm('big'), pageserver_smgr_clear_cache() \\g /dev/null\n";

# ---- command ids: a cursor sees the rows as of its opening ----
for my $sub (0, 1)
{
	my $sp = sub { $sub ? "SAVEPOINT s$_[0];\n" : '' };
	my $name = $sub ? 'with subtransactions' : 'in one transaction';
	$c->sql('DROP TABLE IF EXISTS cid; CREATE TABLE cid (id int, v int, pad text)');
	my $out = $c->sql("BEGIN;\n"
		  . "INSERT INTO cid SELECT i, 0, repeat('a', 300) FROM generate_series(1, 30000) i;\n"
		  . $sp->(1)
		  . "DECLARE c CURSOR FOR SELECT id, v FROM cid;\n"
		  . $sp->(2)
		  . "INSERT INTO cid SELECT i, 1, repeat('b', 300) FROM generate_series(30001, 60000) i;\n"
		  . $sp->(3)
		  . "UPDATE cid SET v = v + 10 WHERE id % 2 = 0;\n"
		  . $sp->(4)
		  . "DELETE FROM cid WHERE id % 3 = 0;\n"
		  . "CHECKPOINT;\n"
		  . $churn
		  . "FETCH ALL FROM c;\nCLOSE c;\n"
		  . "SELECT 'now', count(*), sum(v) FROM cid;\nCOMMIT;\nSELECT 'after', count(*), sum(v) FROM cid;\n");
	my @rows = split /\n/, $out;
	my @fetched = grep { /^\d/ } @rows;
	is(scalar(@fetched), 30000, "a cursor sees the rows as of its opening, $name");
	is(scalar(grep { /\|0$/ } @fetched), 30000, "a cursor sees no later change, $name");
	is($rows[-2], 'now|40000|220000', "the transaction sees its own changes, $name");
	is($rows[-1], 'after|40000|220000', "everybody sees the changes after commit, $name");
}

# many subtransactions (more than the 64 that a backend advertises), with pages written by the
# checkpointer and background writer meanwhile
$c->sql('CREATE TABLE subs (id int, pad text)');
my $script = "BEGIN;\nINSERT INTO subs SELECT i, repeat('p', 200) FROM generate_series(1, 2000) i;\n";
$script .= "SAVEPOINT s$_;\nINSERT INTO subs SELECT $_ * 1000 + i, repeat('q', 200) FROM generate_series(1, 100) i;\n" for 1 .. 100;
$script .= "DECLARE c CURSOR FOR SELECT id FROM subs;\nSAVEPOINT t1;\nDELETE FROM subs WHERE id % 2 = 0;\nSAVEPOINT t2;\n"
  . "INSERT INTO subs SELECT -i, repeat('r', 200) FROM generate_series(1, 10000) i;\nCHECKPOINT;\n$churn";
$script .= "FETCH ALL FROM c;\nROLLBACK TO t2;\nCOMMIT;\nSELECT 'after', count(*) FROM subs;\n";
my @rows = split /\n/, $c->sql($script);
is(scalar(grep { /^\d/ } @rows), 12000, 'a cursor with 100 subtransactions, written out by the checkpointer');
is($rows[-1], 'after|6000', 'the rows that are left after one subtransaction was rolled back');

# row locks by several sessions: multixacts survive being written out
$c->sql('CREATE TABLE locked AS SELECT i AS id, 0 AS n, repeat(\'l\', 100) pad FROM generate_series(1, 5000) i; ALTER TABLE locked ADD PRIMARY KEY (id)');
my @lockers = map {
	my $h = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c',
			'BEGIN; SELECT count(*) FROM (SELECT 1 FROM locked FOR KEY SHARE) x; SELECT pg_sleep(600)' ],
		'<', \undef, '>', '/dev/null', '2>', '/dev/null');
	$h;
} 1 .. 2;
PageserverTest::wait_until(sub { $c->sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%KEY SHARE%pg_sleep%' AND wait_event = 'PgSleep'") eq '2' }, 'the sessions that lock');
$c->sql("CHECKPOINT;\n$churn$churn");
my ($rc, $out, $err) = $c->psql("SET lock_timeout = '300ms'; DELETE FROM locked WHERE id = 4000");
like($err, qr/lock timeout/, 'row locks of two sessions hold after the page was evicted');
$c->sql("UPDATE locked SET n = n + 1 WHERE id % 10 = 0");
$c->sql("CHECKPOINT;\n$churn");
$c->sql_is('SELECT sum(n) FROM locked', '500', 'a non-key update succeeds');
$c->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%KEY SHARE%pg_sleep%' AND pid <> pg_backend_pid()");
$_->finish for @lockers;
$c->sql('DELETE FROM locked WHERE id <= 10');
$c->sql_is('SELECT count(*), sum(n) FROM locked', '4990|499', 'a delete succeeds once the locks are released');

# ---- indexes built without WAL, larger than the caches ----
$c->sql("CREATE TABLE idx AS SELECT i AS id, ARRAY[i % 1000, (i * 7) % 1000 + 1000, i % 77 + 3000] AS a, point(i % 251, i % 241) AS p,"
	  . " md5(i::text) AS t, int4range(i, i + i % 50) AS r FROM generate_series(1, 60000) i");
my %query = (
	gin => 'a @> ARRAY[500]',
	gist_sorted => "p <@ box '((10,10),(30,30))'",
	gist => 'r && int4range(10000, 10100)',
	spgist_point => "p <@ box '((10,10),(30,30))'",
	spgist_text => "t >= 'ff' AND t < 'ff8'",
	hash => "t = md5('4711')",
	brin => 'id BETWEEN 30000 AND 30100',
	btree => "t BETWEEN 'a0' AND 'a1'");
my %index = (
	gin => 'USING gin (a)',
	gist_sorted => 'USING gist (p)',
	gist => 'USING gist (r)',
	spgist_point => 'USING spgist (p)',
	spgist_text => 'USING spgist (t)',
	hash => 'USING hash (t)',
	brin => 'USING brin (id) WITH (pages_per_range = 4)',
	btree => '(t)');
for my $kind (sort keys %index)
{
	my $expected = $c->sql("SELECT count(*), sum(id) FROM idx WHERE $query{$kind}");
	$c->sql("CREATE INDEX idx_$kind ON idx $index{$kind}");
	for my $state ('as built', 'after a checkpoint')
	{
		my $got = $c->sql("$churn SET enable_seqscan = off; SET enable_indexscan = on; SELECT count(*), sum(id) FROM idx WHERE $query{$kind}");
		is($got, $expected, "index $kind, $state");
		$c->sql('CHECKPOINT');
	}
	like($c->sql("SET enable_seqscan = off; EXPLAIN SELECT count(*) FROM idx WHERE $query{$kind}"), qr/idx_$kind/, "index $kind is used");
	$c->sql("DROP INDEX idx_$kind") unless $kind eq 'gin' || $kind eq 'btree';
}
for my $kind (sort grep { $_ ne 'brin' } keys %index)
{
	$c->sql("CREATE INDEX CONCURRENTLY idxc_$kind ON idx $index{$kind}");
	my $expected = $c->sql("SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(id) FROM idx WHERE $query{$kind}");
	is($c->sql("$churn SET enable_seqscan = off; SELECT count(*), sum(id) FROM idx WHERE $query{$kind}"), $expected, "index $kind built concurrently");
}

# ---- truncation, then extension ----
$c->sql("CREATE TABLE cut AS SELECT i AS id, repeat('c', 900) pad FROM generate_series(1, 8000) i");
$c->sql('CHECKPOINT; DELETE FROM cut WHERE id > 4000; VACUUM cut');
my $before = $c->sql("SELECT pg_relation_size('cut') / 8192");
ok($before < 600, "VACUUM truncated the table ($before blocks)");
my @writers = map {
	IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c',
			"INSERT INTO cut SELECT $_ * 100000 + i, repeat('d', 900) FROM generate_series(1, 800) i" ],
		'<', \undef, '>', '/dev/null')
} 1 .. 6;
$_->finish for @writers;
$c->sql("CHECKPOINT;\n$churn");
$c->sql_is('SELECT count(*), count(*) FILTER (WHERE id > 4000 AND id < 100000) FROM cut', '8800|0', 'rows in truncated blocks do not come back');
$c->sql('TRUNCATE cut');
$c->sql("INSERT INTO cut SELECT i, 'new' FROM generate_series(1, 10) i");
$c->sql("CHECKPOINT;\n$churn");
$c->sql_is('SELECT count(*) FROM cut', '10', 'TRUNCATE');
$c->sql("BEGIN; CREATE TABLE inplace (id int, pad text); INSERT INTO inplace SELECT i, repeat('i', 900) FROM generate_series(1, 4000) i;"
	  . " TRUNCATE inplace; INSERT INTO inplace SELECT i, 'new' FROM generate_series(1, 10) i; COMMIT; CHECKPOINT;\n$churn");
$c->sql_is('SELECT count(*) FROM inplace', '10', 'TRUNCATE in place leaves the new rows only');

# ---- visibility map ----
$c->sql("CREATE TABLE vis (id int PRIMARY KEY, pad text); INSERT INTO vis SELECT i, repeat('v', 100) FROM generate_series(1, 20000) i; VACUUM vis");
$c->sql("CHECKPOINT;\n$churn");
$c->sql("DELETE FROM vis WHERE id % 4 = 0");
$c->sql("CHECKPOINT;\n$churn");
$c->sql_is('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM vis', '15000', 'an index-only scan sees deletions on pages that were all-visible');
$c->sql("VACUUM vis; CHECKPOINT;\n$churn");
$c->sql("INSERT INTO vis SELECT i, 'n' FROM generate_series(100001, 105000) i");
$c->sql("BEGIN; DELETE FROM vis WHERE id % 4 = 1; CHECKPOINT;\n$churn ROLLBACK");
$c->sql("$churn");
$c->sql_is('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM vis', '20000', 'an index-only scan sees insertions');
$c->sql("BEGIN; INSERT INTO vis SELECT i, 'aborted' FROM generate_series(200001, 201000) i; CHECKPOINT;\n$churn ROLLBACK");
$c->sql_is('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM vis', '20000', 'an index-only scan does not see what was rolled back');

# ---- splits during VACUUM ----
$c->sql("CREATE TABLE split (k int, pad text); CREATE INDEX split_k ON split (k); INSERT INTO split SELECT (i * 7919) % 100000, repeat('s', 60) FROM generate_series(1, 40000) i");
for my $round (1 .. 3)
{
	$c->sql('DELETE FROM split WHERE random() < 0.4');
	my $vacuum = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c', 'SET vacuum_cost_delay = 1; SET vacuum_cost_limit = 200', '-c', 'VACUUM split' ], '<', \undef, '>', '/dev/null');
	my $insert = IPC::Run::start([ PageserverTest::bindir() . '/psql', '-X', '-q', '-d', $c->connstr, '-c',
			"INSERT INTO split SELECT (i * 31 + $round) % 100000, repeat('s', 60) FROM generate_series(1, 20000) i" ],
		'<', \undef, '>', '/dev/null');
	$insert->finish;
	$vacuum->finish;
	$c->sql("CHECKPOINT;\n$churn");
	# Every index entry leads to an existing row: the heap is small, so dead entries would meet reused
	# line pointers.
	$c->sql_is("SELECT bt_index_parent_check('split_k', true, true)", '', "index after splits during VACUUM, round $round");
	my $heap = $c->sql('SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(k) FROM split');
	$c->sql_is('SET enable_seqscan = off; SELECT count(*), sum(k) FROM split WHERE k >= 0', $heap, "the index returns the rows of the heap, round $round");
}

# ---- sequences ----
$c->sql('CREATE SEQUENCE seq');
for my $i (1 .. 5)
{
	$c->sql_is("SELECT nextval('seq')", $i, "an evicted sequence continues without a gap ($i)");
	$c->sql("CHECKPOINT;\n$churn");
}

# ---- free space map: a table does not grow indefinitely when computes change ----
$c->sql("CREATE TABLE fsm AS SELECT i AS id, repeat('f', 400) pad FROM generate_series(1, 10000) i");
$c->sql('DELETE FROM fsm WHERE id % 2 = 0; VACUUM fsm; CHECKPOINT');
my $size = $c->sql("SELECT pg_relation_size('fsm')");

# ---- prepared transactions and a change of the compute ----
$c->sql("BEGIN; UPDATE locked SET n = 1000 WHERE id = 100; INSERT INTO subs VALUES (777777, 'p'); PREPARE TRANSACTION 'held'");
my $last = $c->sql("SELECT last_value FROM seq");
$c->kill9;
$c = $store->start_compute('main', conf => $conf);
($rc, $out, $err) = $c->psql("SET lock_timeout = '300ms'; UPDATE locked SET n = 1 WHERE id = 100");
like($err, qr/lock timeout/, 'a prepared transaction holds its locks in the next compute');
$c->sql("COMMIT PREPARED 'held'");
$c->sql_is('SELECT n FROM locked WHERE id = 100', '1000', 'a prepared transaction commits in the next compute');
ok($c->sql("SELECT nextval('seq')") > $last, 'the sequence returns no value twice after a kill');
$c->sql_is('SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM vis', '20000', 'index-only scan in the next compute');
$c->sql("INSERT INTO fsm SELECT i, repeat('g', 400) FROM generate_series(1, 3000) i");
ok($c->sql("SELECT pg_relation_size('fsm')") <= $size * 1.05, 'free space is found again in the next compute');
$c->program_ok('pg_amcheck', 'pg_amcheck', '--all', '--heapallindexed', '--parent-check');
$c->stop;
$store->stop;
done_testing();
