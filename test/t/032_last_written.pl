# A page is requested as of the last LSN at which it can have changed. The WAL worker is stopped, so that
# the store lacks the newest WAL, and a read of a page that this WAL changed must wait for it. If one of
# the rules is broken, the store answers at once with an old version. The test also covers answers that
# arrive after the page has changed, and blocks that were truncated.
use strict;
use warnings;
use PageserverTest;
use Test::More;
use TrapTest;

my $store = trap_store();
my $c = trap_compute($store, 1, "pageserver_smgr.cache_size = 64MB\npageserver_smgr.max_wal_lag = 1\nbgwriter_lru_maxpages = 0\n");
my ($s, $r, $observer) = (session($c), session($c), session($c));
my ($got, $waited);
$s->ask('SET synchronous_commit = off; SET enable_seqscan = off; SET enable_bitmapscan = off');

# ---- a page written from shared buffers ----
$c->sql('CREATE TABLE t AS SELECT 1 AS id, 0 AS v');
$s->ask('UPDATE t SET v = 0');
stop_wal($observer);
$s->ask('UPDATE t SET v = 1; SELECT * FROM t');
$s->ask(churn());
($got, $waited) = while_wal_is_held($s, $observer, 'SELECT v FROM t');
is($got, '1', 'a changed and evicted page is read back as it was');
ok($waited, 'the read of a changed and evicted page waits for its WAL');

# ---- pages written from private memory: an index build ----
$c->sql("CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS \$\$ BEGIN IF \$1 = 1 THEN PERFORM pg_advisory_lock_shared(1); END IF; RETURN \$1; END \$\$;"
	  . " CREATE FUNCTION slow_point(int) RETURNS point IMMUTABLE LANGUAGE SQL AS 'SELECT point(slow(\$1), 0)';"
	  . " CREATE TABLE built AS SELECT i FROM generate_series(1, 2000) i; VACUUM (FREEZE) built");
# The first leaf alone: the root is not extended, but it is written.
my $leaf = "SELECT 1001 FROM bt_page_stats('built_i', 1) WHERE live_items > 0";
my $box = "SELECT count(*) FROM built WHERE slow_point(i) <@ box '((500,0),(1500,0))'";
for my $build ([ 'btree', 'btree (slow(i))', $leaf ], [ 'sorted GiST', 'gist (slow_point(i))', $box ])
{
	my ($name, $using, $sql) = @$build;
	for my $committed (0, 1)
	{
		# The index is created, and the store knows of it, before the first of its pages is written.
		$observer->ask('SELECT pg_advisory_lock(1)');
		$s->ask('BEGIN');
		$s->send("CREATE INDEX built_i ON built USING $using");
		wait_for('the build', sub { $observer->ask("SELECT count(*) FROM pg_stat_get_activity($s->{pid}) WHERE wait_event = 'advisory'") });
		stop_wal($observer);
		$observer->ask('SELECT pg_advisory_unlock(1)');
		$s->result;
		$s->ask('COMMIT') if $committed;
		$s->ask('SELECT pg_advisory_unlock_all()');
		is($s->ask($sql), '1001', "$name can be read");
		$s->ask(churn());
		$s->ask("SET statement_timeout = '8s'");
		($got, $waited) = while_wal_is_held($s, $observer, $sql);
		is($got, '1001', "$name as built, " . ($committed ? 'after' : 'before') . ' commit');
		# Before its commit, the pages of a sorted GiST build are kept.
		is($waited ? 1 : 0, $name eq 'btree' || $committed ? 1 : 0, $waited ? 'waited for' : 'not waited for');
		$s->ask('RESET statement_timeout; SELECT pg_advisory_unlock_all()');
		$s->ask($committed ? 'DROP INDEX built_i' : 'ROLLBACK');
		is($s->errors, '', 'no error');
	}
}

# ---- WAL that nobody has flushed is flushed before the store is asked for the resulting page ----
my $wal_writer = $observer->ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
stop_process($wal_writer);
$s->ask('BEGIN; CREATE INDEX built_i ON built (i); SELECT pageserver_smgr_clear_cache()');
is($s->ask("SET statement_timeout = '5s'; $leaf"), '1001', 'a page whose WAL is not flushed');
$s->ask('RESET statement_timeout; ROLLBACK');
is($s->errors, '', 'no error');
go_on_process($wal_writer);

# ---- the visibility map: its page has no LSN of its own when a bit is cleared ----
$c->sql("CREATE TABLE vis (id int PRIMARY KEY, pad text); INSERT INTO vis SELECT i, repeat('v', 100) FROM generate_series(1, 500) i; VACUUM (FREEZE) vis; CHECKPOINT");
stop_wal($observer);
$s->ask('DELETE FROM vis WHERE id = 1; EXPLAIN SELECT count(id) FROM vis');
$s->ask(churn());
($got, $waited) = while_wal_is_held($s, $observer, 'SELECT count(id) FROM vis');
is($got, '499', 'an index-only scan sees that a page is no longer all-visible');
ok($waited, 'the read of the visibility map waits for WAL');

# ---- setting all-visible moves the LSN of the heap page ----
$c->sql("CREATE TABLE hints (id int PRIMARY KEY, pad text); INSERT INTO hints SELECT i, repeat('h', 100) FROM generate_series(1, 500) i;"
	  . " SELECT count(*) FROM hints; CHECKPOINT");
stop_wal($observer);
$s->ask('VACUUM hints; EXPLAIN DELETE FROM hints WHERE id = 1');
$s->ask(churn());
($got, $waited) = while_wal_is_held($s, $observer, 'DELETE FROM hints WHERE id = 1');
$s->ask(churn());
is($s->ask('SELECT count(id) FROM hints'), '499', 'a deletion on a page that has just become all-visible');

# ---- the free space map: logged when written ----
$c->sql("CREATE TABLE fsm (id int, pad text); INSERT INTO fsm SELECT i, repeat('f', 900) FROM generate_series(1, 400) i; DELETE FROM fsm WHERE id < 400; VACUUM fsm; CHECKPOINT");
my $free = "SELECT sum(avail) FROM pg_freespace('fsm')";
$s->ask($free);
stop_wal($observer);
$s->ask("INSERT INTO fsm SELECT i, repeat('g', 900) FROM generate_series(1, 100) i");
my $expected = $s->ask($free);
$s->ask(churn());
($got, $waited) = while_wal_is_held($s, $observer, $free);
is($got, $expected, 'the free space map is read back as it was evicted');

# A page that equals its previous version is not logged: the last of several equal rounds logs nothing.
$c->sql("CREATE EXTENSION pg_walinspect; CREATE TABLE fsm_same (id int, pad text); INSERT INTO fsm_same SELECT i, repeat('f', 900) FROM generate_series(1, 40) i");
my $start;
for my $round (1 .. 4)
{
	$c->sql('VACUUM fsm_same; CHECKPOINT');
	$start = $c->sql('SELECT pg_current_wal_insert_lsn()');
	$c->sql('DELETE FROM fsm_same WHERE id = 5; VACUUM fsm_same');
	cmp_ok($c->sql("SELECT max(avail) FROM pg_freespace('fsm_same')"), '>', 900, 'the free space map changes') if $round == 4;
	$c->sql("INSERT INTO fsm_same VALUES (5, repeat('f', 900)); VACUUM fsm_same; CHECKPOINT");
}
$c->sql_is("SELECT count(*) FROM pg_get_wal_records_info_till_end_of_wal('$start') WHERE record_type = 'FPI' AND block_ref LIKE '%fork fsm%'",
	'0', 'a page of the free space map that is written unchanged is not logged');

# ---- VACUUM truncates the table and its visibility map to nothing; then both are extended ----
$c->sql("CREATE TABLE cut_map (id int, pad text); INSERT INTO cut_map SELECT i, repeat('m', 900) FROM generate_series(1, 400) i; VACUUM (FREEZE) cut_map; CHECKPOINT");
my $all_visible = "SELECT count(*) FROM pg_visibility_map('cut_map') WHERE all_visible";
stop_wal($observer);
$s->ask('DELETE FROM cut_map; VACUUM cut_map');
$r->ask('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
# The map's page is extended, but nothing is put into it, so it is not written.
$s->ask("INSERT INTO cut_map SELECT i, repeat('n', 900) FROM generate_series(1, 400) i; VACUUM cut_map");
is($s->errors, '', 'VACUUM reports no error');
is($s->ask($all_visible), '0', 'the map has no bits from before the truncation');
$s->ask(churn());
($got, $waited) = while_wal_is_held($s, $observer, $all_visible);
is($got, '0', 'the map has no old bits when it is read again');
ok($waited, 'the read of the map waits for WAL');
$r->ask('COMMIT');

# ---- blocks that are truncated, then extended by many at once: none of the new blocks is logged ----
# The old blocks contain rows that look live: those of a transaction that truncates in place and commits.
$c->sql("BEGIN; CREATE TABLE inplace (id int, pad text); ALTER TABLE inplace ALTER pad SET STORAGE PLAIN;"
	  . " INSERT INTO inplace SELECT i, repeat('i', 900) FROM generate_series(1, 400) i;\nCHECKPOINT;\nTRUNCATE inplace; COMMIT");
extend_by_many($c, $observer, 'inplace');
for my $push (evict(), churn())
{
	$observer->ask($push);
	$c->sql_is('SELECT count(*), min(id) FROM inplace', '6|1000', 'TRUNCATE in place: no row from before');
}

$c->sql("CREATE TABLE cut AS SELECT i AS id, repeat('c', 900) pad FROM generate_series(1, 800) i;\nALTER TABLE cut ALTER pad SET STORAGE PLAIN;"
	  . " CHECKPOINT; DELETE FROM cut WHERE id > 400;\nCHECKPOINT;\nVACUUM cut");
my $cut = $c->sql("SELECT pg_relation_size('cut') / 8192");
my $lsn = $c->sql('SELECT pg_current_wal_insert_lsn()');
cmp_ok($cut, '<', 60, 'VACUUM has truncated the table');
extend_by_many($c, $observer, 'cut');
for my $push (evict(), churn())
{
	$observer->ask($push);
	$c->sql_is("SELECT count(*) FROM generate_series($cut, pg_relation_size('cut') / 8192 - 1) b, page_header(get_raw_page('cut', b::int)) h"
		  . " WHERE lsn <> '0/0' AND lsn < '$lsn'", '0', 'blocks that VACUUM truncated are empty or new');
	$c->sql_is('SELECT count(*), max(id) FROM cut', '406|1000', 'the rows after VACUUM truncated the table');
}

# ---- an answer that was prefetched, and is outdated when it is needed ----
$c->sql("CREATE TABLE ahead (id int, v int, pad text) WITH (fillfactor = 40); INSERT INTO ahead SELECT i, 0, repeat('a', 900) FROM generate_series(1, 300) i; VACUUM (FREEZE) ahead; CHECKPOINT");
$observer->ask(churn());
$r->ask("BEGIN; DECLARE c CURSOR FOR SELECT id FROM ahead; FETCH 25 FROM c");
cmp_ok($observer->ask('SELECT prefetched FROM pageserver_smgr_store'), '>', 0, 'a cursor makes its session read ahead');
$observer->ask("UPDATE ahead SET v = 1; CHECKPOINT");
$observer->ask(churn());
is($r->ask('SELECT count(*) FROM ahead WHERE v = 1'), '300', 'the next statement of the session does not use the outdated answer');
is(scalar(split /\n/, $r->ask('FETCH ALL FROM c')), 275, 'the cursor continues');
$r->ask('COMMIT');

# ---- an answer that arrives after the page was changed, written and evicted by others ----
# pg_prewarm() reads without a buffer, so that others can change the page meanwhile.  Its process is
# stopped when the answer has arrived and has not been read.
sub read_late
{
	my ($table, $meanwhile) = @_;
	my $waits = "SELECT count(*) FROM pg_stat_get_activity($r->{pid}) WHERE wait_event = 'DataFileRead'";
	$r->ask("SELECT pg_prewarm('$table', 'read', 'main', 1, 1)");
	$observer->ask($waits);
	stop_process($store->{pid});
	$r->send("SELECT pg_prewarm('$table', 'read', 'main', 0, 0)");
	wait_for('the read', sub { $observer->ask($waits) eq '1' || $r->done });
	ok(!$r->done, "block 0 of $table has been requested");
	stop_process($r->{pid});
	go_on_process($store->{pid});
	$observer->ask(churn());
	$meanwhile->();
	go_on_process($r->{pid});
	$r->result;
}
$c->sql("CREATE TABLE late (v int, pad text) WITH (fillfactor = 10); INSERT INTO late SELECT 0, repeat('l', 500) FROM generate_series(1, 3); VACUUM (FREEZE) late; CHECKPOINT");
$observer->ask(churn());
read_late('late', sub { $observer->ask("UPDATE late SET v = 1; CHECKPOINT"); $observer->ask(churn()) });
$c->sql_is('SELECT sum(v) FROM late', '3', 'an outdated answer is not put into the cache');

# A page that is in the cache by then, and must stay there; its LSN is no later than that of the answer.
$c->sql("CREATE TABLE late2 (v int, pad text)");
$s->ask("BEGIN; CREATE TEMP TABLE first AS SELECT 1; INSERT INTO late2 SELECT i, repeat('m', 500) FROM generate_series(1, 10) i;"
	  . " DECLARE c CURSOR FOR SELECT v FROM late2; INSERT INTO late2 SELECT i, repeat('m', 500) FROM generate_series(11, 30) i");
# so that it is not evicted earlier
$s->ask('SELECT count(*) FROM late2') for 1 .. 4;
wait_ingested($observer);
read_late('late2', sub { $observer->ask('CHECKPOINT'); $observer->ask(churn()) });
$observer->ask(churn());
is(scalar(split /\n/, $s->ask('FETCH ALL FROM c')), 10, 'an outdated answer does not replace a page that is kept');
$s->ask('COMMIT');

$_->close for $s, $r, $observer;
$c->stop;
$store->stop;
done_testing();
